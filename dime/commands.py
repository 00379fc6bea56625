"""The scripts as the commands that pip installs: dime-explain is main.py, and so on."""

import importlib.util
from functools import partial

from dime import ROOT
from guided_diffusion.script.interrupts import end_on_interrupt


def run(script):
    """Runs a script of the root, by its path, as `python script` does. It tells its errors as the command's."""
    end_on_interrupt()
    spec = importlib.util.spec_from_file_location("__main__", ROOT / script)
    spec.loader.exec_module(importlib.util.module_from_spec(spec))


explain = partial(run, "main.py")
train_diffusion = partial(run, "celeba-train-diffusion.py")
train_classifier = partial(run, "celeba-train-classifier.py")
report = partial(run, "report.py")
audit = partial(run, "audit.py")
compute_metrics = partial(run, "compute_metrics.py")
compute_cd = partial(run, "compute_CD.py")
compute_cout = partial(run, "compute_COUT.py")
compute_fid = partial(run, "compute_FID.py")
compute_fr = partial(run, "compute_FR.py")
compute_fva = partial(run, "compute_FVA.py")
compute_lpips = partial(run, "compute_LPIPS.py")
compute_mnac = partial(run, "compute_MNAC.py")
sheet = partial(run, "demo/sheet.py")
