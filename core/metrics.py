"""Metrics as pure functions of decisions, features and distances."""

import pandas as pd
import torch


@torch.no_grad()
def decide(network, dataset, device, batch_size=64):
    """The decisions of a network, images -> (N, A) logits, on every image of a dataset: (N, A) of 0/1."""
    decisions = []
    for start in range(0, len(dataset), batch_size):
        images = [dataset[i][0] for i in range(start, min(start + batch_size, len(dataset)))]
        decisions.append((network(torch.stack(images).to(device)) > 0).long().cpu())
    return torch.cat(decisions)


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
