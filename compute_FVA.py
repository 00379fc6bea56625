"""FVA and FS: is the counterfactual of a face still the same person? (VGGFace2's opinion)"""

if __name__ == "__main__":
    from guided_diffusion.script.interrupts import end_on_interrupt

    end_on_interrupt()

from core.metrics.inference import DEVICE_FLAGS, FLIPPED, RESULTS_FLAGS, in_batches, require_pairs, start_ranks
from core.metrics.metric import mean_of, publish
from core.metrics.scores import SAME_FACE, face_similarity
from core.results.folder import ResultsFolder
from guided_diffusion.script.flags import Flag, FlagParser, check_flags, group_flags
from guided_diffusion.script.run import run_script
from models.vggface2 import face_pixels, load_vggface2

WEIGHTS_PATH = Flag("models/resnet50_ft_weight.pkl", "weights of VGGFace2's resnet50_ft")
FLAGS = group_flags(data=RESULTS_FLAGS, networks={"weights_path": WEIGHTS_PATH}, speed=DEVICE_FLAGS)


def create_argparser():
    return FlagParser(__doc__, FLAGS)


def main():
    args = create_argparser().parse_args()
    check_flags(args, FLAGS)
    device, first = start_ranks(args)
    pairs = require_pairs(args.output_path, args.exp_name)
    network = load_vggface2(args.weights_path).to(device)

    def similarity(x, counterfactual):
        return (face_similarity(network(x), network(counterfactual)),)

    def load(pair):
        return [face_pixels(pixels) for pixels in pair.pixels()]

    (cosines,) = in_batches(similarity, load, pairs, args.batch_size, device, "faces", args.num_workers)
    if not first:
        return
    metrics = [mean_of("FVA", cosines > SAME_FACE, FLIPPED), mean_of("FS", cosines, FLIPPED)]
    ResultsFolder(args.output_path, args.exp_name).keep_similarities(pairs, cosines)
    publish(args.output_path, args.exp_name, metrics, {"weights_path": args.weights_path})


if __name__ == "__main__":
    run_script(main)
