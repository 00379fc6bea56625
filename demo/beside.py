"""A picture of several experiments on the same drawn faces: each one's counterfactual, its change, and the truth.

python -m demo.beside --output_path DIR --exp_names dime inversion --titles DiME ours --picture beside.png
"""

from dataclasses import replace

from core.data.datasets import CELEBA_ATTRIBUTES, attribute_index
from core.running.run import read_run
from demo import sheet
from demo.compare import brightened, read_faces, to_image, true_counterfactual
from guided_diffusion.script.errors import UserError
from guided_diffusion.script.flags import SEED, Flag, FlagParser
from guided_diffusion.script.run import run_script

FLAGS = {
    "output_path": Flag(None, "the --output_path of main.py"),
    "exp_names": Flag(None, "the --exp_name of each experiment", many=True),
    "titles": Flag(None, "what the picture calls them, instead of their names", many=True),
    "query_label": Flag("Smiling", "the --query_label of main.py"),
    "seed": replace(SEED, help="the --seed of demo.faces"),
    "picture": sheet.FLAGS["picture"],
    "rows": Flag(5, "rows of faces, from the first that all experiments have explained", low=1, high=1000),
    "columns": replace(sheet.COLUMNS, default=2),
    "tile": sheet.TILE,
    "colours": sheet.FLAGS["colours"],
}
REQUIRED = ("output_path", "exp_names", "picture")


def draw_beside(experiments, titles, query, columns, rows, tile):
    """A PIL image: of each face the original, of each experiment the counterfactual and its change, and the truth.

    experiments: a list of Faces for each title. The changes are all to the same scale, so that they compare.
    UserError where no face is in all of them.
    """
    by_image = [{face.record["image"]: face for face in faces} for faces in experiments]
    shared = [image for image in by_image[0] if all(image in faces for faces in by_image)]
    if not shared:
        raise UserError(f"{', '.join(titles)} share no face; give --exp_names of the same images")
    cells = [_cell([faces[image] for faces in by_image], titles, query) for image in shared[: rows * columns]]
    names = ["original", *(name for title in titles for name in (title, "its change")), "the truth"]
    return sheet.lay_out(cells, names, columns, tile)


def _cell(faces, titles, query):
    """What the experiments made of one face -> (images, caption)."""
    original, _ = faces[0].images()
    wanted = query if faces[0].record["target"] else f"not {query}"
    tiles, caption = [to_image(original)], [(f"{wanted}: ", sheet.INK)]
    for title, face in zip(titles, faces, strict=True):
        counterfactual = face.images()[1]
        tiles += [to_image(counterfactual), to_image(brightened(counterfactual - original))]
        colour = sheet.GOOD if face.pair.reached == "CCF" else sheet.BAD
        caption.append((f"{title} {100 * face.record['p_target']:.0f} %   ", colour))
    return [*tiles, to_image(true_counterfactual(faces[0], query))], caption


def create_argparser():
    return FlagParser(__doc__, FLAGS, REQUIRED)


def main():
    args = create_argparser().parse_args()
    titles = args.titles or args.exp_names
    if len(titles) != len(args.exp_names):
        raise UserError(f"--titles has {len(titles)} words; give one for each of {len(args.exp_names)} --exp_names")
    query = CELEBA_ATTRIBUTES[attribute_index(CELEBA_ATTRIBUTES, args.query_label)]
    experiments = [read_faces(read_run(args.output_path, name), query, args.seed) for name in args.exp_names]
    picture = draw_beside(experiments, titles, query, args.columns, args.rows, args.tile)
    sheet.save_picture(picture, args.picture, args.colours)


if __name__ == "__main__":
    run_script(main)
