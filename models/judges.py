"""The loaders of the networks that judge counterfactuals, by the kinds that core.metrics.judges asks for."""

from .classifiers import load_classifier
from .inception import load_inception
from .lpips_vgg import load_lpips
from .oracles import load_oracle
from .vggface2 import load_vggface2

LOADERS = {
    "classifier": load_classifier,
    "oracle": load_oracle,
    "faces": load_vggface2,
    "inception": load_inception,
    "lpips": load_lpips,
}
