"""FID, sFID and KID: do the counterfactuals look like photographs of the data? (pytorch-fid's Inception)"""

import guided_diffusion.script.guard  # noqa: F401

from core.metrics import fid
from core.metrics.flags import DEVICE_FLAGS, RESULTS_FLAGS
from core.metrics.measuring import measure_run
from guided_diffusion.script.flags import FlagParser, group_flags
from guided_diffusion.script.run import run_script
from models.judges import LOADERS


def create_argparser():
    flags = group_flags(data=RESULTS_FLAGS, networks=fid.FLAGS, sampling=fid.SEED_FLAG, speed=DEVICE_FLAGS)
    return FlagParser(__doc__, flags)


def main():
    measure_run(fid, vars(create_argparser().parse_args()), LOADERS)


if __name__ == "__main__":
    run_script(main)
