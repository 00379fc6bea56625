"""torch.compile and CUDA graphs, where they work and pay back."""

import argparse
import time

import torch

from .errors import UserError
from .script_util import str2bool

WORTH_COMPILING = 1000  # steps: on 2 cores the minute or two of compiling is won back within some hundreds
WORTH_TRYING = 3600  # seconds of sampling, of which compiling in vain, half a minute to two, is a few hundredths
TOLERANCE = 0.05  # relative: float32 differs by 1e-6, bfloat16, in which every order of adding differs, by 1e-2


def wants_compiling(choice, steps, device, dtype):
    """--compile True, False or auto -> whether to, in a training of so many steps (None: no end).

    auto: in long ones, but for float32 on a CPU, which gains nothing by it (docs/benchmarks.md). The steps that are
    done count too: compiled code rounds and drops out otherwise than eager code, so a training that goes on near
    its end must not change from one to the other.
    """
    choice = true_false_or_auto("compile", choice)
    if choice != "auto":
        return choice
    gains = device.type != "cpu" or dtype is not torch.float32
    return gains and (steps is None or steps >= WORTH_COMPILING)


def true_false_or_auto(flag, text):
    """The value of a flag, as written -> True, False or "auto"."""
    try:
        return "auto" if text == "auto" else str2bool(text)
    except argparse.ArgumentTypeError:
        raise UserError(f"--{flag} {text} is unknown; choose True, False or auto") from None


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


def compile_if_faster(function, inputs, choice, calls):
    """function compiled for inputs of these shapes where --compile `choice` says so, else function as it is.

    choice: True, False, or "auto": where `calls` such calls take an hour, if it is then measured to be faster.
    """
    if choice == "auto" and calls * _seconds(function, inputs) < WORTH_TRYING:
        return function
    device = inputs[0].device
    return _if_faster("compile", choice, function, inputs, lambda: compiled(function, device, dynamic=False))


def capture_if_faster(function, inputs, choice):
    """function as a CUDA graph for inputs of these shapes where --cuda_graphs `choice` says so, else as it is.

    choice: True, False, or "auto": if it is measured to be faster.
    """
    return _if_faster("cuda_graphs", choice, function, inputs, lambda: captured(function, inputs))


def _if_faster(flag, choice, function, inputs, make):
    """make()'s function, or `function` where the choice is False, make() fails, its function answers otherwise, or,
    for "auto", is not faster. Says how long the trial took, or why it failed."""
    if not choice:
        return function
    began = time.perf_counter()
    try:
        faster = make()
        if faster is function:
            return function  # make() has said why
        # A graph that replays nothing still answers what it was made with.
        others = [(0.5 * each).to(each.dtype) for each in inputs]
        expected = function(*others)
        if not (faster(*others) - expected).norm() <= TOLERANCE * expected.norm():
            raise RuntimeError("it changes the answer")
        now, before = _seconds(faster, inputs), _seconds(function, inputs)
    except Exception as error:  # whatever this machine, or this network, cannot do
        print(f"--{flag} failed ({_first_line(error)}); running without", flush=True)
        return function
    kept = choice != "auto" or now < before
    print(
        f"--{flag}: {time.perf_counter() - began:.0f} s to warm up, then {now:.3g} s a batch of {len(inputs[0])} "
        f"instead of {before:.3g}{'' if kept else '; running without'}",
        flush=True,
    )
    return faster if kept else function


def _seconds(function, inputs):
    """The shorter of two calls."""
    return min(_timed(function, inputs) for _ in range(2))


def _timed(function, inputs):
    began = time.perf_counter()
    function(*inputs).sum().item()  # which waits for a GPU
    return time.perf_counter() - began


def _first_line(error):
    return (str(error).strip() or type(error).__name__).splitlines()[0]
