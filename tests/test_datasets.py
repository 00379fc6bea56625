import os
import random

import numpy as np
import pandas as pd
import pytest
import torch
from assertions import refusal
from toy_celeba import write_celeba

from core.data.datasets import (
    CELEBA_ATTRIBUTES,
    DATASETS,
    CelebA,
    CelebAMV,
    attribute_index,
    chunk_indices,
)
from core.data.images import read_image, to_uint8
from guided_diffusion.script.errors import UserError


def replace(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


# -- reading -----------------------------------------------------------------------------------------------


def test_an_item_is_an_image_in_minus_1_to_1_and_its_labels(tmp_path):
    root = write_celeba(tmp_path)
    dataset = CelebA(root, "val", 16)
    assert len(dataset) == 3 and dataset.names == ["000005.jpg", "000006.jpg", "000007.jpg"]
    assert dataset.attributes == CELEBA_ATTRIBUTES
    assert dataset.labels.dtype is torch.int8 and set(dataset.labels.flatten().tolist()) == {0, 1}
    table = pd.read_csv(root / "list_attr_celeba.csv", index_col="image_id")
    for i, name in enumerate(dataset.names):
        image, labels = dataset[i]
        assert image.shape == (3, 16, 16) and image.dtype is torch.float32
        assert torch.equal(to_uint8(image), read_image(root / "img_align_celeba" / name, 16))
        assert torch.equal(dataset.pixels(i), to_uint8(image))
        np.testing.assert_array_equal(labels * 2 - 1, table.loc[name])
        assert torch.equal(dataset.labels[i], labels) and labels.dtype is torch.int64


def test_all_takes_every_image_whatever_the_partition_says(tmp_path):
    root = write_celeba(tmp_path, {"train": 4, "val": 3, "test": 5})
    whole, splits = CelebA(root, "all", 16), [CelebA(root, split, 16).names for split in ("train", "val", "test")]
    assert whole.names == [f"{i:06d}.jpg" for i in range(1, 13)]
    assert [len(names) for names in splits] == [4, 3, 5] and sorted(sum(splits, [])) == whole.names
    assert torch.equal(whole.labels[4:7], CelebA(root, "val", 16).labels)
    (root / "list_eval_partition.csv").unlink()
    assert CelebA(root, "all", 16).names == whole.names


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_csv_and_celebas_own_text_files_say_the_same(tmp_path, split):
    csv, txt = (CelebA(write_celeba(tmp_path / layout, layout=layout), split, 16) for layout in ("csv", "txt"))
    assert (txt.names, txt.attributes) == (csv.names, csv.attributes)
    assert torch.equal(txt.labels, csv.labels)
    assert all(torch.equal(txt[i][0], csv[i][0]) for i in range(len(csv)))


def test_rows_of_the_two_lists_may_be_in_any_order(tmp_path):
    root = write_celeba(tmp_path)
    before = CelebA(root, "test", 16)
    header, *rows = (root / "list_eval_partition.csv").read_text().splitlines()
    (root / "list_eval_partition.csv").write_text("\n".join([header, *reversed(rows)]) + "\n")
    after = CelebA(root, "test", 16)
    assert after.names == before.names and torch.equal(after.labels, before.labels)


def test_another_domain_brings_its_own_attributes(tmp_path):
    dataset = CelebA(write_celeba(tmp_path, attributes=("Striped", "Round")), "val", 16)
    assert dataset.attributes == ("Striped", "Round") and dataset.labels.shape == (3, 2)


# -- the mini-validation set -------------------------------------------------------------------------------


def test_the_mini_validation_set_is_the_one_of_the_release(tmp_path):
    counts = {"train": 2, "val": 19_867, "test": 1}
    root = write_celeba(tmp_path, counts, attributes=("Smiling", "Young"), images=False)
    (root / "img_align_celeba").mkdir()
    mini, whole = CelebAMV(root, "val", 16), CelebA(root, "val", 16)
    drawn = [whole.names.index(name) for name in dict.fromkeys(mini.names)]
    assert len(mini) == 1000 and len(drawn) == 966 and drawn[:5] == [8, 13, 18, 35, 58]
    random.seed(5)
    drawn = sorted(random.choices(range(19_867), k=1000))
    assert mini.names == [whole.names[i] for i in drawn]
    assert torch.equal(mini.labels, whole.labels[drawn])


def test_the_mini_validation_set_is_of_the_validation_split_and_disturbs_no_generator(tmp_path):
    root = write_celeba(tmp_path, {"train": 3, "val": 2, "test": 3})
    random.seed(1)
    expected = random.random()
    random.seed(1)
    mini = DATASETS["CelebAMV"](root, "test", 16)
    assert random.random() == expected
    assert set(mini.names) == {"000004.jpg", "000005.jpg"}
    assert torch.equal(mini[999][0], CelebA(root, "val", 16)[1][0])


# -- choosing ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("query, index", [("Smiling", 31), (31, 31), ("39", 39), ("Young", 39), (0, 0)])
def test_an_attribute_is_named_or_numbered(query, index):
    assert attribute_index(CELEBA_ATTRIBUTES, query) == index


@pytest.mark.parametrize("query", ["Smirking", 40, -1, "3.5", ""])
def test_an_unknown_attribute_is_refused_by_the_flags_name(query):
    assert "--query_label" in refusal(UserError, attribute_index, CELEBA_ATTRIBUTES, query)
    assert "--oracle_query" in refusal(UserError, attribute_index, CELEBA_ATTRIBUTES, query, "oracle_query")


@pytest.mark.parametrize("n, num_chunks", [(10, 1), (10, 3), (2, 5), (0, 2)])
def test_chunks_share_out_the_indices(n, num_chunks):
    chunks = [list(chunk_indices(n, chunk, num_chunks)) for chunk in range(num_chunks)]
    assert sorted(sum(chunks, [])) == list(range(n))
    assert all(i % num_chunks == chunk for chunk, indices in enumerate(chunks) for i in indices)
    assert max(map(len, chunks)) - min(map(len, chunks)) <= 1


@pytest.mark.parametrize("chunk, num_chunks, flag", [(3, 3, "--chunk"), (-1, 3, "--chunk")])
def test_a_chunk_that_does_not_exist_is_refused_by_the_flags_name(chunk, num_chunks, flag):
    assert flag in refusal(UserError, chunk_indices, 10, chunk, num_chunks)


# -- what is missing or malformed --------------------------------------------------------------------------


def refused(root, split="val"):
    return refusal(UserError, CelebA, root, split, 16)


def test_a_missing_folder_is_named(tmp_path):
    assert f"--data_dir {tmp_path}/nowhere" in refused(tmp_path / "nowhere")
    assert "img_align_celeba" in refused(tmp_path)


@pytest.mark.parametrize("stem", ["list_attr_celeba", "list_eval_partition"])
@pytest.mark.parametrize("layout", ["csv", "txt"])
class TestLists:
    def test_a_missing_list_is_named_in_both_spellings(self, tmp_path, stem, layout):
        root = write_celeba(tmp_path, layout=layout)
        (root / f"{stem}.{layout}").unlink()
        message = refused(root)
        assert str(root) in message and f"{stem}.csv" in message and f"{stem}.txt" in message

    def test_an_image_listed_twice_is_named(self, tmp_path, stem, layout):
        root = write_celeba(tmp_path, layout=layout)
        path = root / f"{stem}.{layout}"
        row = next(line for line in path.read_text().splitlines() if line.startswith("000006"))
        path.write_text(path.read_text() + row + "\n")
        message = refused(root)
        assert str(path) in message and "000006.jpg" in message

    @pytest.mark.parametrize("contents", [b"", b"\x89PNG\xff\xfe\x00", b"image_id\n"])
    def test_a_list_that_is_no_table_is_named(self, tmp_path, stem, layout, contents):
        root = write_celeba(tmp_path, layout=layout)
        (root / f"{stem}.{layout}").write_bytes(contents)
        assert stem in refused(root)


@pytest.mark.parametrize("value", ["0", "2", "", "yes"])
def test_a_label_other_than_1_and_minus_1_is_named(tmp_path, value):
    root = write_celeba(tmp_path, attributes=("Smiling", "Young"))
    path = root / "list_attr_celeba.csv"
    row = next(line for line in path.read_text().splitlines() if line.startswith("000006"))
    replace(path, row, f"000006.jpg,{value},1")
    message = refused(root)
    assert str(root) in message and "000006.jpg" in message


@pytest.mark.parametrize("value", ["3", "-1", "", "val"])
def test_a_partition_other_than_0_1_2_is_named(tmp_path, value):
    root = write_celeba(tmp_path)
    replace(root / "list_eval_partition.csv", "000006.jpg,1", f"000006.jpg,{value}")
    message = refused(root)
    assert "list_eval_partition" in message and "000006.jpg" in message


def test_an_image_without_a_partition_is_named(tmp_path):
    root = write_celeba(tmp_path)
    replace(root / "list_eval_partition.csv", "000006.jpg,1\n", "")
    assert "000006.jpg" in refused(root)


def test_an_empty_split_is_named(tmp_path):
    root = write_celeba(tmp_path, {"train": 2, "val": 0, "test": 1})
    message = refused(root)
    assert "val" in message and str(root) in message


@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: os.truncate(path, 200)])
def test_an_absent_or_corrupt_image_is_named_when_it_is_needed(tmp_path, damage):
    root = write_celeba(tmp_path)
    path = root / "img_align_celeba" / "000006.jpg"
    damage(path)
    dataset = CelebA(root, "val", 16)
    assert dataset[0][0].shape == dataset[2][0].shape == (3, 16, 16)
    assert str(path) in refusal(UserError, dataset.__getitem__, 1)
