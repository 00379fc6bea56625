"""The UNet as sampling calls it: nothing computed twice, in the layout and the precision that are fast."""

from contextlib import contextmanager
from contextvars import ContextVar
from copy import deepcopy

import torch
from torch import nn

from .compile_util import capture_if_faster, compile_if_faster, true_false_or_auto
from .dist_util import half_precision

# flag -> (default, help)
COMPUTE_FLAGS = {
    "compile": ("auto", "torch.compile the UNet, a minute or two to start: True, False, or auto, "
                "in runs of an hour and more, if it is then measured to be faster"),
    "cuda_graphs": ("auto", "launch the UNet as a CUDA graph: True, False, or auto, on CUDA if that is faster"),
    "channels_last": (True, "lay images and weights out with the channels last, which convolutions prefer"),
}  # fmt: skip


def how_to_compute(args, device):
    """What COMPUTE_FLAGS and --use_fp16 tell a SamplingNetwork on the device, saying what they do not say."""
    dtype = half_precision(device) if args.use_fp16 else torch.float32
    if args.use_fp16:
        print(f"--use_fp16: the UNet computes in {dtype} on {device}")
    choices = {flag: true_false_or_auto(flag, getattr(args, flag)) for flag in ("compile", "cuda_graphs")}
    if choices["cuda_graphs"] is True and device.type != "cuda":
        print(f"--cuda_graphs True: the {device} has none; running without")
    return choices | {"dtype": dtype, "channels_last": args.channels_last}


class SamplingNetwork:
    """network(z, t), or network(z, t, y) of a class-conditional UNet: as unet(z, t, y), up to rounding, but faster.

    z: (N, C, H, W) float32; t: (N,) values that diffusion.model_timesteps gives, no others. The UNet's projections
    of the timesteps are computed here, once for all; a class-conditional UNet's, which need y, at each call.
    unet: a UNetModel, or any other module with its forward; one without projections() is called as a whole.
    dtype: what convolutions and attention compute in, with a copy of their weights; unet itself stays float32. An
    output of half precision that is not finite raises Overflow, within overflow_checked_later() not at once.
    channels_last: the memory layout of weights and activations.
    compile, cuda_graphs: True, False or "auto". They are tried at the first call, which takes long and says so;
    "auto" keeps what is measured to be faster. calls: how many calls will follow, at least.
    """

    def __init__(
        self, unet, diffusion, *, dtype=torch.float32, channels_last=True, compile=False, cuda_graphs=False, calls=0
    ):
        self.layout = torch.channels_last if channels_last else torch.contiguous_format
        self.unet = unet.to(memory_format=self.layout)
        self.dtype = self.own_dtype = dtype
        device = next(unet.parameters()).device
        self.compile, self.cuda_graphs, self.calls = compile, device.type == "cuda" and cuda_graphs, calls
        self.full_torso = _torso(self.unet)
        self.torso = self.full_torso if dtype is torch.float32 else _torso(_with_convolutions_in(dtype, self.unet))
        self.fast_torso, self.fast_shape = self.torso, None  # the fast one is for inputs of this shape alone
        self.projects, self.table = hasattr(unet, "projections"), None
        if self.projects and unet.num_classes is None:
            self.steps = diffusion.model_timesteps(torch.arange(diffusion.num_timesteps, device=device))
            with torch.no_grad():
                self.table = unet.projections(self.steps)

    @torch.no_grad()
    def __call__(self, z, t, *labels):
        z = z.contiguous(memory_format=self.layout)
        half = self.dtype is not torch.float32
        with torch.autocast(z.device.type, self.dtype, enabled=half, cache_enabled=False):
            inputs = (z, self._projections(t, *labels).to(self.dtype)) if self.projects else (z, t, *labels)
            torso = self._torso_for(inputs) if self.dtype is self.own_dtype else self.full_torso
            output = torso(*inputs).to(z.dtype)
        if half:
            _note_overflow(self, output)
        return output

    @contextmanager
    def full_precision(self):
        """Within it the network computes in float32."""
        self.dtype = torch.float32
        try:
            yield
        finally:
            self.dtype = self.own_dtype

    def _torso_for(self, inputs):
        """The fast torso for batches as large as the largest so far. Smaller ones, such as the last of a run, have
        the plain one, so that nothing is compiled for them."""
        shape = inputs[0].shape
        if self.fast_shape is None or shape[0] > self.fast_shape[0]:
            compiled = compile_if_faster(self.torso, inputs, self.compile, self.calls)
            self.fast_torso, self.fast_shape = capture_if_faster(compiled, inputs, self.cuda_graphs), shape
        return self.fast_torso if shape == self.fast_shape else self.torso

    def _projections(self, t, *labels):
        if self.table is None or labels:
            return self.unet.projections(t, *labels)
        return self.table[torch.searchsorted(self.steps, t)]


def _torso(unet):
    """What is called at every evaluation: all of the network but its projections, where it can be had apart."""
    return getattr(unet, "torso", unet)


def _with_convolutions_in(dtype, unet):
    """A copy whose convolutions hold `dtype`, but for the last, which makes the output: autocast would cast them at
    every evaluation, for 94 million weights on 2 cores 0.3 s."""
    copy = deepcopy(unet)
    convolutions = [layer for layer in copy.modules() if isinstance(layer, nn.Conv1d | nn.Conv2d)]
    for layer in convolutions[:-1]:
        layer.to(dtype)
    return copy


# -- overflow in half precision --------------------------------------------------------------------------------


class Overflow(Exception):
    """An output left the range of half precision; `network` is the SamplingNetwork that gave it."""

    def __init__(self, network):
        super().__init__(f"the network overflowed in {network.dtype}")
        self.network = network


# SamplingNetwork -> whether all its outputs were finite, a boolean on its device; None: checked at once.
_all_finite = ContextVar("_all_finite", default=None)


@contextmanager
def overflow_checked_later():
    """Within it Overflow is raised where raise_overflow() is called, and at the end, instead of at each evaluation,
    which would wait for the device."""
    token = _all_finite.set({})
    try:
        yield
        raise_overflow()
    finally:
        _all_finite.reset(token)


def raise_overflow():
    """Overflow where, within overflow_checked_later(), a network has overflowed by now. Waits for the device."""
    for network, finite in (_all_finite.get() or {}).items():
        if not finite:
            raise Overflow(network)


def _note_overflow(network, output):
    finite, noted = output.isfinite().all(), _all_finite.get()
    if noted is not None:
        noted[network] = finite & noted.get(network, finite)
    elif not finite:
        raise Overflow(network)


def once_more_on_overflow(compute):
    """compute(), and where its network overflows in half precision once more, in float32, which is said."""
    try:
        with overflow_checked_later():
            return compute()
    except Overflow as overflow:
        print(f"{overflow}; computing this batch again in float32", flush=True)
        with overflow.network.full_precision():
            return compute()
