"""What a classifier of drawn faces uses in truth: how p changes when a property alone is drawn otherwise."""

import numpy as np
import pandas as pd
import torch

from benchmarks.planted import PROPERTIES
from core.metrics.intervals import mean_interval
from guided_diffusion.pixels import from_uint8
from guided_diffusion.script.storage import write_text
from models.classifiers import load_classifier

BATCH = 256


def rendered_changes(path, weights, renderings):
    """The csv `path`, made where it is not there -> a table with a row for each of the PROPERTIES.

    change: mean of p(asked) with the property minus without, over the faces, and its interval, low and high.
    """
    if not path.exists():
        p, toggled = (probabilities(weights, images) for images in (renderings.originals, renderings.toggled))
        gains = np.where(renderings.has, p[:, None] - toggled, toggled - p[:, None])
        rows = [
            {"property": name, "change": values.mean(), "low": low, "high": high}
            for name, values in zip(PROPERTIES, gains.T, strict=True)
            for low, high in [mean_interval(values)]
        ]
        write_text(path, pd.DataFrame(rows).round(6).to_csv(index=False))
    return pd.read_csv(path)


@torch.no_grad()
def probabilities(weights, images):
    """A classifier file of one attribute, uint8 (..., S, S, 3) -> p of each image, (...)."""
    classifier = load_classifier(weights).eval()
    pixels = torch.from_numpy(images.reshape(-1, *images.shape[-3:])).permute(0, 3, 1, 2)
    logits = [classifier(from_uint8(part))[:, 0] for part in pixels.split(BATCH)]
    return torch.cat(logits).sigmoid().numpy().reshape(images.shape[:-3])
