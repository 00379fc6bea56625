"""sigma_L: how much the counterfactuals of one image differ between runs (mean LPIPS-VGG over pairs of runs)"""

import guided_diffusion.script.guard  # noqa: F401

from core.metrics import sigma_l
from core.metrics.flags import DEVICE_FLAGS, OUTPUT_PATH
from core.metrics.measuring import measure_spread
from guided_diffusion.script.flags import FlagParser, group_flags
from guided_diffusion.script.run import run_script
from models.judges import LOADERS


def create_argparser():
    flags = group_flags(data=OUTPUT_PATH | sigma_l.RUNS_FLAGS, networks=sigma_l.FLAGS, speed=DEVICE_FLAGS)
    return FlagParser(__doc__, flags, ("exp_pattern",))


def main():
    measure_spread(vars(create_argparser().parse_args()), LOADERS)


if __name__ == "__main__":
    run_script(main)
