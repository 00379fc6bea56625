"""A folder that the authors' release wrote: images and Info files, without flags, records and a summary."""

import numpy as np
import pytest
from PIL import Image
from report_pages import Page, figures_of, report
from scripts import call_script
from test_audit_script import audited
from toy_audit import draw

from core.results.layout import PARTS, Layout
from core.running.run import read_run

N = 24


@pytest.fixture
def root(tmp_path):
    """24 images: the classifier is wrong about every fourth, and every sixth does not flip."""
    layout = Layout(tmp_path, "EXP")
    for folder in layout.part_folders:
        folder.mkdir(parents=True)
    for k in range(N):
        right, reached, pred = k % 4 != 3, k % 6 != 5, k % 2
        pictures = [Image.fromarray(np.uint8(draw(has)).transpose(1, 2, 0)) for has in ({"Smiling"}, {})]
        x, counterfactual = pictures if pred else pictures[::-1]
        x.save(layout.originals(right) / f"{k:07d}.jpg", quality=95)
        for part in PARTS:
            counterfactual.save(layout.part(right, reached, part) / f"{k:07d}.jpg", quality=95)
        info = layout.part(right, reached, "Info") / f"{k:07d}"
        info.with_suffix(".jpg").unlink()
        info.with_suffix(".txt").write_text(
            f"label: {pred if right else 1 - pred}\npred: {pred}\ntarget: {1 - pred}\n"
            f"cf pred: {1 - pred if reached else pred}\nBKL: {0.1 if reached else 0.7}\nl_1: 0.02\n"
        )
    return tmp_path


def test_its_records_are_those_of_its_info_files(root):
    run = read_run(root, "EXP")
    assert len(run.records) == N and run.finished is None and not run.flags
    assert run.records["id"].tolist() == list(range(N))
    assert run.records.iloc[5].to_dict() == {
        **{"id": 5, "label": 1, "pred": 1, "target": 0, "cf_pred": 1},
        **{"p_target": pytest.approx(0.3), "bkl": 0.7, "l_1": 0.02},
    }


def test_its_report_shows_what_is_there_and_says_what_is_not_known(root):
    said, folder = figures_of(root, "EXP"), root / "report"
    assert said["finding"] == "The classifier gave 20 of 24 images the answer that was asked for (83 %)."
    limits, page = " ".join(said["limits"]), Page(folder / "index.html")
    unknown = "the question, the method, the command, the probabilities before and the number of attempts"
    assert f"Nothing records {unknown}" in limits and "No verdict of an oracle is recorded" in limits
    assert "not finished" not in page.text and "finished not recorded" in page.text
    assert "method not recorded" in page.text and "the command is not recorded" in page.text
    assert len(page.cards) == N and {card["data-direction"] for card in page.cards} == {"0 → 1", "1 → 0"}
    assert all((folder / address).is_file() for address in page.addresses if address.endswith(".jpg"))
    assert len(Page(folder / "failures.html").cards) == 4


@pytest.mark.parametrize("text", [None, "label: 1", "label: 1\npred: 1\ntarget: 0\ncf pred: 0.5\nBKL: 0\nl_1: 0"])
def test_an_image_without_a_whole_info_file_is_left_out_and_the_others_are_shown(root, text):
    path = Layout(root, "EXP").part(True, True, "Info") / "0000000.txt"
    path.write_text(text) if text else path.unlink()
    page = Page(report(root, "EXP") / "index.html")
    assert len(page.cards) == N - 1
    out, err = call_script("compute_FR.py", {"output_path": root, "exp_name": "EXP"})[1:]
    assert f"(n = {N - 1} explained images" in out and "1 images are left out; the first: " in err


def test_it_is_drawn_as_a_sheet(root):
    flags = {"output_path": root, "exp_name": "EXP", "picture": root / "sheet.png", "rows": 1}
    code, _, err = call_script("demo.sheet", flags)
    assert code == 0 and Image.open(root / "sheet.png").width > 100, err


def test_it_is_audited_and_measured(root):
    out, findings, _ = audited(root, "EXP", classifier_path="toy_audit:clean")
    assert "Nothing records what was asked: Smiling is assumed (--query_label)." in out
    assert "not finished" not in out and findings["finished"] is None
    assert "Of 24 images that were explained, 20 are looked at" in out
    assert "what was asked" not in audited(root, "EXP", query_label="Smiling")[0]
    assert "audit.html" in Page(report(root, "EXP") / "index.html").addresses
    code, out, err = call_script("compute_FR.py", {"output_path": root, "exp_name": "EXP"})
    assert code == 0 and "FR: 0.8333 (n = 24 explained images" in out and "not finished" not in err
