"""How far counterfactuals of drawn faces are from the true ones, which the renderer can draw.

    python -m demo.truth --output_path DIR --exp_name EXP --query_label Smiling --picture truth.png
    python -m demo.truth --output_path DIR --exp_names EXP OTHER     # several: most is drawn once for all of them

Writes truth.yaml, and truth.csv with a row for each counterfactual, into the experiment's folder.
"""

from collections import defaultdict
from dataclasses import replace
from functools import partial
from multiprocessing import Pool

import numpy as np
import pandas as pd

from core.data.datasets import CELEBA_ATTRIBUTES, attribute_index
from core.metrics.batches import progress
from core.metrics.metric import mean_of, statistic_of
from core.metrics.scores import change_correlations, correlation_difference, pearson
from core.results.records import BITS, write_yaml
from core.running.run import FLIPPED, read_run
from demo.compare import TRUTH, brightened, compare_all, read_faces, to_image, true_counterfactual
from demo.faces import training_labels
from demo.sheet import BAD, COLUMNS, GOOD, INK, TILE, lay_out, save_picture
from guided_diffusion.script.errors import UserError
from guided_diffusion.script.flags import SEED, WORKERS, Flag, FlagParser
from guided_diffusion.script.run import run_script
from guided_diffusion.script.storage import write_text

FLAGS = {
    "output_path": Flag(None, "the --output_path of main.py"),
    "exp_name": Flag("exp", "the --exp_name of main.py"),
    "exp_names": Flag([], "several, instead of --exp_name", many=True),
    "query_label": Flag("Smiling", "the --query_label of main.py"),
    "seed": replace(SEED, help="the --seed of demo.faces"),
    "train": Flag(12000, "the --train of the networks' data, for CD's labels", low=1, high=10**6),
    "workers": WORKERS,
    "picture": Flag("", "a PNG to write, of one experiment: also the true counterfactuals, and the difference"),
    "columns": COLUMNS,
    "tile": TILE,
}
REQUIRED = ("output_path",)
TITLES = ("original", "counterfactual", "truth", "error")
OF_CHANGES = {  # metric -> column of truth.csv
    "distance to the truth": "distance",
    "distance of the original": "original_distance",
    "ratio of the two": "ratio",
    "ratio where the truth changes": "local_ratio",
    "change outside the true region": "outside",
    "share of the change made": "query_share",
}
OF_ALL = {
    "attributes told": "told",
    "other attributes changed": "others",
    "true MNAC": "mnac",
    "oracle MNAC": "oracle_mnac",
}


def summarise(table, labels, query):
    """Rows of compare() -> Metrics. MNAC and CD are defined as in compute_MNAC.py and compute_CD.py.

    For CD: labels (N, 40) of 0/1, those of the train split; query, the index of the queried attribute among the 40.
    """
    reached = table[table["reached"]]
    to_change = reached[reached["ratio"].notna()]
    if reached.empty:
        return []
    metrics = []
    if not to_change.empty:
        which = f"{FLIPPED} and had a visible change to make"
        metrics += [mean_of(name, to_change[column], which) for name, column in OF_CHANGES.items()]
        metrics.append(mean_of("true FR", to_change["query_share"] > 0.5, which))
    metrics += [mean_of(name, reached[column], FLIPPED) for name, column in OF_ALL.items() if column in reached]
    cds = {"true CD": _cd_of_rows(reached, TRUTH, labels, query)}
    if "oracle_mnac" in reached:
        error = reached["oracle_mnac"] - reached["mnac"]
        metrics.append(mean_of("oracle MNAC - true MNAC", error, FLIPPED))
        metrics.append(mean_of("|oracle MNAC - true MNAC| of an image", error.abs(), FLIPPED))
        cds["oracle CD"] = _cd_of_rows(reached, BITS, labels, query)
    metrics += [statistic_of(name, cd, len(reached), FLIPPED, lowest=0) for name, cd in cds.items()]
    if "oracle CD" in cds:
        true_cd, oracle_cd = cds.values()

        def difference(rows):
            return oracle_cd(rows) - true_cd(rows)

        metrics.append(statistic_of("oracle CD - true CD", difference, len(reached), FLIPPED))
    return metrics


def _cd_of_rows(table, columns, labels, query):
    """A function cd(rows) -> CD of these rows of the table. columns: its two columns of bits, before and after."""
    expected = pearson(labels[:, query], labels)
    before, after = (np.array([list(map(int, bits)) for bits in table[column]]) for column in columns)
    return lambda rows: correlation_difference(expected, change_correlations(before[rows], after[rows], query))


def compare_experiments(experiments, query, workers):
    """Name -> Faces of an experiment, to name -> DataFrame of compare()'s rows in their order, with a bar."""
    by_image = defaultdict(dict)
    for name, faces in experiments.items():
        for face in faces:
            by_image[face.record["image"]][name] = face
    total = sum(map(len, experiments.values()))
    print(f"{query}: comparing {total} counterfactuals with some 80 renderings each", flush=True)
    rows = {name: [] for name in experiments}
    with Pool(workers) as pool, progress(total=total, desc="comparing", unit="face") as bar:
        for compared in pool.imap(partial(compare_all, query=query), by_image.values()):
            for name, row in compared.items():
                rows[name].append(row)
            bar.update(len(compared))
    return {name: pd.DataFrame(rows[name]).sort_values("id", ignore_index=True) for name in experiments}


def draw_truth(faces, table, query, columns, tile):
    """A PIL image: of each face its tiles, how much of the query's change was made, and what else changed."""
    cells = []
    for face, row in zip(faces, table.to_dict("records"), strict=True):
        (original, counterfactual), truth = face.images(), true_counterfactual(face, query)
        tiles = [original, counterfactual, truth, brightened(counterfactual - truth)]
        changed = row["changed"].split()
        names = changed[:2] + ([f"{len(changed) - 2} more"] if len(changed) > 2 else [])
        made = "nothing to do" if pd.isna(row["ratio"]) else f"{100 * row['query_share']:.0f} % done"
        also = (f"also {', '.join(names)}", BAD) if changed else ("nothing else", GOOD)
        cells.append((list(map(to_image, tiles)), [(f"{made}, ", INK), also]))
    return lay_out(cells, TITLES, columns, tile)


def create_argparser():
    return FlagParser(__doc__, FLAGS, REQUIRED)


def main():
    args = create_argparser().parse_args()
    if args.exp_names and args.exp_name != FLAGS["exp_name"].default:
        raise UserError(f"--exp_name {args.exp_name} and --exp_names exclude each other; give one of them")
    names = args.exp_names or [args.exp_name]
    if args.picture and len(names) > 1:
        raise UserError(f"--picture is of one experiment; leave it out, or give one of {' '.join(names)}")
    query = CELEBA_ATTRIBUTES[attribute_index(CELEBA_ATTRIBUTES, args.query_label)]
    runs = {name: read_run(args.output_path, name) for name in names}
    experiments = {name: read_faces(run, query, args.seed) for name, run in runs.items()}
    tables = compare_experiments(experiments, query, args.workers)
    labels = training_labels(args.seed, args.train)
    for name, table in tables.items():
        metrics = summarise(table, labels, CELEBA_ATTRIBUTES.index(query))
        layout = runs[name].layout
        write_text(layout.truth_of_images, table.round(6).to_csv(index=False))
        write_yaml(layout.truth, {metric.name: metric.entry() for metric in metrics})
        print(f"{name}: {table['reached'].sum()} of {len(table)} counterfactuals reached their target")
        for metric in metrics:
            print(metric.line())
    if args.picture:
        picture = draw_truth(experiments[names[0]], tables[names[0]], query, args.columns, args.tile)
        save_picture(picture, args.picture)


if __name__ == "__main__":
    run_script(main)
