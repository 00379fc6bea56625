"""Five explained images, as the tests of the records and of the results folder need them."""

import torch

from core.data.images import from_uint8
from core.results.records import make_records
from core.running.explanation import Explanation

IDS = [30, 7, 101, 9, 4]
LABELS = [1, 1, 0, 0, 1]
PREDICTIONS = [1, 0, 0, 0, 1]
TARGETS = [0, 1, 1, 1, 0]
CF_PREDICTIONS = [0, 1, 0, 1, 1]
P_TARGET = [0.9, 0.6, 1 / 3, 0.75, 0.1]
PIXELS = torch.randint(0, 200, (5, 3, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
CF_PIXELS = PIXELS + torch.tensor([0, 10, 20, 30, 55], dtype=torch.uint8)[:, None, None, None]


def explained():
    """What explain() says of five images, row by row."""
    return Explanation(
        image=from_uint8(PIXELS),
        z=from_uint8(PIXELS),
        counterfactual=from_uint8(CF_PIXELS),
        start=from_uint8(PIXELS.flip(-1)),
        prediction=torch.tensor(PREDICTIONS),
        target=torch.tensor(TARGETS),
        cf_prediction=torch.tensor(CF_PREDICTIONS),
        p_target_before=torch.tensor([0.1, 0.3, 0.2, 0.4, 0.05]),
        p_target=torch.tensor(P_TARGET),
        attempts=torch.tensor([1, 2, 3, 1, 3]),
        scale=torch.tensor([8.0, 10.0, 15.0, 8.0, 15.0]),
        mask=PIXELS[:, :1] > 100,
    )


def records(**oracle):
    names = [f"{i:06d}.jpg" for i in range(1, 6)]
    return make_records(IDS, names, from_uint8(PIXELS), torch.tensor(LABELS), explained(), **oracle)
