"""The question that is asked of a classifier, and the images that it is asked about."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from tqdm import tqdm

from guided_diffusion.script.errors import UserError

from ..data.class_names import SHOWN, class_index, in_one_line, match_classes, numbered, read_class_names, shown
from ..data.datasets import CELEBA_ATTRIBUTES, DATASETS, attribute_index, load_images
from ..data.labels import class_numbers
from ..data.training_data import require_one_class
from ..methods.decisions import predicted_class
from .flags import SMILING

RUNNER_UP = -1  # the target that is the opposite of the prediction, or of K classes the second


@dataclass(frozen=True)
class Question:
    """What is asked: which class each image should reach, and which images are asked about.

    The classes of --task attributes are 0 and 1, no and yes to one attribute; those of --task classes are K.
    """

    classify: Callable  # images (N, 3, H, W) in [-1, 1] -> logits, (N,) of an attribute, (N, K) of classes
    about: str  # the question in a few words
    names: tuple  # of the classes
    labels: torch.Tensor | None  # (n,) the classes of the data's n images; None: each is of the predicted one
    flags: dict  # task, query_label and target_label, as they are kept
    target: int = RUNNER_UP
    query: int | None = None  # explain the images that are predicted to be of this class; None: of any
    column: int | None = None  # of the attribute among the data's labels

    @property
    def task(self):
        return self.flags["task"]

    @property
    def of_every_image(self):
        """Whether it is asked about every image, whatever the prediction."""
        return self.query is None and self.target == RUNNER_UP

    def asks_about(self, prediction):
        """Whether it is asked about an image of this prediction."""
        return self.query in (None, prediction) and prediction != self.target

    def labels_of(self, ids, predictions):
        """(N,) the classes of images: the data's, or else the (N,) predicted ones."""
        return predictions if self.labels is None else self.labels[ids]


def ask(args, dataset, classifier, device):
    """The Question that main.py's flags ask about a dataset. classifier: images on the device -> (N, A) logits.

    classifier.attributes: the names of the A outputs, or None; classifier.task: "attributes", "classes", or None.
    UserError where the classifier, or the data, does not answer.
    """
    if _settle_task(args, classifier) == "classes":
        return _ask_classes(args, dataset, classifier, device)
    return _ask_attribute(args, dataset, classifier)


def _settle_task(args, classifier):
    """The task that --task names, or the classifier says. Prints what is assumed where neither does.

    UserError where they contradict each other, and where even the names of the outputs are unknown.
    """
    said, path = classifier.task, args.classifier_path
    if args.task and said and args.task != said:
        raise UserError(f"--task {args.task}, but {path} is of {said}; give --task {said}")
    names = tuple(classifier.attributes or CELEBA_ATTRIBUTES)
    if args.task or said or set(names) <= set(CELEBA_ATTRIBUTES) or len(names) == 1:
        return args.task or said or "attributes"
    unsaid = (
        f"{path} does not say whether its {len(names)} outputs are yes/no answers or classes, one of them right"
    )
    if names == numbered(len(names)):
        raise UserError(f"{unsaid}; give --task attributes or --task classes")
    print(f"{unsaid}: they are taken for yes/no answers, unless --task classes is given")
    return "attributes"


def _ask_attribute(args, dataset, classifier):
    outputs = _name_outputs(args, dataset, classifier)
    if str(args.target_label) not in ("-1", "0", "1"):
        raise UserError(f"--target_label {args.target_label} must be -1, 0 or 1, unless with --task classes")
    known = dataset.attributes or outputs
    if args.query_label is None and int(SMILING) >= len(known):
        raise UserError(f"--query_label must be given: one of {shown(known, what='attributes')}")
    query = SMILING if args.query_label is None else args.query_label
    column = attribute_index(known, query)
    output = find_output(known[column], outputs, "classifier_path")
    # A number counts CelebA's attributes in whatever reads flags.yaml later: those of other data are named.
    kept = query if args.dataset in DATASETS else known[column]
    return Question(
        classify=lambda images: classifier(images)[:, output],
        about=known[column],
        names=numbered(2),
        labels=dataset.labels[:, column] if dataset.attributes else None,
        flags={"task": "attributes", "query_label": kept, "target_label": int(args.target_label)},
        target=int(args.target_label),
        column=column,
    )


def _name_outputs(args, dataset, classifier):
    """The names of a classifier's answers: its own, or those of --class_names or of the data where it has none."""
    names = tuple(classifier.attributes or CELEBA_ATTRIBUTES)
    if names != numbered(len(names)):
        if args.class_names:
            raise UserError(f"--class_names {args.class_names} is for --task classes; leave it out")
        return names
    if args.class_names:
        return read_class_names(args.class_names, len(names))
    return _names_of_data(args, dataset) if len(dataset.attributes) == len(names) else names


def find_output(attribute, names, flag):
    """The place of an attribute among the names of a network's outputs; UserError, with the flag, for none."""
    if attribute not in names:
        answers = shown(names, attribute, "attributes")
        raise UserError(f"--{flag} does not answer {attribute}; it answers {answers}")
    return names.index(attribute)


def _ask_classes(args, dataset, classifier, device):
    names = _name_classes(args, dataset, classifier, device)
    query = class_index(names, args.query_label, "query_label") if args.query_label else None
    target = RUNNER_UP
    if str(args.target_label) != str(RUNNER_UP):
        target = class_index(names, args.target_label, "target_label")
    if query == target:
        raise UserError(f"--query_label and --target_label are both {names[target]}; name another class to reach")
    origin = "every class" if query is None else names[query]
    kept = {"task": "classes", "query_label": args.query_label or "", "target_label": args.target_label}
    return Question(
        classify=classifier,
        about=f"{origin} to {'the runner-up' if target == RUNNER_UP else names[target]}",
        names=names,
        labels=_labels_as_classes(args, dataset, names),
        flags=kept,
        target=target,
        query=query,
    )


@torch.no_grad()
def _name_classes(args, dataset, classifier, device):
    """The names of the classifier's classes: given, its own, those of as many classes of the data, or numbers."""
    count = classifier(torch.zeros(1, 3, args.image_size, args.image_size, device=device)).shape[1]
    if count < 2:
        raise UserError(f"--task classes needs several classes, but {args.classifier_path} has {count} output")
    if args.class_names:
        return read_class_names(args.class_names, count)
    names = tuple(map(in_one_line, classifier.attributes or numbered(count)))
    unnamed = names == numbered(count) and len(dataset.attributes) == count
    return _names_of_data(args, dataset) if unnamed and not set(dataset.attributes) <= set(names) else names


def _names_of_data(args, dataset):
    """The names of the data's labels, for as many outputs without names. Their order may be another: it is said."""
    if dataset.attributes == numbered(len(dataset.attributes)):
        return dataset.attributes
    first = ", ".join(f"{number} for {name}" for number, name in enumerate(dataset.attributes[:SHOWN]))
    more = ", and so on" if len(dataset.attributes) > SHOWN else ""
    print(
        f"{args.classifier_path} does not name its outputs: they are taken for those of --data_dir in their order, "
        f"{first}{more}, unless --class_names is given"
    )
    return dataset.attributes


def _labels_as_classes(args, dataset, names):
    """(n,) the classes of the data's images by the classifier's numbers; None where the data has no labels."""
    if not dataset.attributes:
        return None
    instead = "--task attributes with a classifier of yes/no answers"  # to this one the flag alone may be refused
    require_one_class(dataset, args.data_dir, "--task classes", instead)
    places = match_classes(
        dataset.attributes, names, f"--data_dir {args.data_dir}", f"--classifier_path {args.classifier_path}"
    )
    return torch.tensor(places)[class_numbers(dataset.labels)]


@torch.no_grad()
def choose_images(dataset, indices, question, limit, batch_size, device, ranks):
    """The first `limit` of the indices (None: all) that the question is about -> (chosen, how many looked at).

    Each rank looks at a part of them, and all learn what was chosen.
    """
    indices = list(indices)
    if question.of_every_image:
        chosen = indices[:limit]
        return chosen, len(chosen)
    chosen, seen = [], 0

    def predict(part):
        return predicted_class(question.classify(load_images(dataset, part).to(device))).tolist() if part else []

    with tqdm(total=len(indices), desc="predicting", unit="image", disable=not ranks.first) as bar:
        while seen < len(indices) and (limit is None or len(chosen) < limit):
            batch = indices[seen : seen + batch_size * ranks.world_size]
            own = batch[ranks.rank * batch_size : (ranks.rank + 1) * batch_size]
            predictions = sum(ranks.collect(predict(own)), [])
            for i, prediction in zip(batch, predictions, strict=True):
                if limit is None or len(chosen) < limit:
                    seen += 1
                    bar.update()
                    if question.asks_about(prediction):
                        chosen.append(i)
    return chosen, seen
