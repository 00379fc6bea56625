"""Runs of main.py in the test's process, on eight toy images."""

import numpy as np
import pandas as pd
from PIL import Image
from scripts import ROOT, call_script
from toy_networks import MODEL_FLAGS

from core.results.layout import Layout
from core.results.reading import read_pairs


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
    code, out, err = call_script("main.py", flags)
    assert code == 0, err
    return pd.read_csv(flags["output_path"] / "Results/exp/records.csv"), out


def refuse(flags, *words):
    """A run that must end with exit code 2 and one line that contains the words -> the line."""
    code, _, err = call_script("main.py", flags)
    lines = [line for line in err.splitlines() if "error:" in line]
    assert code == 2 and len(lines) == 1 and lines[0].startswith(f"{ROOT}/main.py: error:"), err
    for word in words:
        assert str(word) in lines[0]
    return lines[0]


def counterfactuals(output_path):
    """Image -> its counterfactual (H, W, 3), of all images explained."""
    pairs = read_pairs(Layout(output_path, "exp"), reached=("CCF", "ICF"))
    return {pair.id: np.array(Image.open(pair.counterfactual)).astype(int) for pair in pairs}
