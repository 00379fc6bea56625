"""Merging the chunks of an experiment: their records are concatenated, once all of them are there and fit."""

from dataclasses import replace
from itertools import islice

import pandas as pd

from guided_diffusion.script.errors import UserError

from .folder import ResultsFolder
from .layout import means_the_same
from .reading import read_rows, refuse_other_images
from .records import read_yaml


def merge_chunks(layout, free=("chunk",), before=None, names=None):
    """Merges the chunks of an experiment into its summary.yaml and records.csv -> the summary.

    free: the flags that may differ between chunks.
    before: name -> the value that counts where an older flags.yaml does not have the flag yet.
    names: of the data's images, by id; None where they cannot be known.

    Raises UserError, naming the chunks, where some are missing or unfinished, have other flags, or overlap; and
    where a chunk has explained other images than the data now has.
    """
    experiment = layout.experiment
    chunks = _finished_chunks(layout)
    _refuse_unequal_flags(chunks, free, before or {})
    parts = [part for part in map(_read_finished, chunks) if part is not None]
    if not parts:
        raise UserError(f"the chunks of {experiment} explain no image, so there is nothing to merge")
    table = pd.concat(parts).sort_values("id")
    repeated = sorted(table["id"][table["id"].duplicated()])
    if repeated:
        raise UserError(f"the chunks of {experiment} overlap: image {repeated[0]} is in more than one")
    if names is not None:
        refuse_other_images(table, names, experiment)
    return ResultsFolder(layout).finish(table)


def _finished_chunks(layout):
    """The Layouts of chunks 0 … C-1; UserError where some are not finished, or there are chunks of several runs."""
    begun, experiment = layout.chunks, layout.experiment
    if not begun:
        raise UserError(f"{experiment} holds no chunks to merge; run with --num_chunks first")
    if len({chunk.num_chunks for chunk in begun}) > 1:
        names = ", ".join(chunk.flags.name for chunk in begun)
        raise UserError(f"{experiment} holds chunks of several runs, which overlap: {names}")
    total = begun[0].num_chunks
    finished = {chunk.chunk for chunk in begun if chunk.summary.exists()}
    missing = (replace(begun[0], chunk=chunk).summary.name for chunk in range(total) if chunk not in finished)
    if some := list(islice(missing, 3)):
        raise UserError(f"{experiment} lacks finished chunks of {total}, such as {', '.join(some)}; run them first")
    return [replace(layout, chunk=chunk, num_chunks=total) for chunk in range(total)]


def _refuse_unequal_flags(chunks, free, before):
    first, *others = (before | read_yaml(chunk.flags) for chunk in chunks)
    for chunk, flags in zip(chunks[1:], others, strict=True):
        names = [name for name in {**first, **flags} if name not in free]
        differing = [f"--{name}" for name in names if not means_the_same(name, flags.get(name), first.get(name))]
        if differing:
            raise UserError(
                f"{chunk.flags} differs from the first chunk in {', '.join(differing)}; "
                "run the chunks with the same flags"
            )


def _read_finished(chunk):
    """The rows of a finished chunk, None where it has none; UserError where its summary counts another number."""
    table = read_rows(chunk)
    rows, finished = 0 if table is None else len(table), read_yaml(chunk.summary).get("n")
    if rows != finished:
        raise UserError(
            f"{chunk.summary} is of {finished} images, but {chunk.records.name} has {rows}; run that chunk again"
        )
    return table
