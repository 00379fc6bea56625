"""CD: do attributes change together as they go together in the data? (Jeanneret et al., ACCV 2022)"""

import guided_diffusion.script.guard  # noqa: F401

from core.metrics import cd
from core.metrics.flags import DEVICE_FLAGS, ORACLE_FLAGS, QUERY_FLAGS, RESULTS_FLAGS
from core.metrics.measuring import measure_run
from guided_diffusion.script.flags import FlagParser, group_flags
from guided_diffusion.script.run import run_script
from models.judges import LOADERS


def create_argparser():
    flags = group_flags(
        data=RESULTS_FLAGS | cd.FLAGS, question=QUERY_FLAGS, networks=ORACLE_FLAGS, speed=DEVICE_FLAGS
    )
    return FlagParser(__doc__, flags)


def main():
    measure_run(cd, vars(create_argparser().parse_args()), LOADERS)


if __name__ == "__main__":
    run_script(main)
