"""torch.compile and CUDA graphs, used where they work and save time."""

import time
import timeit

import torch

from .script.errors import first_sentence
from .script.flags import parse_bool_or_auto

WORTH_COMPILING = 1000  # training steps; compiling takes a minute or two, which a few hundred steps win back
WORTH_TRYING = 3600  # seconds of sampling; a trial that turns out useless costs half a minute to two minutes
TOLERANCE = 0.05  # relative difference; float32 differs by 1e-6, bfloat16 by 1e-2, as it rounds every sum


def wants_compiling(choice, steps, device, dtype):
    """Whether to compile a training of `steps` steps (None: without end). choice: --compile, True, False or auto.

    auto compiles long trainings, but not float32 on a CPU, which gains nothing by it (docs/benchmarks.md).
    `steps` includes those already done: compiled code rounds, and draws dropout, differently, so a training that is
    resumed near its end must not switch to the other.
    """
    choice = parse_bool_or_auto(choice, "compile")
    if choice != "auto":
        return choice
    gains = device.type != "cpu" or dtype is not torch.float32
    return gains and (steps is None or steps >= WORTH_COMPILING)


def compiled(function, device, **options):
    """The function compiled, with torch.compile's options; a module stays a module. On a machine that cannot
    compile (no C++ compiler, no Triton) it prints why, and returns the function as it is.
    """
    try:
        torch.compile(lambda x: x.sin() + 1)(torch.zeros(8, device=device))
    except Exception as error:  # anything may be missing or broken in this machine's compiler
        print(f"--compile: this machine cannot compile ({first_sentence(error)}); running uncompiled", flush=True)
        return function
    return torch.compile(function, **options)


def captured(function, inputs):
    """The function as a CUDA graph, for inputs of these shapes: one launch instead of one for each kernel."""
    buffers = [each.clone() for each in inputs]
    side_stream = torch.cuda.Stream()
    side_stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side_stream):
        for _ in range(3):  # libraries choose their algorithms, and allocate, before anything is recorded
            function(*buffers)
    torch.cuda.current_stream().wait_stream(side_stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        output = function(*buffers)

    def replay(*inputs):
        for buffer, value in zip(buffers, inputs, strict=True):
            buffer.copy_(value)
        graph.replay()
        return output.clone()

    return replay


def compile_if_faster(function, inputs, choice, calls):
    """The function compiled for inputs of these shapes, or as it is.

    choice: --compile, True, False or "auto". "auto" tries only where `calls` calls would take an hour, and keeps
    the compiled function if it is measured to be faster.
    """
    if choice == "auto" and calls * _seconds(function, inputs) < WORTH_TRYING:
        return function
    device = inputs[0].device
    return _if_faster("compile", choice, function, inputs, lambda: compiled(function, device, dynamic=False))


def capture_if_faster(function, inputs, choice):
    """The function as a CUDA graph for inputs of these shapes, or as it is.

    choice: --cuda_graphs, True, False or "auto", which keeps the graph if it is measured to be faster.
    """
    return _if_faster("cuda_graphs", choice, function, inputs, lambda: captured(function, inputs))


def _if_faster(flag, choice, function, inputs, make):
    """The function that make() returns, or `function` itself: where choice is False, where make() fails or changes
    the output, and for "auto" where it is not faster. Prints how long the trial took, or why it failed."""
    if not choice:
        return function
    began = time.perf_counter()
    try:
        if (faster := make()) is function:  # compiled() has said why
            return function
        # For its own inputs a graph that replays nothing is right, too.
        others = [(0.5 * each).to(each.dtype) for each in inputs]
        expected = function(*others)
        if not (faster(*others) - expected).norm() <= TOLERANCE * expected.norm():
            raise RuntimeError("it changes the answer")
        now, before = _seconds(faster, inputs), _seconds(function, inputs)
    except Exception as error:  # whatever this machine, or this network, cannot do
        print(f"--{flag} failed ({first_sentence(error)}); running without", flush=True)
        return function
    worth_it = choice != "auto" or now < before
    print(
        f"--{flag}: {time.perf_counter() - began:.0f} s to warm up, then {now:.3g} s a batch of {len(inputs[0])} "
        f"instead of {before:.3g}{'' if worth_it else '; running without'}",
        flush=True,
    )
    return faster if worth_it else function


def _seconds(function, inputs):
    """The seconds of a call, the shorter of two."""
    return min(timeit.repeat(lambda: function(*inputs).sum().item(), repeat=2, number=1))  # item() waits for a GPU
