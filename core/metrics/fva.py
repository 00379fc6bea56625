"""FVA and FS: is the counterfactual of a face still the same person? (VGGFace2's opinion)"""

import pandas as pd

from guided_diffusion.script.flags import Flag
from guided_diffusion.script.storage import write_text

from ..running.run import FLIPPED
from .metric import Source, mean_of
from .scores import SAME_FACE, face_similarity

NAMES = ("FVA", "FS")
FLAGS = {"weights_path": Flag("models/resnet50_ft_weight.pkl", "weights of VGGFace2's resnet50_ft")}


def measure(run, judges):
    """The Metrics of a Run. Writes the cosine of each pair's features into similarity.csv."""
    pairs, path = run.require_pairs(), judges.flags["weights_path"]
    network = judges.of_kind("faces", path)

    def similarity(x, counterfactual):
        return (face_similarity(network(x), network(counterfactual)),)

    def load(pair):
        return [network.pixels_of(pixels) for pixels in pair.pixels()]

    (cosines,) = judges.batches.map(similarity, load, pairs, "faces")
    if not judges.ranks.first:
        return []
    table = pd.DataFrame({"id": [pair.id for pair in pairs], "cosine": [round(float(c), 6) for c in cosines]})
    write_text(run.layout.similarity, table.to_csv(index=False))
    source = Source({"weights_path": path})
    return [mean_of("FVA", cosines > SAME_FACE, FLIPPED, source), mean_of("FS", cosines, FLIPPED, source)]
