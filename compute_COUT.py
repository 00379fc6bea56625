"""COUT: how few of the changed pixels turn the classifier's mind (Khorram and Fuxin, CVPR 2022)"""

import guided_diffusion.script.guard  # noqa: F401

from core.metrics import cout
from core.metrics.flags import CLASSIFIER_FLAGS, DEVICE_FLAGS, QUERY_FLAGS, RESULTS_FLAGS
from core.metrics.measuring import measure_run
from guided_diffusion.script.flags import FlagParser, group_flags
from guided_diffusion.script.run import run_script
from models.judges import LOADERS


def create_argparser():
    flags = group_flags(data=RESULTS_FLAGS, question=QUERY_FLAGS, networks=CLASSIFIER_FLAGS, speed=DEVICE_FLAGS)
    return FlagParser(__doc__, flags)


def main():
    measure_run(cout, vars(create_argparser().parse_args()), LOADERS)


if __name__ == "__main__":
    run_script(main)
