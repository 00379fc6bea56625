"""Batches and chunks of main.py, and how chunks are merged."""

import re

import numpy as np
import pandas as pd
import pytest
from main_runs import counterfactuals, explain, refuse
from scripts import call_script

from core.results.layout import Layout
from core.results.merging import merge_chunks


def test_any_batch_size_gives_the_same_images(flags):
    explain(flags | {"batch_size": 8})
    whole = counterfactuals(flags["output_path"])
    explain(flags | {"batch_size": 1, "overwrite": True})
    single = counterfactuals(flags["output_path"])
    assert whole.keys() == single.keys()
    assert max(np.abs(whole[i] - single[i]).max() for i in whole) <= 1


def test_three_chunks_merge_into_the_run_in_one(flags):
    whole, _ = explain(flags)
    one = counterfactuals(flags["output_path"])
    flags |= {"output_path": flags["output_path"].parent / "chunked"}
    for chunk in (2, 0, 1):
        assert call_script("main.py", flags | {"num_chunks": 3, "chunk": chunk})[0] == 0
    merged = {"merge_and_eval": True, "output_path": flags["output_path"]}
    code, out, _ = call_script("main.py", merged)
    assert code == 0 and re.search(r"^flip rate .* of 8\), L1 [\d.]+, bKL [\d.]+: .*Results/exp$", out, re.M)
    pd.testing.assert_frame_equal(
        pd.read_csv(flags["output_path"] / "Results/exp/records.csv"), whole, rtol=1e-2, atol=1e-2
    )
    three = counterfactuals(flags["output_path"])
    assert one.keys() == three.keys()
    assert max(np.abs(one[i] - three[i]).max() for i in one) <= 1


def test_merging_names_missing_chunks(flags):
    assert call_script("main.py", flags | {"num_chunks": 3, "chunk": 1})[0] == 0
    merge = {"merge_and_eval": True, "output_path": flags["output_path"]}
    line = refuse(merge, "chunk-0_num-chunks-3_summary.yaml", "chunk-2_num-chunks-3_summary.yaml")
    assert "chunk-1_num-chunks-3" not in line


def test_merging_names_chunks_that_overlap(flags):
    assert call_script("main.py", flags | {"num_chunks": 2, "chunk": 1})[0] == 0
    experiment = flags["output_path"] / "Results/exp"
    for kind in ("records.csv", "summary.yaml", "flags.yaml"):
        mine = experiment / f"chunk-1_num-chunks-2_{kind}"
        (experiment / f"chunk-0_num-chunks-2_{kind}").write_bytes(mine.read_bytes())
    refuse({"merge_and_eval": True, "output_path": flags["output_path"]}, "overlap", "image 1")
    with pytest.raises(ValueError, match="overlap"):
        merge_chunks(Layout(flags["output_path"], "exp"))


def test_merging_names_chunks_that_stopped_after_other_numbers_of_batches(flags):
    flags |= {"num_chunks": 2, "batch_size": 2}
    for chunk in (0, 1):
        assert call_script("main.py", flags | {"chunk": chunk, "num_batches": chunk + 1})[0] == 0
    refuse({"merge_and_eval": True, "output_path": flags["output_path"]}, "chunk-1_num-chunks-2", "--num_batches")


def test_another_chunking_in_the_same_experiment_is_refused(flags):
    assert call_script("main.py", flags | {"num_chunks": 2})[0] == 0
    refuse(flags | {"num_chunks": 3}, "--num_chunks", "chunk-0_num-chunks-2_flags.yaml")
