"""Explaining images: choosing targets, and trying one classifier scale after another until an image flips."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, fields

import torch

from guided_diffusion.probe import probe
from guided_diffusion.sampling import once_more_on_overflow, raise_overflow
from guided_diffusion.script.errors import UserError

from ..data.images import from_uint8, to_uint8
from ..methods.chain import Chain
from ..methods.decisions import choose_target, predicted_class, probability
from ..methods.guidance import make_guidance
from ..methods.inputs import require_images, require_logits
from ..methods.noise import START, ImageNoise
from ..methods.registry import find_method
from .attempts import make_groups, run_attempts
from .explanation import Outcome, Prepared, gather, rows, stack


@dataclass(frozen=True)
class Settings:
    """How images are explained. Fields have the names of main.py's flags, where there is one."""

    method: str | Callable = "dime"  # a name of core.methods.registry, or a sampler with dime_sample's arguments
    tau: int = 60  # the depth, in steps of the diffusion
    classifier_scales: tuple = (8.0, 10.0, 15.0)  # one for each attempt
    seed: int = 0
    use_logits: bool = True
    l1_loss: float = 0.0
    l2_loss: float = 0.0
    l_perc: float = 0.0
    perceptual: Callable | None = None
    clip_denoised: bool = True
    sampler_options: dict = field(default_factory=dict)  # the sampler's own: inner_stochastic, guided_steps, ...

    def __post_init__(self):
        if not len(self.classifier_scales):
            raise UserError("--classifier_scales must name at least one number, such as 8,10,15")

    @classmethod
    def of(cls, **options):
        """Settings from keyword arguments. Those that are no fields become sampler_options."""
        names = {each.name for each in fields(cls)}
        own = {name: options.pop(name) for name in list(options) if name in names}
        return cls(**own, sampler_options=options)


class Explainer:
    """Explains images in full batches, which mix images and attempts as they come.

    classifier: images -> (N,) logits of a binary question, or (N, K).
    model_fn: the denoising network, model_fn(z, t), or model_fn(z, t, labels) where it is class-conditional.
    An image that has flipped is not sampled again; one that never flips keeps its last attempt.
    on_attempt(jobs) is called before each batch, callback(dict(t, z, x_clean), jobs) before each outer step. jobs:
    a list of core.running.attempts.Job, one for each row.
    """

    def __init__(self, classifier, diffusion, model_fn, settings, *, on_attempt=None, callback=None):
        self.classifier, self.diffusion, self.model_fn = classifier, diffusion, model_fn
        self.settings, self.method = settings, find_method(settings.method)
        self.on_attempt, self.callback = on_attempt, callback
        self.chain = {"tau": settings.tau, "clip_denoised": settings.clip_denoised}

    def explain(self, groups, load, batch_size, finished_at=None):
        """Yields lists of the jobs that have been explained, as they finish. See gather().

        groups: lists of ids. Each is loaded when its turn comes; with groups of at most batch_size ids, fewer than
        2 batch_size images are in memory at a time.
        load(ids) -> (images (N, 3, H, W) in [-1, 1]; the target, as for choose_target; labels (N, ...) for a
        class-conditional network, or None).
        finished_at: id -> number of attempts, for the images that an earlier run finished.
        Raises UserError, at the next outer step, where the network returns NaN.
        """
        return run_attempts(
            make_groups(groups, finished_at),
            lambda jobs: self.start(jobs, *load([job.id for job in jobs])),
            self.attempt,
            batch_size=batch_size,
            num_attempts=len(self.settings.classifier_scales),
        )

    @torch.no_grad()
    def start(self, jobs, images, target=-1, labels=None):
        """Prepares what all attempts at these jobs share: the target and the start of the chain."""
        require_images(images, "images", channels=3)
        logits = self.classifier(images)
        require_logits(logits, len(images))
        target = choose_target(logits, target)
        model_fn = with_labels(self.model_fn, labels)
        noise = ImageNoise(self.settings.seed, [job.id for job in jobs], [START] * len(jobs))
        z, start = once_more_on_overflow(
            lambda: self.method.start(Chain(self.diffusion, model_fn, images, None, noise=noise, **self.chain))
        )
        prepared = Prepared(
            image=images,
            z=z,
            start=start,
            prediction=predicted_class(logits),
            target=target,
            p_target_before=probability(logits, target),
            labels=labels,
        )
        for job, row in zip(jobs, rows(prepared), strict=True):
            job.prepared = row

    @torch.no_grad()
    def attempt(self, jobs):
        """One attempt for each job -> for each whether the counterfactual, in 8 bits a channel, has its target."""
        if self.on_attempt is not None:
            self.on_attempt(jobs)
        prepared = stack([job.prepared for job in jobs])
        scales = [float(self.settings.classifier_scales[job.attempt - 1]) for job in jobs]
        counterfactual, last_step = once_more_on_overflow(lambda: self._sample(jobs, prepared, scales))
        counterfactual, mask = from_uint8(to_uint8(counterfactual)), last_step.get("mask")
        logits = self.classifier(counterfactual)
        outcome = Outcome(
            counterfactual=counterfactual,
            cf_prediction=predicted_class(logits),
            p_target=probability(logits, prepared.target),
            attempts=torch.tensor([job.attempt for job in jobs]),
            scale=torch.tensor(scales),
            mask=torch.ones_like(prepared.image[:, :1], dtype=torch.bool) if mask is None else mask,
            pre_explanation=last_step.get("pre_explanation"),
        )
        for job, row in zip(jobs, rows(outcome), strict=True):
            job.outcome = row
        return (outcome.cf_prediction == prepared.target).tolist()

    def _sample(self, jobs, prepared, scales):
        """Samples one batch -> counterfactuals (N, 3, H, W), and what its last step reported."""
        s, x, ids, last_step = self.settings, prepared.image, [job.id for job in jobs], {}

        def watch(step):
            _require_finite(step["z"], ids)
            last_step.update(step)
            if self.callback is not None:
                self.callback(step, jobs)

        weights = {name: getattr(s, name) for name in ("use_logits", "l1_loss", "l2_loss", "l_perc", "perceptual")}
        guidance = make_guidance(x, prepared.target, self.classifier, classifier_scale=scales, **weights)
        counterfactual = self.method.sample(
            self.diffusion,
            with_labels(self.model_fn, prepared.labels),
            x,
            guidance,
            noise=ImageNoise(s.seed, ids, [job.attempt for job in jobs]),
            z=prepared.z,
            callback=watch,
            **self.chain,
            **s.sampler_options,
        )
        _require_finite(counterfactual, ids)
        return counterfactual, last_step


def explain(
    images,
    classifier,
    diffusion,
    model_fn,
    *,
    target=-1,
    ids=None,
    labels=None,
    on_attempt=None,
    callback=None,
    **settings,
):
    """images (N, 3, H, W) in [-1, 1] -> Explanation. All images form one batch, which shrinks as they flip.

    classifier, model_fn: as for an Explainer. settings: the fields of Settings (method, tau, classifier_scales,
    seed, l1_loss, ...), and the sampler's own options.
    target: a class, (N,) classes, or -1: the opposite of each prediction (of K classes, the runner-up).
    ids: (N,) integers that, with the seed, decide each image's noise; None: 0 … N-1.
    labels: (N, ...), for a class-conditional network.
    Warns where the classifier seems to make probabilities, or is in training mode.
    on_attempt(rows, attempt) is called before each attempt. rows: indices of the images that still take part.
    callback(dict(t, z, x_clean, rows, attempt)) is called before each outer step.
    Raises UserError, which is a ValueError, naming the argument that cannot be; and, at the next outer step, where
    the network returns NaN.
    """
    require_images(images, "images", channels=3)
    ids = list(range(len(images)) if ids is None else ids)
    if len(ids) != len(images):
        raise UserError(f"ids are {len(ids)}, but images {len(images)}; give one for each image")

    def progress(jobs):  # images that start together are always at the same attempt
        return {"rows": torch.tensor([job.row for job in jobs], device=images.device), "attempt": jobs[0].attempt}

    tried = images[:4]
    for remark in probe(classifier, tried, "classifier", lambda logits: require_logits(logits, len(tried)))[1]:
        warnings.warn(f"classifier: {remark}", stacklevel=2)
    explainer = Explainer(
        classifier,
        diffusion,
        model_fn,
        Settings.of(**settings),
        on_attempt=on_attempt and (lambda jobs: on_attempt(*progress(jobs).values())),
        callback=callback and (lambda step, jobs: callback(step | progress(jobs))),
    )
    finished = explainer.explain([ids], lambda ids: (images, target, labels), batch_size=len(ids))
    return gather(sorted((job for jobs in finished for job in jobs), key=lambda job: job.row))


def with_labels(model_fn, labels):
    return model_fn if labels is None else lambda z, t: model_fn(z, t, labels)


def _require_finite(images, ids):
    raise_overflow()  # NaN from an overflow is no error: the batch is computed again in float32
    finite = images.isfinite().flatten(1).all(1).tolist()
    if not all(finite):
        bad = ", ".join(str(i) for i, good in zip(ids, finite, strict=True) if not good)
        raise UserError(
            f"the network returned NaN for image {bad}; try --use_fp16 False, check --model_path and "
            "--classifier_path, and lower --classifier_scales and other weights of the guidance that are huge"
        )
