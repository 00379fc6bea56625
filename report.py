"""A report of experiments to click through: what was found, the figures, and every image, before and after"""

import guided_diffusion.script.guard  # noqa: F401

from core.metrics.flags import OUTPUT_PATH
from core.report.site import write_report
from guided_diffusion.script.flags import MANY, Flag, FlagParser, group_flags
from guided_diffusion.script.run import run_script

FLAGS = group_flags(
    data={
        **OUTPUT_PATH,
        "exp_names": Flag([], "the experiments, side by side in this order", many=True),
    },
    output={
        "gallery": Flag(
            1000,
            "images of each experiment that are shown, drawn at random; 0: all. The figures count all",
            low=0,
            high=MANY,
        ),
    },
)


def create_argparser():
    return FlagParser(__doc__, FLAGS, ("exp_names",))


def main():
    args = create_argparser().parse_args()
    page = write_report(args.output_path, args.exp_names, args.gallery)
    print(f"the report: {page}")


if __name__ == "__main__":
    run_script(main)
