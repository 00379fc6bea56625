"""torch.compile and CUDA graphs, where they work and pay back."""

import time
from collections.abc import Callable
from typing import NamedTuple

import torch

from .flags import parse_bool_or_auto

WORTH_COMPILING = 1000  # steps: on 2 cores the minute or two of compiling is won back within some hundreds
WORTH_TRYING = 3600  # seconds of sampling, of which compiling in vain, half a minute to two, is a few hundredths
TOLERANCE = 0.05  # relative: float32 differs by 1e-6, bfloat16, in which every order of adding differs, by 1e-2


def wants_compiling(choice, steps, device, dtype):
    """--compile True, False or auto -> whether to, in a training of so many steps (None: no end).

    auto: in long ones, but for float32 on a CPU, which gains nothing by it (docs/benchmarks.md). The steps that are
    done count too: compiled code rounds and drops out otherwise than eager code, so a training that goes on near
    its end must not change from one to the other.
    """
    choice = parse_bool_or_auto(choice, "compile")
    if choice != "auto":
        return choice
    gains = device.type != "cpu" or dtype is not torch.float32
    return gains and (steps is None or steps >= WORTH_COMPILING)


def compiled(function, device, **options):
    """function compiled, or as it is, saying so, on a machine that cannot compile (no C++ compiler, no Triton).

    options: torch.compile's. A module stays a module.
    """
    try:
        torch.compile(lambda x: x.sin() + 1)(torch.zeros(8, device=device))
    except Exception as error:  # whatever the compiler of this machine lacks
        print(f"--compile: this machine cannot compile ({_first_line(error)}); running uncompiled", flush=True)
        return function
    return torch.compile(function, **options)


def captured(function, inputs):
    """function at tensors of the inputs' shapes as a CUDA graph: launched at once, not kernel by kernel."""
    static = [each.clone() for each in inputs]
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        for _ in range(3):  # libraries choose their algorithms, and allocate, before anything is recorded
            function(*static)
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        output = function(*static)

    def replay(*inputs):
        for place, given in zip(static, inputs, strict=True):
            place.copy_(given)
        graph.replay()
        return output.clone()

    return replay


class Way(NamedTuple):
    """One to make a function of tensors faster."""

    flag: str
    make: Callable  # (function, tensors) -> a faster function
    choice: bool | str  # True, False, or "auto": only if it is measured to be faster
    worth: float = 0.0  # and there are so many seconds to come


class Specialised:
    """function(*tensors), made fast in the given Ways for batches as large as the first, or a later, larger one.

    Smaller batches, the last of a run, compute as they are, so that nothing is compiled twice.
    A Way that fails, or changes the answer beyond rounding, is left out. calls: how many are to come. Each Way
    that is tried says how long that took, or why it was left out.
    """

    def __init__(self, function, ways, calls=0):
        self.plain = self.fast = function
        self.ways, self.calls, self.shape = [way for way in ways if way.choice], calls, None

    def __call__(self, *tensors):
        shape = tensors[0].shape
        if self.ways and (self.shape is None or shape[0] > self.shape[0]):
            self.shape, self.fast = shape, self._specialised(tensors)
        return (self.fast if shape == self.shape else self.plain)(*tensors)

    def _specialised(self, tensors):
        fast, seconds = self.plain, _seconds(self.plain, tensors)
        for way in self.ways:
            if way.choice == "auto" and self.calls * seconds < way.worth:
                continue
            began = time.perf_counter()
            try:
                faster = way.make(fast, tensors)
                if faster == fast:
                    continue  # it has said why
                expected = self.plain(*tensors)
                if not (faster(*tensors) - expected).norm() <= TOLERANCE * expected.norm():
                    raise RuntimeError("it changes the answer")
                now, before = _seconds(faster, tensors), _seconds(fast, tensors)
            except Exception as error:  # whatever this machine, or this network, cannot do
                print(f"--{way.flag} failed ({_first_line(error)}); running without", flush=True)
                continue
            kept = way.choice != "auto" or now < before
            print(
                f"--{way.flag}: {time.perf_counter() - began:.0f} s to warm up, then {now:.3g} s a batch of "
                f"{len(tensors[0])} instead of {before:.3g}{'' if kept else '; running without'}",
                flush=True,
            )
            fast = faster if kept else fast
        return fast


def _seconds(function, tensors):
    """The shorter of two calls."""
    return min(_timed(function, tensors) for _ in range(2))


def _timed(function, tensors):
    began = time.perf_counter()
    function(*tensors).sum().item()  # which waits for a GPU
    return time.perf_counter() - began


def _first_line(error):
    return (str(error).strip() or type(error).__name__).splitlines()[0]
