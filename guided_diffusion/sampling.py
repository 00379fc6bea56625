"""The UNet as sampling calls it: nothing computed twice, in the layout and the precision that are fast."""

from contextlib import contextmanager
from copy import deepcopy

import torch
from torch import nn

from .compile_util import WORTH_TRYING, Specialised, Way, captured, compiled
from .dist_util import half_precision
from .flags import Flag, parse_bool_or_auto

COMPUTE_FLAGS = {
    "compile": Flag(
        "auto",
        "torch.compile the UNet, a minute or two to start: True, False, or auto, in runs of an hour and "
        "more, if it is then measured to be faster",
        parse_bool_or_auto,
    ),
    "cuda_graphs": Flag(
        "auto",
        "launch the UNet as a CUDA graph: True, False, or auto, on CUDA if that is faster",
        parse_bool_or_auto,
    ),
    "channels_last": Flag(True, "lay images and weights out with the channels last, which convolutions prefer"),
}


class Overflow(Exception):
    """An output left the range of half precision; `network` is the SamplingNetwork that gave it."""

    def __init__(self, network):
        super().__init__(f"the network overflowed in {network.dtype}")
        self.network = network


def how_to_compute(args, device):
    """What COMPUTE_FLAGS and --use_fp16 tell a SamplingNetwork on the device, saying what they do not say."""
    dtype = half_precision(device) if args.use_fp16 else torch.float32
    if args.use_fp16:
        print(f"--use_fp16: the UNet computes in {dtype} on {device}")
    choices = {flag: parse_bool_or_auto(getattr(args, flag), flag) for flag in ("compile", "cuda_graphs")}
    if choices["cuda_graphs"] is True and device.type != "cuda":
        print(f"--cuda_graphs True: the {device} has none; running without")
    return choices | {"dtype": dtype, "channels_last": args.channels_last}


class SamplingNetwork:
    """network(z, t) or, of a class-conditional UNet, network(z, t, y) -> unet(z, t, y), up to rounding.

    z: (N, C, H, W) float32; t: (N,) steps as diffusion.model_timesteps gives them, and no others. What the blocks
    make of a step is made here, once and for all; with labels, which the images have, at each call.
    dtype: what convolutions and attention compute in, from a copy of their weights; unet stays float32. In half
    precision an output that is not finite raises Overflow; within `with network.full_precision():` unet computes.
    channels_last: the layout of weights and activations. compile, cuda_graphs: True, False, or "auto", where the
    first call, which then takes long and says so, finds it faster; calls: how many are to come, at least.
    """

    def __init__(
        self, unet, diffusion, *, dtype=torch.float32, channels_last=True, compile=False, cuda_graphs=False, calls=0
    ):
        self.layout = torch.channels_last if channels_last else torch.contiguous_format
        self.unet = unet.to(memory_format=self.layout)
        self.dtype = self.own_dtype = dtype
        device = next(unet.parameters()).device
        ways = [
            Way("compile", lambda torso, _: compiled(torso, device, dynamic=False), compile, WORTH_TRYING),
            Way("cuda_graphs", captured, device.type == "cuda" and cuda_graphs),
        ]
        fast = self.unet if dtype is torch.float32 else _with_blocks_in(dtype, self.unet)
        self.torso = Specialised(fast.torso, ways, calls)
        self.table = None
        if unet.num_classes is None:
            self.steps = diffusion.model_timesteps(torch.arange(diffusion.num_timesteps, device=device))
            with torch.no_grad():
                self.table = unet.projections(self.steps)

    @torch.no_grad()
    def __call__(self, z, t, *labels):
        z = z.contiguous(memory_format=self.layout)
        half = self.dtype is not torch.float32
        torso = self.torso if self.dtype is self.own_dtype else self.unet.torso
        with torch.autocast(z.device.type, self.dtype, enabled=half, cache_enabled=False):
            output = torso(z, self._projections(t, *labels).to(self.dtype))
        if half and not output.isfinite().all():
            raise Overflow(self)
        return output

    @contextmanager
    def full_precision(self):
        """Within it the network computes in float32."""
        self.dtype = torch.float32
        try:
            yield
        finally:
            self.dtype = self.own_dtype

    def _projections(self, t, *labels):
        if self.table is None or labels:
            return self.unet.projections(t, *labels)
        return self.table[torch.searchsorted(self.steps, t)]


def _with_blocks_in(dtype, unet):
    """A copy whose convolutions hold `dtype`: autocast would cast them at every evaluation, for 94 million weights
    on 2 cores 0.3 s."""
    copy = deepcopy(unet)
    for blocks in (copy.input_blocks, copy.middle_block, copy.output_blocks):
        for layer in blocks.modules():
            if isinstance(layer, nn.Conv1d | nn.Conv2d):
                layer.to(dtype)
    return copy


def once_more_on_overflow(compute):
    """compute(), and where its network overflows in half precision once more, in float32, which is said."""
    try:
        return compute()
    except Overflow as overflow:
        print(f"{overflow}; computing this batch again in float32", flush=True)
        with overflow.network.full_precision():
            return compute()
