"""A classifier is tried before anything is computed with it, whichever way it came."""

import warnings

import pytest
import torch
from assertions import refusal
from main_runs import refuse
from naive import DIFFUSION
from odd_networks import CANNOT_GUIDE, REMARKED, Bright, NoGrad, Sigmoid
from toy_networks import stand_in_network

from core.running.explainer import explain
from guided_diffusion.script.errors import UserError
from models.classifier import Classifier, probe_classifier
from models.classifiers import load_classifier
from models.oracles import load_oracle

IMAGES = torch.rand(5, 3, 8, 8, generator=torch.Generator().manual_seed(1)) * 2 - 1


def by_name(network, path, load=load_classifier):
    return load(f"odd_networks:{network.__name__}", image_size=16)


def state_dict(network, path, load=load_classifier):
    torch.save(network(3).state_dict(), path)
    return load(path, f"odd_networks:{network.__name__}", image_size=16)


def own_file(network, path, load=load_classifier):
    content = {"architecture": f"odd_networks:{network.__name__}", "attributes": ["a", "b"], "task": "classes"}
    torch.save(content | {"state_dict": network(2).state_dict(), "image_size": 16}, path)
    return load(path, f"odd_networks:{network.__name__}")


WAYS = pytest.mark.parametrize("way", [by_name, state_dict, own_file], ids=lambda way: way.__name__)


def each(networks):
    return pytest.mark.parametrize("network, words", networks.items(), ids=str)


def explained(classifier):
    return explain(IMAGES, classifier, DIFFUSION, stand_in_network, tau=3, classifier_scales=(4,))


@WAYS
@each(CANNOT_GUIDE)
def test_a_classifier_that_cannot_guide_is_refused(network, words, way, tmp_path):
    assert words in refusal(UserError, way, network, tmp_path / "c.pt")


@WAYS
@each(REMARKED)
def test_what_may_be_meant_is_remarked(network, words, way, tmp_path):
    assert words in way(network, tmp_path / "c.pt").about


@WAYS
def test_nothing_is_said_of_logits(way, tmp_path):
    remark = way(Bright, tmp_path / "c.pt").remark
    assert not remark


@each(CANNOT_GUIDE | REMARKED)
def test_a_notebook_is_told_the_same(network, words):
    classifier = network().eval()
    if network in REMARKED:
        with pytest.warns(UserWarning, match=words):
            explained(classifier)
    else:
        assert words in refusal(UserError, explained, classifier)


def test_training_mode_hides_no_missing_gradient():
    network = torch.nn.Sequential(torch.nn.BatchNorm2d(3), NoGrad()).train()
    assert "has no gradient" in refusal(UserError, explained, network)


def test_a_notebook_is_told_of_training_mode_and_of_no_more():
    classifier = torch.nn.Sequential(torch.nn.BatchNorm2d(3), Bright())
    with pytest.warns(UserWarning, match="training mode"):
        explained(classifier)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        explained(classifier.eval())
        explained(lambda images: Bright()(images)[:, 0])


@WAYS
def test_an_oracle_need_not_have_a_gradient_but_be_of_logits(way, tmp_path):
    for network, words in CANNOT_GUIDE.items():
        if "gradient" in words:
            assert way(network, tmp_path / "o.pt", load_oracle)(IMAGES).shape[0] == 5
        else:
            assert words in refusal(UserError, way, network, tmp_path / "o.pt", load_oracle)
    assert "sigmoid" in way(Sigmoid, tmp_path / "o.pt", load_oracle).about


def test_weights_in_double_are_named_as_the_cause(tmp_path):
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 2, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    message = refusal(UserError, probe_classifier, Classifier(network.double(), "mine"), 16, "classifier")
    assert "float64" in message and "network.float()" in message


def test_a_run_says_it_before_anything_is_computed(flags):
    del flags["classifier_architecture"]
    refuse(flags | {"classifier_path": "odd_networks:Rounded"}, "gradient of zero everywhere")
    assert not flags["output_path"].exists()
