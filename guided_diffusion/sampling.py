"""A fast UNet for sampling: nothing is computed twice, and memory layout and precision suit the device."""

from contextlib import contextmanager
from contextvars import ContextVar
from copy import deepcopy

import torch
from torch import nn

from .compile_util import capture_if_faster, compile_if_faster
from .dist_util import half_precision
from .script.flags import Flag, parse_bool_or_auto

COMPUTE_FLAGS = {
    "compile": Flag(
        "auto",
        "torch.compile the UNet: True, False, or auto, in runs of an hour and more, if that is faster",
        parse_bool_or_auto,
    ),
    "cuda_graphs": Flag(
        False,
        "launch the UNet as a CUDA graph: True, False, or auto, on CUDA if that is faster",
        parse_bool_or_auto,
    ),
    "channels_last": Flag(True, "lay images and weights out with the channels last, which convolutions prefer"),
}


def how_to_compute(args, device):
    """The options of a SamplingNetwork on this device, from COMPUTE_FLAGS and --use_fp16.

    Prints the type that --use_fp16 means here, and that a CPU has no CUDA graphs where they are wanted.
    """
    dtype = half_precision(device) if args.use_fp16 else torch.float32
    if args.use_fp16:
        print(f"--use_fp16: the UNet computes in {dtype} on {device}")
    choices = {flag: parse_bool_or_auto(getattr(args, flag), flag) for flag in ("compile", "cuda_graphs")}
    if choices["cuda_graphs"] is True and device.type != "cuda":
        print(f"--cuda_graphs True: the {device} has none; running without")
    return choices | {"dtype": dtype, "channels_last": args.channels_last}


class SamplingNetwork:
    """network(z, t), or network(z, t, y) with a class-conditional UNet: unet(z, t, y) up to rounding, but faster.

    z: (N, C, H, W) float32; t: (N,) timesteps, only values that diffusion.model_timesteps returns. The UNet's
    projections of all timesteps are computed once, here; those of a class-conditional UNet need y and are computed
    at each call.
    unet: a UNetModel, or another module with its forward; one without projections() is called as a whole.
    dtype: the type that convolutions and attention compute in, with a copy of their weights; unet stays float32. In
    half precision an output that is not finite raises Overflow; within overflow_checked_later() it does so later.
    A call is differentiable by z, if that requires a gradient, and is then neither compiled nor a graph.
    channels_last: the memory layout of weights and activations.
    compile, cuda_graphs: True, False or "auto", which keeps what is measured to be faster. They are tried at the
    first call, which takes long and prints a message. calls: the least number of calls that will follow.
    """

    def __init__(
        self, unet, diffusion, *, dtype=torch.float32, channels_last=True, compile=False, cuda_graphs=False, calls=0
    ):
        self.layout = torch.channels_last if channels_last else torch.contiguous_format
        self.unet = unet.to(memory_format=self.layout)
        self.in_channels = getattr(unet, "in_channels", None)
        self.dtype = self.own_dtype = dtype
        device = next(unet.parameters()).device
        self.compile, self.cuda_graphs, self.calls = compile, device.type == "cuda" and cuda_graphs, calls
        # The part that is called at every evaluation: all but the projections, where a network has these apart.
        half_unet = self.unet if dtype is torch.float32 else _cast_convolutions(dtype, self.unet)
        self.full_torso, self.torso = (getattr(each, "torso", each) for each in (self.unet, half_unet))
        self.fast_torso, self.fast_shape = self.torso, None  # fast_torso takes only inputs of fast_shape
        self.projects, self.table = hasattr(unet, "projections"), None
        if self.projects and unet.num_classes is None:
            self.steps = diffusion.model_timesteps(torch.arange(diffusion.num_timesteps, device=device))
            with torch.no_grad():
                self.table = unet.projections(self.steps)

    def __call__(self, z, t, *labels):
        z = z.contiguous(memory_format=self.layout)
        half = self.dtype is not torch.float32
        with (
            torch.set_grad_enabled(torch.is_grad_enabled() and z.requires_grad),
            torch.autocast(z.device.type, self.dtype, enabled=half, cache_enabled=False),
        ):
            inputs = (z, self._projections(t, *labels).to(self.dtype)) if self.projects else (z, t, *labels)
            output = self._torso_for(inputs)(*inputs).to(z.dtype)
        if half:
            _note_overflow(self, output)
        return output

    @contextmanager
    def full_precision(self):
        """In this context the network computes in float32."""
        self.dtype = torch.float32
        try:
            yield
        finally:
            self.dtype = self.own_dtype

    def _torso_for(self, inputs):
        """The fast torso for batches as large as the largest so far. Smaller ones, such as a run's last, get the
        plain one, so that nothing is compiled for them; so do inputs with gradients."""
        if self.dtype is not self.own_dtype:
            return self.full_torso
        if inputs[0].requires_grad:
            return self.torso
        shape = inputs[0].shape
        if self.fast_shape is None or shape[0] > self.fast_shape[0]:
            compiled = compile_if_faster(self.torso, inputs, self.compile, self.calls)
            self.fast_torso, self.fast_shape = capture_if_faster(compiled, inputs, self.cuda_graphs), shape
        return self.fast_torso if shape == self.fast_shape else self.torso

    def _projections(self, t, *labels):
        if self.table is None or labels:
            return self.unet.projections(t, *labels)
        return self.table[torch.searchsorted(self.steps, t)]


def _cast_convolutions(dtype, unet):
    """A copy of the UNet with convolutions in `dtype`, except the last, which makes the output. Without it autocast
    would cast their weights at every evaluation: 0.3 s for 94 million weights on 2 cores."""
    copy = deepcopy(unet)
    convolutions = [layer for layer in copy.modules() if isinstance(layer, nn.Conv1d | nn.Conv2d)]
    for layer in convolutions[:-1]:
        layer.to(dtype)
    return copy


# -- overflow in half precision --------------------------------------------------------------------------------


class Overflow(Exception):
    """An output left the range of half precision. network: the SamplingNetwork that returned it."""

    def __init__(self, network):
        super().__init__(f"the network overflowed in {network.dtype}")
        self.network = network


# SamplingNetwork -> whether all its outputs were finite, a boolean on its device; None: checked at once.
_all_finite = ContextVar("_all_finite", default=None)


@contextmanager
def overflow_checked_later():
    """In this context Overflow is raised when raise_overflow() is called, and at the end. To raise it at each
    evaluation would mean to wait for the device each time."""
    token = _all_finite.set({})
    try:
        yield
        raise_overflow()
    finally:
        _all_finite.reset(token)


def raise_overflow():
    """Raises Overflow where a network has overflowed since overflow_checked_later() began. Waits for the device."""
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
    """compute(). Where its network overflows in half precision, prints that and computes once more in float32."""
    try:
        with overflow_checked_later():
            return compute()
    except Overflow as overflow:
        print(f"{overflow}; computing this batch again in float32", flush=True)
        with overflow.network.full_precision():
            return compute()
