"""FR, bKL and L1: how often the target was reached, how surely, and how far away (from records.csv)"""

if __name__ == "__main__":
    from guided_diffusion.script.interrupts import end_on_interrupt

    end_on_interrupt()

from core.metrics.inference import FLIPPED, RESULTS_FLAGS, tell_unfinished
from core.metrics.metric import mean_of, publish
from core.results.folder import ResultsFolder
from core.results.records import flipped
from guided_diffusion.ranks.connecting import connect
from guided_diffusion.script.errors import UserError
from guided_diffusion.script.flags import FlagParser, group_flags
from guided_diffusion.script.run import run_script

FLAGS = group_flags(data=RESULTS_FLAGS)


def create_argparser():
    return FlagParser(__doc__, FLAGS)


def main():
    args = create_argparser().parse_args()
    if not connect().first:  # there is no network whose work could be shared
        return
    folder = ResultsFolder(args.output_path, args.exp_name)
    records = folder.records()
    if records is None:
        raise UserError(
            f"{folder.records_path} does not exist; run main.py, and merge its chunks with --merge_and_eval True"
        )
    tell_unfinished(args.output_path, args.exp_name)
    if not len(records):
        raise UserError(f"{folder.records_path} holds no rows; run main.py again")
    reached = flipped(records)
    metrics = [mean_of("FR", reached, "explained images")]
    if reached.any():
        flips = records[reached]
        metrics += [mean_of("bKL", flips["bkl"], FLIPPED), mean_of("L1", flips["l_1"], FLIPPED)]
    publish(args.output_path, args.exp_name, metrics)


if __name__ == "__main__":
    run_script(main)
