"""Compiling a network, or not."""

import torch
from assertions import refusal
from toy_training import CPU

from guided_diffusion.compile_util import compiled, wants_compiling
from guided_diffusion.script.errors import UserError


def test_compiling_is_for_those_who_ask_and_for_long_trainings():
    cpu, half = torch.device("cpu"), torch.bfloat16
    for place in ((cpu, half), (torch.device("cuda"), torch.float32)):
        assert [wants_compiling("auto", steps, *place) for steps in (None, 1000, 999)] == [True, True, False]
    assert not wants_compiling("auto", None, cpu, torch.float32)  # it would gain nothing
    assert wants_compiling("True", 1, cpu, torch.float32) and not wants_compiling("False", None, cpu, half)
    assert "--compile maybe" in refusal(UserError, lambda: wants_compiling("maybe", 1, cpu, half))


def test_a_machine_that_cannot_compile_says_so_and_goes_on(monkeypatch, capsys):
    def no_compiler(function):
        raise RuntimeError("no C++ compiler\nand more of that")

    module = torch.nn.Linear(2, 2)
    monkeypatch.setattr(torch, "compile", no_compiler)
    assert compiled(module, CPU) is module
    assert "cannot compile (no C++ compiler)" in capsys.readouterr().out
