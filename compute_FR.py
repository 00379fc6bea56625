"""FR, bKL and L1: how often the target was reached, how surely, and how far away (from records.csv)"""

import guided_diffusion.script.guard  # noqa: F401

from core.metrics import fr
from core.metrics.flags import RESULTS_FLAGS
from core.metrics.measuring import measure_run
from guided_diffusion.script.flags import FlagParser, group_flags
from guided_diffusion.script.run import run_script
from models.judges import LOADERS


def create_argparser():
    return FlagParser(__doc__, group_flags(data=RESULTS_FLAGS))


def main():
    measure_run(fr, vars(create_argparser().parse_args()), LOADERS)


if __name__ == "__main__":
    run_script(main)
