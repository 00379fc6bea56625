"""The checkpoints of a training: weights, averaged weights and the state to go on from, under one step."""

import re

import blobfile as bf

from ..script.errors import UserError, first_sentence
from ..script.storage import unwritable
from .weight_files import find_weights, load_weights, remove_if_there, save_weights


def complete_steps(directory):
    """The steps with a complete checkpoint in a folder, ascending; [] where there is no such folder."""
    if not bf.exists(directory):
        return []
    return sorted(int(name[3:-3]) for name in bf.listdir(directory) if re.fullmatch(r"opt\d{6,}\.pt", name))


class CheckpointFolder:
    """model<step>.pt, ema_<rate>_<step>.pt and opt<step>.pt in one folder; a step counts once its opt is there.

    save_format: of the first two, which may also be .safetensors; what is read is read in either.
    """

    def __init__(self, directory, keep, save_format="pt"):
        self.directory, self.keep, self.save_format = str(directory), keep, save_format
        try:
            bf.makedirs(self.directory)
        except (OSError, bf.Error) as error:  # blobfile's own for gs:// and az://, and for what it does not reach
            raise unwritable(f"--output_path {directory}", error) from None

    def path(self, name, step):
        """The file of a step; where there is none, that of its .pt."""
        stem = f"{name}{step:06d}"
        return find_weights(self.directory, stem) or bf.join(self.directory, f"{stem}.pt")

    def remove_parts(self):
        """Removes what a killed run was writing; for the one process that writes here."""
        for name in bf.listdir(self.directory):
            if name.endswith(".part"):
                bf.remove(bf.join(self.directory, name))

    def steps(self):
        return complete_steps(self.directory)

    def load(self, name, step):
        path = self.path(name, step)
        try:
            return load_weights(path)
        except UserError:
            raise
        except Exception as error:  # the reader raises nearly anything on damaged bytes
            raise self.unusable(path, step, first_sentence(error)) from error

    def unusable(self, path, step, reason):
        """The UserError of a file of a step that cannot be gone on from, and how to go on all the same."""
        earlier = [each for each in self.steps() if each < step]
        remedy = f"to go on from step {earlier[-1]}" if earlier else "to start from the beginning"
        return UserError(f"{path} cannot be read ({reason}); remove {self.path('opt', step)} {remedy}")

    def save(self, step, contents):
        """contents: name -> what to save, "opt" last. Only when all are on the disk do the oldest go."""
        for name, content in contents.items():
            save_weights(content, self.directory, f"{name}{step:06d}", "pt" if name == "opt" else self.save_format)
        for old in self.steps()[: -self.keep]:
            for name in reversed(contents):  # "opt" first: without it the step does not count
                remove_if_there(self.path(name, old))
