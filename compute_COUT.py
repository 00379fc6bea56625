"""COUT: how few of the changed pixels turn the classifier's mind (Khorram and Fuxin, CVPR 2022)"""

import guided_diffusion.script.guard  # noqa: F401

from core.metrics import cout
from core.metrics.flags import CLASSIFIER_FLAGS, DEVICE_FLAGS, QUERY_FLAGS, RESULTS_FLAGS
from core.metrics.measuring import measure_run
from guided_diffusion.script.flags import FlagParser, group_flags
from guided_diffusion.script.run import run_script
from models.judges import LOADERS

FLAGS = group_flags(data=RESULTS_FLAGS, question=QUERY_FLAGS, networks=CLASSIFIER_FLAGS, speed=DEVICE_FLAGS)


def create_argparser():
    return FlagParser(__doc__, FLAGS)


def main():
    args = create_argparser().parse_args()
    measure_run(cout, vars(args), LOADERS)


if __name__ == "__main__":
    run_script(main)
