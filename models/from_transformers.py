"""Image classifiers of transformers, by a folder that save_pretrained wrote or a name on the Hub."""

from contextlib import contextmanager
from pathlib import Path

from torch import nn

from guided_diffusion.script.errors import UserError, as_user_error, first_sentence, hub_package

from .checkpoints import misfits, read_state
from .classifier import Classifier
from .downloads import hub_file
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
    """A folder or a Hub name of an image-classification model -> Classifier.

    weights: a file of its state dict instead of those in the folder. The images are prepared as its image processor
    says, but for the changes (Preprocessing.changed). Code that it brings along is never run, and a pickle is read
    by read_weights alone. UserError, with the flags of the role, for what cannot be had or does not fit.
    """
    called = f"transformers:{name}"
    with hub_package(called):
        import transformers
    with _quiet(transformers.logging):
        config = _config(transformers, name, called)
        names, task = [str(config.id2label.get(i, i)) for i in range(config.num_labels)], _task(config, called)
        how = _preprocessing(transformers, name, called, changes, role)
        model = _model(transformers, name, config, called, weights, role)
    return Classifier(_Logits(model.float()), called, names, None, task, how, config.problem_type is not None)


@contextmanager
def _quiet(logging):
    """Without the reports and bars of loading, of which our errors say what matters."""
    before = logging.get_verbosity()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(before)
        logging.enable_progress_bar()


def _config(transformers, name, called):
    try:
        return transformers.AutoConfig.from_pretrained(name, trust_remote_code=False)
    except Exception as error:  # what a folder holds may be anything
        if "trust_remote_code" in str(error):
            raise UserError(f"{called} needs code of its own, which is never run; name another") from error
        if Path(name).is_dir():
            raise UserError(
                f"{called} has no config.json of an image classifier ({first_sentence(error)}); "
                "give a folder that save_pretrained wrote"
            ) from error
        raise UserError(
            f"{called} is no folder, and the Hub cannot be asked or has no such model ({first_sentence(error)}); "
            f"give a folder that save_pretrained wrote, or connect and check the name"
        ) from error


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
        own_code = "trust_remote_code" in str(error)
        reason = "it is code of its own, which is never run" if own_code else first_sentence(error)
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
    mean, std = (tuple(value / scale for value in values) for values in (mean, std))
    return Preprocessing(resize, crop, mean, std, _PILLOW_FILTERS[about.get("resample") or 0])


def _sides(size):
    """An image processor's size -> (h, w) of a square image."""
    size = size or {}
    edge = size.get("shortest_edge") or size.get("longest_edge")
    return (edge, edge) if edge else (size["height"], size["width"]) if "height" in size else None


def _model(transformers, name, config, called, weights, role):
    """The model with a file of its state dict; None: with those of its folder or Hub name, safetensors first."""
    fault = f"{called} is a {config.model_type}, of which no image classifier can be built"
    with as_user_error(fault, "name another"):
        # Only the class is wanted: unlike load_state it knows the tensors' names of any version of transformers.
        auto = transformers.AutoModelForImageClassification
        network_class = type(auto.from_config(config, trust_remote_code=False))
    if weights is None:
        try:
            return _filled(network_class, name, config, called, called, use_safetensors=True)
        except UserError:
            raise
        except OSError:  # there is none
            weights = _pickle(name, called, role)
        except Exception as error:
            raise UserError(
                f"{called}'s safetensors files cannot be read ({first_sentence(error)}); "
                "copy or download them again"
            ) from error
    return _filled(network_class, None, config, weights, called, state_dict=read_state(weights, called))


def _pickle(name, called, role):
    """The path of pytorch_model.bin, for read_weights; UserError where there is none either."""
    remedy = f"give --{role}_weights, or a folder that save_pretrained wrote"
    with as_user_error(f"{called} has no weights that can be had", remedy, OSError):
        return hub_file(name, ["pytorch_model.bin"])


def _filled(network_class, name, config, file, called, **options):
    """from_pretrained; UserError, naming the file, unless every tensor of the model was in it and no other."""
    model, info = network_class.from_pretrained(
        name, config=config, ignore_mismatched_sizes=True, output_loading_info=True, **options
    )
    reshaped = [each if isinstance(each, str) else each[0] for each in info["mismatched_keys"]]  # a tuple in 5
    wrong = misfits(*map(sorted, (info["missing_keys"], info["unexpected_keys"], reshaped)))
    if wrong:
        raise UserError(f"{file} does not fit {called}: {wrong}; check the path, or config.json")
    return model
