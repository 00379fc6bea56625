"""Explain a classifier: counterfactual images by DiME (Jeanneret, Simon, Jurie, ACCV 2022)."""

if __name__ == "__main__":
    from guided_diffusion.script.interrupts import end_on_interrupt

    end_on_interrupt()

from core.data.explained_data import load_explained_data, settle_dataset
from core.methods.flags import method_and_options
from core.results.folder import ResultsFolder
from core.results.merging import merge_chunks
from core.running.conditions import condition_of
from core.running.experiment import Networks, run_experiment
from core.running.explainer import Settings
from core.running.flags import (
    BEFORE_THE_FLAG,
    FLAGS,
    FREE_AMONG_CHUNKS,
    check_run_flags,
    choose_split,
    network_arguments,
)
from core.running.judging import make_oracle
from core.running.progress import result_line
from core.running.question import ask
from core.running.tuning import tune
from guided_diffusion.described import described_diffusion, given_flags, take_described_flags
from guided_diffusion.dist_util import device_from, keep_freed_memory
from guided_diffusion.ranks.connecting import connect
from guided_diffusion.sampling import how_to_compute
from guided_diffusion.script.errors import UserError
from guided_diffusion.script.flags import FlagParser
from guided_diffusion.script.run import require_flags, run_script
from guided_diffusion.script_util import args_to_dict, create_model_and_diffusion, model_and_diffusion_defaults
from models.carried_flags import take_carried_flags
from models.checkpoints import load_diffusion
from models.classifiers import load_classifier
from models.diffusers_config import find_diffusers_model
from models.diffusers_models import load_diffusers_network
from models.oracles import load_oracle
from models.perceptual import vgg19_features


def create_argparser():
    return FlagParser(__doc__, FLAGS)


def main():
    args = create_argparser().parse_args()
    ranks = connect()
    if args.merge_and_eval:
        if ranks.first:
            summary = merge_chunks(args.output_path, args.exp_name, FREE_AMONG_CHUNKS, BEFORE_THE_FLAG)
            print(result_line(summary, ResultsFolder(args.output_path, args.exp_name).experiment))
        return
    require_flags(args, "model_path", "classifier_path")
    described, given = find_diffusers_model(args.model_path), given_flags(create_argparser())
    if described:
        take_described_flags(args, given, described)
    else:
        take_carried_flags(args, given, FLAGS)
    scales, args.split = check_run_flags(args), choose_split(args)
    method, options = method_and_options(args)
    options["guided_steps"] = None if args.guided_iterations == -1 else args.guided_iterations
    keep_freed_memory()
    device = device_from(args.gpu, ranks)
    compute = how_to_compute(args, device)
    args.dataset = settle_dataset(args.dataset, args.data_dir)
    dataset = load_explained_data(args.dataset, args.data_dir, args.split, args.image_size, args.images)
    settings = Settings(
        method=args.method,
        tau=args.start_step,
        classifier_scales=scales,
        perceptual=load_perceptual(args, device),
        sampler_options=options,
        **args_to_dict(args, ("seed", "use_logits", "l1_loss", "l2_loss", "l_perc", "clip_denoised")),
    )
    networks = load_networks(args, described, dataset, compute, device)
    if args.tune:
        return tune(args, settings, dataset, networks, ranks)
    run_experiment(args, settings, method.cost(args.start_step, **options), dataset, networks, ranks)


def load_networks(args, described, dataset, compute, device):
    """The diffusion model, the question that is asked of the classifier, and the oracle, if any."""
    classifier = load_named(args, "classifier", load_classifier, device)
    question = ask(args, dataset, classifier, device)
    condition = find_condition(args, described, question, dataset, device)
    unet, diffusion = load_ddpm(args, described, device)
    oracle = None
    if args.oracle_path:
        oracle = make_oracle(load_named(args, "oracle", load_oracle, device), question, device)
    files = {"model_path": described.files} if described else {}
    return Networks(unet, diffusion, condition, question, oracle, compute, device, files)


def find_condition(args, described, question, dataset, device):
    """condition_of, which for a diffusers model names flags that nobody gave: the error says where from."""
    try:
        return condition_of(args, question, dataset, device)
    except UserError as error:
        raise UserError(f"{described.name} is class-conditional: {error}" if described else str(error)) from None


def load_perceptual(args, device):
    """The network of the perceptual distance on the device; None where --l_perc is 0."""
    if not args.l_perc:
        return None
    return vgg19_features(args.l_perc_layer, args.perceptual_path, args.image_size).to(device)


def load_ddpm(args, described, device):
    """The network and the diffusion, on the device: of the flags, or as a diffusers model describes them."""
    if described:
        model = load_diffusers_network(described, args.image_size)
        diffusion = described_diffusion(described, args.timestep_respacing)
    else:
        flags = args_to_dict(args, model_and_diffusion_defaults())
        model, diffusion = create_model_and_diffusion(**flags)
        load_diffusion(model, args.model_path, flags)
    return model.requires_grad_(False).to(device), diffusion


def load_named(args, role, load, device):
    """The network of a role, classifier or oracle, on the device. Prints a line about one that is no plain file.

    UserError where it was trained on images of another size, as its file says.
    """
    network = load(*network_arguments(args, role), args.image_size).to(device)
    network.take_task(args.task)
    if network.about:
        print(f"{role} {network.about}")
    if network.image_size not in (None, args.image_size):
        path = getattr(args, f"{role}_path")
        raise UserError(f"--image_size is {args.image_size}, but {path} was trained at {network.image_size}")
    return network


if __name__ == "__main__":
    run_script(main, hint="the same command, without --overwrite True, goes on")
