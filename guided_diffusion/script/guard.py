"""The first import of a script: from then on Ctrl-C and SIGTERM end it with one line (end_on_interrupt).

It acts when imported, but only where a script of this project is the main program: a test or a notebook that
imports a script keeps its signals. The packages demo and benchmarks import it for their programs, python -m
demo.sheet. An installed command calls end_on_interrupt() itself.
"""

import sys
from pathlib import Path

from .interrupts import end_on_interrupt

_ROOT = Path(__file__).resolve().parents[2]
_PROGRAM = getattr(sys.modules["__main__"], "__file__", None)
_IS_SCRIPT = _PROGRAM is not None and Path(_PROGRAM).resolve().parent == _ROOT
_MODULE = sys.orig_argv[sys.orig_argv.index("-m") + 1] if "-m" in sys.orig_argv[:-1] else ""

if _IS_SCRIPT or _MODULE.startswith(("demo.", "benchmarks.")):
    end_on_interrupt()
