"""The first import of a script: from then on Ctrl-C and SIGTERM end it with one line (end_on_interrupt).

The only module that acts when imported, and only where a script of this project is the main program: a test or a
notebook that imports a script keeps its signals. An installed command calls end_on_interrupt() itself.
"""

import sys
from pathlib import Path

from .interrupts import end_on_interrupt

_ROOT = Path(__file__).resolve().parents[2]


def runs_script():
    """Whether the main program is one of the project's own: a file of its root, or of demo/."""
    program = getattr(sys.modules["__main__"], "__file__", None)
    return program is not None and Path(program).resolve().parent in (_ROOT, _ROOT / "demo")


if runs_script():
    end_on_interrupt()
