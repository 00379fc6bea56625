"""Ctrl-C before a script has begun."""

import signal
import sys
from unittest import mock

import pytest
from pages import SCRIPTS
from scripts import ROOT, run_command

from guided_diffusion.interrupts import end_on_interrupt, raise_on_interrupt

# A torch that is interrupted while it is imported.
INTERRUPTED = """
import os, signal, time
os.kill(os.getpid(), signal.SIGINT)
time.sleep(60)
"""


@pytest.mark.parametrize("script", SCRIPTS)
def test_ctrl_c_while_a_script_imports_is_one_line(script, tmp_path):
    (tmp_path / "torch.py").write_text(INTERRUPTED)
    code, out, err = run_command(sys.executable, ROOT / script, PYTHONPATH=str(tmp_path))
    assert (code, out, err) == (130, "", f"{ROOT / script}: interrupted before it began\n")


def test_ctrl_c_raises_again_once_a_script_has_begun_and_stays_ignored_where_it_was():
    with mock.patch("signal.getsignal", return_value=signal.SIG_IGN), mock.patch("signal.signal") as set_handler:
        end_on_interrupt()
        raise_on_interrupt()
        assert not set_handler.called
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    end_on_interrupt()
    assert signal.getsignal(signal.SIGINT) is not signal.default_int_handler
    raise_on_interrupt()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
