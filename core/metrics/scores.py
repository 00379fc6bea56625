"""Metrics as pure functions of decisions, features, probabilities and labels."""

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F

SAME_FACE = 0.5  # the cosine above which two photographs of VGGFace2 count as one person


def face_similarity(features, cf_features):
    """Two (N, D) features -> (N,) cosines. FS is their mean, FVA the share above SAME_FACE."""
    return F.cosine_similarity(features, cf_features, dim=1)


def changed_attributes(decisions, cf_decisions):
    """Two (N, A) decisions of 0/1 -> (N,) how many differ. MNAC is their mean (Rodríguez et al., ICCV 2021)."""
    return (decisions != cf_decisions).sum(1)


def pearson(query, values):
    """query (N,), values (N, A) -> (A,) correlations of query with each column; 0 where one has no variance."""
    query, values = np.asarray(query, float), np.asarray(values, float)
    varies = (np.ptp(query) > 0) & (np.ptp(values, axis=0) > 0)
    query, values = query - query.mean(), values - values.mean(0)
    norms = np.sqrt((query**2).sum() * (values**2).sum(0))
    return np.divide(query @ values, norms, out=np.zeros(values.shape[1]), where=varies)


def correlation_matrix(values):
    """(N, A) numbers -> (A, A) correlations of the columns; 0 where one has no variance."""
    return np.stack([pearson(column, values) for column in np.asarray(values).T])


def change_correlations(decisions, cf_decisions, query):
    """Two (N, A) decisions of 0/1 -> (A,) correlations of each attribute's change with that of `query`."""
    change = np.asarray(cf_decisions, int) - np.asarray(decisions, int)
    return pearson(change[:, query], change)


def correlation_difference(expected, measured):
    """Two (A,) correlations -> CD (Jeanneret et al., ACCV 2022): Σ_a |c_a - r_a|."""
    return float(np.abs(expected - measured).sum())


@torch.no_grad()
def decide(network, dataset, device, batch_size=64, decision=lambda logits: (logits > 0).long()):
    """network, images -> (N, A) logits, and a dataset of N images -> its decisions on them, (N, A) of 0/1.

    decision: logits -> decisions; with predicted_class these are (N,) classes.
    """
    decisions = []
    for start in range(0, len(dataset), batch_size):
        images = [dataset[i][0] for i in range(start, min(start + batch_size, len(dataset)))]
        decisions.append(decision(network(torch.stack(images).to(device))).cpu())
    return torch.cat(decisions)


def attribute_accuracy(decisions, labels, attributes):
    """decisions and labels (N, A) of 0/1 -> a DataFrame with a row for each attribute.

    Columns: accuracy; balanced, the mean of the accuracies on the images with label 1 and with label 0 (where there
    are only images of one kind, the accuracy on these); yes, the share of labels that are 1.
    """
    right, yes = (decisions == labels).numpy(), (labels == 1).numpy()
    rows = {}
    for a, name in enumerate(attributes):
        kinds = [right[mask, a].mean() for mask in (yes[:, a], ~yes[:, a]) if mask.any()]
        rows[name] = {"accuracy": right[:, a].mean(), "balanced": sum(kinds) / len(kinds), "yes": yes[:, a].mean()}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("attribute")


def class_accuracy(decisions, classes, names):
    """Decided and true classes (N,) -> a table by class: accuracy on its images, how many there are.

    Classes without an image are left out.
    """
    right, rows = decisions == classes, {}
    for number, name in enumerate(names):
        of_class = classes == number
        if of_class.any():
            rows[name] = {"accuracy": float(right[of_class].float().mean()), "images": int(of_class.sum())}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("class")
