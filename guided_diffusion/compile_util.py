"""torch.compile where it works and pays back."""

import argparse

import torch

from .errors import UserError
from .script_util import str2bool

WORTH_COMPILING = 1000  # steps: on 2 cores the minute or two of compiling is won back within some hundreds


def wants_compiling(choice, steps):
    """--compile True, False or auto -> whether to, in a training of so many steps (None: no end).

    Those that are done count too: compiled code rounds and drops out otherwise than eager code, so a training
    that goes on near its end must not change from one to the other.
    """
    if choice == "auto":
        return steps is None or steps >= WORTH_COMPILING
    try:
        return str2bool(choice)
    except argparse.ArgumentTypeError:
        raise UserError(f"--compile {choice} is unknown; choose True, False or auto") from None


def compiled(module, device):
    """module compiled, or as it is, saying so, on a machine that cannot compile (no C++ compiler, no Triton)."""
    try:
        torch.compile(lambda x: x.sin() + 1)(torch.zeros(8, device=device))
    except Exception as error:  # whatever the compiler of this machine lacks
        reason = str(error).strip().splitlines()[0]
        print(f"--compile: this machine cannot compile ({reason}); running uncompiled", flush=True)
        return module
    return torch.compile(module)
