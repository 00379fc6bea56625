"""Image classifiers of transformers, by a folder that save_pretrained wrote or a name on the Hub."""

import difflib
from contextlib import contextmanager
from pathlib import Path

from torch import nn

from guided_diffusion.script.errors import UserError, hub_package

from .network import NamedNetwork, first_line, read_state
from .preprocessing import Preprocessing, settle

_PILLOW_FILTERS = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")  # by Pillow's numbers


class _Logits(nn.Module):
    """A transformers classifier that returns its logits alone."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, images):
        return self.model(pixel_values=images).logits


def load_transformers(name, weights, changes, role):
    """A folder or a Hub name of an image-classification model -> NamedNetwork.

    weights: a file of its state dict instead of those in the folder. The images are prepared as its image processor
    says, but for the changes (Preprocessing.changed). Code that it brings along is never run, and a pickle is read
    by read_weights alone. UserError, with the flags of the role, for what cannot be had or does not fit.
    """
    called = f"transformers:{name}"
    with hub_package(called):
        import transformers
        from transformers import AutoModelForImageClassification as AutoModel
    with _quiet(transformers):
        config = _config(transformers, name, called)
        names, task = [str(config.id2label.get(i, i)) for i in range(config.num_labels)], _task(config, called)
        how = _preprocessing(transformers, name, called, changes, role)
        try:
            # The class alone is wanted: it finds the names of older files, which load_state does not know.
            network_class = type(AutoModel.from_config(config, trust_remote_code=False))
        except Exception as error:  # of a configuration, which may hold anything
            raise UserError(
                f"{called} is a {config.model_type}, of which no image classifier can be built "
                f"({first_line(error)}); name another"
            ) from error
        if weights is None:
            model = _published(network_class, name, config, called, role)
        else:
            model = _with_weights(network_class, config, called, weights)
    return NamedNetwork(_Logits(model.float()), names, task, how, config.problem_type is not None)


@contextmanager
def _quiet(transformers):
    """Without the reports and bars of loading, of which our errors say what matters."""
    before = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity(transformers.logging.CRITICAL)
    transformers.logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers.logging.set_verbosity(before)
        transformers.logging.enable_progress_bar()


def _config(transformers, name, called):
    try:
        return transformers.AutoConfig.from_pretrained(name, trust_remote_code=False)
    except Exception as error:  # what a folder holds may be anything
        if "trust_remote_code" in str(error):
            raise UserError(f"{called} needs code of its own, which is never run; name another") from error
        if Path(name).is_dir():
            raise UserError(
                f"{called} has no config.json of an image classifier ({first_line(error)}); "
                "give a folder that save_pretrained wrote"
            ) from error
        near = difflib.get_close_matches(name, [*_cached_names(), *_folders_beside(name)])
        meant = f"; did you mean {', '.join(near)}?" if near else ""
        raise UserError(
            f"{called} is no folder, and the Hub cannot be asked or has no such model ({first_line(error)}); "
            f"give a folder that save_pretrained wrote, or connect and check the name{meant}"
        ) from error


def _folders_beside(name):
    parent = Path(name).parent
    return [str(path) for path in parent.iterdir() if path.is_dir()] if parent.is_dir() else []


def _cached_names():
    from huggingface_hub import CacheNotFound, constants, scan_cache_dir

    try:
        return [repository.repo_id for repository in scan_cache_dir(constants.HF_HUB_CACHE).repos]
    except CacheNotFound:
        return []


def _task(config, called):
    """A softmax over its labels, unless its configuration says that each label has a sigmoid of its own."""
    if config.problem_type == "multi_label_classification":
        return "attributes"
    if config.problem_type == "regression" or config.num_labels == 1:
        raise UserError(
            f"{called} was trained to predict a number, not a class; one with a single yes/no label says "
            'problem_type "multi_label_classification" in its config.json'
        )
    return "classes"


def _preprocessing(transformers, name, called, changes, role):
    try:
        processor = transformers.AutoImageProcessor.from_pretrained(name, trust_remote_code=False)
        if "auto_map" in processor.to_dict():
            raise ValueError("trust_remote_code")
    except Exception as error:
        if {"size", "mean", "std"} <= changes.keys():
            return Preprocessing().changed(**changes)
        of_its_own = "trust_remote_code" in str(error)
        reason = "it is code of its own, which is never run" if of_its_own else first_line(error)
        raise UserError(
            f"{called} has no image processor that can be used ({reason}); "
            f"give --{role}_size, --{role}_mean and --{role}_std"
        ) from error

    def transform(image):
        return processor(images=image, return_tensors="pt")["pixel_values"][0]

    return settle(_of_processor(processor.to_dict()), transform, changes, called, role)


def _of_processor(about):
    """Preprocessing of the common fields of an image processor, for square images."""
    resize = _sides(about.get("size")) if about.get("do_resize") else None
    crop = _sides(about.get("crop_size")) if about.get("do_center_crop") else None
    if about.get("crop_pct") and resize and resize[0] < 384:  # ConvNeXt's
        resize, crop = tuple(int(side / about["crop_pct"]) for side in resize), resize
    # A processor counts from 0 to 255 times its rescale_factor, Preprocessing from 0 to 1.
    scale = 255 * about["rescale_factor"] if about.get("do_rescale") else 255
    mean, std = (about["image_mean"], about["image_std"]) if about.get("do_normalize") else ([0] * 3, [1] * 3)
    return Preprocessing(
        resize,
        crop,
        tuple(value / scale for value in mean),
        tuple(value / scale for value in std),
        _PILLOW_FILTERS[about.get("resample") or 0],
    )


def _sides(size):
    """An image processor's size -> (h, w) of a square image."""
    size = size or {}
    edge = size.get("shortest_edge") or size.get("longest_edge")
    return (edge, edge) if edge else (size["height"], size["width"]) if "height" in size else None


def _published(network_class, name, config, called, role):
    """The model with the safetensors files of its folder or Hub name, else with its pytorch_model.bin."""
    try:
        found = network_class.from_pretrained(
            name, config=config, use_safetensors=True, ignore_mismatched_sizes=True, output_loading_info=True
        )
        return _complete(*found, called, called)
    except OSError as error:
        return _with_weights(network_class, config, called, _pickle(name, called, role, error))
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"{called}'s safetensors files cannot be read ({first_line(error)}); copy or download them again"
        ) from error


def _pickle(name, called, role, reason):
    """The path of pytorch_model.bin, for read_weights; UserError where there is none either."""
    from huggingface_hub import hf_hub_download

    if Path(name).is_dir():
        file = Path(name, "pytorch_model.bin")
        if file.exists():
            return file
    else:
        try:
            return hf_hub_download(name, "pytorch_model.bin")
        except OSError as error:
            reason = error
    raise UserError(
        f"{called} has no weights that can be had ({first_line(reason)}); "
        f"give --{role}_weights, or a folder that save_pretrained wrote"
    ) from reason


def _with_weights(network_class, config, called, weights):
    """The model with a file of its state dict, by the names of any version of transformers."""
    state = read_state(weights, called)
    found = network_class.from_pretrained(
        None, config=config, state_dict=state, ignore_mismatched_sizes=True, output_loading_info=True
    )
    return _complete(*found, weights, called)


def _complete(model, info, file, called):
    """The model, where every one of its tensors was in the file; else UserError."""
    reshaped = [each if isinstance(each, str) else each[0] for each in info["mismatched_keys"]]  # a tuple in 5
    problems = [
        f"{len(names)} {what} ({', '.join(sorted(names)[:3])})"
        for what, names in (
            ("missing", info["missing_keys"]),
            ("unexpected", info["unexpected_keys"]),
            ("of another shape", reshaped),
        )
        if names
    ]
    if problems:
        raise UserError(f"{file} does not fit {called}: {'; '.join(problems)}; check the path, or config.json")
    return model
