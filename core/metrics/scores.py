"""Metrics as pure functions of decisions, features, probabilities and labels."""

import numpy as np
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
