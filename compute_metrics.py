"""Every metric of some experiments that can be computed, why the others could not, and a table"""

import guided_diffusion.script.guard  # noqa: F401

from core.metrics import cd, fid, fva, sigma_l
from core.metrics.flags import CLASSIFIER_FLAGS, DEVICE_FLAGS, ORACLE_FLAGS, OUTPUT_PATH, QUERY_FLAGS
from core.metrics.measuring import ALL_FLAGS, TABLE_FLAGS, measure_all
from guided_diffusion.script.flags import FlagParser, group_flags
from guided_diffusion.script.run import run_script
from models.judges import LOADERS


def create_argparser():
    flags = group_flags(
        data=OUTPUT_PATH | ALL_FLAGS | sigma_l.RUNS_FLAGS | cd.FLAGS,
        question=QUERY_FLAGS,
        networks=ORACLE_FLAGS | fva.FLAGS | CLASSIFIER_FLAGS | fid.FLAGS | sigma_l.FLAGS,
        sampling=fid.SEED_FLAG,
        output=TABLE_FLAGS,
        speed=DEVICE_FLAGS,
    )
    return FlagParser(__doc__, flags, ("exp_names",))


def main():
    measure_all(vars(create_argparser().parse_args()), LOADERS)


if __name__ == "__main__":
    run_script(main, hint="what was measured stays; --metrics measures the rest alone")
