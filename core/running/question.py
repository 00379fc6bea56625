"""The question that is asked of a classifier: its task, what it is about, and what its answers are called.

main.py asks it (ask); whoever reads an experiment finds it in the folder (read_question). Attributes have the
answers 0 and 1, no and yes to one of them; classes have K.
"""

from contextlib import suppress
from dataclasses import dataclass, field

import torch
from tqdm import tqdm

from guided_diffusion.script.errors import UserError

from ..data.class_names import SHOWN, class_index, in_one_line, match_classes, numbered, read_class_names, shown
from ..data.datasets import CELEBA_ATTRIBUTES, DATASETS, attribute_index, data_attributes, load_images
from ..data.labels import class_numbers
from ..data.training_data import require_one_class
from ..methods.decisions import predicted_class
from ..results.reading import read_classes
from .flags import BEFORE_THE_FLAG, SMILING

USUAL = CELEBA_ATTRIBUTES[int(SMILING)]  # the attribute that is meant where nothing says it
RUNNER_UP = -1  # the target that is the opposite of the prediction, or of K classes the second


@dataclass(frozen=True)
class Question:
    """What is asked: which class each image should reach, and which images are asked about."""

    task: str  # attributes or classes
    attribute: str  # the queried one; "" of classes, and where nothing says it
    answers: tuple[str, ...]  # what the classes are called; () where nothing says it
    target: int = RUNNER_UP
    origin: int | None = None  # explain the images that are predicted to be of this class; None: of any
    output: int | None = None  # the place of the attribute among the classifier's outputs, where that is settled
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
        """What a prediction is called: its number where it has no name."""
        return self.answers[number] if 0 <= number < len(self.answers) else str(number)

    @property
    def facts(self):
        """What a file of results says of it, a dict."""
        return {"classes": len(self.answers)} if self.of_classes else {"query_label": self.attribute or USUAL}

    def place_in(self, names, flag="query_label"):
        """The place of the queried attribute among the names of a network's outputs; UserError names the flag."""
        return attribute_index(tuple(names), self.attribute or USUAL, flag)

    def logits_of(self, classifier, path=""):
        """images (N, 3, H, W) -> what the classifier says to it: (N,) logits of an attribute, (N, K) of classes.

        classifier.attributes: the names of its outputs, or None for CelebA's. path: of its file.
        UserError where the classifier does not answer.
        """
        if self.of_classes:
            names = classifier.attributes
            if names and len(names) != len(self.answers):
                count = f"{len(names)} classes, but the experiment {len(self.answers)}"
                raise UserError(f"--classifier_path {path} has {count}")
            return classifier
        settled = self.output is not None
        output = self.output if settled else self.place_in(classifier.attributes or CELEBA_ATTRIBUTES)
        return lambda images: classifier(images)[:, output]

    def labels_of(self, dataset, data_dir="", classifier_path=""):
        """(n,) the classes of a data set's images; None where it has no labels.

        UserError, naming the two flags' values, where labels and answers do not agree.
        """
        if not dataset.attributes:
            return None
        if not self.of_classes:
            return dataset.labels[:, dataset.attributes.index(self.attribute)]
        # To this classifier the flag alone may be refused.
        instead = "--task attributes with a classifier of yes/no answers"
        require_one_class(dataset, data_dir, "--task classes", instead)
        having, knowing = f"--data_dir {data_dir}", f"--classifier_path {classifier_path}"
        places = match_classes(dataset.attributes, self.answers, having, knowing)
        return torch.tensor(places)[class_numbers(dataset.labels)]


def attribute_question(attribute, **settled):
    """The Question about an attribute. settled: further fields."""
    return Question("attributes", attribute, (f"not {attribute}", attribute), **settled)


def find_output(attribute, names, flag):
    """The place of an attribute among the names of a network's outputs; UserError, with the flag, for none."""
    if attribute not in names:
        answers = shown(names, attribute, "attributes")
        raise UserError(f"--{flag} does not answer {attribute}; it answers {answers}")
    return names.index(attribute)


# -- read from a folder ------------------------------------------------------------------------------------------


def read_question(layout, flags, query_label=None, data_dir=None):
    """The Question of an experiment. flags: its checked flags, {} where nothing records them.

    query_label: another attribute to ask about, by name or number. data_dir: the data that numbers are of, where
    it is not the experiment's.
    """
    classes = read_classes(layout)
    task = (BEFORE_THE_FLAG | flags)["task"] if flags else ("classes" if classes else "attributes")
    if task == "classes":
        return Question(task, "", classes)
    if not flags and query_label is None:
        return Question(task, "", ())
    query = str(query_label or flags.get("query_label") or SMILING)
    known = _attributes_of_data(data_dir or flags.get("data_dir"))
    return attribute_question(known[int(query)] if query.isdigit() and int(query) < len(known) else query)


def _attributes_of_data(data_dir):
    """The names of the data's attributes; CelebA's where the data are not there. () for data in another layout."""
    with suppress(UserError, OSError):
        return data_attributes(data_dir)
    return CELEBA_ATTRIBUTES


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
    """The task that --task names, or the classifier says. Prints what is assumed where neither does.

    UserError where they contradict each other, and where even the names of the outputs are unknown.
    """
    asked, said, path = flags["task"], classifier.task, flags["classifier_path"]
    if asked and said and asked != said:
        raise UserError(f"--task {asked}, but {path} is of {said}; give --task {said}")
    names = tuple(classifier.attributes or CELEBA_ATTRIBUTES)
    if asked or said or set(names) <= set(CELEBA_ATTRIBUTES) or len(names) == 1:
        return asked or said or "attributes"
    unsaid = (
        f"{path} does not say whether its {len(names)} outputs are yes/no answers or classes, one of them right"
    )
    if names == numbered(len(names)):
        raise UserError(f"{unsaid}; give --task attributes or --task classes")
    print(f"{unsaid}: they are taken for yes/no answers, unless --task classes is given")
    return "attributes"


def _ask_attribute(flags, dataset, classifier):
    outputs, target = _name_outputs(flags, dataset, classifier), flags["target_label"]
    if str(target) not in ("-1", "0", "1"):
        raise UserError(f"--target_label {target} must be -1, 0 or 1, unless with --task classes")
    known = dataset.attributes or outputs
    if flags["query_label"] is None and int(SMILING) >= len(known):
        raise UserError(f"--query_label must be given: one of {shown(known, what='attributes')}")
    query = SMILING if flags["query_label"] is None else flags["query_label"]
    attribute = known[attribute_index(known, query)]
    output = find_output(attribute, outputs, "classifier_path")
    # A number counts CelebA's attributes in whatever reads flags.yaml later: those of other data are named.
    recorded = query if flags["dataset"] in DATASETS else attribute
    own = {"task": "attributes", "query_label": recorded, "target_label": int(target)}
    return attribute_question(attribute, target=int(target), output=output, flags=own)


def _name_outputs(flags, dataset, classifier):
    """The names of a classifier's answers: its own, or those of --class_names or of the data where it has none."""
    names = tuple(classifier.attributes or CELEBA_ATTRIBUTES)
    if names != numbered(len(names)):
        if flags["class_names"]:
            raise UserError(f"--class_names {flags['class_names']} is for --task classes; leave it out")
        return names
    if flags["class_names"]:
        return read_class_names(flags["class_names"], len(names))
    return _names_of_data(flags, dataset) if len(dataset.attributes) == len(names) else names


def _ask_classes(flags, dataset, classifier, device):
    names, query, target = _name_classes(flags, dataset, classifier, device), flags["query_label"], RUNNER_UP
    origin = class_index(names, query, "query_label") if query else None
    if str(flags["target_label"]) != str(RUNNER_UP):
        target = class_index(names, flags["target_label"], "target_label")
    if origin == target:
        raise UserError(f"--query_label and --target_label are both {names[target]}; name another class to reach")
    own = {"task": "classes", "query_label": query or "", "target_label": flags["target_label"]}
    return Question("classes", "", names, target, origin, flags=own)


@torch.no_grad()
def _name_classes(flags, dataset, classifier, device):
    """The names of the classifier's classes: given, its own, those of as many classes of the data, or numbers."""
    count = classifier(torch.zeros(1, 3, flags["image_size"], flags["image_size"], device=device)).shape[1]
    if count < 2:
        raise UserError(f"--task classes needs several classes, but {flags['classifier_path']} has {count} output")
    if flags["class_names"]:
        return read_class_names(flags["class_names"], count)
    names = tuple(map(in_one_line, classifier.attributes or numbered(count)))
    unnamed = names == numbered(count) and len(dataset.attributes) == count
    return _names_of_data(flags, dataset) if unnamed and not set(dataset.attributes) <= set(names) else names


def _names_of_data(flags, dataset):
    """The names of the data's labels, for as many outputs without names. Their order may be another: it is said."""
    if dataset.attributes == numbered(len(dataset.attributes)):
        return dataset.attributes
    first = ", ".join(f"{number} for {name}" for number, name in enumerate(dataset.attributes[:SHOWN]))
    more = ", and so on" if len(dataset.attributes) > SHOWN else ""
    print(
        f"{flags['classifier_path']} does not name its outputs: they are taken for those of --data_dir in their "
        f"order, {first}{more}, unless --class_names is given"
    )
    return dataset.attributes


# -- the images that it is about ---------------------------------------------------------------------------------


@torch.no_grad()
def choose_images(dataset, indices, question, classify, limit, batch_size, device, ranks):
    """The first `limit` of the indices (None: all) that the question is about -> (chosen, how many looked at).

    classify: images -> the logits of question.logits_of. Each rank looks at a part, and all learn what was chosen.
    """
    indices = list(indices)
    if question.of_every_image:
        chosen = indices[:limit]
        return chosen, len(chosen)
    chosen, looked_at = [], 0

    def predict(part):
        return predicted_class(classify(load_images(dataset, part).to(device))).tolist() if part else []

    with tqdm(total=len(indices), desc="predicting", unit="image", disable=not ranks.first) as bar:
        while looked_at < len(indices) and (limit is None or len(chosen) < limit):
            batch = indices[looked_at : looked_at + batch_size * ranks.world_size]
            own = batch[ranks.rank * batch_size : (ranks.rank + 1) * batch_size]
            predictions = sum(ranks.collect(predict(own)), [])
            for i, prediction in zip(batch, predictions, strict=True):
                if limit is None or len(chosen) < limit:
                    looked_at += 1
                    bar.update()
                    if question.asks_about(prediction):
                        chosen.append(i)
    return chosen, looked_at
