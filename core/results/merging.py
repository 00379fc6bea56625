"""Merging the chunks of an experiment: their records are concatenated, once all of them are there and fit."""

import pandas as pd

from guided_diffusion.script.errors import UserError

from .folder import ResultsFolder, chunk_files, experiment_folder
from .records import read_yaml


def merge_chunks(output_path, exp_name, free=("chunk",), before=None):
    """Merges the chunks of an experiment into its summary.yaml and records.csv -> the summary.

    free: the flags that may differ between chunks.
    before: name -> the value that counts where an older flags.yaml does not have the flag yet.

    Raises UserError, naming the chunks, where some are missing or unfinished, have other flags, or overlap.
    """
    chunks = _find_chunks(output_path, exp_name)
    experiment = chunks[0].experiment
    missing = [f"{c.prefix}summary.yaml" for c in chunks if not c.summary_path.exists()]
    if missing:
        raise UserError(f"{experiment} lacks the finished chunks {', '.join(missing)}; run them first")
    _refuse_unequal_flags(chunks, free, before or {})
    parts = [part for part in map(_read_finished, chunks) if part is not None]
    if not parts:
        raise UserError(f"the chunks of {experiment} explain no image, so there is nothing to merge")
    table = pd.concat(parts)
    repeated = sorted(table["id"][table["id"].duplicated()])
    if repeated:
        raise UserError(f"the chunks of {experiment} overlap: image {repeated[0]} is in more than one")
    return ResultsFolder(output_path, exp_name).finish(table)


def _find_chunks(output_path, exp_name):
    """All chunks of the run, 0 … C-1, finished or not; UserError where the folder has chunks of several runs."""
    experiment = experiment_folder(output_path, exp_name)
    files = chunk_files(experiment)
    totals = {total for _, total in files}
    if not files:
        raise UserError(f"{experiment} holds no chunks to merge; run with --num_chunks first")
    if len(totals) > 1:
        raise UserError(f"{experiment} holds chunks of several runs, which overlap: {', '.join(files.values())}")
    total = totals.pop()
    foreign = [name for (chunk, _), name in files.items() if chunk >= total]
    if foreign:
        raise UserError(
            f"{experiment} holds {', '.join(foreign)}, but the last chunk of {total} is {total - 1}; remove it"
        )
    return [ResultsFolder(output_path, exp_name, chunk, total) for chunk in range(total)]


def _refuse_unequal_flags(chunks, free, before):
    first, *others = (before | read_yaml(chunk.flags_path) for chunk in chunks)
    for chunk, flags in zip(chunks[1:], others, strict=True):
        names = [name for name in {**first, **flags} if name not in free]
        differing = [f"--{name}" for name in names if flags.get(name) != first.get(name)]
        if differing:
            raise UserError(
                f"{chunk.flags_path} differs from the first chunk in {', '.join(differing)}; "
                "run the chunks with the same flags"
            )


def _read_finished(chunk):
    """The rows of a finished chunk, None where it has none; UserError where its summary counts another number."""
    table = chunk.records()
    rows, finished = 0 if table is None else len(table), read_yaml(chunk.summary_path).get("n")
    if rows != finished:
        raise UserError(
            f"{chunk.summary_path} is of {finished} images, but {chunk.records_path.name} has {rows}; "
            "run that chunk again"
        )
    return table
