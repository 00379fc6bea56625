"""Explaining many images into a results folder, as they finish, so that a killed run can go on."""

import platform
import time
from contextlib import nullcontext, suppress
from dataclasses import replace
from importlib.metadata import version

import torch

from guided_diffusion.dist_util import peak_memory
from guided_diffusion.sampling import SamplingNetwork
from guided_diffusion.script.errors import UserError

from ..data.datasets import batches_of, chunk_indices, load_images
from ..methods.decisions import choose_target
from ..results.folder import ResultsFolder
from ..results.pictures import write_images, write_step
from ..results.reading import read_rows
from ..results.records import make_records
from .agreement import tell_agreement
from .attempts import Dealer
from .explainer import Explainer
from .explanation import gather
from .flags import BEFORE_THE_FLAG, FREE_FLAGS
from .network_names import weight_hashes
from .progress import EvaluationBar, cost_line, result_line, selection_line
from .question import choose_images


def explain_run(run, dataset, networks, ranks):
    """Explains the images that a Run is about, and prints what it will do and what came of it.

    Goes on where an earlier run stopped, with whatever number of ranks. Each rank writes what it explains; the
    first one does the rest.
    """
    results = ResultsFolder(run.layout, ranks.rank)
    indices = chunk_indices(len(dataset), run.layout.chunk, run.layout.num_chunks)
    if ranks.first:
        results.require_same_images(dataset.names, run.flags["overwrite"])
    if ranks.first and run.flags["save_images"]:
        results.require_same_originals(indices, dataset.pixels, run.flags["overwrite"])
    with results.claimed() if ranks.first else nullcontext():
        _explain_into(results, indices, run, dataset, networks, ranks)


def _explain_into(results, indices, run, dataset, networks, ranks):
    question, flags, batch_size = run.question, run.flags, run.flags["batch_size"]
    earlier = ranks.from_first(lambda: _begin(results, run, networks))
    _require_one_folder(results)
    limit = flags["num_batches"] * batch_size or None
    chosen, looked_at = choose_images(
        dataset, indices, question, networks.classify, limit, batch_size, networks.device, ranks
    )
    print(selection_line(run, len(chosen), looked_at, len(indices)))
    if networks.labels is None:
        print("the images have no labels: each counts as labelled by the classifier's prediction")
    if not chosen:
        if ranks.first:
            results.finish(None)
        return
    finished = set() if earlier is None else set(earlier["id"]) & set(chosen)
    left = len(chosen) - len(finished)
    if networks.labels is not None and left and ranks.first:
        with suppress(UserError):  # of an image that cannot be read: it is named when its turn comes
            tell_agreement(dataset, indices[:looked_at], networks, batch_size)
    scales = run.settings.classifier_scales
    print(cost_line(len(chosen), len(finished), run.cost, len(scales), ranks), flush=True)

    began = time.time()
    with EvaluationBar(left, run.cost, ranks) as bar:
        calls = bar.total // (batch_size * ranks.world_size)
        network = SamplingNetwork(networks.unet, networks.diffusion, **networks.compute, calls=calls)
        explainer = Explainer(
            networks.classify,
            networks.diffusion,
            bar.wrap(network),
            replace(run.settings, perceptual=networks.perceptual),
            on_attempt=bar.follow,
            callback=_step_writer(run),
        )
        load, write = image_loader(run, dataset, networks), _writer(run, dataset, networks, results)
        if ranks.several:
            dealer = Dealer([i for i in chosen if i not in finished], batch_size, ranks)
            for jobs in explainer.explain(dealer.groups(), load, batch_size):
                dealer.finished(len(jobs))
                write(jobs)
        else:
            finished_at = {} if earlier is None else dict(zip(earlier["id"], earlier["attempts"], strict=True))
            for jobs in explainer.explain(batches_of(chosen, batch_size), load, batch_size, finished_at):
                write(jobs)
        bar.wait_for_all()
    if ranks.first:
        seconds = time.time() - began
        if left:
            results.add_run(_history_entry(networks, ranks, left, seconds))
        summary = results.finish(read_rows(run.layout))
        print(result_line(summary, run.layout.experiment, left, seconds))


def _begin(results, run, networks):
    """Prepares the folder -> the rows that an earlier run finished, or None."""
    question = run.question
    recorded = dict(run.flags) | question.flags | weight_hashes(run.flags, networks.files)
    earlier = results.begin(recorded, run.flags["overwrite"], FREE_FLAGS, BEFORE_THE_FLAG)
    results.write_classes(question.answers if question.of_classes else ())
    return earlier


def _require_one_folder(results):
    """UserError where this rank does not see what the first one has begun."""
    for _ in range(20):
        if results.layout.flags.exists():
            return
        time.sleep(1)  # file systems that machines share show new files late
    path = results.layout.output_path
    raise UserError(f"--output_path {path} is not the same folder for all ranks; name a shared one")


def _history_entry(networks, ranks, images, seconds):
    """What runs.yaml records of a run which explained so many images in so many seconds: a dict.

    memory_mib: the most that the first rank held, on the GPU or, without one, in all.
    """
    device, threads = networks.device, torch.get_num_threads()
    on_cpu = f"{device.type}, {threads} thread{'s' * (threads > 1)}"
    facts = {
        "images": images,
        "seconds": round(seconds, 3),
        "ranks": ranks.world_size,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else on_cpu,
        "memory_mib": round(peak_memory(device) / 2**20),
        "python": platform.python_version(),
        "versions": {package: version(package) for package in ("torch", "torchvision", "numpy", "pillow")},
    }
    if networks.oracle is not None and networks.oracle.attributes:
        facts["oracle_attributes"] = list(networks.oracle.attributes)
    return facts


def image_loader(run, dataset, networks):
    """ids -> what an Explainer loads, a function: images, the target, labels for a class-conditional network."""

    def load(ids):
        images = load_images(dataset, ids).to(networks.device)
        if networks.condition is None:
            return images, run.question.target, None
        target = choose_target(networks.classify(images), run.question.target)
        return images, target, networks.condition(ids, target)

    return load


def _writer(run, dataset, networks, results):
    """A function of finished jobs. Their files and rows are on the disk when it returns."""
    flags, oracle = run.flags, networks.oracle

    def write(jobs):
        if not jobs:
            return
        ids, explanation = [job.id for job in jobs], gather(jobs)
        images = explanation.image
        judged = ()
        if oracle is not None:
            judged = (oracle.decide(images), oracle.decide(explanation.counterfactual)), oracle.query
        labels = explanation.prediction if networks.labels is None else networks.labels[ids]
        rows = make_records(ids, [dataset.names[i] for i in ids], images, labels, explanation, *judged)
        results.require_there()
        if flags["save_images"]:
            parts = flags["save_masks"], flags["save_pre_explanation"]
            write_images(run.layout, rows, images, explanation, *parts)
        results.commit(rows)

    return write


def _step_writer(run):
    """A callback of each outer step that writes the trajectories which --save_x_t and --save_z_t ask for."""
    saved = {name: of_step for name, of_step in (("x_t", "x_clean"), ("z_t", "z")) if run.flags[f"save_{name}"]}

    def on_step(step, jobs):
        rows = [row for row, job in enumerate(jobs) if not job.replayed]
        ids, number = [jobs[row].id for row in rows], run.settings.tau - 1 - step["t"]
        for name, of_step in saved.items():
            write_step(run.layout, name, ids, number, step[of_step][rows])

    return on_step if saved else None
