"""Files that are fetched where they are not here: weights that libraries publish, and the Hugging Face Hub's."""

import re
from contextlib import suppress
from pathlib import Path

import torch

from guided_diffusion.script.errors import as_user_error, hub_package

HUB_NAME = re.compile(r"\w[\w.-]*/[\w.-]+")  # not ./folder or ../folder
FILE_SUFFIXES = {".pt", ".pth", ".ckpt", ".bin", ".pkl", ".safetensors"}  # of no Hub name


def published_weights(url, kind, flag):
    """The path of a published file in torch.hub's cache, under TORCH_HOME. It is downloaded where it is not there.

    Where it cannot be, UserError says where to put the weights of this `kind`, and names `flag`.
    """
    path = Path(torch.hub.get_dir(), "checkpoints", Path(url).name)
    if not path.exists():
        fault = f"{kind}'s weights are not at {path} and cannot be downloaded"
        with as_user_error(fault, f"put them there, or give --{flag}"):
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(url, str(path), hash_prefix=path.stem.rpartition("-")[2])
    return path


def hub_file(place, names, revision=None):
    """The path of the first of these files that a folder or a Hub repository has; OSError where it has none."""
    from huggingface_hub import hf_hub_download

    if Path(place).is_dir():
        paths = [path for path in (Path(place, name) for name in names) if path.is_file()]
        if not paths:
            raise FileNotFoundError(f"{place} has no {' or '.join(names)}")
        return paths[0]
    for name in names[:-1]:
        with suppress(OSError):
            return hf_hub_download(place, name, revision=revision)
    return hf_hub_download(place, names[-1], revision=revision)


def hub_folder(name, files, preferred, otherwise):
    """The folder that a path or a Hub name means; None where it means a file, there or not.

    Of the Hub's files, those whose paths are among `files` and `preferred` are copied to the library's cache, and
    `otherwise` where there is none of `preferred`. What is in the cache with its weights is not asked for again.
    UserError where a Hub name cannot be had.
    """
    path = Path(name)
    if path.is_dir():
        return path
    if path.exists() or path.suffix in FILE_SUFFIXES or not HUB_NAME.fullmatch(str(name)):
        return None
    with hub_package(name):
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import LocalEntryNotFoundError
    fault = f"{name} is no file or folder here, and the Hugging Face Hub did not give it"
    fetch = f"`hf download {name} --local-dir {path.name}`"
    with as_user_error(fault, f"check it, or run {fetch} on a machine with internet, and give that folder"):
        with suppress(LocalEntryNotFoundError):
            cached = Path(snapshot_download(name, local_files_only=True))
            if any((cached / file).exists() for file in [*preferred, *otherwise]):
                return cached
        folder = Path(snapshot_download(name, allow_patterns=[*files, *preferred]))
        if not any((folder / file).exists() for file in preferred):
            snapshot_download(name, allow_patterns=[*files, *otherwise])
        return folder
