"""What makes results a run's own: the images that its ids stand for, and the flags that they were made with."""

import pytest
from main_runs import explain, refuse
from scripts import call_script, contents
from toy_classes import draw_colour


@pytest.fixture
def flags(flags, tmp_path):
    """Flags of a run on four images, 1.png to 4.png, which have no labels."""
    for i in range(1, 5):
        draw_colour(tmp_path / "photos" / f"{i}.png", "red", i)
    return flags | {"data_dir": tmp_path / "photos", "split": "all", "batch_size": 2}


def add(flags):
    draw_colour(flags["data_dir"] / "0.png", "red", 9)


def remove(flags):
    (flags["data_dir"] / "2.png").unlink()


@pytest.mark.parametrize(
    "change, image, now", [(add, "1.png as image 0000000", "0.png"), (remove, "2.png as image 0000001", "3.png")]
)
def test_a_run_does_not_go_on_with_data_whose_images_have_moved(flags, change, image, now):
    explain(flags | {"num_batches": 1})
    before = contents(flags["output_path"])
    change(flags)
    refuse(flags, image, f"which is {now} of the data now", "--exp_name")
    assert contents(flags["output_path"]) == before
    records, _ = explain(flags | {"overwrite": True})
    assert len(records) == len(list(flags["data_dir"].iterdir()))


def test_another_image_under_the_same_name_is_another_image(flags):
    explain(flags | {"num_batches": 1})
    draw_colour(flags["data_dir"] / "1.png", "blue", 5)
    refuse(flags, "0000000.png is another image than this run's", "experiment exp")
    explain(flags | {"overwrite": True})


def test_images_behind_all_others_move_none(flags):
    explain(flags)
    draw_colour(flags["data_dir"] / "5.png", "red", 9)
    records, out = explain(flags)
    assert "(4 of 5 are done already)" in out and list(records["image"]) == [f"{i}.png" for i in range(1, 6)]
    (flags["data_dir"] / "5.png").unlink()
    refuse(flags, "5.png as image 0000004", "no image")


def test_a_chunk_is_held_against_the_images_of_the_others(flags):
    assert call_script("main.py", flags | {"num_chunks": 2, "chunk": 0})[0] == 0
    add(flags)
    refuse(flags | {"num_chunks": 2, "chunk": 1}, "1.png as image 0000000")
    refuse(flags | {"num_chunks": 2, "chunk": 1, "overwrite": True}, "1.png as image 0000000")
    (flags["data_dir"] / "0.png").unlink()
    assert call_script("main.py", flags | {"num_chunks": 2, "chunk": 1})[0] == 0


def test_chunks_of_other_images_are_not_merged_and_without_the_data_it_is_said(flags):
    for chunk in (0, 1):
        assert call_script("main.py", flags | {"num_chunks": 2, "chunk": chunk})[0] == 0
    merge = {"merge_and_eval": True, "output_path": flags["output_path"]}
    remove(flags)
    refuse(merge, "2.png as image 0000001", "3.png")
    flags["data_dir"].rename(flags["data_dir"].parent / "elsewhere")
    code, out, _ = call_script("main.py", merge)
    assert code == 0 and "the images' names are not compared with the data's" in out


@pytest.mark.parametrize("lost", [["flags.yaml"], ["flags.yaml", "records.csv"]])
def test_results_without_flags_are_not_taken_for_those_of_other_flags(flags, lost):
    explain(flags)
    for name in lost:
        (flags["output_path"] / "Results/exp" / name).unlink()
    before = contents(flags["output_path"])
    refuse(flags | {"seed": 5, "method": "inversion"}, "holds results, but no flags.yaml", "--overwrite True")
    assert contents(flags["output_path"]) == before
    explain(flags | {"seed": 5, "method": "inversion", "overwrite": True})
