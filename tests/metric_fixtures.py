"""Fixtures of the tests of the compute_ scripts."""

import pickle
from unittest import mock

import pytest
import torch
import yaml
from published_weights import published
from pytorch_fid import inception
from reference_weights import deterministic_array, deterministic_state
from scripts import call_script, error_of, output_of
from torchvision.models import vgg
from toy_results import Colours

from core.data.datasets import CELEBA_ATTRIBUTES
from models.classifiers import build_classifier, classifier_checkpoint
from models.judges import LOADERS


@pytest.fixture(scope="session")
def weights_dir(tmp_path_factory):
    """Random weights of every network, where the scripts and the libraries look for them."""
    root = tmp_path_factory.mktemp("weights")
    hub = root / "hub/checkpoints"
    hub.mkdir(parents=True)
    state = published("vggface2_resnet50_ft")
    (root / "resnet50_ft.pkl").write_bytes(pickle.dumps({name: t.numpy() for name, t in state.items()}, protocol=2))
    vgg16 = vgg.make_layers(vgg.cfgs["D"]).state_dict(prefix="features.")
    torch.manual_seed(0)
    torch.save({name: 0.1 * torch.randn_like(tensor) for name, tensor in vgg16.items()}, hub / "vgg16-397923af.pth")
    torch.save(inception_state(), hub / "pt_inception-2015-12-05-6726825d.pth")
    network = build_classifier("small_cnn", 40).eval()
    with torch.no_grad():  # answers that differ from picture to picture
        network.classifier.bias -= network(deterministic_array("pictures", (64, 3, 16, 16), 0.4)).mean(0)
    torch.save(classifier_checkpoint(network, "small_cnn", CELEBA_ATTRIBUTES, 16), root / "small.pt")
    return root


def inception_state():
    with mock.patch.object(inception, "load_state_dict_from_url", lambda *_, **__: {}):
        with mock.patch.object(torch.nn.Module, "load_state_dict", lambda *_: None):
            return deterministic_state(inception.fid_inception_v3())


@pytest.fixture
def measure(tmp_path):
    """measure(module, flags) -> (what metrics.yaml says, stdout) of a script, which must succeed."""

    def run(module, exp_name="exp", **flags):
        out = output_of(call_script(module, flags | {"output_path": tmp_path, "exp_name": exp_name}))
        return yaml.safe_load((tmp_path / "Results" / exp_name / "metrics.yaml").read_text()), out

    return run


@pytest.fixture
def refuse(tmp_path):
    """refuse(module, flags) -> the one line of a script that must end with exit code 2 and write nothing."""

    def run(module, **flags):
        line = error_of(call_script(module, flags | {"output_path": tmp_path, "exp_name": "exp"}))
        assert not list(tmp_path.rglob("metrics.yaml"))
        return line

    return run


@pytest.fixture
def colour_oracle(tmp_path, monkeypatch):
    """Flags for an oracle of three attributes, Smiling, Young and Male: the brightness of the three channels."""
    path = tmp_path / "oracle.pt"
    path.write_bytes(b"any")
    monkeypatch.setitem(LOADERS, "oracle", lambda *_: Colours())
    return {"oracle_path": path, "query_label": "Smiling"}
