"""Explaining images: which target, at which classifier scale, and again where it did not flip."""

from dataclasses import dataclass, fields

import torch

from guided_diffusion.errors import UserError
from guided_diffusion.sampling import once_more_on_overflow, raise_overflow

from ..data.images import from_uint8, to_uint8
from ..methods.decisions import choose_target, predicted_class, probability
from ..methods.guidance import make_guidance
from ..methods.noise import START, ImageNoise
from ..methods.registry import find_method
from .attempts import climb, make_groups


@dataclass
class Explanation:
    """What explain() found, row n for image n. Probabilities are the classifier's, of the target class.

    Everything is measured on the counterfactual as a file holds it, rounded to 8 bits a channel.
    """

    counterfactual: torch.Tensor  # (N, 3, H, W) in [-1, 1]
    start: torch.Tensor  # (N, 3, H, W): where each chain began, z_tau or the end of its inversion
    prediction: torch.Tensor  # (N,) classes of the images
    target: torch.Tensor  # (N,) classes asked for
    cf_prediction: torch.Tensor  # (N,) classes of the counterfactuals
    p_target_before: torch.Tensor  # (N,)
    p_target: torch.Tensor  # (N,)
    attempts: torch.Tensor  # (N,) how many classifier scales were tried
    scale: torch.Tensor  # (N,) the classifier scale of the counterfactual
    mask: torch.Tensor | None = None  # (N, 1, H, W) booleans: where it was allowed to change, all without a mask

    @property
    def flipped(self):
        """(N,) whether the counterfactual reached its target."""
        return self.cf_prediction == self.target


class Explainer:
    """Explains images in full batches, whatever mixture of images and attempts they hold.

    classifier: images -> (N,) logits of a binary question, or (N, K); model_fn(z, t) or, of a class-conditional
    network, model_fn(z, t, labels): the denoising network.
    method: a name of core.methods.registry, or a sampler with dime_sample's arguments.
    classifier_scales: tried in turn; an image that has flipped is not sampled again, one that never flips keeps
    its last attempt.
    on_attempt(jobs) is called before each batch, callback(dict(t, z, x_clean), jobs) before each outer step; jobs
    are core.running.attempts's, one for each row.
    sampler_options: passed to the sampler (inner_stochastic, guided_steps, ...).
    """

    def __init__(
        self, classifier, diffusion, model_fn, *, method="dime", tau=60, classifier_scales=(8.0, 10.0, 15.0),
        seed=0, use_logits=True, l1_loss=0.0, l2_loss=0.0, l_perc=0.0, perceptual=None, clip_denoised=True,
        on_attempt=None, callback=None, **sampler_options,
    ):  # fmt: skip
        if not len(classifier_scales):
            raise UserError("--classifier_scales must name at least one number, such as 8,10,15")
        self.classifier, self.diffusion, self.model_fn = classifier, diffusion, model_fn
        self.method, self.classifier_scales, self.seed = find_method(method), classifier_scales, seed
        self.guiding = {
            "use_logits": use_logits, "l1_loss": l1_loss, "l2_loss": l2_loss,
            "l_perc": l_perc, "perceptual": perceptual,
        }  # fmt: skip
        self.chain = {"tau": tau, "clip_denoised": clip_denoised}
        self.on_attempt, self.callback, self.sampler_options = on_attempt, callback, sampler_options

    def explain(self, groups, load, batch_size, finished_at=None):
        """Yields the jobs of images that are explained, in lists as they finish; see gather().

        groups: lists of ids, each loaded when its turn comes; fewer than 2 batch_size images are on their way where
        a group has at most batch_size. load(ids) -> (images (N, 3, H, W) in [-1, 1]; the target, as in
        choose_target; the labels (N, ...) that the network is told, or None).
        finished_at: id -> attempts of what an earlier run finished, and this one is to pass over.
        Raises UserError, at the next outer step, where the network returns NaN.
        """
        return climb(
            make_groups(groups, finished_at),
            lambda jobs: self.begin(jobs, *load([job.id for job in jobs])),
            self.attempt,
            batch_size=batch_size,
            num_attempts=len(self.classifier_scales),
        )

    @torch.no_grad()
    def begin(self, jobs, images, target=-1, labels=None):
        """What all attempts of the jobs share: the target and the start of the chain."""
        logits = self.classifier(images)
        target = choose_target(logits, target)
        z, start = once_more_on_overflow(lambda: self.method.start(
            self.diffusion, _conditioned(self.model_fn, labels), images,
            noise=ImageNoise(self.seed, [job.id for job in jobs], [START] * len(jobs)), **self.chain,
        ))  # fmt: skip
        given = {"x": images, "z": z} | ({} if labels is None else {"labels": labels})
        found = {
            "start": start,
            "prediction": predicted_class(logits),
            "target": target,
            "p_target_before": probability(logits, target),
        }
        for job in jobs:
            # Copies: a view would keep the whole group in memory until the last of it is finished.
            job.given = {name: values[job.row].clone() for name, values in given.items()}
            job.found = {name: values[job.row].clone() for name, values in found.items()}

    @torch.no_grad()
    def attempt(self, jobs):
        """One attempt for each job, judged as a file would hold it -> (N,) whether it reached its target."""
        if self.on_attempt is not None:
            self.on_attempt(jobs)
        counterfactual, mask = once_more_on_overflow(lambda: self.sample_batch(jobs))
        counterfactual = from_uint8(to_uint8(counterfactual))
        logits, target = self.classifier(counterfactual), _stack(jobs, "found", "target")
        found = {
            "counterfactual": counterfactual,
            "cf_prediction": predicted_class(logits),
            "p_target": probability(logits, target),
            "attempts": torch.tensor([job.attempt for job in jobs]),
            "scale": torch.tensor(self._scales(jobs)),
            "mask": mask,
        }
        for row, job in enumerate(jobs):
            job.found |= {name: values[row].clone() for name, values in found.items()}
        return (found["cf_prediction"] == target).tolist()

    def sample_batch(self, jobs):
        """The sampling of one batch -> counterfactuals (N, 3, H, W), masks (N, 1, H, W), all true without one."""
        ids = [job.id for job in jobs]
        x, target = _stack(jobs, "given", "x"), _stack(jobs, "found", "target")
        labels = _stack(jobs, "given", "labels") if "labels" in jobs[0].given else None
        watch = _Watch(self.callback, jobs)
        counterfactual = self.method.sample(
            self.diffusion,
            _conditioned(self.model_fn, labels),
            x,
            make_guidance(x, target, self.classifier, classifier_scale=self._scales(jobs), **self.guiding),
            noise=ImageNoise(self.seed, ids, [job.attempt for job in jobs]),
            z=_stack(jobs, "given", "z"),
            callback=watch,
            **self.chain,
            **self.sampler_options,
        )
        _require_finite(counterfactual, ids)
        return counterfactual, torch.ones_like(x[:, :1], dtype=torch.bool) if watch.mask is None else watch.mask

    def _scales(self, jobs):
        return [float(self.classifier_scales[job.attempt - 1]) for job in jobs]


def explain(
    images, classifier, diffusion, model_fn, *, target=-1, ids=None, labels=None, on_attempt=None, callback=None,
    **options,
):  # fmt: skip
    """images (N, 3, H, W) in [-1, 1] -> Explanation. All are one batch, which shrinks as they flip.

    classifier, model_fn, options: as for an Explainer (method, tau, classifier_scales, seed, l1_loss, ...).
    target: a class, (N,) classes, or -1: the opposite of each prediction (of K classes, the runner-up).
    ids: (N,) integers that, with the seed, name each image's noise; 0 … N-1 where None.
    labels: (N, ...) that a class-conditional network is told.
    on_attempt(rows, attempt) is called before each attempt; rows are the images that it is about.
    callback(dict(t, z, x_clean, rows, attempt)) is called before each outer step.
    Raises UserError, at the next outer step, where the network returns NaN.
    """
    ids = list(range(len(images)) if ids is None else ids)

    def about(jobs):  # of images that begin together, all are at the same attempt
        return {"rows": torch.tensor([job.row for job in jobs], device=images.device), "attempt": jobs[0].attempt}

    explainer = Explainer(
        classifier, diffusion, model_fn,
        on_attempt=on_attempt and (lambda jobs: on_attempt(*about(jobs).values())),
        callback=callback and (lambda step, jobs: callback(step | about(jobs))),
        **options,
    )  # fmt: skip
    finished = explainer.explain([ids], lambda ids: (images, target, labels), batch_size=len(ids))
    return gather(sorted((job for jobs in finished for job in jobs), key=lambda job: job.row))[1]


def gather(jobs):
    """Finished jobs -> (their images (N, 3, H, W), their Explanation)."""
    explanation = {each.name: _stack(jobs, "found", each.name) for each in fields(Explanation)}
    return _stack(jobs, "given", "x"), Explanation(**explanation)


def _conditioned(model_fn, labels):
    return model_fn if labels is None else lambda z, t: model_fn(z, t, labels)


def _stack(jobs, kind, name):
    return torch.stack([getattr(job, kind)[name] for job in jobs])


class _Watch:
    """A sampler's callback: ends a spoilt chain at once, keeps the last mask, and tells `callback`, if any."""

    def __init__(self, callback, jobs):
        self.callback, self.jobs, self.mask = callback, jobs, None

    def __call__(self, step):
        _require_finite(step["z"], [job.id for job in self.jobs])
        self.mask = step.get("mask")
        if self.callback is not None:
            self.callback(step, self.jobs)


def _require_finite(images, ids):
    raise_overflow()  # in half precision the batch is computed again, before it is called an error
    finite = images.isfinite().flatten(1).all(1).tolist()
    if not all(finite):
        bad = [str(i) for i, good in zip(ids, finite, strict=True) if not good]
        raise UserError(
            f"the network returned NaN for image {', '.join(bad)}; "
            "try --use_fp16 False, and check the weights of --model_path and --classifier_path"
        )
