"""Dataclasses of tensors with a row for each image: Prepared, Outcome (of an attempt) and Explanation (of both).

rows() splits a batch into its images, and stack() joins them.
"""

from dataclasses import dataclass, fields

import torch


@dataclass(kw_only=True)
class Prepared:
    """What all attempts at an image share."""

    image: torch.Tensor  # (N, 3, H, W) in [-1, 1]
    z: torch.Tensor  # (N, ...): the sampler's argument z, the same for all attempts
    start: torch.Tensor  # (N, 3, H, W): where each chain starts, z_tau or the end of its inversion
    prediction: torch.Tensor  # (N,) predicted classes of the images
    target: torch.Tensor  # (N,) classes that the counterfactuals should have
    p_target_before: torch.Tensor  # (N,) the classifier's probability of the target for the image
    labels: torch.Tensor | None = None  # (N, ...): labels for a class-conditional network


@dataclass(kw_only=True)
class Outcome:
    """The result of an attempt. All is computed from the counterfactual as a file holds it, in 8 bits a channel."""

    counterfactual: torch.Tensor  # (N, 3, H, W) in [-1, 1]
    cf_prediction: torch.Tensor  # (N,) predicted classes of the counterfactuals
    p_target: torch.Tensor  # (N,) the classifier's probability of the target for the counterfactual
    attempts: torch.Tensor  # (N,) how many classifier scales were tried
    scale: torch.Tensor  # (N,) the classifier scale of the counterfactual
    mask: torch.Tensor  # (N, 1, H, W) booleans: where the image could change; everywhere for a method without masks
    pre_explanation: torch.Tensor | None = None  # (N, 3, H, W) in [-1, 1]: the image that a method refined


@dataclass(kw_only=True)
class Explanation(Prepared, Outcome):
    """What explain() returns, row n for image n: what all attempts shared, and the last Outcome."""

    @property
    def flipped(self):
        """(N,) whether the counterfactual reached its target."""
        return self.cf_prediction == self.target


def rows(batch):
    """A dataclass of tensors -> a list of the same, one for each row. Copies, as views would keep all in memory."""
    size = len(getattr(batch, fields(batch)[0].name))
    values = {name: value for name, value in vars(batch).items() if value is not None}
    return [type(batch)(**{name: value[row].clone() for name, value in values.items()}) for row in range(size)]


def stack(each):
    """A list of single rows, as rows() returns them -> the batch."""
    values = {name: [getattr(row, name) for row in each] for name in vars(each[0])}
    return type(each[0])(**{name: None if row[0] is None else torch.stack(row) for name, row in values.items()})


def gather(jobs):
    """Finished jobs -> their Explanation."""
    prepared, outcome = stack([job.prepared for job in jobs]), stack([job.outcome for job in jobs])
    return Explanation(**vars(prepared), **vars(outcome))
