"""Small networks of random weights as their libraries save them."""

import json
import shutil

import huggingface_hub
import timm
import torch
import transformers
from timm.models import save_for_hf
from transformers import AutoImageProcessor, AutoModelForImageClassification, ViTConfig, logging

NAMES = ["ape", "cat", "dog"]


def randomize(network):
    """The network, in eval mode, with every number of it drawn at random: fresh ones hold zeroed layers."""
    generator = torch.Generator().manual_seed(0)
    state = network.state_dict()
    for name, tensor in state.items():
        if tensor.is_floating_point():
            positive = name.endswith("running_var") or tensor.dim() == 1 and name.endswith("weight")
            drawn = torch.rand(tensor.shape, generator=generator)
            tensor.copy_(0.5 + drawn if positive else 2 * (drawn - 0.5) / max(1, tensor[:1].numel()) ** 0.5)
    network.load_state_dict(state)
    return network.eval()


def cache(repository, folder, root, monkeypatch):
    """Makes root the Hub's cache, and puts a folder into it as if the Hub had given its files."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(root))
    monkeypatch.setattr(transformers.utils.hub, "TRANSFORMERS_CACHE", str(root), raising=False)  # of version 4
    entry = root / f"models--{repository.replace('/', '--')}"
    shutil.copytree(folder, entry / "snapshots" / ("0" * 40))
    (entry / "refs").mkdir()
    (entry / "refs/main").write_text("0" * 40)


def write_timm(folder, safe=True, names=None, **pretrained_cfg):
    """A folder for timm:local-dir:, of a network for images of 160 pixels -> the network."""
    network = timm.create_model("test_resnet", num_classes=3, pretrained_cfg_overlay=pretrained_cfg)
    config = {"label_names": names} if names else {}
    save_for_hf(randomize(network), folder, config, safe_serialization=safe)
    return network


def write_transformers(folder, processor=None, **config):
    """A folder for transformers:, of a ViT for images of 32 pixels unless the config says other -> the network."""
    about = {
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 16,
        "image_size": 32,
        "patch_size": 8,
        "id2label": dict(enumerate(NAMES)),
    }
    about |= config
    labels = {"label2id": {name: index for index, name in about["id2label"].items()}}
    network = randomize(AutoModelForImageClassification.from_config(ViTConfig(**about, **labels)))
    logging.disable_progress_bar()
    network.save_pretrained(folder)
    write_processor(folder, processor or {"image_processor_type": "ViTImageProcessor", "size": about["image_size"]})
    return network


def write_processor(folder, about):
    """preprocessor_config.json of these fields, and of the others as its class has them -> the processor."""
    path = folder / "preprocessor_config.json"
    path.write_text(json.dumps(about))
    processor = AutoImageProcessor.from_pretrained(folder)
    path.write_text(processor.to_json_string())
    return processor
