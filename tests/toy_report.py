"""Results folders as main.py leaves them, as the tests of the report need them."""

import numpy as np
import pandas as pd
import yaml
from toy_results import write_pair

ATTRIBUTES = ("Smiling", "Young", "Male")


def write_experiment(
    root, exp_name="exp", n=8, size=16, oracle=True, images=True, mask=False, flags=None, **columns
):
    """An experiment of n random images -> its records.

    Image i: label i mod 2; the classifier is wrong about every fourth, and every fifth does not flip; the oracle,
    of three attributes, does not see every third flip. columns: of the records, instead of these.
    """
    rng, i = np.random.default_rng(n), np.arange(n)
    pred = np.where(i % 4 == 3, 1 - i % 2, i % 2)
    target, reached, seen = 1 - pred, i % 5 != 4, i % 3 != 2
    p_reached, p_failed = rng.uniform(0.5, 1, n), rng.uniform(0, 0.5, n)
    records = {
        "id": i,
        "image": [f"val_{k:05d}.jpg" for k in i],
        "label": i % 2,
        "pred": pred,
        "target": target,
        "cf_pred": np.where(reached, target, pred),
        "p_target_before": rng.uniform(0, 0.5, n).round(6),
        "p_target": np.where(reached, p_reached, p_failed).round(6),
        "attempts": 1 + i % 3,
        "scale": 1.5,
    }
    if oracle:
        before = np.stack([pred, i % 2, i % 3 == 0], 1).astype(int)
        after = np.stack([np.where(seen, target, pred), (i + 1) % 2, i % 3 == 0], 1).astype(int)
        bits = [["".join(map(str, row)) for row in rows] for rows in (before, after)]
        records |= {"oracle_pred": bits[0], "oracle_cf_pred": bits[1], "mnac": (before != after).sum(1)}
        records["oracle_flip"] = seen.astype(int)
    table = pd.DataFrame(records | columns)
    table["bkl"], table["l_1"] = (1 - table["p_target"]).round(6), (0.01 + i / 1000).round(6)
    folder = root / "Results" / exp_name
    folder.mkdir(parents=True)
    table.to_csv(folder / "records.csv", index=False)
    (folder / "summary.yaml").write_text(f"n: {n}\n")
    usual = {"query_label": "Smiling", "task": "attributes", "method": "dime", "start_step": 4, "seed": 4}
    flags = usual | {"model_path sha256": "0123456789ab"} | (flags or {})
    (folder / "flags.yaml").write_text(yaml.safe_dump(flags))
    if images:
        write_images(root, exp_name, table, size, mask)
    return table


def write_runs(root, exp_name, *runs):
    """Writes runs.yaml: what is known of some runs of the experiment, dicts."""
    path = root / "Results" / exp_name / "runs.yaml"
    path.write_text(yaml.safe_dump({f"run {k}": run for k, run in enumerate(runs)}))


def name_attributes(root, exp_name, names):
    """Records in runs.yaml what the attributes of the experiment's oracle are called."""
    write_runs(root, exp_name, {"oracle_attributes": list(names)})


def write_images(root, exp_name, table, size, mask):
    """The images of the records; with a mask, half of the change lies outside of it."""
    for row in table.to_dict("records"):
        right = "CC" if row["label"] == row["pred"] else "IC"
        place = f"{right}/{'CCF' if row['cf_pred'] == row['target'] else 'ICF'}"
        x = np.random.default_rng(row["id"]).integers(40, 200, (3, size, size))
        changed = x.copy()
        changed[:, :, : size // 2] += 30
        write_pair(root, row["id"], x, changed, place, exp_name)
        if mask:
            white = np.zeros((3, size, size))
            white[:, : size // 2] = 255
            write_pair(root / "aside", row["id"], white, white, place, exp_name)
    if mask:
        for path in (root / "aside").glob(f"Results/{exp_name}/*/*/CF"):
            path.rename(root / path.relative_to(root / "aside").parent / "Mask")


def write_names(data_dir, names):
    """A data folder in CelebA's layout, of six images in the train split with these attributes' labels."""
    data_dir.mkdir(parents=True)
    labels = pd.DataFrame({name: [1 if k >> a & 1 else -1 for k in range(6)] for a, name in enumerate(names)})
    files = [f"{k:06d}.jpg" for k in range(6)]
    labels.insert(0, "image_id", files)
    labels.to_csv(data_dir / "list_attr_celeba.csv", index=False)
    pd.DataFrame({"image_id": files, "partition": 0}).to_csv(data_dir / "list_eval_partition.csv", index=False)
