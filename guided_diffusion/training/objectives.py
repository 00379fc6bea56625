"""The losses that trainings minimise."""

from functools import partial

import torch
import torch.nn.functional as F

from .batches import pinned, send


class Objective:
    """A loss for each image of a batch. Its state, if it has one, is kept in the checkpoints."""

    def losses(self, network, batch):
        """A Batch of N images -> dict of tensors (N,): "loss", which is minimised, and what summary() needs."""
        raise NotImplementedError

    def observe(self, terms):
        """Called once a step with its terms: the results of losses() for the images of all ranks, detached."""

    def summary(self, terms):
        """A step's terms, as for observe() -> what is logged: name -> tensor (), NaN where there is no number.

        It must not wait for the device.
        """
        return {name: term.mean() for name, term in terms.items()}

    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        pass


class DenoisingObjective(Objective):
    """The loss of a diffusion at timesteps that a schedule sampler chooses (Ho et al. 2020, algorithm 1)."""

    def __init__(self, diffusion, sampler, condition=None):
        """condition: labels (N, A) -> the y of a class-conditional network; None for other networks."""
        self.diffusion, self.sampler, self.condition = diffusion, sampler, condition

    def losses(self, network, batch):
        device = batch.images.device
        t, weights = (send(pinned(each, device), device) for each in self.sampler.sample(batch.uniforms()))
        if self.condition:
            network = partial(network, y=self.condition(batch.labels))
        terms = self.diffusion.training_losses(network, batch.images, t, batch.normals())
        weighted = {name: term * weights for name, term in terms.items()}
        return weighted | {"unweighted": terms["loss"], "t": t.to(terms["loss"].dtype)}

    def observe(self, terms):
        self.sampler.update_with_losses(terms["t"].long(), terms["unweighted"])

    def summary(self, terms):
        """The mean of each term, and the mean loss in each quarter of the timesteps: loss_q0 (clean) to loss_q3."""
        losses, t = terms["unweighted"], terms["t"]
        values = super().summary({name: term for name, term in terms.items() if name not in ("unweighted", "t")})
        quarter = (4 * t / self.diffusion.num_timesteps).long()
        for q in range(4):
            # Not losses[quarter == q].mean(): to know its size would be to wait for the device.
            values[f"loss_q{q}"] = torch.where(quarter == q, losses, torch.nan).nanmean()
        return values

    def state_dict(self):
        return self.sampler.state_dict()

    def load_state_dict(self, state):
        self.sampler.load_state_dict(state)


class AttributeObjective(Objective):
    """Binary cross-entropy, averaged over the A attributes.

    shares: (A,) of the training's images that have each attribute, on the device. balanced: weigh labels so that 0
    and 1 count alike in each, 1/2 over the share of that label, at most 10.
    """

    def __init__(self, shares, balanced):
        ones = torch.ones_like(shares)
        self.no_weight = (0.5 / (1 - shares)).clamp(max=10) if balanced else ones
        self.yes_weight = (0.5 / shares).clamp(max=10) if balanced else ones

    def losses(self, network, batch):
        logits, labels = network(batch.images).float(), batch.labels.float()
        weights = torch.where(labels == 1, self.yes_weight, self.no_weight)
        return {"loss": F.binary_cross_entropy_with_logits(logits, labels, weights, reduction="none").mean(1)}


class ClassObjective(Objective):
    """Cross-entropy over K classes, of which each image has one.

    shares: (K,) of the training's images that are of each class, on the device. balanced: weigh classes so that all
    count alike, 1/K over the share, at most 10.
    """

    def __init__(self, shares, balanced):
        self.weight = (1 / (len(shares) * shares)).clamp(max=10) if balanced else torch.ones_like(shares)

    def losses(self, network, batch):
        logits, classes = network(batch.images).float(), batch.labels.argmax(1)
        return {"loss": F.cross_entropy(logits, classes, self.weight, reduction="none")}
