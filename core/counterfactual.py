"""Explaining images: which target, at which classifier scale, and again where it did not flip."""

from dataclasses import dataclass
from functools import partial

import torch

from guided_diffusion.errors import UserError
from guided_diffusion.sampling import once_more_on_overflow

from .guidance import make_guidance
from .images import from_uint8, to_uint8
from .methods import find_method
from .noise import START, ImageNoise


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


@torch.no_grad()
def explain(
    images,
    classifier,
    diffusion,
    model_fn,
    *,
    method="dime",
    target=-1,
    tau=60,
    classifier_scales=(8.0, 10.0, 15.0),
    seed=0,
    ids=None,
    use_logits=True,
    l1_loss=0.0,
    l2_loss=0.0,
    l_perc=0.0,
    perceptual=None,
    labels=None,
    clip_denoised=True,
    on_attempt=None,
    callback=None,
    **sampler_options,
):
    """images (N, 3, H, W) in [-1, 1] -> Explanation.

    classifier: images -> (N,) logits of a binary question, or (N, K); model_fn(z, t) or, with `labels` (N, ...)
    of a class-conditional network, model_fn(z, t, labels): the denoising network.
    method: a name of core.methods, or a sampler with dime_sample's arguments.
    target: a class, (N,) classes, or -1: the opposite of each prediction (of K classes, the runner-up).
    classifier_scales: tried in turn; an image that has flipped is not sampled again, one that never flips keeps
    its last attempt. ids: (N,) integers that, with the seed, name each image's noise; 0 … N-1 where None.
    on_attempt(rows, attempt) is called before each attempt; rows are the images that it is about.
    callback(dict(t, z, x_clean, rows, attempt)) is called before each outer step.
    sampler_options: passed to the sampler (inner_stochastic, guided_steps, ...).
    Raises UserError, at the next outer step, where the network returns NaN.
    """
    n = len(images)
    ids = list(range(n) if ids is None else ids)
    logits = classifier(images)
    prediction = predicted_class(logits)
    target = choose_target(logits, target)

    method = find_method(method)
    z, start = once_more_on_overflow(lambda: method.start(
        diffusion, _conditioned(model_fn, labels, slice(None)), images,
        tau=tau, noise=ImageNoise(seed, ids, [START] * n), clip_denoised=clip_denoised,
    ))  # fmt: skip
    found = Explanation(
        counterfactual=images.clone(),
        start=start,
        prediction=prediction,
        target=target,
        cf_prediction=prediction.clone(),
        p_target_before=probability(logits, target),
        p_target=probability(logits, target),
        attempts=torch.zeros(n, dtype=torch.int64),
        scale=torch.zeros(n),
        mask=torch.ones_like(images[:, :1], dtype=torch.bool),
    )

    def sample(rows, scale, attempt, attempt_ids, watch):
        x = images[rows]
        guidance = make_guidance(
            x, target[rows], classifier, classifier_scale=scale, use_logits=use_logits,
            l1_loss=l1_loss, l2_loss=l2_loss, l_perc=l_perc, perceptual=perceptual,
        )  # fmt: skip
        return method.sample(
            diffusion, _conditioned(model_fn, labels, rows), x, guidance,
            tau=tau, noise=ImageNoise(seed, attempt_ids, [attempt] * len(rows)), z=z[rows],
            clip_denoised=clip_denoised, callback=watch, **sampler_options,
        )  # fmt: skip

    rows = torch.arange(n, device=images.device)
    for attempt, scale in enumerate(classifier_scales, start=1):
        attempt_ids = [ids[row] for row in rows.tolist()]
        watch = _Watch(callback, attempt_ids, rows=rows, attempt=attempt)
        if on_attempt is not None:
            on_attempt(rows, attempt)
        counterfactual = once_more_on_overflow(partial(sample, rows, scale, attempt, attempt_ids, watch))
        _require_finite(counterfactual, attempt_ids)
        counterfactual = from_uint8(to_uint8(counterfactual))
        logits = classifier(counterfactual)
        found.counterfactual[rows] = counterfactual
        found.cf_prediction[rows] = predicted_class(logits)
        found.p_target[rows] = probability(logits, target[rows])
        found.attempts[rows.cpu()] = attempt
        found.scale[rows.cpu()] = scale
        found.mask[rows] = True if watch.mask is None else watch.mask
        rows = rows[~found.flipped[rows]]
        if not len(rows):
            break
    return found


def predicted_class(logits):
    """(N,) or (N, K) logits -> (N,) classes."""
    return (logits > 0).long() if logits.dim() == 1 else logits.argmax(1)


def probability(logits, classes):
    """(N,) or (N, K) logits, (N,) classes -> (N,) the classifier's probability of each."""
    if logits.dim() == 1:
        return torch.sigmoid(torch.where(classes == 1, logits, -logits))
    return logits.softmax(1).gather(1, classes[:, None])[:, 0]


def choose_target(logits, target=-1):
    """A class, (N,) classes, or -1 for the opposite of the prediction (of K classes the runner-up) -> (N,)."""
    target = torch.as_tensor(target, dtype=torch.int64, device=logits.device).expand(len(logits))
    opposite = 1 - predicted_class(logits) if logits.dim() == 1 else logits.topk(2, dim=1).indices[:, 1]
    return torch.where(target == -1, opposite, target)


def _conditioned(model_fn, labels, rows):
    if labels is None:
        return model_fn
    return lambda z, t: model_fn(z, t, labels[rows])


class _Watch:
    """A sampler's callback: ends a spoilt chain at once, keeps the last mask, and tells `callback`, if any."""

    def __init__(self, callback, ids, **about):
        self.callback, self.ids, self.about, self.mask = callback, ids, about, None

    def __call__(self, step):
        _require_finite(step["z"], self.ids)
        self.mask = step.get("mask")
        if self.callback is not None:
            self.callback(step | self.about)


def _require_finite(images, ids):
    finite = images.isfinite().flatten(1).all(1).tolist()
    if not all(finite):
        bad = [str(i) for i, good in zip(ids, finite, strict=True) if not good]
        raise UserError(
            f"the network returned NaN for image {', '.join(bad)}; "
            "try --use_fp16 False, and check the weights of --model_path and --classifier_path"
        )
