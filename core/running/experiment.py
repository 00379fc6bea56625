"""Explaining many images into a results folder, as they finish, so that a killed run can go on."""

import pandas as pd
import torch
from tqdm import tqdm

from guided_diffusion.errors import UserError

from ..data.datasets import CELEBA_ATTRIBUTES, attribute_index
from ..methods.decisions import predicted_class
from ..results.records import make_records
from .explainer import gather


def find_question(query_label, data_attributes, network_attributes, flag):
    """The queried attribute -> (its column in the data, its output of the network).

    query_label: a name or an index among the data's attributes; network_attributes: names of the outputs, None
    for CelebA's 40. UserError names `flag` where the network does not answer the question.
    """
    column = attribute_index(data_attributes, query_label)
    names = list(network_attributes or CELEBA_ATTRIBUTES)
    if data_attributes[column] not in names:
        raise UserError(f"--{flag} does not answer {data_attributes[column]}; it answers {', '.join(names)}")
    return column, names.index(data_attributes[column])


@torch.no_grad()
def choose_images(dataset, indices, classifier, target, limit, batch_size, device):
    """The first `limit` of the indices (all where None) that are to be explained -> (chosen, how many looked at).

    target -1 takes every image; a class only those that the classifier does not put there already.
    """
    indices = list(indices)
    if target == -1:
        chosen = indices[:limit]
        return chosen, len(chosen)
    chosen, seen = [], 0
    with tqdm(total=len(indices), desc="predicting", unit="image") as bar:
        while seen < len(indices) and (limit is None or len(chosen) < limit):
            batch = indices[seen : seen + batch_size]
            predictions = predicted_class(classifier(load_images(dataset, batch).to(device))).tolist()
            for i, prediction in zip(batch, predictions, strict=True):
                if limit is None or len(chosen) < limit:
                    seen += 1
                    bar.update()
                    if prediction != target:
                        chosen.append(i)
    return chosen, seen


def load_images(dataset, indices):
    """Images (N, 3, S, S) in [-1, 1] of the dataset's indices."""
    return torch.stack([dataset[i][0] for i in indices])


def selection(args, attribute, num_chosen, seen, available):
    """One line that says which images will be explained, of how many, and why these."""
    line = f"{attribute}: explaining {num_chosen} of {available} images of {args.dataset} {args.split}"
    if args.num_chunks > 1:
        line += f", chunk {args.chunk} of {args.num_chunks}"
    if args.num_batches:
        line += f"; --num_batches {args.num_batches} x --batch_size {args.batch_size} is the limit"
    if args.target_label != -1:
        line += f"; of the first {seen}, {seen - num_chosen} are predicted {args.target_label} already"
    return line


def plan(chosen, finished, cost, scales):
    """One line: how many images are left, and how many network evaluations, of this Cost, at least and at most."""
    left = len(chosen) - len(finished)
    least, most = (left * (cost.once + cost.each * attempts) for attempts in (1, len(scales)))
    shared = f"{cost.once} an image and " if cost.once else ""
    already = f" ({len(finished)} of {len(chosen)} are done already)" if finished else ""
    repeated = ", and again those of finished images in the same batches" if finished and left else ""
    return (
        f"{left} images{already}: {shared}{cost.each} network evaluations an attempt, "
        f"1 to {len(scales)} attempts an image, {least:,} to {most:,} evaluations in all{repeated}"
    )


def report(summary, experiment, computed=0, seconds=0.0):
    """One line: what summarise() found, how long that took for the images computed now, and where it lies."""
    if not summary["n"]:
        return f"no images: {experiment}"
    parts = [
        f"flip rate {100 * summary['cf acc']:.1f} % ({summary['cf-cor']} of {summary['n']})",
        f"L1 {summary['l_1']:.3f}",
        f"bKL {summary['bkl']:.3f}",
    ]
    if "mnac" in summary:
        parts += [f"oracle flip rate {100 * summary['oracle fr']:.1f} %", f"MNAC {summary['mnac']:.2f}"]
    line = ", ".join(parts)
    if computed:
        line += f"; {computed} images in {seconds:.1f} s, {seconds / computed:.2f} s each"
    return f"{line}: {experiment}"


class EvaluationBar:
    """A bar of network evaluations, counted an image at a time. Its total grows with each further attempt.

    Call `wrap(model_fn)` for the network to count, `follow` as an Explainer's on_attempt; leaving `with` closes it.
    """

    def __init__(self, num_images, cost):
        self.each = cost.each
        self.bar = tqdm(total=num_images * (cost.once + cost.each), desc="explaining", unit="eval", smoothing=0.02)

    @property
    def total(self):
        """Evaluations of all images, their first attempts alone."""
        return self.bar.total

    def wrap(self, model_fn):
        def counted(z, t, *labels):
            # What a run that goes on repeats of finished images was not foreseen.
            self.bar.total = max(self.bar.total, self.bar.n + len(z))
            self.bar.update(len(z))
            return model_fn(z, t, *labels)

        return counted

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.bar.close()

    def follow(self, jobs):
        self.bar.total += self.each * sum(job.attempt > 1 for job in jobs if not job.again)
        self.bar.refresh()


def run_experiment(
    dataset, chosen, explainer, load, results, batch_size, column, earlier=None, oracle=None, save_images=True,
    save_masks=False,
):  # fmt: skip
    """Explains the `chosen` indices in full batches and returns the table of all their records, by id.

    load(ids): what the Explainer is to know of them; column: the queried attribute among the data's labels.
    results: a ResultsFolder; earlier: rows that an earlier run finished, or None; they are not explained again.
    oracle: (function from images to decisions (N, A) of 0/1, index of the queried attribute), or None.
    """
    table = earlier
    finished_at = {} if earlier is None else dict(zip(earlier["id"], earlier["attempts"], strict=True))
    groups = [chosen[start : start + batch_size] for start in range(0, len(chosen), batch_size)]
    for jobs in explainer.explain(groups, load, batch_size, finished_at):
        if not jobs:
            continue
        ids = [job.id for job in jobs]
        images, explanation = gather(jobs)
        decisions, query = None, None
        if oracle is not None:
            decide, query = oracle
            decisions = (decide(images), decide(explanation.counterfactual))
        names = [dataset.names[i] for i in ids]
        rows = make_records(ids, names, images, dataset.labels[ids, column], explanation, decisions, query)
        if save_images:
            results.write_images(rows, images, explanation, save_masks)
        table = (rows if table is None else pd.concat([table, rows])).sort_values("id")
        results.commit(table)
    return table
