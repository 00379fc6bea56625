"""What an explanation consists of: what is prepared once an image, what an attempt gives, and the two together.

Each is a dataclass of tensors with a row for each image; rows() and stack() go between a batch and its images.
"""

from dataclasses import dataclass, fields

import torch


@dataclass
class Prepared:
    """What all attempts at an image share. Probabilities are the classifier's, of the target class."""

    image: torch.Tensor  # (N, 3, H, W) in [-1, 1]
    z: torch.Tensor  # (N, ...): what the sampler is given as z, for every attempt
    start: torch.Tensor  # (N, 3, H, W): where each chain starts, z_tau or the end of its inversion
    prediction: torch.Tensor  # (N,) classes of the images
    target: torch.Tensor  # (N,) classes asked for
    p_target_before: torch.Tensor  # (N,)
    labels: torch.Tensor | None = None  # (N, ...): what a class-conditional network is told


@dataclass
class Outcome:
    """What an attempt gives. It is measured on the image as a file holds it, rounded to 8 bits a channel."""

    counterfactual: torch.Tensor  # (N, 3, H, W) in [-1, 1]
    cf_prediction: torch.Tensor  # (N,) classes of the counterfactuals
    p_target: torch.Tensor  # (N,)
    attempts: torch.Tensor  # (N,) how many classifier scales were tried
    scale: torch.Tensor  # (N,) the classifier scale of the counterfactual
    mask: torch.Tensor  # (N, 1, H, W) booleans: where it was allowed to change, everywhere without a mask


@dataclass
class Explanation:
    """What explain() returns, row n for image n: fields of Prepared and of the last Outcome."""

    counterfactual: torch.Tensor
    start: torch.Tensor
    prediction: torch.Tensor
    target: torch.Tensor
    cf_prediction: torch.Tensor
    p_target_before: torch.Tensor
    p_target: torch.Tensor
    attempts: torch.Tensor
    scale: torch.Tensor
    mask: torch.Tensor | None = None

    @property
    def flipped(self):
        """(N,) whether the counterfactual reached its target."""
        return self.cf_prediction == self.target


def rows(batch):
    """A dataclass of tensors -> the same of each row. Copies: a view would keep the whole batch in memory."""
    size = len(getattr(batch, fields(batch)[0].name))
    values = {name: value for name, value in vars(batch).items() if value is not None}
    return [type(batch)(**{name: value[row].clone() for name, value in values.items()}) for row in range(size)]


def stack(each):
    """A list of one row each, as rows() gives them -> the batch."""
    values = {name: [getattr(row, name) for row in each] for name in vars(each[0])}
    return type(each[0])(**{name: None if row[0] is None else torch.stack(row) for name, row in values.items()})


def gather(jobs):
    """Finished jobs -> (their images (N, 3, H, W), their Explanation)."""
    found = vars(prepared := stack([job.prepared for job in jobs])) | vars(stack([job.outcome for job in jobs]))
    return prepared.image, Explanation(**{each.name: found[each.name] for each in fields(Explanation)})
