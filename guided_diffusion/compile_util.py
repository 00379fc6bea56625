"""torch.compile where it works."""

import torch


def compiled(module, device):
    """module compiled, or as it is, saying so, on a machine that cannot compile (no C++ compiler, no Triton)."""
    try:
        torch.compile(lambda x: x.sin() + 1)(torch.zeros(8, device=device))
    except Exception as error:  # whatever the compiler of this machine lacks
        reason = str(error).strip().splitlines()[0]
        print(f"--compile: this machine cannot compile ({reason}); running uncompiled", flush=True)
        return module
    return torch.compile(module)
