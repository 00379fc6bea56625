"""Runs of main.py in the test's process, on eight toy images."""

import numpy as np
import pandas as pd
from PIL import Image
from scripts import ROOT, call_script, error_of, output_of
from toy_networks import MODEL_FLAGS

from core.results.layout import Layout
from core.results.reading import read_pairs, read_rows


def main_flags(toy_files, output_path):
    """A whole command line: 8 images, 7 evaluations an attempt, a ladder whose last scale flips."""
    return MODEL_FLAGS | {
        "data_dir": toy_files / "data",
        "model_path": toy_files / "ddpm.pt",
        "classifier_path": toy_files / "classifier.pt",
        "classifier_architecture": "toy_networks:Brightness",
        "output_path": output_path,
        "classifier_scales": "0.001,100",
        "start_step": 4,
        "batch_size": 3,
    }


def explain(flags):
    """A run that must succeed -> (records, stdout)."""
    out = output_of(call_script("main.py", flags))
    return pd.read_csv(flags["output_path"] / "Results/exp/records.csv"), out


def explain_with_oracle(toy_files, output_path):
    """A whole run whose oracle is its classifier -> its flags."""
    flags = main_flags(toy_files, output_path)
    flags |= {"oracle_path": flags["classifier_path"], "oracle_architecture": flags["classifier_architecture"]}
    explain(flags)
    return flags


def measure(script, flags):
    """Runs a compute_ script on a run with its oracle, or its classifier -> (exit code, stdout, stderr)."""
    role = "classifier" if "COUT" in script else "oracle"
    names = () if "FR" in script else (f"{role}_path", f"{role}_architecture")
    return call_script(script, {name: flags[name] for name in ("output_path", *names)})


def refuse(flags, *words):
    """A run that must end with exit code 2 and one line that contains the words -> the line."""
    line = error_of(call_script("main.py", flags))
    assert line.startswith(f"{ROOT}/main.py: error:")
    for word in words:
        assert str(word) in line
    return line


def explained(output_path):
    """How many images the records of an experiment have."""
    records = read_rows(Layout(output_path, "exp"))
    return 0 if records is None else len(records)


def counterfactuals(output_path):
    """Image -> its counterfactual (H, W, 3), of all images explained."""
    pairs = read_pairs(Layout(output_path, "exp"), reached=("CCF", "ICF"))
    return {pair.id: np.array(Image.open(pair.counterfactual)).astype(int) for pair in pairs}
