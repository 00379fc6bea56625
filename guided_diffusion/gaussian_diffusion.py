"""The diffusion process: q, p, ancestral and DDIM steps, losses (Ho et al. 2020; Nichol & Dhariwal 2021).

Symbols: x0 a clean image in [-1, 1]; z_t its noisy version (N, C, H, W); t (N,) int64 in 0 … T-1, where
t = 0 is nearly clean; beta_t the added variance; abar_t = prod(1 - beta_s, s <= t). A network is any callable
(z_t, t) -> (N, C or 2C, H, W).
"""

from enum import Enum, auto

import numpy as np
import torch

from .losses import discretized_gaussian_log_likelihood, mean_flat, normal_kl


class ModelMeanType(Enum):
    """What the network predicts."""

    START_X = auto()
    EPSILON = auto()
    VELOCITY = auto()  # Salimans & Ho 2022, appendix D


class ModelVarType(Enum):
    """Where the variance of p(z_t-1 | z_t) comes from; LEARNED_RANGE interpolates between the two fixed ones."""

    FIXED_SMALL = auto()
    FIXED_LARGE = auto()
    LEARNED_RANGE = auto()


class LossType(Enum):
    """The RESCALED losses multiply the variational term: KL by T, a sum over all steps then, MSE by T / 1000."""

    MSE = auto()
    RESCALED_MSE = auto()
    RESCALED_KL = auto()


class GaussianDiffusion:
    """The diffusion process with these betas (T,). Tables are float64 arrays; results have the inputs' dtype.

    rescale_timesteps: the network gets t · 1000 / T instead of t.
    """

    def __init__(self, betas, mean_type, var_type, loss_type, rescale_timesteps=False):
        betas = np.asarray(betas, dtype=np.float64)
        if betas.ndim != 1 or not ((betas > 0) & (betas <= 1)).all():
            raise ValueError("betas must be one-dimensional and in (0, 1]")
        self.betas = betas
        self.log_betas = np.log(betas)
        self.mean_type, self.var_type, self.loss_type = mean_type, var_type, loss_type
        self.rescale_timesteps = rescale_timesteps
        self.num_timesteps = len(betas)

        abar = self.alphas_cumprod = np.cumprod(1 - betas)
        abar_prev = self.alphas_cumprod_prev = np.append(1.0, abar[:-1])
        self.sqrt_alphas_cumprod = np.sqrt(abar)
        self.sqrt_one_minus_alphas_cumprod = np.sqrt(1 - abar)
        self.sqrt_recip_alphas_cumprod = np.sqrt(1 / abar)
        self.sqrt_recipm1_alphas_cumprod = np.sqrt(1 / abar - 1)
        # q(z_t-1 | z_t, x0), Ho et al. 2020, eq. 6 and 7. The variance is 0 at t = 0, so its log is that at t = 1.
        self.posterior_variance = betas * (1 - abar_prev) / (1 - abar)
        first = self.posterior_variance[1] if self.num_timesteps > 1 else betas[0]
        self.posterior_log_variance_clipped = np.log(np.append(first, self.posterior_variance[1:]))
        # log beta_t, except at t = 0, where the posterior's gives a better likelihood.
        last = np.exp(self.posterior_log_variance_clipped[0])
        self.fixed_large_log_variance = np.log(np.append(last, betas[1:]))
        self.posterior_mean_coef_x0 = betas * np.sqrt(abar_prev) / (1 - abar)
        self.posterior_mean_coef_z = (1 - abar_prev) * np.sqrt(1 - betas) / (1 - abar)
        self._copies = {}  # (name of a table, device) -> that table there

    def _at(self, name, t, like):
        """The entries of the table `name` at the steps t (N,), as (N, 1, 1, 1) in like's dtype."""
        return self._table(name, t.device)[t].to(like.dtype).reshape(-1, *[1] * (like.dim() - 1))

    def _table(self, name, device):
        """The table `name` as a tensor on the device. It is copied there once."""
        if (name, device) not in self._copies:
            self._copies[name, device] = torch.from_numpy(getattr(self, name)).to(device)
        return self._copies[name, device]

    # -- q: the forward process ----------------------------------------------------------------------------------

    def q_sample(self, x0, t, noise):
        """sqrt(abar) · x0 + sqrt(1 - abar) · noise, with standard normal noise: z_t (Ho et al. 2020, eq. 4)."""
        sigma = self._at("sqrt_one_minus_alphas_cumprod", t, x0)
        return self._at("sqrt_alphas_cumprod", t, x0) * x0 + sigma * noise

    def q_posterior_mean_variance(self, x0, z, t):
        """Mean, variance and log variance of q(z_t-1 | z_t, x0) (Ho et al. 2020, eq. 6 and 7)."""
        mean = self._at("posterior_mean_coef_x0", t, z) * x0 + self._at("posterior_mean_coef_z", t, z) * z
        return mean, self._at("posterior_variance", t, z), self._at("posterior_log_variance_clipped", t, z)

    # -- p: the reverse process ----------------------------------------------------------------------------------

    def model_timesteps(self, t):
        """Steps t (N,) -> the timesteps (N,) that the network gets."""
        return t.float() * (1000.0 / self.num_timesteps) if self.rescale_timesteps else t

    def p_mean_variance(self, model, z, t, clip_denoised=True):
        """One network evaluation -> dict: mean, variance and log_variance of p(z_t-1 | z_t), and pred_xstart."""
        return self._p_from_output(model(z, self.model_timesteps(t)), z, t, clip_denoised)

    def _p_from_output(self, output, z, t, clip_denoised):
        prediction, log_variance = self._split_variance(output, z, t)
        if self.mean_type is ModelMeanType.START_X:
            x0 = prediction
        elif self.mean_type is ModelMeanType.VELOCITY:
            x0 = self.x0_from_velocity(z, t, prediction)
        else:
            x0 = self.x0_from_eps(z, t, prediction)
        x0 = x0.clamp(-1, 1) if clip_denoised else x0
        mean, _, _ = self.q_posterior_mean_variance(x0, z, t)
        return {"mean": mean, "variance": log_variance.exp(), "log_variance": log_variance, "pred_xstart": x0}

    def _split_variance(self, output, z, t):
        """The network's output -> its prediction (N, C, H, W) and the log variance of p, broadcast to z."""
        if self.var_type is ModelVarType.LEARNED_RANGE:
            if output.shape[1] != 2 * z.shape[1]:
                raise ValueError("a learned variance (--learn_sigma) needs an output of twice the image's channels")
            prediction, v = output.chunk(2, dim=1)
            # Nichol & Dhariwal 2021, eq. 15, with v in [-1, 1].
            low = self._at("posterior_log_variance_clipped", t, z)
            high = self._at("log_betas", t, z)
            share = (v + 1) / 2
            return prediction, share * high + (1 - share) * low
        small = self.var_type is ModelVarType.FIXED_SMALL
        table = "posterior_log_variance_clipped" if small else "fixed_large_log_variance"
        return output, self._at(table, t, z).expand_as(z)

    def x0_from_velocity(self, z, t, v):
        """sqrt(abar) · z - sqrt(1 - abar) · v; the noise is then sqrt(abar) · v + sqrt(1 - abar) · z."""
        sigma = self._at("sqrt_one_minus_alphas_cumprod", t, z)
        return self._at("sqrt_alphas_cumprod", t, z) * z - sigma * v

    def velocity(self, x0, t, eps):
        """sqrt(abar) · eps - sqrt(1 - abar) · x0."""
        sigma = self._at("sqrt_one_minus_alphas_cumprod", t, x0)
        return self._at("sqrt_alphas_cumprod", t, x0) * eps - sigma * x0

    def x0_from_eps(self, z, t, eps):
        """(z - sqrt(1 - abar) · eps) / sqrt(abar)."""
        return self._at("sqrt_recip_alphas_cumprod", t, z) * z - self._at("sqrt_recipm1_alphas_cumprod", t, z) * eps

    def eps_from_x0(self, z, t, x0):
        """The inverse of x0_from_eps."""
        numerator = self._at("sqrt_recip_alphas_cumprod", t, z) * z - x0
        return numerator / self._at("sqrt_recipm1_alphas_cumprod", t, z)

    # -- sampling ------------------------------------------------------------------------------------------------

    def p_sample(self, model, z, t, noise, clip_denoised=True):
        """z_t -> (z_t-1, pred_xstart): one ancestral step. noise(like) is not called where every t is 0."""
        p = self.p_mean_variance(model, z, t, clip_denoised)
        return p["mean"] + masked_noise(noise, z, t, torch.exp(0.5 * p["log_variance"])), p["pred_xstart"]

    def ddim_sample(self, model, z, t, noise=None, clip_denoised=True, eta=0.0):
        """z_t -> (z_t-1, pred_xstart): one DDIM step (Song et al. 2021, eq. 12); noise only for eta > 0."""
        x0 = self.p_mean_variance(model, z, t, clip_denoised)["pred_xstart"]
        eps = self.eps_from_x0(z, t, x0)
        abar, abar_prev = self._at("alphas_cumprod", t, z), self._at("alphas_cumprod_prev", t, z)
        sigma = eta * torch.sqrt((1 - abar_prev) / (1 - abar)) * torch.sqrt(1 - abar / abar_prev)
        previous = x0 * torch.sqrt(abar_prev) + torch.sqrt(1 - abar_prev - sigma**2) * eps
        return (previous + masked_noise(noise, z, t, sigma) if eta else previous), x0

    @torch.no_grad()
    def p_sample_loop(self, model, z, noise, clip_denoised=True):
        """Pure noise z_T-1 (N, C, H, W) -> images in [-1, 1], by T ancestral steps."""
        for t in reversed(range(self.num_timesteps)):
            z, _ = self.p_sample(model, z, self.batch_t(t, z), noise, clip_denoised)
        return z

    @torch.no_grad()
    def ddim_sample_loop(self, model, z, noise=None, clip_denoised=True, eta=0.0):
        """Pure noise z_T-1 (N, C, H, W) -> images in [-1, 1], by T DDIM steps."""
        for t in reversed(range(self.num_timesteps)):
            z, _ = self.ddim_sample(model, z, self.batch_t(t, z), noise, clip_denoised, eta)
        return z

    def batch_t(self, t, like):
        """The step t for every image of `like`: (N,) int64 on its device."""
        return torch.full((like.shape[0],), t, dtype=torch.int64, device=like.device)

    # -- losses --------------------------------------------------------------------------------------------------

    def training_losses(self, model, x0, t, noise):
        """Dict of losses (N,), one for each image: "loss", and the terms that MSE losses sum, "mse" and, with a
        learned variance, "vb"."""
        z = self.q_sample(x0, t, noise)
        output = model(z, self.model_timesteps(t))
        if self.loss_type is LossType.RESCALED_KL:
            return {"loss": self._vb_term(output, x0, z, t) * self.num_timesteps}

        target = {
            ModelMeanType.START_X: lambda: x0,
            ModelMeanType.EPSILON: lambda: noise,
            ModelMeanType.VELOCITY: lambda: self.velocity(x0, t, noise),
        }[self.mean_type]()
        if self.var_type is not ModelVarType.LEARNED_RANGE:
            mse = mean_flat((target - output) ** 2)
            return {"mse": mse, "loss": mse}
        # The variational term teaches the variance alone: the mean is detached (Nichol & Dhariwal 2021, §3.1).
        prediction, v = output.chunk(2, dim=1)
        vb = self._vb_term(torch.cat([prediction.detach(), v], dim=1), x0, z, t)
        if self.loss_type is LossType.RESCALED_MSE:
            vb = vb * (self.num_timesteps / 1000)
        mse = mean_flat((target - prediction) ** 2)
        return {"vb": vb, "mse": mse, "loss": mse + vb}

    def _vb_term(self, output, x0, z, t):
        """The term of step t of the variational bound, in bits per dimension, from the network's output: (N,)."""
        true_mean, _, true_log_variance = self.q_posterior_mean_variance(x0, z, t)
        p = self._p_from_output(output, z, t, clip_denoised=False)
        kl = mean_flat(normal_kl(true_mean, true_log_variance, p["mean"], p["log_variance"]))
        log_likelihood = discretized_gaussian_log_likelihood(x0, p["mean"], 0.5 * p["log_variance"])
        return torch.where(t == 0, -mean_flat(log_likelihood), kl) / np.log(2)


def masked_noise(noise, z, t, sigma):
    """sigma · noise(z), but 0 for the images whose t is 0. noise is not called where every t is 0."""
    if not t.any():
        return torch.zeros_like(z)
    return (t > 0).to(z.dtype).reshape(-1, *[1] * (z.dim() - 1)) * sigma * noise(z)
