"""Labels in memory: a byte for each yes or no, or one number for each image that has one class."""

import torch


class OneHot:
    """The labels (N, A) of 0/1 of images that have one class each, stored as the classes' numbers.

    It is indexed like a tensor, [rows] or [rows, columns], and gives one: int8, of 0/1.
    """

    def __init__(self, classes, count):
        """classes: (N,) integers from 0 to count - 1."""
        self.classes = torch.as_tensor(classes, dtype=torch.int32)
        self.shape = (len(self.classes), count)

    def __len__(self):
        return len(self.classes)

    def __getitem__(self, key):
        rows, columns = key if isinstance(key, tuple) else (key, slice(None))
        classes, numbers = self.classes[rows], torch.arange(self.shape[1])[columns]
        return (classes == numbers if numbers.dim() == 0 else classes[..., None] == numbers).to(torch.int8)


def take(labels, rows):
    """The labels of some of the images, in the same form."""
    return OneHot(labels.classes[rows], labels.shape[1]) if isinstance(labels, OneHot) else labels[rows]


def class_numbers(labels):
    """Labels (N, A) of images that have one class each -> (N,) int64, the classes' numbers."""
    return labels.classes.long() if isinstance(labels, OneHot) else labels.argmax(1)


def shares(labels):
    """Labels (N, A) of 0/1 -> (A,) float32, the share of 1 in each column."""
    if isinstance(labels, OneHot):
        return torch.bincount(labels.classes, minlength=labels.shape[1]).float() / len(labels)
    return labels.float().mean(0)


def first_without_one_class(labels):
    """The first row of labels (N, A) without exactly one 1, and how many it has; None where every row has one."""
    if isinstance(labels, OneHot):
        return None
    counts = labels.sum(1)
    rows = (counts != 1).nonzero()
    return (int(rows[0]), int(counts[rows[0]])) if len(rows) else None
