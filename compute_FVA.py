"""FVA and FS: is the counterfactual of a face still the same person? (VGGFace2's opinion)"""

import argparse

from core.metrics.inference import DEVICE_FLAGS, FLIPPED, RESULTS_FLAGS, in_batches, require_pairs
from core.metrics.metric import mean_of, publish
from core.metrics.scores import SAME_FACE, face_similarity
from guided_diffusion.dist_util import pick_device
from guided_diffusion.script_util import add_dict_to_argparser, run_script
from models.vggface2 import face_pixels, load_vggface2

FLAGS = RESULTS_FLAGS | {"weights_path": ("models/resnet50_ft_weight.pkl", "VGGFace2's resnet50_ft")} | DEVICE_FLAGS


def create_argparser():
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    add_dict_to_argparser(parser, FLAGS)
    return parser


def main():
    args = create_argparser().parse_args()
    pairs = require_pairs(args.output_path, args.exp_name)
    device = pick_device(args.gpu)
    network = load_vggface2(args.weights_path).to(device)

    def similarity(x, counterfactual):
        return (face_similarity(network(x), network(counterfactual)),)

    def load(pair):
        return [face_pixels(pixels) for pixels in pair.pixels()]

    (cosines,) = in_batches(similarity, load, pairs, args.batch_size, device, "faces")
    metrics = [mean_of("FVA", cosines > SAME_FACE, FLIPPED), mean_of("FS", cosines, FLIPPED)]
    publish(args.output_path, args.exp_name, metrics, {"weights_path": args.weights_path})


if __name__ == "__main__":
    run_script(main)
