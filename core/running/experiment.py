"""Explaining many images into a results folder, as they finish, so that a killed run can go on."""

import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field

import torch

from guided_diffusion.sampling import SamplingNetwork
from guided_diffusion.script.errors import UserError

from ..data.datasets import chunk_indices, load_images
from ..methods.decisions import choose_target
from ..results.folder import ResultsFolder
from ..results.records import make_records
from .dealing import Dealer
from .explainer import Explainer
from .explanation import gather
from .flags import BEFORE_THE_FLAG, FREE_FLAGS, weight_hashes
from .judging import Oracle
from .progress import EvaluationBar, cost_line, result_line, selection_line
from .question import Question, choose_images
from .surroundings import surroundings


@dataclass
class Networks:
    """What a run computes with, on one device."""

    unet: torch.nn.Module
    diffusion: object  # a SpacedDiffusion
    condition: Callable | None  # ids, (N,) targets -> what a class-conditional unet is told
    question: Question
    oracle: Oracle | None
    compute: dict  # options of a SamplingNetwork
    device: torch.device
    files: dict = field(default_factory=dict)  # see weight_hashes


def run_experiment(args, settings, cost, dataset, networks, ranks):
    """Explains the images that main.py's flags choose, and prints what it will do and what it found.

    settings: explainer.Settings; cost: of its method, for an image. Goes on where an earlier run stopped, with
    whatever number of ranks. Each rank writes what it explains; the first one does the rest.
    """
    results = ResultsFolder(args.output_path, args.exp_name, args.chunk, args.num_chunks, ranks.rank)
    indices = chunk_indices(len(dataset), args.chunk, args.num_chunks)
    if ranks.first and args.save_images:
        results.require_same_originals(indices, dataset.pixels)
    with results.claimed() if ranks.first else nullcontext():
        _explain_into(results, indices, args, settings, cost, dataset, networks, ranks)


def _explain_into(results, indices, args, settings, cost, dataset, networks, ranks):
    question = networks.question
    earlier = ranks.from_first(lambda: _begin(results, args, networks))
    _require_one_folder(results, args)
    limit = args.num_batches * args.batch_size or None
    chosen, seen = choose_images(dataset, indices, question, limit, args.batch_size, networks.device, ranks)
    print(selection_line(args, question, len(chosen), seen, len(indices)))
    if question.labels is None:
        print("the images have no labels: each counts as labelled by the classifier's prediction")
    if not chosen:
        if ranks.first:
            results.finish(None)
        return
    finished = set() if earlier is None else set(earlier["id"]) & set(chosen)
    left = len(chosen) - len(finished)
    print(cost_line(len(chosen), len(finished), cost, len(settings.classifier_scales), ranks), flush=True)

    began = time.time()
    with EvaluationBar(left, cost, ranks) as bar:
        calls = bar.total // (args.batch_size * ranks.world_size)
        network = SamplingNetwork(networks.unet, networks.diffusion, **networks.compute, calls=calls)
        explainer = Explainer(
            question.classify,
            networks.diffusion,
            bar.wrap(network),
            settings,
            on_attempt=bar.follow,
            callback=_step_writer(args, results),
        )
        load, write = image_loader(dataset, networks), _writer(args, dataset, networks, results)
        finished_at = {} if earlier is None else dict(zip(earlier["id"], earlier["attempts"], strict=True))
        if ranks.several:
            explain_shared([i for i in chosen if i not in finished], explainer, load, write, args.batch_size, ranks)
        else:
            explain_alone(chosen, explainer, load, write, args.batch_size, finished_at)
        bar.wait_for_all()
    if ranks.first:
        seconds = time.time() - began
        if left:
            results.keep_run(surroundings(networks, ranks, left, seconds))
        print(result_line(results.finish(results.records()), results.experiment, left, seconds))


def _begin(results, args, networks):
    """Prepares the folder -> the rows that an earlier run finished, or None."""
    question = networks.question
    kept = vars(args) | question.flags | weight_hashes(args, networks.files)
    earlier = results.begin(kept, args.overwrite, FREE_FLAGS, BEFORE_THE_FLAG)
    results.keep_classes(question.names if question.task == "classes" else ())
    return earlier


def _require_one_folder(results, args):
    """UserError where this rank does not see what the first one has begun."""
    for _ in range(20):
        if results.flags_path.exists():
            return
        time.sleep(1)  # file systems that machines share show new files late
    raise UserError(f"--output_path {args.output_path} is not the same folder for all ranks; name a shared one")


def explain_alone(chosen, explainer, load, write, batch_size, finished_at):
    """Explains the `chosen` indices in full batches, and has each batch's finished jobs written.

    load(ids): what the Explainer asks for; write(jobs): writes what was found.
    finished_at: id -> number of attempts, of the images that an earlier run finished; they are not written again.
    """
    groups = [chosen[start : start + batch_size] for start in range(0, len(chosen), batch_size)]
    for jobs in explainer.explain(groups, load, batch_size, finished_at):
        write(jobs)


def explain_shared(left, explainer, load, write, batch_size, ranks):
    """Explains this rank's part of the indices that are left. load, write: as for explain_alone."""
    dealer = Dealer(left, batch_size, ranks)
    for jobs in explainer.explain(dealer.groups(), load, batch_size):
        dealer.finished(len(jobs))
        write(jobs)


def image_loader(dataset, networks):
    """ids -> what the Explainer asks for: images, the target, the labels that the network is told."""
    question, condition = networks.question, networks.condition

    def load(ids):
        images = load_images(dataset, ids).to(networks.device)
        if condition is None:
            return images, question.target, None
        target = choose_target(question.classify(images), question.target)
        return images, target, condition(ids, target)

    return load


def _writer(args, dataset, networks, results):
    """finished jobs -> nothing; their files and rows are on the disk when it returns."""

    def write(jobs):
        if not jobs:
            return
        ids = [job.id for job in jobs]
        images, explanation = gather(jobs)
        oracle, decisions, query = networks.oracle, None, None
        if oracle is not None:
            decisions, query = (oracle.decide(images), oracle.decide(explanation.counterfactual)), oracle.query
        names, labels = [dataset.names[i] for i in ids], networks.question.labels_of(ids, explanation.prediction)
        rows = make_records(ids, names, images, labels, explanation, decisions, query)
        if args.save_images:
            results.write_images(rows, images, explanation, args.save_masks, args.save_pre_explanation)
        results.commit(rows)

    return write


def _step_writer(args, results):
    """A callback of each outer step that writes the trajectories which --save_x_t and --save_z_t ask for."""

    def on_step(step, jobs):
        rows = [row for row, job in enumerate(jobs) if not job.replayed]
        ids, number = [jobs[row].id for row in rows], args.start_step - 1 - step["t"]
        if args.save_x_t:
            results.write_step("x_t", ids, number, step["x_clean"][rows])
        if args.save_z_t:
            results.write_step("z_t", ids, number, step["z"][rows])

    return on_step if args.save_x_t or args.save_z_t else None
