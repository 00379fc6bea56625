"""A picture of an experiment: original, noise, counterfactual and difference of each image, and its predictions.

python -m demo.sheet --output_path DIR --exp_name EXP --picture sheet.png --yes smiling
"""

from pathlib import Path

import matplotlib
from PIL import Image, ImageDraw, ImageFont

from core.running.run import read_run
from guided_diffusion.script.errors import UserError
from guided_diffusion.script.flags import MANY, Flag, FlagParser
from guided_diffusion.script.run import run_script
from guided_diffusion.script.storage import write_file

COLUMNS = Flag(4, "images beside each other in the picture", low=1, high=1000)
TILE = Flag(96, "width of an image of the picture in pixels", low=8, high=4096)
FLAGS = {
    "output_path": Flag(None, "the --output_path of main.py"),
    "exp_name": Flag("exp", "the --exp_name of main.py"),
    "picture": Flag(None, "the PNG to write"),
    "no": Flag("no", "what a prediction of 0 is called"),
    "yes": Flag("yes", "what a prediction of 1 is called"),
    "columns": COLUMNS,
    "rows": Flag(0, "rows of images, from the first; 0: all", low=0, high=MANY),
    "tile": TILE,
    "colours": Flag(0, "how many colours the picture may have, for a smaller file; 0: all", low=0, high=256),
}
REQUIRED = ("output_path", "picture")
# Pillow's own font has no spaces at small sizes.
FONT = str(Path(matplotlib.get_data_path(), "fonts/ttf/DejaVuSans.ttf"))
TILES = ("original", "noise", "counterfactual", "difference")
INK, FAINT, GOOD, BAD, PAPER = (32, 36, 44), (120, 126, 136), (28, 122, 80), (186, 50, 42), (255, 255, 255)


def draw_sheet(run, names, columns=4, tile=96, rows=0):
    """The images of a Run, in the order of their ids -> a PIL image.

    names: what the predictions 0 and 1 are called, where the run is about an attribute; rows: how many rows are
    drawn, 0 for all.
    """
    names = run.require_classes() if run.question.of_classes else names
    pairs = run.pairs(reached=("CCF", "ICF"))
    if not pairs or run.records is None:
        raise UserError(f"{run.layout.experiment} holds no images; run main.py with --save_images True")
    records = run.records.set_index("id").to_dict("index")
    pairs = [pair for pair in pairs if pair.id.isdecimal() and int(pair.id) in records]
    cells = [(_tiles(pair), _caption(records[int(pair.id)], names)) for pair in pairs[: rows * columns or None]]
    return lay_out(cells, TILES, columns, tile)


def lay_out(cells, titles, columns=4, tile=96):
    """Cells, in rows of `columns` -> a PIL image.

    cells: each is (RGB images, one for each title; their caption, a list of (text, colour)).
    """
    gap, margin, caption, head = tile // 24, tile // 4, tile // 4, tile // 3
    width = len(titles) * (tile + gap) + margin
    height = tile + caption + margin // 2
    columns = min(columns, len(cells))
    rows = -(-len(cells) // columns)
    sheet = Image.new("RGB", (margin + columns * width, margin + head + rows * height), PAPER)
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.truetype(FONT, tile // 8)

    for column in range(columns):
        for k, title in enumerate(titles):
            x = margin + column * width + k * (tile + gap)
            draw.text((x + tile // 2, margin), title, FAINT, font, anchor="ma")
    for n, (images, words) in enumerate(cells):
        x, y = margin + n % columns * width, margin + head + n // columns * height
        for k, image in enumerate(images):
            image = image.resize((tile, tile), Image.Resampling.BICUBIC)
            sheet.paste(image, (x + k * (tile + gap), y))
        for text, colour in words:
            draw.text((x, y + tile + gap), text, colour, font)
            x += draw.textlength(text, font)
    return sheet


def save_picture(picture, path, colours=0):
    """Writes a PIL image as a PNG and prints its path. colours: how many it may have, 0 for all."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    if colours:
        picture = picture.quantize(colours)
    write_file(path, lambda file: picture.save(file, format="PNG", optimize=True))
    print(f"the picture: {path}")


def _tiles(pair):
    noise, difference = pair.part("Noise"), pair.part("SM")
    if not (noise and difference):
        raise UserError(f"{pair.counterfactual} has no image in Noise or SM; explain it again")
    return [Image.open(path).convert("RGB") for path in (pair.original, noise, pair.counterfactual, difference)]


def _caption(record, names):
    """A list of (text, colour): the prediction before and after, coloured by whether the target was reached."""
    flipped = record["cf_pred"] == record["target"]
    start = _prediction(names, record["pred"], record["target"], record.get("p_target_before"))
    end = _prediction(names, record["cf_pred"], record["target"], record.get("p_target"))
    return [(f"{start} to ", INK), (end, GOOD if flipped else BAD)]


def _prediction(names, predicted, target, p_target):
    """The predicted class and its probability, such as "cat: 93 %"; without it in a folder that does not say.

    Of three and more classes the probability of one that is not the target is not recorded: then the target's.
    """
    if p_target is None:
        return names[predicted]
    if predicted == target:
        return f"{names[predicted]}: {100 * p_target:.0f} %"
    if len(names) == 2:
        return f"{names[predicted]}: {100 * (1 - p_target):.0f} %"
    return f"{names[predicted]} ({names[target]}: {100 * p_target:.0f} %)"


def create_argparser():
    return FlagParser(__doc__, FLAGS, REQUIRED)


def main():
    args = create_argparser().parse_args()
    run = read_run(args.output_path, args.exp_name)
    sheet = draw_sheet(run, (args.no, args.yes), args.columns, args.tile, args.rows)
    save_picture(sheet, args.picture, args.colours)


if __name__ == "__main__":
    run_script(main)
