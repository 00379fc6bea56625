"""How far counterfactuals of drawn faces are from the true ones, which the renderer knows.

    python -m demo.truth --output_path DIR --exp_name EXP --query_label Smiling --picture truth.png

Writes truth.yaml, and truth.csv with a row for each counterfactual, into the experiment's folder.
"""

import argparse
from functools import partial
from multiprocessing import Pool
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from core.datasets import CELEBA_ATTRIBUTES, attribute_index
from core.records import BITS, write_text, write_yaml
from demo.compare import TRUTH, compare, find_faces, tiles
from demo.faces import face_of
from demo.sheet import BAD, GOOD, INK, lay_out, save_picture
from guided_diffusion.script_util import add_dict_to_argparser, require_flags, run_script

FLAGS = {
    "output_path": (None, "the --output_path of main.py"),
    "exp_name": ("exp", "the --exp_name of main.py"),
    "query_label": ("Smiling", "the --query_label of main.py"),
    "seed": (0, "the --seed of demo.faces"),
    "train": (12000, "the --train of the networks' data; CD compares with the labels of these faces"),
    "workers": (2, "number of processes"),
    "picture": ("", "a PNG to write: originals, counterfactuals, true counterfactuals, and how the two differ"),
    "columns": (4, "images beside each other in the picture"),
    "tile": (96, "width of an image of the picture in pixels"),
}
TITLES = ("original", "counterfactual", "truth", "difference")


def summarise(table, labels, query):
    """Rows of compare() -> name -> {value, n, of: what these are}; all but CD are means.

    labels (N, 40) of 0/1, the train split's, and query, the index among them of what was to change, are for CD.
    """
    reached = table[table["reached"]]
    asked = reached[reached["ratio"].notna()]
    metrics = {}
    if reached.empty:
        return metrics

    def add(name, value, counted, of):
        if len(counted):
            metrics[name] = {"value": round(float(value), 6), "n": len(counted), "of": of}

    of = "pairs that reached their target and had a visible change to make"
    add("distance to the truth", asked["distance"].mean(), asked, of)
    add("distance of the original", asked["original_distance"].mean(), asked, of)
    add("ratio of the two", asked["ratio"].mean(), asked, of)
    add("ratio where the truth changes", asked["local_ratio"].mean(), asked, of)
    add("share of the change made", asked["query_share"].mean(), asked, of)
    add("true FR", (asked["query_share"] > 0.5).mean(), asked, of)
    of = "pairs that reached their target"
    add("attributes told", reached["told"].mean(), reached, of)
    add("true MNAC", reached["mnac"].mean(), reached, f"{of}; the query not counted")
    if "oracle_mnac" in table:
        error = reached["oracle_mnac"] - reached["mnac"]
        add("oracle MNAC", reached["oracle_mnac"].mean(), reached, f"{of}; the query not counted")
        add("oracle MNAC, absolute error", error.abs().mean(), reached, f"{of}; the query not counted")
    add("true CD", correlation_difference(*_decisions(reached, TRUTH), labels, query), reached, of)
    if "oracle_mnac" in table:
        add("oracle CD", correlation_difference(*_decisions(reached, BITS), labels, query), reached, of)
    return metrics


def _decisions(table, columns):
    """The (N, 40) decisions of 0/1 in each of these columns of bits."""
    return [np.array([list(map(int, bits)) for bits in table[column]]).reshape(-1, 40) for column in columns]


def correlation_difference(decisions_before, decisions_after, labels, query):
    """CD = Σ_a |c_a - r_a|: correlations with attribute `query` of the labels, and of the changes of decisions.

    All are (N, A) of 0/1, decisions and labels of different images. Without variance a correlation is 0.
    """
    return np.abs(_correlations(labels, query) - _correlations(decisions_after - decisions_before, query)).sum()


def _correlations(values, query):
    centred = values - values.mean(0)
    spread = np.sqrt((centred**2).sum(0))
    scale = spread * spread[query]
    return np.divide(centred.T @ centred[:, query], scale, out=np.zeros(len(scale)), where=scale > 0)


def draw_truth(faces, table, query, columns, tile):
    """A PIL image: each face's tiles, how much of the query's change was made, and what else changed."""
    cells = []
    for face, row in zip(faces, table.to_dict("records"), strict=True):
        changed = row["changed"].split()
        names = changed[:2] + ([f"{len(changed) - 2} more"] if len(changed) > 2 else [])
        made = "nothing to do" if pd.isna(row["ratio"]) else f"{100 * row['query_share']:.0f} % done"
        also = (f"also {', '.join(names)}", BAD) if changed else ("nothing else", GOOD)
        cells.append((tiles(face, query), [(f"{made}, ", INK), also]))
    return lay_out(cells, TITLES, columns, tile)


def create_argparser():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    add_dict_to_argparser(parser, FLAGS)
    return parser


def main():
    args = create_argparser().parse_args()
    require_flags(args, "output_path")
    query = CELEBA_ATTRIBUTES[attribute_index(CELEBA_ATTRIBUTES, args.query_label)]
    faces = find_faces(args.output_path, args.exp_name, query, args.seed)
    print(f"{query}: comparing {len(faces)} counterfactuals with some 80 renderings each", flush=True)
    with Pool(args.workers) as pool:
        rows = pool.imap(partial(compare, query=query), faces)
        table = pd.DataFrame(tqdm(rows, total=len(faces), desc="comparing", unit="face"))
    labels = np.array([list(face_of(args.seed, "train", k)[0].values()) for k in range(args.train)], int)
    metrics = summarise(table, labels, CELEBA_ATTRIBUTES.index(query))

    experiment = Path(args.output_path) / "Results" / args.exp_name
    write_text(experiment / "truth.csv", table.round(6).to_csv(index=False))
    write_yaml(experiment / "truth.yaml", metrics)
    print(f"{table['reached'].sum()} of {len(table)} counterfactuals reached their target")
    for name, metric in metrics.items():
        print(f"{name}: {metric['value']:.4f} (n = {metric['n']}, {metric['of']})")
    if args.picture:
        save_picture(draw_truth(faces, table, query, args.columns, args.tile), args.picture)


if __name__ == "__main__":
    run_script(main)
