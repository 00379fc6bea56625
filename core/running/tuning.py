"""Finding a method's settings for other data: a search on a few images, one flag after another.

What is wanted is the smallest change that is real. No second network is asked, so that one that judges the answers
later has had no part in them. But a change that fools the classifier alone does not outlast noise: each
counterfactual is noised, as deep as the given settings go, and denoised, and a real one still has its target then,
nearly as often as a real image keeps its prediction.
"""

from dataclasses import asdict, dataclass, fields

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from guided_diffusion.sampling import SamplingNetwork, once_more_on_overflow
from guided_diffusion.script.errors import UserError

from ..data.datasets import load_images
from ..methods.ace import purify
from ..methods.decisions import logit_margin, predicted_class
from ..methods.dime import require_depth
from ..methods.flags import require_depth_for
from ..methods.noise import ImageNoise
from ..methods.registry import find_method
from ..results.folder import ResultsFolder
from .experiment import explain_alone, image_loader
from .explainer import Explainer, Settings, with_labels
from .explanation import gather
from .question import choose_images

DRAWS = 2  # times that each counterfactual is noised and denoised
FIRST_DRAW = 10**6  # whose noise is used for that: an attempt's number that no attempt has
TOLERATED = 0.1  # how much less often than real images counterfactuals may outlast noise
MULTIPLES = {  # flag -> what its given value is multiplied by
    "start_step": (0.5, 1.5, 2),
    "classifier_scales": (0.25, 0.5, 2, 4),
    "l1_loss": (0, 0.5, 2, 4),
    "mask_share": (0.5, 2),
}
OF_LEADS = ((0.5, 1), (0.9, 1), (0.9, 2), (0.9, 3))  # margins: quantiles of the leads of real images, and multiples
VALUES = {"growth": (1.0, 1.5), "mask_threshold": (0.3,), "final_threshold": (0.3,)}  # beside the methods' own
FIELDS = {"start_step": "tau"}  # what a flag is called in Settings, where that is another name


@dataclass
class Trial:
    """What settings came to, in the mean over all images.

    changed: flag -> value, where it is not the given one. reached: the share that reaches its target. outlasted:
    the share that does, and keeps it through noise. l1: |change| in [0, 1]. evaluations: of the network, an image.
    """

    changed: dict
    reached: float
    outlasted: float
    l1: float
    evaluations: float

    @property
    def words(self):
        """The changed flags, as a command has them."""
        return " ".join(f"--{name} {_word(value)}" for name, value in self.changed.items())


def tune(args, settings, dataset, networks, ranks):
    """Searches settings of main.py's method on --tune images, the first, prints them, and writes them down.

    Of a folder of classes they are the first of each class, as its images stand class by class.

    tuned.txt in the experiment's folder holds the flags that were found, in one line for a command; tuned.csv all
    Trials. Prints what it will cost before it starts.
    """
    if ranks.several:
        raise UserError(f"--tune {args.tune} runs in one process, not in {ranks.world_size}; start it alone")
    question = networks.question
    indices = range(len(dataset))
    if question.task == "classes" and question.labels is not None:
        indices = in_turns(question.labels.tolist())
    chosen, _ = choose_images(dataset, indices, question, args.tune, args.batch_size, networks.device, ranks)
    if not chosen:
        raise UserError(f"--tune {args.tune}: none of the {len(dataset)} images is asked about; name others")
    folder = ResultsFolder(args.output_path, args.exp_name)
    folder.begin_tuning()
    steps = candidates(settings, _leads(dataset, chosen, networks, args.batch_size), networks.diffusion)
    print(_cost_line(args, settings, steps, len(chosen)), flush=True)
    tuner = _Tuner(args, settings, dataset, networks, chosen)
    with tqdm(total=_count(steps) * len(chosen), desc="tuning", unit="image") as bar:
        real = tuner.real_images_outlast()
        best, trials = search(steps, lambda changed: tuner.trial(changed, bar), real - TOLERATED)
    folder.write_tuned(best.words, [asdict(trial) | {"changed": trial.words} for trial in trials])
    print(f"real images keep their prediction through noise: {real:.2f}")
    for trial in (trials[0], best):
        print(
            f"{trial.words or 'as given'}: {trial.reached:.2f} reach their target, {trial.outlasted:.2f} keep it "
            f"through noise, L1 {trial.l1:.4f}, {trial.evaluations:.1f} evaluations an image"
        )
    print(f"written to {folder.tuned_path}: add $(cat {folder.tuned_path}) to the command, without --tune")


def in_turns(classes):
    """A list of classes -> its indices, with the classes in turns: the first of each, the second of each, …"""
    classes = pd.Series(classes, dtype=int)
    return classes.groupby(classes).cumcount().sort_values(kind="stable").index.tolist()


def candidates(settings, leads, diffusion):
    """flag -> the values that are tried in place of the given one, in the order of the search.

    leads: (N,) logits by which the predictions of real images lead.
    """
    options, own = find_method(settings.method).options, settings.sampler_options
    depths = [round(by * settings.tau) for by in MULTIPLES["start_step"]]
    found = {}
    if "margin" in options:
        found["margin"] = [round(by * float(np.quantile(leads, share)), 2) for share, by in OF_LEADS]
    found["start_step"] = [tau for tau in depths if _possible(tau, settings, diffusion)]
    found["classifier_scales"] = [
        tuple(by * scale for scale in settings.classifier_scales) for by in MULTIPLES["classifier_scales"]
    ]
    for name, given in {"l1_loss": settings.l1_loss, "mask_share": own.get("mask_share")}.items():
        found[name] = [by * given for by in MULTIPLES[name]] if given else []
    found |= {name: list(values) for name, values in VALUES.items() if name in options}
    return {name: values for name, values in found.items() if values}


def _possible(tau, settings, diffusion):
    """Whether the method can run at this depth, with the options that are given."""
    try:
        require_depth(diffusion, tau)
        require_depth_for(find_method(settings.method), settings.sampler_options, tau)
    except UserError:
        return False
    return True


def search(steps, try_out, enough):
    """Tries the values of one flag after the other, each beside the best of those before -> (the best Trial, all).

    steps: of candidates(). try_out(changed) -> a Trial. enough: see best_of.
    """
    best = try_out({})
    trials = [best]
    for name, values in steps.items():
        rivals = [try_out(best.changed | {name: value}) for value in values]
        trials += rivals
        best = best_of([best, *rivals], enough)
    return best, trials


def best_of(trials, enough):
    """The smallest change among those that outlast noise often enough; where none does, what does it most often."""
    least = min(enough, max(trial.outlasted for trial in trials))
    return min((trial for trial in trials if trial.outlasted >= least), key=lambda trial: trial.l1)


def with_changes(settings, changed):
    """Settings with flags changed: name -> value."""
    given = {field.name: getattr(settings, field.name) for field in fields(settings)}
    options = given.pop("sampler_options")
    return Settings.of(**given | options | {FIELDS.get(name, name): value for name, value in changed.items()})


class _Tuner:
    """Tries settings on the chosen images."""

    def __init__(self, args, settings, dataset, networks, chosen):
        self.args, self.settings, self.networks, self.chosen = args, settings, networks, chosen
        self.load = image_loader(dataset, networks)
        self.network = SamplingNetwork(networks.unet, networks.diffusion, **networks.compute)
        self.evaluations = 0

    def trial(self, changed, bar):
        """The Trial of these changed flags. bar: is told of each image that is finished."""
        networks, found, self.evaluations = self.networks, [], 0
        classify, settings = networks.question.classify, with_changes(self.settings, changed)
        explainer = Explainer(classify, networks.diffusion, self._counted, settings)

        def judge(jobs):
            if jobs:
                images, explanation = gather(jobs)
                l1 = (images - explanation.counterfactual).abs().mean((1, 2, 3)) / 2
                kept = explanation.flipped.cpu() * self._kept(jobs, explanation)
                found.append(torch.stack([explanation.flipped.double().cpu(), kept, l1.double().cpu()]))
                bar.update(len(jobs))

        explain_alone(self.chosen, explainer, self.load, judge, self.args.batch_size, {})
        reached, outlasted, l1 = torch.cat(found, 1).mean(1).tolist()
        return Trial(changed, reached, outlasted, l1, self.evaluations / len(self.chosen))

    def _counted(self, z, t, *labels):
        self.evaluations += len(z)
        return self.network(z, t, *labels)

    @torch.no_grad()
    def _kept(self, jobs, explanation):
        """(N,) in [0, 1]: how often the counterfactuals have their target after noise."""
        labels = [job.prepared.labels for job in jobs]
        labels = None if labels[0] is None else torch.stack(labels)
        return self._outlast([job.id for job in jobs], explanation.counterfactual, explanation.target, labels)

    @torch.no_grad()
    def real_images_outlast(self):
        """How often the images, as they are, keep their prediction through noise."""
        kept, size = [], self.args.batch_size
        for start in range(0, len(self.chosen), size):
            ids = self.chosen[start : start + size]
            images, _, labels = self.load(ids)
            kept.append(
                self._outlast(ids, images, predicted_class(self.networks.question.classify(images)), labels)
            )
        return float(torch.cat(kept).mean())

    def _outlast(self, ids, images, classes, labels):
        """(N,) in [0, 1]: how often images (N, 3, H, W) have these classes (N,) after noise. labels: load's."""
        model_fn = with_labels(self.network, labels)

        def purified(draw):
            noise = ImageNoise(self.settings.seed, ids, [FIRST_DRAW + draw] * len(ids))
            return purify(self.networks.diffusion, model_fn, images, self.settings.tau, noise)

        after = [once_more_on_overflow(lambda draw=draw: purified(draw)) for draw in range(DRAWS)]
        kept = [predicted_class(self.networks.question.classify(each)) == classes for each in after]
        return torch.stack(kept).double().mean(0).cpu()


@torch.no_grad()
def _leads(dataset, chosen, networks, batch_size):
    """(N,) logits by which the classifier's predictions of the images lead."""
    found = []
    for start in range(0, len(chosen), batch_size):
        images = load_images(dataset, chosen[start : start + batch_size]).to(networks.device)
        logits = networks.question.classify(images)
        found += logit_margin(logits, predicted_class(logits)).tolist()
    return found


def _count(steps):
    """How many settings are tried."""
    return 1 + sum(map(len, steps.values()))


def _cost_line(args, settings, steps, images):
    """What is tried, and the most network evaluations that it takes."""
    method, tau = find_method(settings.method), max([settings.tau, *steps.get("start_step", ())])
    cost = method.cost(tau, **settings.sampler_options)
    most = cost.once + len(settings.classifier_scales) * cost.each + DRAWS * settings.tau
    return (
        f"tuning on {images} images of {args.split}: {_count(steps)} settings of {', '.join(steps)}, at most "
        f"{images * (_count(steps) * most + DRAWS * settings.tau):,} network evaluations"
    )


def _word(value):
    return ",".join(f"{each:g}" for each in value) if isinstance(value, tuple) else f"{value:g}"
