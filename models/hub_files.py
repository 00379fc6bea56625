"""Files of the Hugging Face Hub, by the names of their owners and models."""

import re
from contextlib import suppress
from pathlib import Path

from guided_diffusion.script.errors import UserError, hub_package

HUB_NAME = re.compile(r"\w[\w.-]*/[\w.-]+")  # not ./folder or ../folder
OF_FILES = {".pt", ".pth", ".ckpt", ".bin", ".pkl", ".safetensors"}  # suffixes of no Hub name


def folder_of(name, files, preferred, otherwise):
    """The folder that a path or a Hub name means; None where it means a file, there or not.

    Of the Hub's files, those whose paths are among `files` and `preferred` are copied to the library's cache, and
    `otherwise` where there is none of `preferred`. What is in the cache with its weights is not asked for again.
    UserError where a Hub name cannot be had.
    """
    path = Path(name)
    if path.is_dir():
        return path
    if path.exists() or path.suffix in OF_FILES or not HUB_NAME.fullmatch(str(name)):
        return None
    with hub_package(name):
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import LocalEntryNotFoundError
    try:
        with suppress(LocalEntryNotFoundError):
            cached = Path(snapshot_download(name, local_files_only=True))
            if any((cached / file).exists() for file in [*preferred, *otherwise]):
                return cached
        folder = Path(snapshot_download(name, allow_patterns=[*files, *preferred]))
        if not any((folder / file).exists() for file in preferred):
            snapshot_download(name, allow_patterns=[*files, *otherwise])
        return folder
    except Exception as error:  # of the network, the name, access or the disk
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].split(". ")[0]
        raise UserError(
            f"{name} is no file or folder here, and the Hugging Face Hub did not give it ({reason}); check it, or "
            f"run `hf download {name} --local-dir {path.name}` on a machine with internet, and give that folder"
        ) from error
