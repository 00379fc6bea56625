"""A network by name, as every library's loader gives it, and what the loaders check."""

import difflib
from dataclasses import dataclass

import torch
from torch import nn

from guided_diffusion.script.errors import UserError

from .checkpoints import describe, read_weights, without_module_prefix
from .preprocessing import Preprocessing

STATE_KEYS = ("state_dict", "model_state_dict", "model")  # where trainings keep the weights in their files


@dataclass
class NamedNetwork:
    """A network and what its library, its file or its code says about it.

    network: what preprocessing makes of images -> logits (N, K). names: of the K outputs, None where nothing says.
    task: one of TASKS. preprocessing: what the network wants done to images in [-1, 1]. task_is_said: whether the
    file or the code says the task; otherwise it is what such a network usually tells.
    """

    network: nn.Module
    names: list | None
    task: str
    preprocessing: Preprocessing
    task_is_said: bool = False


def require_logits(output, name):
    """UserError unless a network made logits, (N, K), of N images. Returns them."""
    if not isinstance(output, torch.Tensor):
        keys = f" of {', '.join(map(str, output))}" if isinstance(output, dict) and output else ""
        raise UserError(
            f"{name} makes a {type(output).__name__}{keys} of images, not logits; let it return the tensor alone"
        )
    if output.dim() != 2:
        raise UserError(f"{name} makes shape {list(output.shape)} of images; it should be logits (N, K)")
    if not output.isfinite().all():
        raise UserError(f"{name} makes NaN or infinite values of images; use other weights")
    if are_probabilities(output):
        raise UserError(
            f"{name} makes probabilities, which add up to 1, of images, not logits; leave out its last softmax"
        )
    return output


def are_probabilities(output):
    """Whether (N, K) outputs can be no logits, by all odds: each row holds shares that add up to 1."""
    shares = output.shape[1] > 1 and ((output >= 0) & (output <= 1)).all()
    return bool(shares and torch.allclose(output.sum(1), torch.ones(len(output)), atol=1e-4))


def read_state(path, called):
    """The state dict in a weight file (find_state); UserError where it holds none.

    called: the network that it should be of.
    """
    contents = read_weights(path)
    state = find_state(contents)
    if state is None:
        raise UserError(f"{path} is {describe(contents)}, not the weights of {called}; check the path")
    return without_module_prefix(state)


def find_state(contents):
    """The state dict in the contents of a weight file: all, or what stands under one of STATE_KEYS; or None."""
    if not isinstance(contents, dict):
        return None
    for state in (*(contents[key] for key in STATE_KEYS if key in contents), contents):
        if isinstance(state, dict) and state and all(isinstance(each, torch.Tensor) for each in state.values()):
            return state
    return None


def count_rows(state, name):
    """The rows of a tensor of a state dict; None where there is no such tensor."""
    shape = state[name].shape if name in state else ()
    return shape[0] if shape else None


def close_names(name, known, fallback):
    """A few of the known names like this one, for an error."""
    return ", ".join(difflib.get_close_matches(name, known) or [fallback])


def first_line(error):
    return str(error).strip().split("\n")[0].rstrip(".") or type(error).__name__
