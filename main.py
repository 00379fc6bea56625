"""Explain a classifier: counterfactual images by DiME (Jeanneret, Simon, Jurie, ACCV 2022)."""

import guided_diffusion.script.guard  # noqa: F401

from core.results.merging import merge_chunks
from core.running.experiment import explain_run
from core.running.flags import BEFORE_THE_FLAG, FLAGS, FREE_AMONG_CHUNKS
from core.running.networks import Networks, condition_of, make_oracle
from core.running.progress import result_line
from core.running.question import ask
from core.running.run import plan_run, read_run
from core.running.tuning import tune_run
from guided_diffusion.dist_util import device_from, keep_freed_memory
from guided_diffusion.ranks.connecting import connect
from guided_diffusion.sampling import how_to_compute
from guided_diffusion.script.errors import UserError
from guided_diffusion.script.flags import FlagParser, given_flags, require_flags
from guided_diffusion.script.run import run_script
from guided_diffusion.script_util import create_model_and_diffusion, model_and_diffusion_defaults
from models.checkpoints import load_diffusion
from models.classifiers import load_classifier
from models.diffusers_models import diffusers_diffusion, find_diffusers_model, load_diffusers_network
from models.file_flags import flags_of_diffusers, flags_of_weights
from models.oracles import load_oracle
from models.perceptual import vgg19_features


def create_argparser():
    return FlagParser(__doc__, FLAGS)


def main():
    args = create_argparser().parse_args()
    ranks = connect()
    if args.merge_and_eval:
        return merge(args, ranks)
    run, diffusers_model = plan(args)
    keep_freed_memory()
    device = device_from(args.gpu, ranks)
    compute = how_to_compute(args, device)
    dataset = run.load_dataset()
    classifier = load_role(run, "classifier", load_classifier, device)
    run = run.asking(ask(run.flags, dataset, classifier, device))
    networks = load_networks(run, classifier, dataset, diffusers_model, compute, device)
    work = tune_run if run.flags["tune"] else explain_run
    work(run, dataset, networks, ranks)


def merge(args, ranks):
    """Merges the chunks of an experiment, and prints the result."""
    if ranks.first:
        run = read_run(args.output_path, args.exp_name)
        summary = merge_chunks(run.layout, FREE_AMONG_CHUNKS, BEFORE_THE_FLAG, run.names_of_data())
        print(result_line(summary, run.layout.experiment))


def plan(args):
    """(the Run of the flags, with what the files of --model_path decide of them; its DiffusersModel or None)."""
    require_flags(args, "model_path", "classifier_path")
    flags, typed = vars(args), given_flags(create_argparser())
    diffusers_model = find_diffusers_model(args.model_path)
    if diffusers_model:
        return plan_run(flags | flags_of_diffusers(diffusers_model, flags, typed)), diffusers_model
    return plan_run(flags | flags_of_weights(args.model_path, flags, typed, FLAGS)), None


def load_networks(run, classifier, dataset, diffusers_model, compute, device):
    """The Networks of a run, all on the device."""
    flags, question = run.flags, run.question
    try:
        condition = condition_of(run, dataset, device)
    except UserError as error:  # of flags that the user did not type, where a diffusers model decides them
        origin = f"{diffusers_model.name} is class-conditional: " if diffusers_model else ""
        raise UserError(f"{origin}{error}") from None
    unet, diffusion = load_ddpm(flags, diffusers_model, device)
    oracle = perceptual = None
    if flags["oracle_path"]:
        oracle = make_oracle(load_role(run, "oracle", load_oracle, device), question, device)
    if flags["l_perc"]:
        features = vgg19_features(flags["l_perc_layer"], flags["perceptual_path"], flags["image_size"])
        perceptual = features.to(device)
    labels = question.labels_of(dataset, flags["data_dir"], flags["classifier_path"])
    classify = question.logits_of(classifier)
    files = {"model_path": diffusers_model.files} if diffusers_model else {}
    return Networks(unet, diffusion, condition, classify, labels, oracle, perceptual, compute, device, files)


def load_ddpm(flags, diffusers_model, device):
    """(the network on the device, the diffusion), of the flags or of a diffusers model."""
    if diffusers_model:
        model = load_diffusers_network(diffusers_model, flags["image_size"])
        diffusion = diffusers_diffusion(diffusers_model, flags["timestep_respacing"])
    else:
        own = {name: flags[name] for name in model_and_diffusion_defaults()}
        model, diffusion = create_model_and_diffusion(**own)
        load_diffusion(model, flags["model_path"], own)
    return model.requires_grad_(False).to(device), diffusion


def load_role(run, role, load, device):
    """The network of a role, classifier or oracle, on the device. Prints a line about one that is no plain file.

    UserError where its file says that it was trained on images of another size.
    """
    name, size = run.network(role, run.flags), run.flags["image_size"]
    network = load(*name.arguments, size).to(device)
    network.take_task(run.flags["task"])
    if network.about:
        print(f"{role} {network.about}")
    name.require_size(network, size)
    return network


if __name__ == "__main__":
    run_script(main, hint="the same command, without --overwrite True, goes on")
