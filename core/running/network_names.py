"""The names of a run's networks: what the flags say of a classifier or an oracle, and the hashes of weights."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from guided_diffusion.script.errors import UserError
from guided_diffusion.script.flags import parse_numbers
from guided_diffusion.script.storage import sha256

from .flags import NETWORK_FLAGS, ROLES, named_flags

WEIGHTS = (
    "model_path",
    "perceptual_path",
    "class_names",
    *(f"{role}_{kind}" for role in ROLES for kind in ("path", "weights")),
)
DEFAULTS = {name: flag.default for name, flag in NETWORK_FLAGS.items()} | {"oracle_path": "models/oracle.pth"}


@dataclass(frozen=True)
class NetworkName:
    """What the flags of a role say of its network.

    role: classifier or oracle; flags: such as classifier_path -> value, as they were written.
    typed: whether the user typed the path. Only then may it be a `module:function`, which is code.
    """

    role: str
    flags: dict
    typed: bool = True

    @property
    def path(self):
        return self.flags[f"{self.role}_path"]

    @property
    def arguments(self):
        """The first four arguments of load_classifier: path, architecture, weights, and how images are prepared.

        The last is a dict: size, mean, std (three numbers each) and interpolation, those that have a value.
        UserError where mean or std cannot be.
        """
        preparing = {name.removeprefix(f"{self.role}_"): value for name, value in self.options.items()}
        for name in {"mean", "std"} & preparing.keys():
            preparing[name] = self._three_numbers(name, preparing[name])
        return *(self.flags[f"{self.role}_{kind}"] for kind in ("path", "architecture", "weights")), preparing

    def _three_numbers(self, name, text):
        numbers = parse_numbers(text, f"{self.role}_{name}")
        if len(numbers) not in (1, 3) or name == "std" and min(numbers) <= 0:
            above = ", above 0" if name == "std" else ""
            raise UserError(f"--{self.role}_{name} {text} must be a number{above}, or three, such as 0.5,0.5,0.5")
        return numbers * (3 // len(numbers))

    @property
    def weights(self):
        """flag -> path or name, of what holds its weights."""
        return self._with_values([f"{self.role}_path", f"{self.role}_weights"])

    def require_size(self, network, size):
        """UserError where the file says that the network was trained on images of another size."""
        if network.image_size not in (None, size):
            raise UserError(
                f"--{self.role}_path {self.path} was trained at {network.image_size} pixels, but the images have "
                f"{size} (--image_size of main.py)"
            )

    @property
    def options(self):
        """The flags that prepare its images, as far as they have a value."""
        return self._with_values([name for name in named_flags(self.role) if name != f"{self.role}_weights"])

    def _with_values(self, names):
        return {name: self.flags[name] for name in names if self.flags[name] is not None}


def network_name(role, flags, recorded):
    """The NetworkName of a role. flags: name -> value of a command line, None where the user typed none.

    recorded: the flags of a run, which name the network where the command line does not; then main.py's defaults.
    With the path come its weights and the preparing of its images, not its architecture: that is code, which is run
    only where the user names it.
    """
    path, preparing = f"{role}_path", named_flags(role)
    own = {name: flags.get(name) for name in (path, f"{role}_architecture", *preparing)}
    typed = own[path] is not None
    if not typed:
        of_run = DEFAULTS | {name: value for name, value in recorded.items() if value is not None}
        own |= {name: of_run[name] for name in (path, *preparing) if own[name] is None}
    return NetworkName(role, own, typed)


def weight_hashes(flags, files):
    """`model_path sha256` and so on -> 12 hex digits, of each file of weights, or of names, that is there.

    files: flag -> the files of a network that the flag names by other words than a path. Recorded with the flags of
    a run, they reveal other weights under the same name.
    """
    paths = {flag: there for flag in WEIGHTS if (there := _weight_files(flags[flag]))} | files
    return {f"{flag} sha256": _sha256_of(each)[:12] for flag, each in paths.items()}


def _weight_files(path):
    """The file of a flag, or the files of the folder in timm:local-dir:FOLDER or transformers:FOLDER; [] else."""
    place = Path(str(path or "").removeprefix("timm:local-dir:").removeprefix("transformers:"))
    if path and place.is_dir():
        return sorted(file for file in place.iterdir() if file.suffix in (".json", ".safetensors", ".bin"))
    return [place] if place.is_file() else []


def _sha256_of(paths):
    hashes = [sha256(path) for path in paths]
    return hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()
