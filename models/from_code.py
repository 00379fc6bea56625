"""Networks that a function of the user's builds. Such code is imported because the user names it, never a file."""

import importlib
import os
import sys

from torch import nn

from guided_diffusion.script.choices import TASKS
from guided_diffusion.script.errors import UserError, as_user_error, first_sentence

from .checkpoints import load_state, read_state
from .classifier import Classifier
from .preprocessing import Preprocessing

HIDING = ("core", "demo", "dime", "guided_diffusion", "models")  # packages of this program


def call_function(location, *arguments):
    """`module:function` -> the network that function(*arguments) builds."""
    module, _, function = location.partition(":")
    if os.getcwd() not in sys.path:  # behind all others, so that nothing there hides a package
        sys.path.append(os.getcwd())
    package, kinds = module.partition(".")[0], (ImportError, AttributeError, ValueError)
    remedy = "give module:function"
    if package in HIDING:
        remedy = f"{package} is a package of this program: call yours otherwise"
    with as_user_error(f"{location} cannot be imported", remedy, kinds):
        build = getattr(importlib.import_module(module), function)
    try:
        network = build(*arguments)
    except Exception as error:  # it is anybody's code
        reason = f"{type(error).__name__}: {first_sentence(error)}"
        called = f"with {arguments[0]} outputs" if arguments else "without arguments"
        raise UserError(f"{location} fails when called {called} ({reason})") from error
    if not isinstance(network, nn.Module):
        raise UserError(f"{location} builds a {type(network).__name__}, not a torch.nn.Module")
    return network


def load_code(location, weights, changes):
    """`module:function`, called without arguments -> Classifier.

    The network gets images in [-1, 1] at the size of the run, but for the changes (Preprocessing.changed). It
    may have an attribute `class_names` or `attributes`, the names of its outputs, and `task`. Without `task`, its
    outputs are yes/no questions where it has `attributes` alone, else classes. weights: a file of its state dict.
    UserError where it cannot be built or the file does not fit.
    """
    network = call_function(location)
    classes, attributes, own_task = (getattr(network, name, None) for name in ("class_names", "attributes", "task"))
    task = own_task or ("attributes" if attributes and not classes else "classes")
    if task not in TASKS:
        raise UserError(f"{location} builds a network of task {task!r}; it should be {' or '.join(TASKS)}")
    if weights is not None:
        load_state(network, read_state(weights, location, network.state_dict()), weights, kind=location)
    names = [str(name) for name in classes or attributes or []] or None
    how = Preprocessing().changed(**changes)
    return Classifier(network, location, names, None, task, how, own_task is not None)
