"""FVA and FS: is the counterfactual of a face still the same person? (VGGFace2's opinion)"""

import guided_diffusion.script.guard  # noqa: F401

from core.metrics import fva
from core.metrics.flags import DEVICE_FLAGS, RESULTS_FLAGS
from core.metrics.measuring import measure_run
from guided_diffusion.script.flags import FlagParser, group_flags
from guided_diffusion.script.run import run_script
from models.judges import LOADERS


def create_argparser():
    return FlagParser(__doc__, group_flags(data=RESULTS_FLAGS, networks=fva.FLAGS, speed=DEVICE_FLAGS))


def main():
    measure_run(fva, vars(create_argparser().parse_args()), LOADERS)


if __name__ == "__main__":
    run_script(main)
