"""Imports what the scripts import, so that the processes which scripts.py forks need not."""

import runpy

from scripts import ROOT
from torch.utils.tensorboard import SummaryWriter  # by the log of a training  # noqa: F401

for script in ROOT.glob("*.py"):
    runpy.run_path(str(script))
