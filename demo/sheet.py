"""The picture of an experiment: original, noise, counterfactual and difference of each image, and the predictions.

    python -m demo.sheet --output_path DIR --exp_name EXP --picture sheet.png --question smiling
"""

import argparse
import os
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from core.records import read_records
from core.results import read_pairs
from guided_diffusion.errors import UserError
from guided_diffusion.script_util import add_dict_to_argparser, require_flags, run_script

FLAGS = {
    "output_path": (None, "the --output_path of main.py"),
    "exp_name": ("exp", "the --exp_name of main.py"),
    "picture": (None, "the PNG to write"),
    "no": ("no", "what a prediction of 0 is called"),
    "yes": ("yes", "what a prediction of 1 is called"),
    "columns": (4, "images beside each other"),
    "tile": (96, "width of an image in pixels"),
}
TILES = ("original", "noise", "counterfactual", "difference")
INK, FAINT, GOOD, BAD, PAPER = (32, 36, 44), (120, 126, 136), (28, 122, 80), (186, 50, 42), (255, 255, 255)


def draw_sheet(output_path, exp_name, names, columns=4, tile=96):
    """The experiment's images, in the order of their ids -> a PIL image. names: what 0 and 1 are called."""
    pairs = read_pairs(output_path, exp_name, reached=("CCF", "ICF"))
    if not pairs:
        raise UserError(f"{output_path}/Results/{exp_name} holds no images; run main.py with --save_images True")
    records = read_records(Path(output_path) / "Results" / exp_name / "records.csv").set_index("id")
    gap, margin, caption, head = tile // 24, tile // 4, tile // 4, tile // 3
    width = len(TILES) * (tile + gap) + margin
    height = tile + caption + margin // 2
    columns = min(columns, len(pairs))
    rows = -(-len(pairs) // columns)
    sheet = Image.new("RGB", (margin + columns * width, margin + head + rows * height), PAPER)
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=tile // 7)

    for column in range(columns):
        for k, title in enumerate(TILES):
            x = margin + column * width + k * (tile + gap)
            draw.text((x + tile // 2, margin), title, FAINT, font, anchor="ma")
    for n, pair in enumerate(pairs):
        x, y = margin + n % columns * width, margin + head + n // columns * height
        for k, path in enumerate(_tiles(pair)):
            with Image.open(path) as image:
                image = image.convert("RGB").resize((tile, tile), Image.Resampling.BICUBIC)
            sheet.paste(image, (x + k * (tile + gap), y))
        record = records.loc[int(pair.id)]
        before, after = names[record["pred"]], names[record["cf_pred"]]
        flipped = record["cf_pred"] == record["target"]
        start = f"{before} {_percent(record['p_target_before'], record['pred'] == record['target'])}  to  "
        draw.text((x, y + tile + gap), start, INK, font)
        end = f"{after} {_percent(record['p_target'], flipped)}"
        draw.text((x + draw.textlength(start, font), y + tile + gap), end, GOOD if flipped else BAD, font)
    return sheet


def _tiles(pair):
    folder = pair.counterfactual.parent.parent
    return pair.original, folder / "Noise" / f"{pair.id}.png", pair.counterfactual, folder / "SM" / f"{pair.id}.png"


def _percent(p_target, is_target):
    """The probability of the predicted class, from that of the target."""
    return f"{100 * (p_target if is_target else 1 - p_target):.0f} %"


def create_argparser():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    add_dict_to_argparser(parser, FLAGS)
    return parser


def main():
    args = create_argparser().parse_args()
    require_flags(args, "output_path", "picture")
    sheet = draw_sheet(args.output_path, args.exp_name, (args.no, args.yes), args.columns, args.tile)
    aside = Path(f"{args.picture}.part")
    sheet.save(aside, format="PNG", optimize=True)
    os.replace(aside, args.picture)
    print(f"the picture: {args.picture}")


if __name__ == "__main__":
    run_script(main)
