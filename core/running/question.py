"""The question that is asked of a classifier: its task, the queried attribute or classes, and the answers' names.

main.py asks it (ask); a reader of an experiment has it from the folder (read_question). Attributes have the answers
0 and 1, no and yes to one of them; classes have K.
"""

from contextlib import suppress
from dataclasses import dataclass, field

import torch
from tqdm import tqdm

from guided_diffusion.script.errors import UserError

from ..data.class_names import class_index, in_one_line, match_classes, numbered, read_class_names, shown
from ..data.datasets import CELEBA_ATTRIBUTES, DATASETS, attribute_index, data_attributes, load_images
from ..data.labels import class_numbers
from ..data.loading import require_one_class
from ..methods.decisions import predicted_class
from ..results.reading import read_classes
from .flags import BEFORE_THE_FLAG, SMILING

DEFAULT_ATTRIBUTE = CELEBA_ATTRIBUTES[int(SMILING)]
RUNNER_UP = -1  # the target that is the opposite of the prediction, or of K classes the second


@dataclass(frozen=True)
class Question:
    """Which class each image should reach, and which images the question is about."""

    task: str  # attributes or classes
    attribute: str  # the queried one; "" of classes, and where no file records it
    answers: tuple[str, ...]  # the names of the classes; () where no file records them
    target: int = RUNNER_UP
    origin: int | None = None  # explain the images that are predicted to be of this class; None: of any
    output: int | None = None  # the place of the attribute among the classifier's outputs; None: look it up
    flags: dict = field(default_factory=dict)  # task, query_label and target_label, for flags.yaml

    @property
    def of_classes(self):
        return self.task == "classes"

    @property
    def title(self):
        """The question in a few words."""
        if not self.of_classes:
            return self.attribute
        origin = "every class" if self.origin is None else self.answers[self.origin]
        return f"{origin} to {'the runner-up' if self.target == RUNNER_UP else self.answers[self.target]}"

    @property
    def of_every_image(self):
        """Whether it is asked about every image, whatever the prediction."""
        return self.origin is None and self.target == RUNNER_UP

    def asks_about(self, prediction):
        """Whether it is asked about an image of this prediction."""
        return self.origin in (None, prediction) and prediction != self.target

    def answer(self, number):
        """The name of a prediction, or its number where it has no name."""
        return self.answers[number] if 0 <= number < len(self.answers) else str(number)

    @property
    def facts(self):
        """What metrics.yaml and audit.yaml record of it, a dict."""
        if self.of_classes:
            return {"classes": len(self.answers)}
        return {"query_label": self.attribute or DEFAULT_ATTRIBUTE}

    def place_in(self, names):
        """The place of the queried attribute among the names of a network's outputs; UserError for none."""
        return attribute_index(tuple(names), self.attribute or DEFAULT_ATTRIBUTE)

    def logits_of(self, classifier, path=""):
        """images (N, 3, H, W) -> (N,) logits of the attribute, or (N, K) of the classes: a function.

        classifier.attributes: the names of its outputs, or None for CelebA's. path: of its file.
        UserError where the classifier does not answer.
        """
        if self.of_classes:
            names = classifier.attributes
            if names and len(names) != len(self.answers):
                counts = f"{len(names)} classes, but the experiment {len(self.answers)}"
                raise UserError(f"--classifier_path {path} has {counts}")
            return classifier
        output = self.output
        if output is None:
            output = self.place_in(classifier.attributes or CELEBA_ATTRIBUTES)
        return lambda images: classifier(images)[:, output]

    def labels_of(self, dataset, data_dir="", classifier_path=""):
        """(n,) the classes of a data set's images; None where it has no labels.

        UserError, naming the two flags' values, where labels and answers do not agree.
        """
        if not dataset.attributes:
            return None
        if not self.of_classes:
            return dataset.labels[:, dataset.attributes.index(self.attribute)]
        # Another --task would not do, because the classifier may refuse it.
        remedy = "--task attributes with a classifier of yes/no answers"
        require_one_class(dataset, data_dir, "--task classes", remedy)
        owners = f"--data_dir {data_dir}", f"--classifier_path {classifier_path}"
        places = match_classes(dataset.attributes, self.answers, *owners)
        return torch.tensor(places)[class_numbers(dataset.labels)]


def attribute_question(attribute, **further):
    """The Question about an attribute. further: fields of a Question."""
    return Question("attributes", attribute, (f"not {attribute}", attribute), **further)


def find_output(attribute, names, flag):
    """The place of an attribute among the names of a network's outputs; UserError, with the flag, for none."""
    if attribute not in names:
        answers = shown(names, attribute, "attributes")
        unnamed = names == numbered(len(names)) and flag == "classifier_path"
        remedy = "; --class_names, a file with a line for each output, names them" if unnamed else ""
        raise UserError(f"--{flag} does not answer {attribute}; it answers {answers}{remedy}")
    return names.index(attribute)


# -- read from a folder ------------------------------------------------------------------------------------------


def read_question(layout, flags, query_label=None, data_dir=None):
    """The Question of an experiment. flags: its checked flags, {} where no file records them.

    query_label: another attribute, by name or number. data_dir: the data that number it, where they are not the
    experiment's.
    """
    classes = read_classes(layout)
    task = (BEFORE_THE_FLAG | flags)["task"] if flags else ("classes" if classes else "attributes")
    if task == "classes":
        return Question(task, "", classes)
    if not flags and query_label is None:
        return Question(task, "", ())
    query, attributes = str(query_label or flags.get("query_label") or SMILING), CELEBA_ATTRIBUTES
    with suppress(UserError, OSError):  # data that are not there: numbers count CelebA's attributes
        attributes = data_attributes(data_dir or flags.get("data_dir"))
    numbered_here = query.isdecimal() and int(query) < len(attributes)
    return attribute_question(attributes[int(query)] if numbered_here else query)


# -- asked by main.py --------------------------------------------------------------------------------------------


def ask(flags, dataset, classifier, device):
    """The Question that main.py's flags ask about a dataset. classifier: images on the device -> (N, A) logits.

    classifier.attributes: the names of the A outputs, or None; classifier.task: "attributes", "classes", or None.
    UserError where the classifier, or the data, does not answer.
    """
    if _settle_task(flags, classifier) == "classes":
        return _ask_classes(flags, dataset, classifier, device)
    return _ask_attribute(flags, dataset, classifier)


def _settle_task(flags, classifier):
    """The task of --task, or of the classifier's file. Prints which is assumed where neither names one.

    UserError where they contradict each other, and where even the names of the outputs are unknown.
    """
    task, own_task, path = flags["task"], classifier.task, flags["classifier_path"]
    if task and own_task and task != own_task:
        raise UserError(f"--task {task}, but {path} is of {own_task}; give --task {own_task}")
    names = tuple(classifier.attributes or CELEBA_ATTRIBUTES)
    if task or own_task or set(names) <= set(CELEBA_ATTRIBUTES) or len(names) == 1:
        return task or own_task or "attributes"
    doubt = f"{path} does not say whether its {len(names)} outputs are yes/no answers or classes, one of them right"
    if names == numbered(len(names)):
        raise UserError(f"{doubt}; give --task attributes or --task classes")
    print(f"{doubt}: they are taken for yes/no answers, unless --task classes is given")
    return "attributes"


def _ask_attribute(flags, dataset, classifier):
    names, target = tuple(map(in_one_line, classifier.attributes or CELEBA_ATTRIBUTES)), flags["target_label"]
    if flags["class_names"] and names != numbered(len(names)):
        raise UserError(f"--class_names {flags['class_names']} is for --task classes; leave it out")
    outputs = _name_outputs(flags, dataset, names)
    if str(target) not in ("-1", "0", "1"):
        raise UserError(f"--target_label {target} must be -1, 0 or 1, unless with --task classes")
    attributes, query = dataset.attributes or outputs, flags["query_label"]
    if query is None and int(SMILING) >= len(attributes):
        raise UserError(f"--query_label must be given: one of {shown(attributes, what='attributes')}")
    query = SMILING if query is None else query
    attribute = attributes[attribute_index(attributes, query)]
    output = find_output(attribute, outputs, "classifier_path")
    # A number counts CelebA's attributes in whatever reads flags.yaml later: those of other data are named.
    recorded = query if flags["dataset"] in DATASETS else attribute
    own = {"task": "attributes", "query_label": recorded, "target_label": int(target)}
    return attribute_question(attribute, target=int(target), output=output, flags=own)


@torch.no_grad()
def _ask_classes(flags, dataset, classifier, device):
    size, query, target = flags["image_size"], flags["query_label"], RUNNER_UP
    count = classifier(torch.zeros(1, 3, size, size, device=device)).shape[1]
    if count < 2:
        raise UserError(f"--task classes needs several classes, but {flags['classifier_path']} has {count} output")
    names = _name_outputs(flags, dataset, tuple(map(in_one_line, classifier.attributes or numbered(count))))
    origin = class_index(names, query, "query_label") if query else None
    if str(flags["target_label"]) != str(RUNNER_UP):
        target = class_index(names, flags["target_label"], "target_label")
    if origin == target:
        raise UserError(f"--query_label and --target_label are both {names[target]}; name another class to reach")
    own = {"task": "classes", "query_label": query or "", "target_label": flags["target_label"]}
    return Question("classes", "", names, target, origin, flags=own)


def _name_outputs(flags, dataset, names):
    """The names of a classifier's outputs: those of --class_names, or its own `names`.

    Where these are only numbers, as many labels of the data name them. The order may be another: it is printed.
    """
    if flags["class_names"]:
        return read_class_names(flags["class_names"], len(names))
    labels = dataset.attributes
    if names != numbered(len(names)) or len(labels) != len(names):
        return names
    if set(labels) == set(names):
        _tell_order(flags, labels)
        return names
    order = shown([f"{number} for {name}" for number, name in enumerate(labels)])
    print(
        f"{flags['classifier_path']} does not name its outputs: they are taken for those of --data_dir in their "
        f"order, {order}, unless --class_names is given"
    )
    return labels


def _tell_order(flags, labels):
    """Prints that outputs are taken by their numbers, where the labels, also numbers, have another order."""
    place = next((place for place, label in enumerate(labels) if label != str(place)), None)
    if place is not None:
        print(
            f"{flags['classifier_path']} does not name its outputs: they are taken by their numbers, output "
            f"{place} for {place} of --data_dir. As text {labels[place]} comes there: give --class_names if the "
            "training took that order, as torchvision's ImageFolder does"
        )


# -- the images that it is about ---------------------------------------------------------------------------------


@torch.no_grad()
def choose_images(dataset, indices, question, classify, limit, batch_size, device, ranks):
    """The first `limit` of the indices (None: all) that the question is about -> (chosen, how many looked at).

    classify: images -> the logits of question.logits_of. Each rank predicts a part, and all get the same result.
    """
    indices = list(indices)
    if question.of_every_image:
        return indices[:limit], len(indices[:limit])
    chosen, looked_at, limit = [], 0, limit or len(indices)

    def predict(part):
        return predicted_class(classify(load_images(dataset, part).to(device))).tolist() if part else []

    with tqdm(total=len(indices), desc="predicting", unit="image", disable=not ranks.first) as bar:
        while looked_at < len(indices) and len(chosen) < limit:
            batch = indices[looked_at : looked_at + batch_size * ranks.world_size]
            own = batch[ranks.rank * batch_size : (ranks.rank + 1) * batch_size]
            predictions = sum(ranks.collect(predict(own)), [])
            for i, prediction in zip(batch, predictions, strict=True):
                if len(chosen) < limit:
                    looked_at += 1
                    bar.update()
                    if question.asks_about(prediction):
                        chosen.append(i)
    return chosen, looked_at
