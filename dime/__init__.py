"""This project as a package: commands (dime.commands), and one import for notebooks.

    import dime  # from here on core, models, guided_diffusion and demo can be imported
    unet, diffusion = dime.load_ddpm(path)
    dime.explain(images, dime.load_classifier(path), diffusion, unet, tau=10)

These names are too common to lie among all packages of an environment. So they are installed inside this one, in
dime/project, with the scripts of the root. In a checkout they are found where they are.
"""

import importlib
import sys
from pathlib import Path

_HERE = Path(__file__).resolve().parent
ROOT = _HERE / "project" if (_HERE / "project").is_dir() else _HERE.parent  # what holds core/, models/ and main.py
PACKAGES = ("core", "demo", "guided_diffusion", "models")
PUBLIC = {  # name -> the module that it is from, imported when it is first used
    "BinaryQuestion": "models.classifiers",
    "explain": "core.running.explainer",
    "load_classifier": "models.classifiers",
    "load_ddpm": "dime.loaders",
    "load_oracle": "models.oracles",
    "read_run": "core.running.run",
}


__all__ = list(PUBLIC)


def __getattr__(name):
    if name not in PUBLIC:
        raise AttributeError(f"module 'dime' has no attribute {name!r}")
    return getattr(importlib.import_module(PUBLIC[name]), name)


def __dir__():
    return sorted([*globals(), *PUBLIC])


def _come_first():
    """Puts ROOT first on sys.path. ImportError where another package of one of these names is imported already."""
    for name in PACKAGES:
        folders = getattr(sys.modules.get(name), "__path__", ())
        if name in sys.modules and ROOT / name not in [Path(folder).resolve() for folder in folders]:
            raise ImportError(f"another {name} is already imported, from {list(folders)}; import dime before it")
    sys.path[:] = [str(ROOT), *(folder for folder in sys.path if folder != str(ROOT))]


_come_first()
