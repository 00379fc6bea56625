"""The map of change as a picture: the mean original with the regions that stand out, and where what changed."""

import numpy as np

from ..metrics.charts import FAINT, INK, save_figure

OUTLINE = "#e8590c"


def draw_map(path, change_map, colour_map=None):
    """Writes a PNG of three panels: the regions, the mean change, and its sign; of four with a ColourMap."""
    from matplotlib.figure import Figure

    count = 3 if colour_map is None else 4
    figure = Figure(figsize=(3.2 * count, 3.6), layout="constrained")
    regions, change, signed, *colours = figure.subplots(1, count)
    height, width = change_map.change.shape
    of_image = {"extent": (0, width, height, 0), "interpolation": "nearest"}
    regions.imshow(change_map.original, cmap="gray", vmin=0, vmax=255, **of_image)
    regions.set_title("mean original; what stands out", fontsize=9, color=INK)
    for number, region in enumerate(change_map.regions, start=1):
        _outline(regions, region.blocks, height, width)
        left, top, *_ = region.box
        regions.text(left * width, top * height, f"{number}", color=OUTLINE, fontsize=9, va="bottom", weight="bold")
    shown = change.imshow(change_map.change, cmap="magma", vmin=0, **of_image)
    change.set_title("mean change of a pixel", fontsize=9, color=INK)
    figure.colorbar(shown, ax=change, shrink=0.8, label="grey levels")
    most = max(np.abs(change_map.signed).max(), 1e-6)
    shown = signed.imshow(change_map.signed, cmap="PuOr_r", vmin=-most, vmax=most, **of_image)
    signed.set_title("brighter (orange), darker (purple)", fontsize=9, color=INK)
    figure.colorbar(shown, ax=signed, shrink=0.8, label="grey levels")
    for axes in colours:
        shown = axes.imshow(colour_map.effect, cmap="magma", vmin=0, **of_image)
        axes.set_title("by how much colour moves p", fontsize=9, color=INK)
        figure.colorbar(shown, ax=axes, shrink=0.8, label="probability")
        for region in colour_map.regions:
            _outline(axes, region.blocks, height, width)
    for axes in (regions, change, signed, *colours):
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_color(FAINT)
    save_figure(figure, path)


def _outline(axes, blocks, height, width):
    """Draws the border of (B, B) booleans: a line wherever a block adjoins one that is not among them."""
    rows, columns = blocks.shape
    padded = np.pad(blocks, 1)
    across = np.argwhere(padded[1:] != padded[:-1])  # a horizontal line above block row r, at padded column c
    along = np.argwhere(padded[:, 1:] != padded[:, :-1])
    x, y = width / columns, height / rows
    axes.hlines([r * y for r, _ in across], [(c - 1) * x for _, c in across], [c * x for _, c in across], OUTLINE)
    axes.vlines([c * x for _, c in along], [(r - 1) * y for r, _ in along], [r * y for r, _ in along], OUTLINE)
