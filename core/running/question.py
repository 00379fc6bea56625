"""The question that is asked of a network, and the images that it is asked about."""

import torch
from tqdm import tqdm

from guided_diffusion.errors import UserError

from ..data.datasets import CELEBA_ATTRIBUTES, attribute_index, load_images
from ..methods.decisions import predicted_class


def find_question(query_label, data_attributes, network_attributes, flag):
    """The queried attribute -> (its column in the data, its output of the network).

    query_label: a name or an index among the data's attributes; network_attributes: names of the outputs, None
    for CelebA's 40. UserError names `flag` where the network does not answer the question.
    """
    column = attribute_index(data_attributes, query_label)
    names = list(network_attributes or CELEBA_ATTRIBUTES)
    if data_attributes[column] not in names:
        raise UserError(f"--{flag} does not answer {data_attributes[column]}; it answers {', '.join(names)}")
    return column, names.index(data_attributes[column])


@torch.no_grad()
def choose_images(dataset, indices, classifier, target, limit, batch_size, device):
    """The first `limit` of the indices (all where None) that are to be explained -> (chosen, how many looked at).

    target -1 takes every image; a class only those that the classifier does not put there already.
    """
    indices = list(indices)
    if target == -1:
        chosen = indices[:limit]
        return chosen, len(chosen)
    chosen, seen = [], 0
    with tqdm(total=len(indices), desc="predicting", unit="image") as bar:
        while seen < len(indices) and (limit is None or len(chosen) < limit):
            batch = indices[seen : seen + batch_size]
            predictions = predicted_class(classifier(load_images(dataset, batch).to(device))).tolist()
            for i, prediction in zip(batch, predictions, strict=True):
                if limit is None or len(chosen) < limit:
                    seen += 1
                    bar.update()
                    if prediction != target:
                        chosen.append(i)
    return chosen, seen
