"""Explain a classifier: counterfactual images by DiME (Jeanneret, Simon, Jurie, ACCV 2022)."""

import time

from core.data.datasets import chunk_indices, make_dataset
from core.methods.decisions import choose_target
from core.methods.flags import method_and_options
from core.results.folder import ResultsFolder
from core.results.merging import merge_chunks
from core.running.conditions import conditions, require_conditions
from core.running.experiment import (
    EvaluationBar,
    choose_images,
    find_question,
    load_images,
    plan,
    report,
    run_experiment,
    selection,
)
from core.running.explainer import Explainer
from core.running.flags import FLAGS, FREE_AMONG_CHUNKS, FREE_FLAGS, check_run_flags, choose_split, weight_hashes
from guided_diffusion.dist_util import keep_freed_memory, pick_device
from guided_diffusion.errors import UserError
from guided_diffusion.flags import FlagParser
from guided_diffusion.sampling import SamplingNetwork, how_to_compute
from guided_diffusion.script_util import (
    args_to_dict,
    create_model_and_diffusion,
    model_and_diffusion_defaults,
    run_script,
)
from models.checkpoints import ModelError, load_diffusion
from models.classifiers import BinaryQuestion, load_classifier
from models.oracles import load_oracle
from models.perceptual import vgg19_features


def create_argparser():
    return FlagParser(__doc__, FLAGS)


def main():
    args = create_argparser().parse_args()
    results = ResultsFolder(args.output_path, args.exp_name, args.chunk, args.num_chunks)
    if args.merge_and_eval:
        print(report(merge_chunks(args.output_path, args.exp_name, FREE_AMONG_CHUNKS), results.experiment))
        return
    scales, args.split = check_run_flags(args), choose_split(args)
    method, options = method_and_options(args)
    options["guided_steps"] = None if args.guided_iterations == -1 else args.guided_iterations
    cost = method.cost(args.start_step, **options)
    keep_freed_memory()
    device = pick_device(args.gpu)
    ways = how_to_compute(args, device)
    dataset = make_dataset(args.dataset, args.data_dir, args.split, args.image_size)
    require_conditions(args, dataset)
    indices = chunk_indices(len(dataset), args.chunk, args.num_chunks)
    model, diffusion = load_ddpm(args, device)
    question, column = load_question(args, dataset, device)
    oracle = load_judge(args, dataset, device) if args.oracle_path else None
    perceptual = None
    if args.l_perc:
        perceptual = vgg19_features(args.l_perc_layer, args.perceptual_path, args.image_size).to(device)

    earlier = results.begin(vars(args) | weight_hashes(args), args.overwrite, FREE_FLAGS)
    limit = args.num_batches * args.batch_size or None
    chosen, seen = choose_images(dataset, indices, question, args.target_label, limit, args.batch_size, device)
    print(selection(args, dataset.attributes[column], len(chosen), seen, len(indices)))
    if not chosen:
        results.finish(None)
        return
    finished = set() if earlier is None else set(earlier["id"]) & set(chosen)
    print(plan(chosen, finished, cost, scales), flush=True)
    bar = EvaluationBar(len(chosen) - len(finished), cost)
    model_fn = bar.wrap(SamplingNetwork(model, diffusion, **ways, calls=bar.total // args.batch_size))

    def load(ids):
        images, labels = load_images(dataset, ids).to(device), dataset.labels[ids].to(device)
        if not args.class_cond:
            return images, args.target_label, None
        target = choose_target(question(images), args.target_label)
        return images, target, conditions(labels, column, target, args.multiclass)  # told where to go

    def on_step(step, jobs):
        rows = [row for row, job in enumerate(jobs) if not job.again]
        ids, number = [jobs[row].id for row in rows], args.start_step - 1 - step["t"]
        if args.save_x_t:
            results.write_step("x_t", ids, number, step["x_clean"][rows])
        if args.save_z_t:
            results.write_step("z_t", ids, number, step["z"][rows])

    explainer = Explainer(
        question, diffusion, model_fn, method=method.sample, tau=args.start_step, classifier_scales=scales,
        seed=args.seed, perceptual=perceptual, on_attempt=bar.follow, callback=on_step,
        **args_to_dict(args, ("use_logits", "l1_loss", "l2_loss", "l_perc", "clip_denoised")), **options,
    )  # fmt: skip
    began = time.time()
    with bar:
        table = run_experiment(
            dataset, chosen, explainer, load, results, args.batch_size, column, earlier, oracle,
            args.save_images, args.save_masks,
        )  # fmt: skip
    fresh, seconds = len(chosen) - len(finished), time.time() - began
    print(report(results.finish(table), results.experiment, fresh, seconds))


def load_ddpm(args, device):
    """The network and the diffusion of the flags, on the device."""
    flags = args_to_dict(args, model_and_diffusion_defaults())
    model, diffusion = create_model_and_diffusion(**flags)
    return load_diffusion(model, args.model_path, flags).requires_grad_(False).to(device), diffusion


def load_question(args, dataset, device):
    """The queried attribute as a network, images -> (N,) logits, and its column in the data's labels."""
    classifier = load_classifier(args.classifier_path, args.classifier_architecture).to(device)
    require_size(classifier, args.classifier_path, args.image_size)
    column, output = find_question(args.query_label, dataset.attributes, classifier.attributes, "classifier_path")
    return BinaryQuestion(classifier, output), column


def load_judge(args, dataset, device):
    """The oracle as a function, images -> (N, A) decisions 0/1, and its output for the queried attribute."""
    oracle = load_oracle(args.oracle_path, args.oracle_architecture).to(device)
    require_size(oracle, args.oracle_path, args.image_size)
    _, output = find_question(args.query_label, dataset.attributes, oracle.attributes, "oracle_path")
    return lambda images: (oracle(images.to(device)) > 0).long().cpu(), output


def require_size(classifier, path, image_size):
    """UserError where a classifier's file says that it was trained on images of another size."""
    if classifier.image_size not in (None, image_size):
        raise UserError(f"--image_size is {image_size}, but {path} was trained at {classifier.image_size}")


if __name__ == "__main__":
    run_script(main, ModelError, hint="the same command, without --overwrite True, goes on")
