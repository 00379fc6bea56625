"""A classifier as the rest of the project sees it, wherever it came from."""

from torch import nn

from guided_diffusion.script.errors import UserError

from .preprocessing import Preprocess, Preprocessing

CELEBA_OUTPUTS = 40


class Classifier(nn.Module):
    """A frozen classifier in eval mode: images (N, 3, H, W) in [-1, 1] -> logits (N, K).

    task: "attributes", a yes/no question for each output, positive for yes; or "classes", of which one is right;
    or None, where nothing says which. task_is_said: whether its file or its code says so; else take_task may change
    it.
    attributes, or class_names: the K names, or None where a file gives none (the published networks: CelebA's 40 in
    order). image_size: pixels that images must have, or None where any will do or the file does not say.
    preprocessing: what is done to images first, None: nothing. about: a line for the user on
    what was loaded and what is done to its images, where it is to be announced; "" for a plain file.
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
        self.preprocess = None if preprocessing in (None, Preprocessing()) else Preprocess(preprocessing)
        self.announced, self.remark = False, ""
        self.eval().requires_grad_(False)

    @property
    def class_names(self):
        return self.attributes

    @property
    def about(self):
        return self.describe() + self.remark if self.announced else ""

    def take_task(self, task):
        """The task that the user names, None for none, where neither the file nor the code says one."""
        if task is not None and not self.task_is_said:
            self.task = task

    def forward(self, images):
        return self.network(images if self.preprocess is None else self.preprocess(images))

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

    def describe(self):
        """What was loaded, and what is done to its images."""
        names = self.attributes or []
        first = ", ".join([*names[:3], *(["..."] if len(names) > 3 else [])]) or "CelebA's"
        answers = f"{len(names) or CELEBA_OUTPUTS} {self.task or 'outputs'}" if len(names) != 1 else "1 attribute"
        how = self.preprocess.how if self.preprocess is not None else Preprocessing()
        return f"{self.architecture}: {answers} ({first}), images {how.describe()}"


class BinaryQuestion(nn.Module):
    """One attribute of a classifier: images (N, 3, H, W) in [-1, 1] -> logits (N,), positive for yes."""

    def __init__(self, classifier, index):
        super().__init__()
        self.classifier = classifier
        self.index = index

    def forward(self, images):
        return self.classifier(images)[:, self.index]
