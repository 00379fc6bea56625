"""MNAC and Oracle FR: how many attributes changed, and did the queried one? (the oracle's opinion)"""

if __name__ == "__main__":
    from guided_diffusion.script.interrupts import end_on_interrupt

    end_on_interrupt()

import torch

from core.metrics.inference import (
    DEVICE_FLAGS,
    FLIPPED,
    ORACLE_FLAGS,
    QUERY_FLAGS,
    RESULTS_FLAGS,
    classes_of_run,
    find_query,
    judge,
    require_pairs,
    size_of,
    start_ranks,
    take_from_run,
    task_of_run,
    what_was_used,
)
from core.metrics.metric import mean_of, publish
from core.metrics.scores import changed_attributes
from core.results.records import changed_to
from core.running.flags import network_arguments
from core.running.judging import class_seer
from guided_diffusion.script.flags import FlagParser, check_flags, group_flags
from guided_diffusion.script.run import run_script
from models.oracles import load_oracle

FLAGS = group_flags(data=RESULTS_FLAGS, question=QUERY_FLAGS, networks=ORACLE_FLAGS, speed=DEVICE_FLAGS)


def create_argparser():
    return FlagParser(__doc__, FLAGS)


def main():
    args = create_argparser().parse_args()
    check_flags(args, FLAGS)
    device, first = start_ranks(args)
    taken = take_from_run(args, "oracle_path", "query_label")
    pairs = require_pairs(args.output_path, args.exp_name)
    named = network_arguments(args, "oracle")
    oracle = load_oracle(*named, size_of(pairs), "oracle_path" not in taken).to(device)
    measure = measure_attributes if task_of_run(args) == "attributes" else measure_classes
    metrics, asked = measure(args, oracle, pairs, device)
    if not first:
        return
    weights, options = what_was_used(args, "oracle")
    publish(args.output_path, args.exp_name, metrics, weights, asked | options)


def measure_attributes(args, oracle, pairs, device):
    """MNAC and Oracle FR of an oracle of attributes -> (Metrics, what was asked of it)."""
    attributes, query = find_query(args, oracle)
    before, after = judge(oracle, pairs, args.batch_size, device, workers=args.num_workers)
    metrics = [
        mean_of("MNAC", changed_attributes(before, after), FLIPPED),
        mean_of("Oracle FR", before[:, query] != after[:, query], FLIPPED),
    ]
    return metrics, {"query_label": attributes[query], "attributes": len(attributes)}


def measure_classes(args, oracle, pairs, device):
    """Oracle FR of an oracle of classes: the share that became the target for it, and was not before."""
    print("MNAC is of attributes: of a run with --task classes there is Oracle FR alone")
    names = classes_of_run(args)
    before, after = judge(oracle, pairs, args.batch_size, device, class_seer(oracle, names), args.num_workers)
    target = torch.tensor([int(pair.info()["target"]) for pair in pairs])
    return [mean_of("Oracle FR", changed_to(before, after, target), FLIPPED)], {"classes": len(names)}


if __name__ == "__main__":
    run_script(main)
