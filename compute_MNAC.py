"""MNAC and Oracle FR: how many attributes changed, and did the queried one? (the oracle's opinion)"""

import guided_diffusion.script.guard  # noqa: F401

from core.metrics import mnac
from core.metrics.flags import DEVICE_FLAGS, ORACLE_FLAGS, QUERY_FLAGS, RESULTS_FLAGS
from core.metrics.measuring import measure_run
from guided_diffusion.script.flags import FlagParser, group_flags
from guided_diffusion.script.run import run_script
from models.judges import LOADERS


def create_argparser():
    flags = group_flags(data=RESULTS_FLAGS, question=QUERY_FLAGS, networks=ORACLE_FLAGS, speed=DEVICE_FLAGS)
    return FlagParser(__doc__, flags)


def main():
    measure_run(mnac, vars(create_argparser().parse_args()), LOADERS)


if __name__ == "__main__":
    run_script(main)
