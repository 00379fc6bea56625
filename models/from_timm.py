"""Classification networks of timm, by the names that timm gives them, a Hub name or a folder."""

from guided_diffusion.script.errors import UserError, as_user_error, hub_package

from .checkpoints import count_rows, load_state, read_state
from .classifier import Classifier
from .downloads import hub_file, published_weights
from .preprocessing import Preprocessing, settle

# How the Hub and timm's own folders call the weights, the first one first.
_FILES = ("model.safetensors", "pytorch_model.bin")


def load_timm(name, weights, changes, role):
    """`NETWORK` or `NETWORK.TAG` of timm, `hf-hub:REPOSITORY` or `local-dir:FOLDER` -> Classifier.

    weights: a file of its state dict, for any number of classes; None for those of the name, downloaded where they
    are not in a cache. The images are prepared as timm's configuration of the name says, but for the changes
    (Preprocessing.changed). UserError, with the flags of the role, for what cannot be had or does not fit.
    """
    called = f"timm:{name}"
    with hub_package(called):
        import timm
    untrained = _create(name, called, role)
    about = untrained.pretrained_cfg
    config = timm.data.resolve_data_config({}, model=untrained)
    transform = timm.data.create_transform(**config, is_training=False)
    how = settle(_preprocessing(config), transform, changes, called, role)
    if untrained.num_classes < 1 and weights is None:
        raise UserError(f"{called} makes features, not classes; name a network with a classifier")
    sized = {"img_size": changes["size"]} if "size" in changes and about.get("fixed_input_size") else {}
    if weights is None:
        # timm fits its files to its networks: it interpolates positions, and leaves out a class that means none.
        file = {"source": "", "state_dict": read_state(_published_file(about, called, role), called)}
        network = _create(name, called, role, pretrained=True, pretrained_cfg_overlay=file, **sized)
        network.pretrained_cfg.pop("state_dict", None)  # a copy of all weights
    else:
        state, heads = read_state(weights, called, untrained.state_dict()), about.get("classifier") or "head"
        head = heads if isinstance(heads, str) else heads[0]
        num_classes = count_rows(state, f"{head}.weight") or untrained.num_classes
        network = _create(name, called, role, num_classes=num_classes, **sized)
        load_state(network, state, weights, kind=called)
    return Classifier(network, called, _class_names(network.num_classes, about), None, "classes", how, False)


def _create(name, called, role, **options):
    """timm.create_model; UserError for a name that is not timm's or not there, and for what does not fit."""
    import timm

    places = "timm:hf-hub:REPOSITORY or timm:local-dir:FOLDER"
    remedy = f"check --{role}_size, and give a name of timm.list_models(), {places}"
    with as_user_error(f"{called} cannot be built", remedy):
        with as_user_error(f"{called} cannot be had", f"check the connection, or give {places}", OSError):
            return timm.create_model(name, **options)


def _published_file(about, called, role):
    """The path of the weights that timm's configuration names, in a cache or in its folder."""
    if about.get("source") == "local-dir":
        place, revision = about["file"], None
    elif about.get("hf_hub_id"):
        place, _, revision = about["hf_hub_id"].partition("@")
    elif about.get("url"):
        return published_weights(about["url"], called, f"{role}_weights")
    else:
        raise UserError(f"timm has no weights of {called}; give --{role}_weights")
    names = [about["hf_hub_filename"]] if about.get("hf_hub_filename") else _FILES
    remedy = f"connect, or give --{role}_weights"
    with as_user_error(f"{called}: the weights {place} cannot be had", remedy, OSError):
        return hub_file(place, names, revision or None)


def _preprocessing(config):
    """Preprocessing of what timm.data.resolve_data_config says, for square images."""
    crop = tuple(config["input_size"][-2:])
    resize = tuple(int(side / config["crop_pct"]) for side in crop)
    return Preprocessing(resize, crop, tuple(config["mean"]), tuple(config["std"]), config["interpolation"])


def _class_names(num_classes, about):
    """The K names that timm's configuration gives, else those of the ImageNet of K classes; None where unknown."""
    import timm.data

    if num_classes != about.get("num_classes"):
        return None
    names = about.get("label_names")
    if names:
        return [names[key] for key in sorted(names, key=int)] if isinstance(names, dict) else list(names)
    subset = timm.data.infer_imagenet_subset(about)
    return timm.data.ImageNetInfo(subset).label_descriptions() if subset else None
