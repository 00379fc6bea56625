"""MNAC and Oracle FR: how many attributes changed, and did the queried one? (the oracle's opinion)"""

import torch

from ..data.datasets import CELEBA_ATTRIBUTES
from ..results.records import changed_to
from ..running.networks import class_predictor
from ..running.run import FLIPPED
from .judges import decisions_of, judge_pairs
from .metric import Source, mean_of
from .scores import changed_attributes

NAMES = ("MNAC", "Oracle FR")


def measure(run, judges):
    """The Metrics of a Run: both with an oracle of attributes, Oracle FR alone with one of classes."""
    pairs = run.require_pairs()
    oracle, name = judges.of_role("oracle", run, pairs)
    question = run.question
    if question.of_classes:
        print("MNAC is of attributes: of a run with --task classes there is Oracle FR alone")
        classes = run.require_classes()
        before, after = judge_pairs(class_predictor(oracle, classes), pairs, judges.batches)
        target = torch.tensor([int(pair.info()["target"]) for pair in pairs])
        source = Source(name.weights, {"classes": len(classes)} | name.options)
        return [mean_of("Oracle FR", changed_to(before, after, target), FLIPPED, source)]
    attributes = tuple(oracle.attributes or CELEBA_ATTRIBUTES)
    query = question.place_in(attributes)
    before, after = judge_pairs(decisions_of(oracle), pairs, judges.batches)
    asked = {"query_label": attributes[query], "attributes": len(attributes)}
    source = Source(name.weights, asked | name.options)
    return [
        mean_of("MNAC", changed_attributes(before, after), FLIPPED, source),
        mean_of("Oracle FR", before[:, query] != after[:, query], FLIPPED, source),
    ]
