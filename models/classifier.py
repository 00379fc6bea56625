"""A classifier as the rest of the project sees it, wherever it came from."""

import torch
from torch import nn

from guided_diffusion.probe import SIGMOID, probe, probe_images
from guided_diffusion.script.errors import UserError, first_sentence

from .preprocessing import Preprocess, Preprocessing

CELEBA_OUTPUTS = 40


class Classifier(nn.Module):
    """A frozen classifier in eval mode: images (N, 3, H, W) in [-1, 1] -> logits (N, K).

    architecture: its name. attributes: the K names, or None where nothing says them (the published networks:
    CelebA's 40 in order). image_size: pixels that images must have, None where any will do or nothing says them.
    task: "attributes", a yes/no question for each output, positive for yes; or "classes", of which one is right;
    or None, where nothing says which. task_is_said: whether its file or its code says so; else take_task may change
    it. preprocessing: what is done to images first, None: nothing. remark: what a user should know, see about.
    """

    def __init__(
        self,
        network,
        architecture,
        attributes=None,
        image_size=None,
        task="attributes",
        preprocessing=None,
        task_is_said=True,
    ):
        super().__init__()
        self.network = network
        self.architecture = architecture
        self.attributes = attributes
        self.image_size = image_size
        self.task, self.task_is_said = task, task_is_said
        self.preprocessing = preprocessing or Preprocessing()
        self.preprocess = None if self.preprocessing == Preprocessing() else Preprocess(self.preprocessing)
        self.remark = None
        self.eval().requires_grad_(False)

    @property
    def about(self):
        """A line for the user: what was loaded, what is done to its images, and the remark; "" for a plain file."""
        if self.remark is None:
            return ""
        names = self.attributes or []
        first = ", ".join([*names[:3], *(["..."] if len(names) > 3 else [])]) or "CelebA's"
        answers = f"{len(names) or CELEBA_OUTPUTS} {self.task or 'outputs'}" if len(names) != 1 else "1 attribute"
        images = self.preprocessing.describe()
        return f"{self.architecture}: {answers} ({first}), images {images}{self.remark}"

    def take_task(self, task):
        """The task that the user names, None for none, where neither the file nor the code says one."""
        if task is not None and not self.task_is_said:
            self.task = task

    def prepare(self, images):
        """What the network gets for images (N, 3, H, W) in [-1, 1]."""
        return images if self.preprocess is None else self.preprocess(images)

    def forward(self, images):
        return self.network(self.prepare(images))

    def features(self, images):
        """images (N, 3, H, W) in [-1, 1] -> (N, D), what the last linear layer reads."""
        linear = [module for module in self.network.modules() if isinstance(module, nn.Linear)]
        if not linear:
            raise UserError(f"{self.architecture} has no linear layer to take features from; use another")
        read = []
        hook = linear[-1].register_forward_pre_hook(lambda module, inputs: read.extend(inputs))
        try:
            self(images)
        finally:
            hook.remove()
        return read[0]


class BinaryQuestion(nn.Module):
    """One attribute of a classifier: images (N, 3, H, W) in [-1, 1] -> logits (N,), positive for yes."""

    def __init__(self, classifier, index):
        super().__init__()
        self.classifier = classifier
        self.index = index

    def forward(self, images):
        return self.classifier(images)[:, self.index]


def require_logits(output, name, num_outputs=None):
    """UserError unless a network made logits (N, num_outputs) of N images; None: of any number of outputs."""
    if not isinstance(output, torch.Tensor):
        keys = f" of {', '.join(map(str, output))}" if isinstance(output, dict) and output else ""
        raise UserError(
            f"{name} makes a {type(output).__name__}{keys} of images, not logits; let it return the tensor alone"
        )
    if output.dim() != 2 or num_outputs not in (None, output.shape[1]):
        raise UserError(
            f"{name} makes shape {list(output.shape)} of images; it should be logits (N, {num_outputs or 'K'})"
        )


def probe_classifier(classifier, size, role, from_library=False):
    """Tries a Classifier on images of size x size, and adds to its remark -> the logits (4, K) of four.

    from_library: whether its code is known, and ends in no sigmoid. UserError, with the flags of the role,
    classifier or oracle, where it makes no logits of them or, as a classifier, cannot guide.
    """
    name, images = classifier.architecture, probe_images(size)
    try:
        logits, remarks = probe(
            classifier, images, name, lambda logits: require_logits(logits, name), guides=role == "classifier"
        )
    except UserError:
        raise
    except Exception as error:  # it may be anybody's code
        others = {weights.dtype for weights in classifier.parameters()} - {torch.float32}
        height, width = classifier.prepare(images).shape[2:]
        remedy = f"give --{role}_size, the pixels that it takes"
        if others:
            remedy = f"its weights are in {others.pop()}: let it return network.float()"
        raise UserError(
            f"{name} does not take images of {height} x {width} ({first_sentence(error)}); {remedy}"
        ) from error
    if from_library:
        remarks = [remark for remark in remarks if remark != SIGMOID]
    if remarks:
        classifier.remark = "".join([classifier.remark or "", *(f"; {remark}" for remark in remarks)])
    return logits
