"""MNAC and Oracle FR: how many attributes changed, and did the queried one? (the oracle's opinion)"""

from core.metrics.inference import (
    DEVICE_FLAGS,
    FLIPPED,
    ORACLE_FLAGS,
    QUERY_FLAGS,
    RESULTS_FLAGS,
    find_query,
    judge,
    require_pairs,
    size_of,
    take_from_run,
    what_was_used,
)
from core.metrics.metric import mean_of, publish
from core.metrics.scores import changed_attributes
from core.running.flags import network_arguments
from guided_diffusion.dist_util import pick_device
from guided_diffusion.flags import FlagParser, check_flags, group_flags
from guided_diffusion.script_util import run_script
from models.oracles import load_oracle

FLAGS = group_flags(data=RESULTS_FLAGS, question=QUERY_FLAGS, networks=ORACLE_FLAGS, speed=DEVICE_FLAGS)


def create_argparser():
    return FlagParser(__doc__, FLAGS)


def main():
    args = create_argparser().parse_args()
    check_flags(args, FLAGS)
    taken = take_from_run(args, "oracle_path", "query_label")
    pairs = require_pairs(args.output_path, args.exp_name)
    device = pick_device(args.gpu)
    named = network_arguments(args, "oracle")
    oracle = load_oracle(*named, size_of(pairs), "oracle_path" not in taken).to(device)
    attributes, query = find_query(args, oracle)

    before, after = judge(oracle, pairs, args.batch_size, device)
    metrics = [
        mean_of("MNAC", changed_attributes(before, after), FLIPPED),
        mean_of("Oracle FR", before[:, query] != after[:, query], FLIPPED),
    ]
    asked = {"query_label": attributes[query], "attributes": len(attributes)}
    weights, options = what_was_used(args, "oracle")
    publish(args.output_path, args.exp_name, metrics, weights, asked | options)


if __name__ == "__main__":
    run_script(main)
