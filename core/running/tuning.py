"""Finding a method's settings for other data: a search on a few images, one flag after another.

The best settings make the smallest change that is real. A change that merely fools the classifier does not outlast
noise: each counterfactual is noised, as deep as the user's settings go, and denoised. A real one still has its
target then, nearly as often as a real image keeps its prediction. No second network takes part, so that one can
judge the results later.
"""

import hashlib
import shlex
from dataclasses import asdict, dataclass, replace

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from guided_diffusion.sampling import SamplingNetwork, once_more_on_overflow
from guided_diffusion.script.errors import UserError

from ..data.datasets import batches_of
from ..methods.ace import purify
from ..methods.chain import Chain, require_depth
from ..methods.decisions import logit_margin, predicted_class
from ..methods.flags import require_depth_for
from ..methods.noise import ImageNoise
from ..methods.registry import find_method
from ..results.folder import ResultsFolder
from .experiment import image_loader
from .explainer import Explainer, Settings, with_labels
from .explanation import gather
from .flags import FREE_FLAGS
from .network_names import weight_hashes
from .question import choose_images

DRAWS = 2  # times that each counterfactual is noised and denoised
FIRST_DRAW = 10**6  # what ImageNoise gets as the first draw's attempt; no real attempt has so high a number
TOLERATED = 0.1  # how much less often than real images counterfactuals may outlast noise
FIELDS = {"start_step": "tau"}  # flags that have another name in Settings


def _multiples(*factors):
    return lambda value, leads: [factor * value for factor in factors] if value else []


def _quantiles(*pairs):
    """Margins: multiples of quantiles of the leads, from (quantile, multiple)."""
    return lambda value, leads: [round(by * float(np.quantile(leads, share)), 2) for share, by in pairs]


# flag -> the values that are tried, of its own value and of the leads of real images, in the order of the search.
SEARCH = {
    "margin": _quantiles((0.5, 1), (0.9, 1), (0.9, 2), (0.9, 3)),
    "start_step": lambda tau, leads: [round(by * tau) for by in (0.5, 1.5, 2)],
    "classifier_scales": lambda scales, leads: [tuple(by * s for s in scales) for by in (0.25, 0.5, 2, 4)],
    "l1_loss": _multiples(0, 0.5, 2, 4),
    "mask_share": _multiples(0.5, 2),
    "growth": lambda value, leads: [1.0, 1.5],
    "mask_threshold": lambda value, leads: [0.3],
    "final_threshold": lambda value, leads: [0.3],
}


@dataclass
class Trial:
    """The means over all images that some settings came to.

    changed: flag -> value, where it is not the user's. reached: the share that reaches its target. outlasted: the
    share that does, and keeps it through noise. l1: |change| in [0, 1]. evaluations: of the network, an image.
    """

    changed: dict
    reached: float
    outlasted: float
    l1: float
    evaluations: float

    @property
    def words(self):
        return words_of(self.changed)


def words_of(changed):
    """Changed flags, as a command has them; "" for none."""
    return " ".join(f"--{name} {_word(value)}" for name, value in changed.items())


def tune_run(run, dataset, networks, ranks):
    """Searches settings of a Run's method on the first --tune images, of classes on the first of each class.

    tuned.txt in the experiment's folder holds the best flags, in one line for a command; tuned.csv all Trials, as
    they come, so that a search which was stopped goes on.
    Prints both what it will cost, before it starts, and the result.
    """
    count, batch_size = run.flags["tune"], run.flags["batch_size"]
    if ranks.several:
        raise UserError(f"--tune {count} runs in one process, not in {ranks.world_size}; start it alone")
    indices = range(len(dataset))
    if run.question.of_classes and networks.labels is not None:
        indices = in_turns(networks.labels.tolist())
    chosen, _ = choose_images(
        dataset, indices, run.question, networks.classify, count, batch_size, networks.device, ranks
    )
    if not chosen:
        raise UserError(f"--tune {count}: none of the {len(dataset)} images is asked about; name others")
    folder, settings = ResultsFolder(run.layout.whole), replace(run.settings, perceptual=networks.perceptual)
    folder.begin_tuning()
    tuner = _Tuner(settings, networks, image_loader(run, dataset, networks), chosen, batch_size)
    steps = candidates(settings, tuner.leads(), networks.diffusion)
    count = 1 + sum(map(len, steps.values()))
    print(_cost_line(run, steps, count, len(chosen)), flush=True)
    with tqdm(total=count * len(chosen), desc="tuning", unit="image") as bar:
        real = tuner.real_images_outlast()
        trials = _Trials(folder, tuner, bar, _decides(run, networks, [dataset.names[i] for i in chosen]))
        best, trials = search(steps, trials.of, real - TOLERATED)
    folder.write_tuned(best.words)
    print(f"real images keep their prediction through noise: {real:.2f}")
    for trial in (trials[0], best):
        print(
            f"{trial.words or 'as given'}: {trial.reached:.2f} reach their target, {trial.outlasted:.2f} keep it "
            f"through noise, L1 {trial.l1:.4f}, {trial.evaluations:.1f} evaluations an image"
        )
    path = run.layout.tuned
    print(f"written to {path}: add $(cat {shlex.quote(str(path))}) to the command, without --tune")


def in_turns(classes):
    """A list of classes -> its indices, with the classes in turns: the first of each, the second of each, …"""
    classes = pd.Series(classes, dtype=int)
    return classes.groupby(classes).cumcount().sort_values(kind="stable").index.tolist()


def candidates(settings, leads, diffusion):
    """flag -> the values that are tried in place of its own one, in the order of the search.

    leads: (N,) logits by which the predictions of real images lead.
    """
    method, own = find_method(settings.method), vars(settings) | settings.sampler_options
    names = {"start_step", "classifier_scales", "l1_loss", *method.options}
    tried = {name: of(own.get(FIELDS.get(name, name)), leads) for name, of in SEARCH.items() if name in names}
    tried["start_step"] = [tau for tau in tried["start_step"] if _is_possible(tau, method, settings, diffusion)]
    return {name: values for name, values in tried.items() if values}


def _is_possible(tau, method, settings, diffusion):
    try:
        require_depth(diffusion, tau)
        require_depth_for(method, settings.sampler_options, tau)
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
    own = vars(settings) | settings.sampler_options
    own |= {FIELDS.get(name, name): value for name, value in changed.items()}
    del own["sampler_options"]
    return Settings.of(**own)


def _decides(run, networks, names):
    """12 hex digits of what decides the Trials: the flags, the weights, and the images' names."""
    flags = {name: value for name, value in run.flags.items() if name not in FREE_FLAGS}
    facts = repr((sorted(flags.items()), weight_hashes(run.flags, networks.files), names))
    return hashlib.sha256(facts.encode(errors="surrogateescape")).hexdigest()[:12]


class _Trials:
    """Tries settings, writes each Trial as it comes, and takes those from the folder that an earlier search made.

    tuned_for: of _decides; trials of another search are left out.
    """

    def __init__(self, folder, tuner, bar, tuned_for):
        self.folder, self.tuner, self.bar, self.tuned_for = folder, tuner, bar, tuned_for
        self.earlier = {row.pop("changed"): row for row in folder.read_trials() if row.pop("of", "") == tuned_for}
        self.rows = []

    def of(self, changed):
        words = words_of(changed)
        new = words not in self.earlier
        trial = self.tuner.trial(changed, self.bar) if new else Trial(changed, **self.earlier[words])
        self.rows.append(asdict(trial) | {"changed": words, "of": self.tuned_for})
        if new:
            self.folder.write_trials(self.rows)
        else:  # the file has it, and those that still come again
            self.bar.update(len(self.tuner.chosen))
        return trial


class _Tuner:
    """Tries settings on the chosen images. load: image_loader's."""

    def __init__(self, settings, networks, load, chosen, batch_size):
        self.settings, self.networks, self.load = settings, networks, load
        self.chosen, self.batch_size = chosen, batch_size
        self.network = SamplingNetwork(networks.unet, networks.diffusion, **networks.compute)

    def trial(self, changed, bar):
        """The Trial of these changed flags. bar: counts the images that are finished."""
        networks, results, evaluations = self.networks, [], 0

        def counted(z, t, *labels):
            nonlocal evaluations
            evaluations += len(z)
            return self.network(z, t, *labels)

        explainer = Explainer(networks.classify, networks.diffusion, counted, with_changes(self.settings, changed))
        groups = batches_of(self.chosen, self.batch_size)
        for jobs in filter(None, explainer.explain(groups, self.load, self.batch_size)):
            ids, e = [job.id for job in jobs], gather(jobs)
            outlasted = e.flipped * self._outlast(ids, e.counterfactual, e.target, e.labels)
            l1 = (e.image - e.counterfactual).abs().mean((1, 2, 3)) / 2
            results.append(torch.stack([each.double().cpu() for each in (e.flipped, outlasted, l1)]))
            bar.update(len(jobs))
        reached, outlasted, l1 = torch.cat(results, 1).mean(1).tolist()
        return Trial(changed, reached, outlasted, l1, evaluations / len(self.chosen))

    @torch.no_grad()
    def leads(self):
        """(N,) logits by which the classifier's predictions of the images lead."""
        batches = [self.networks.classify(self.load(ids)[0]) for ids in batches_of(self.chosen, self.batch_size)]
        logits = torch.cat(batches)
        return logit_margin(logits, predicted_class(logits)).tolist()

    @torch.no_grad()
    def real_images_outlast(self):
        """The share of the images, as they are, that keep their prediction through noise."""
        shares = []
        for ids in batches_of(self.chosen, self.batch_size):
            images, _, labels = self.load(ids)
            shares.append(self._outlast(ids, images, predicted_class(self.networks.classify(images)), labels))
        return float(torch.cat(shares).mean())

    @torch.no_grad()
    def _outlast(self, ids, images, classes, labels):
        """(N,) in [0, 1]: how often images (N, 3, H, W) have these classes (N,) after noise. labels: load's."""
        model_fn = with_labels(self.network, labels)

        def purified(draw):
            noise = ImageNoise(self.settings.seed, ids, [FIRST_DRAW + draw] * len(ids))
            diffusion, tau = self.networks.diffusion, self.settings.tau
            return purify(Chain(diffusion, model_fn, images, None, tau=tau, noise=noise), images)

        after = [once_more_on_overflow(lambda draw=draw: purified(draw)) for draw in range(DRAWS)]
        unchanged = [predicted_class(self.networks.classify(each)) == classes for each in after]
        return torch.stack(unchanged).double().mean(0)


def _cost_line(run, steps, count, images):
    """What is tried, so many settings, and the most network evaluations that it takes."""
    settings = run.settings
    method, tau = find_method(settings.method), max([settings.tau, *steps.get("start_step", ())])
    cost = method.cost(tau, **settings.sampler_options)
    most = cost.once + len(settings.classifier_scales) * cost.each + DRAWS * settings.tau
    return (
        f"tuning on {images} images of {run.flags['split']}: {count} settings of {', '.join(steps)}, at "
        f"most {images * (count * most + DRAWS * settings.tau):,} network evaluations"
    )


def _word(value):
    return ",".join(f"{each:g}" for each in value) if isinstance(value, tuple) else f"{value:g}"
