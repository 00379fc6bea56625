"""This project as a package: commands (dime.commands), and one import for notebooks.

    import dime  # from here on core, models, guided_diffusion and demo can be imported

These names are too common to lie among all packages of an environment. So they are installed inside this one, in
dime/project, with the scripts of the root. In a checkout they are found where they are.
"""

import sys
from pathlib import Path

_HERE = Path(__file__).resolve().parent
ROOT = _HERE / "project" if (_HERE / "project").is_dir() else _HERE.parent  # what holds core/, models/ and main.py
PACKAGES = ("core", "demo", "guided_diffusion", "models")

for _name in PACKAGES:
    _folders = getattr(sys.modules.get(_name), "__path__", ())
    if _name in sys.modules and ROOT / _name not in [Path(folder).resolve() for folder in _folders]:
        raise ImportError(f"another {_name} is already imported, from {list(_folders)}; import dime before it")
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))
