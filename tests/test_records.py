import pandas as pd
import pytest
import torch
from assertions import refusal
from five_explanations import CF_PREDICTIONS, IDS, LABELS, P_TARGET, PREDICTIONS, TARGETS, records

from core.results.records import (
    append_records,
    correct,
    flipped,
    is_torn,
    read_records,
    read_yaml,
    summarise,
    write_records,
)
from guided_diffusion.script.errors import UserError

BEFORE = torch.tensor([[0, 1, 1], [0, 0, 0], [1, 1, 0], [0, 0, 1], [0, 1, 0]])
AFTER = torch.tensor([[0, 0, 0], [0, 1, 0], [1, 1, 0], [1, 1, 1], [0, 1, 0]])


def records_of_an_oracle():
    return records(oracle_decisions=(BEFORE, AFTER), query=1)


def test_a_record_says_what_is_known_of_an_image_and_groups_it_by_classifier_and_target():
    table = records()
    assert table["image"][1] == "000002.jpg"
    columns = {"id": IDS, "label": LABELS, "pred": PREDICTIONS, "target": TARGETS, "cf_pred": CF_PREDICTIONS}
    columns |= {"attempts": [1, 2, 3, 1, 3], "scale": [8, 10, 15, 8, 15]}
    assert all(table[column].tolist() == values for column, values in columns.items())
    assert table["p_target"].tolist() == pytest.approx(P_TARGET, abs=1e-6)
    assert table["bkl"].tolist() == pytest.approx([1 - p for p in P_TARGET], abs=1e-6)
    assert table["l_1"].tolist() == pytest.approx([step / 255 for step in (0, 10, 20, 30, 55)], abs=1e-6)
    assert correct(table).tolist() == [True, False, True, True, True]
    assert flipped(table).tolist() == [True, True, False, True, False]


def test_an_oracle_adds_its_decisions_and_what_changed_among_them():
    table = records_of_an_oracle()
    assert table["oracle_pred"].tolist() == ["011", "000", "110", "001", "010"]
    assert table["oracle_cf_pred"].tolist() == ["000", "010", "110", "111", "010"]
    assert table["mnac"].tolist() == [2, 1, 0, 2, 0]
    assert table["oracle_flip"].tolist() == [1, 1, 0, 1, 0]
    assert "mnac" not in records()
    summary = summarise(table)  # over what flipped
    assert summary["mnac"] == pytest.approx((2 + 1 + 2) / 3, abs=1e-6) and summary["oracle fr"] == 1.0
    assert not {"mnac", "oracle fr"} & summarise(table.iloc[[2, 4]]).keys()


def test_the_summary_counts_and_averages():
    counts = {"class-cor": {"cf-cor": 2, "cf-inc": 2}, "class-inc": {"cf-cor": 1, "cf-inc": 0}, "n": 5}
    shares = {"cf-cor": 3, "cf-inc": 2, "clean acc": 80.0, "cf acc": 0.6}
    bkl, l_1 = (pytest.approx(mean, abs=1e-6) for mean in (1 - sum(P_TARGET) / 5, 115 / 5 / 255))
    assert summarise(records()) == counts | shares | {"bkl": bkl, "l_1": l_1}


@pytest.mark.parametrize("table", [records(), records_of_an_oracle()], ids=["plain", "oracle"])
def test_what_is_written_is_read_back_and_written_again_identically(tmp_path, table):
    path = tmp_path / "records.csv"
    write_records(path, table)
    rows, whole = read_records(path), path.read_bytes()
    assert rows["id"].tolist() == [4, 7, 9, 30, 101]  # sorted
    pd.testing.assert_frame_equal(rows, table.sort_values("id").reset_index(drop=True))
    assert summarise(rows) == summarise(table)
    write_records(path, rows)
    assert path.read_bytes() == whole and list(tmp_path.iterdir()) == [path]
    write_records(path, table.iloc[:2])
    write_records(path, pd.concat([read_records(path), table.iloc[2:]]))
    assert path.read_bytes() == whole


@pytest.mark.parametrize("text", ["", "no,table\n1,2\n", "id,label,pred,target,cf_pred\n1,0,,1,0\n", "\0"])
def test_another_file_is_refused_by_its_name(tmp_path, text):
    path = tmp_path / "records.csv"
    path.write_text(text)
    assert str(path) in refusal(UserError, read_records, path)
    path.unlink()
    assert str(path) in refusal(UserError, read_records, path)


@pytest.mark.parametrize("damage", ["", "0.5,", "nan", "inf", "many", "0.1,0.2"])
@pytest.mark.parametrize("column, row", [("l_1", 1), ("target", 3), ("bkl", 5)])
def test_a_damaged_line_is_named_and_without_it_the_others_are_read(tmp_path, damage, column, row):
    table, path = records(), tmp_path / "records.csv"
    write_records(path, table)
    lines = path.read_text().splitlines()
    values = lines[row].split(",")
    values[list(table.columns).index(column)] = damage
    lines[row] = ",".join(values)
    path.write_text("\n".join(lines) + "\n")
    message = refusal(UserError, read_records, path)
    assert f"{path} is damaged in line {row + 1} (" in message and "remove this line, and main.py's same" in message
    path.write_text("\n".join(lines[:row] + lines[row + 1 :]) + "\n")
    assert len(read_records(path)) == 4


def test_the_first_of_several_damaged_lines_is_named_and_a_header_is_restored(tmp_path):
    path = tmp_path / "records.csv"
    write_records(path, records())
    header, *rows = path.read_text().splitlines(keepends=True)
    path.write_text("".join([header, *rows[:2], "x\n", rows[2], "1,2\n", *rows[3:]]))
    assert "in line 4 " in refusal(UserError, read_records, path)
    path.write_text("".join(["x", header, *rows]))
    message = refusal(UserError, read_records, path)
    assert "is not a records.csv" in message and "restore it: without it main.py explains all images" in message


@pytest.mark.parametrize(
    "name, remedy",
    [
        ("chunk-0_num-chunks-2_flags.yaml", "name another --exp_name, or explain all anew with --overwrite True"),
        ("summary.yaml", "remove it and run again the command that wrote it"),
    ],
)
def test_a_damaged_yaml_file_has_a_remedy(tmp_path, name, remedy):
    path = tmp_path / name
    assert f"{path} is missing; restore it, or {remedy}" == refusal(UserError, read_yaml, path)
    for text, wrong in (("a: [1", "is not readable as YAML"), ("- a", "holds no names with values")):
        path.write_text(text)
        message = refusal(UserError, read_yaml, path)
        assert message == f"{path} is damaged: it {wrong}; restore it, or {remedy}"


def test_rows_are_added_without_touching_those_before(tmp_path):
    table, path = records_of_an_oracle(), tmp_path / "records.csv"
    append_records(path, table.iloc[:2])
    before = path.read_bytes()
    append_records(path, table.iloc[2:])
    assert path.read_bytes().startswith(before)
    rows = read_records(path).sort_values("id").reset_index(drop=True)
    pd.testing.assert_frame_equal(rows, table.sort_values("id").reset_index(drop=True))


def test_a_last_row_without_its_end_is_left_out(tmp_path):
    table, path = records(), tmp_path / "records.csv"
    write_records(path, table)
    whole = path.read_bytes()
    last = whole.rstrip(b"\n").rfind(b"\n") + 1
    for cut in range(last, len(whole)):
        path.write_bytes(whole[:cut])
        assert read_records(path)["id"].tolist() == [4, 7, 9, 30] and is_torn(path) == (cut > last)
