"""Metrics as pure functions of decisions, features and distances."""

import pandas as pd


def attribute_accuracy(decisions, labels, attributes):
    """decisions and labels (N, A) of 0/1 -> a table by attribute: accuracy, balanced accuracy, share of yes.

    Balanced accuracy is the mean of the accuracies on the yes and on the no images; where there are only
    images of one kind it is the accuracy on these.
    """
    right, yes = (decisions == labels).numpy(), (labels == 1).numpy()
    rows = {}
    for a, name in enumerate(attributes):
        kinds = [right[mask, a].mean() for mask in (yes[:, a], ~yes[:, a]) if mask.any()]
        rows[name] = {"accuracy": right[:, a].mean(), "balanced": sum(kinds) / len(kinds), "yes": yes[:, a].mean()}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("attribute")
