"""What is done to an image before a library's network sees it, against what the library itself does to it."""

import pytest
import timm
import torch
import torchvision
from assertions import refusal
from hub_folders import write_processor
from torchvision.transforms.functional import to_pil_image

from guided_diffusion.script.choices import INTERPOLATIONS
from guided_diffusion.script.errors import UserError
from models.from_timm import _preprocessing as of_timm
from models.from_torchvision import _preprocessing as of_torchvision
from models.from_transformers import _of_processor
from models.preprocessing import Preprocess, Preprocessing, settle


def picture(size, soft):
    """uint8 (3, size, size): soft spots, or noise, the hardest edges that there are."""
    noise = torch.rand(1, 3, 9 if soft else size, 9 if soft else size, generator=torch.Generator().manual_seed(1))
    spots = torch.nn.functional.interpolate(noise, (size, size), mode="bilinear", align_corners=True)[0]
    return (255 * (0.1 + 0.8 * spots if soft else spots.round())).round().to(torch.uint8)


def differences(how, transform, size, soft):
    """|ours - the library's| on a picture, as of images in [0, 1]."""
    pixels = picture(size, soft)
    ours = Preprocess(how)(pixels[None] / 127.5 - 1)[0]
    theirs = transform(to_pil_image(pixels))
    assert ours.shape == theirs.shape
    return ((ours - theirs) * torch.tensor(how.std).view(3, 1, 1)).abs()


def require_near(how, transform):
    """Apart by the rounding to 8 bits alone: Pillow rounds once along rows, once along columns.

    Of black and white noise a bicubic filter also makes values beyond both, which Pillow clips and torch keeps.
    """
    for size in (32, 128, 300):
        assert differences(how, transform, size, soft=True).max() < 1.2 / 255, size
        hard = differences(how, transform, size, soft=False)
        assert hard.mean() < 9 / 255 if how.interpolation == "bicubic" else hard.max() < 1.2 / 255, size


TIMM = ["test_resnet", "test_vit", "convnext_tiny", "volo_d5_512", "vit_base_patch16_clip_224", "resnetv2_50x1_bit"]


@pytest.mark.parametrize("name", TIMM)
def test_timms_networks_get_what_timm_gives_them(name):
    config = timm.data.resolve_data_config({}, pretrained_cfg=timm.models.get_pretrained_cfg(name).to_dict())
    transform = timm.data.create_transform(**config, is_training=False)
    require_near(settle(of_timm(config), transform, {}, name, "classifier"), transform)


@pytest.mark.parametrize("name", ["resnet18", "vit_l_16", "inception_v3", "efficientnet_b1", "maxvit_t"])
def test_torchvisions_networks_get_what_torchvision_gives_them(name):
    transform = torchvision.models.get_model_weights(name).DEFAULT.transforms()
    require_near(settle(of_torchvision(transform), transform, {}, name, "classifier"), transform)


PROCESSORS = [
    {"image_processor_type": "ViTImageProcessor"},
    # Where a pixel's centre falls between two, Pillow and torch may take either: of these sizes none does.
    {"image_processor_type": "ViTImageProcessor", "do_normalize": False, "resample": 0, "size": 64},
    {"image_processor_type": "ViTImageProcessor", "do_resize": False},
    {"image_processor_type": "ConvNextImageProcessor", "size": {"shortest_edge": 224}},
    {"image_processor_type": "ConvNextImageProcessor", "size": {"shortest_edge": 384}},
    {"image_processor_type": "CLIPImageProcessor"},
    {"image_processor_type": "BitImageProcessor", "size": {"shortest_edge": 256}, "crop_size": 224},
    {"image_processor_type": "DeiTImageProcessor"},
    {"image_processor_type": "ViTImageProcessor", "rescale_factor": 1 / 127.5, "image_mean": [1, 1, 1]},
]


def processor(tmp_path, about):
    found = write_processor(tmp_path, about)
    return found.to_dict(), lambda image: found(images=image, return_tensors="pt")["pixel_values"][0]


@pytest.mark.parametrize("about", PROCESSORS, ids=lambda about: "-".join(map(str, about.values())))
def test_networks_of_transformers_get_what_their_processor_gives_them(tmp_path, about):
    fields, transform = processor(tmp_path, about)
    require_near(settle(_of_processor(fields), transform, {}, "a network", "classifier"), transform)


def test_a_processor_with_a_step_of_its_own_is_refused_unless_everything_is_said(tmp_path):
    """EfficientNet's divides by the standard deviation twice."""
    fields, transform = processor(tmp_path, {"image_processor_type": "EfficientNetImageProcessor"})
    how, asked = _of_processor(fields), {"size": 64, "mean": (0.1, 0.2, 0.3), "std": (1.0, 1.0, 2.0)}
    for given in ({}, {"size": 64}):
        message = refusal(UserError, settle, how, transform, given, "a network", "oracle")
        assert "in a way that is not known here" in message
        assert "give --oracle_size, --oracle_mean and --oracle_std" in message
    settled = settle(how, transform, asked, "a network", "oracle")
    assert settled == Preprocessing((64, 64), None, (0.1, 0.2, 0.3), (1.0, 1.0, 2.0), settled.interpolation)


def test_what_torch_cannot_resize_by_is_refused_unless_another_is_said(tmp_path):
    fields, transform = processor(tmp_path, {"image_processor_type": "ViTImageProcessor", "resample": 1})
    message = refusal(UserError, settle, _of_processor(fields), transform, {}, "a network", "classifier")
    assert "resized by lanczos" in message and "--classifier_interpolation bicubic" in message
    asked = {"interpolation": "bicubic"}
    assert settle(_of_processor(fields), transform, asked, "a network", "classifier").interpolation == "bicubic"


def test_what_a_user_asks_for_replaces_what_the_library_says():
    how = Preprocessing((256, 256), (224, 224), (0.4, 0.5, 0.6), (0.2, 0.2, 0.2), "bicubic")
    assert how.changed() == how
    assert how.changed(size=96) == Preprocessing((96, 96), None, (0.4, 0.5, 0.6), (0.2, 0.2, 0.2), "bicubic")
    changed = how.changed(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), interpolation="nearest")
    assert changed == Preprocessing((256, 256), (224, 224), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), "nearest")
    assert how.describe() == "resized to 256 (bicubic), the centre 224 kept, mean 0.4,0.5,0.6, std 0.2"
    assert Preprocessing().describe() == "at their own size, mean 0.5, std 0.5"


@pytest.mark.parametrize("mode", INTERPOLATIONS)
def test_a_gradient_runs_through_every_step(mode):
    preprocess = Preprocess(Preprocessing((6, 6), (4, 4), (0.4, 0.5, 0.6), (0.2, 0.3, 0.4), mode)).double()
    images = torch.rand(1, 3, 9, 9, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(preprocess, images)
    assert torch.autograd.grad(preprocess(images).sum(), images)[0].abs().sum() > 0
