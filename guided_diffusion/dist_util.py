"""Where computations run."""

import torch


def pick_device(gpu):
    """The CUDA device of index `gpu` (an int or its text), or the CPU, saying so, where there is none."""
    if str(gpu) in ("", "-1", "cpu"):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        print(f"--gpu {gpu}: no CUDA device here; running on the CPU", flush=True)
        return torch.device("cpu")
    if int(gpu) >= torch.cuda.device_count():
        print(f"--gpu {gpu}: only {torch.cuda.device_count()} CUDA devices here; running on cuda:0", flush=True)
        gpu = 0
    return torch.device("cuda", int(gpu))


def half_precision(device):
    """The 16-bit type that `device` computes in at speed: float16 on CUDA, bfloat16 on some CPUs, else float32."""
    if device.type == "cuda":
        return torch.float16
    return torch.bfloat16 if _cpu_computes_in_bfloat16() else torch.float32


def _cpu_computes_in_bfloat16():
    # torch emulates bfloat16 on every CPU; only those with these instructions gain by it.
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
