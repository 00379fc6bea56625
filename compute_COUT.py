"""COUT: how few of the changed pixels turn the classifier's mind (Khorram and Fuxin, CVPR 2022)"""

if __name__ == "__main__":
    from guided_diffusion.script.interrupts import end_on_interrupt

    end_on_interrupt()

import torch

from core.data.images import from_uint8
from core.metrics.inference import (
    CLASSIFIER_FLAGS,
    DEVICE_FLAGS,
    QUERY_FLAGS,
    RESULTS_FLAGS,
    find_question,
    in_batches,
    require_pairs,
    require_size,
    size_of,
    start_ranks,
    take_from_run,
    what_was_used,
)
from core.metrics.metric import mean_of, publish
from core.metrics.scores import cout
from core.running.flags import network_arguments
from guided_diffusion.script.flags import FlagParser, check_flags, group_flags
from guided_diffusion.script.run import run_script
from models.classifiers import load_classifier

FLAGS = group_flags(data=RESULTS_FLAGS, question=QUERY_FLAGS, networks=CLASSIFIER_FLAGS, speed=DEVICE_FLAGS)


def create_argparser():
    return FlagParser(__doc__, FLAGS)


def main():
    args = create_argparser().parse_args()
    check_flags(args, FLAGS)
    device, first = start_ranks(args)
    taken = take_from_run(args, "classifier_path", "query_label")
    pairs = require_pairs(args.output_path, args.exp_name, classified=("CC",), reached=("CCF", "ICF"))
    named = network_arguments(args, "classifier")
    classifier = load_classifier(*named, size_of(pairs), "classifier_path" not in taken).to(device)
    require_size(classifier, pairs, "classifier_path")
    question, asked = find_question(args, classifier)

    def load(pair):
        info = pair.info()
        return *pair.pixels(), torch.tensor(int(info["label"])), torch.tensor(int(info["target"]))

    def evaluate(pixels, cf_pixels, original, target):
        return (cout(question, from_uint8(pixels), from_uint8(cf_pixels), original, target),)

    (values,) = in_batches(evaluate, load, pairs, args.batch_size, device, "insertions", args.num_workers)
    if not first:
        return
    metrics = [mean_of("COUT", values, "correctly classified images, flipped or not")]
    weights, options = what_was_used(args, "classifier")
    publish(args.output_path, args.exp_name, metrics, weights, asked | options)


if __name__ == "__main__":
    run_script(main)
