"""The map of change as a picture: the mean original with the regions that stand out, and where what changed."""

import numpy as np

from ..metrics.charts import FAINT, INK, save_figure

OUTLINE = "#e8590c"


def draw_map(path, change_map, colour_map=None):
    """Writes a PNG of three panels: the regions, the mean change, and its sign; of four with a ColourMap."""
    from matplotlib.figure import Figure

    signed, (height, width) = change_map.signed, change_map.change.shape
    most = max(np.abs(signed).max(), 1e-6)
    panels = [  # title, values, the regions that are outlined, how the values are drawn, what they are
        ("mean original; what stands out", change_map.original, change_map.regions, ("gray", 0, 255), None),
        ("mean change of a pixel", change_map.change, [], ("magma", 0, None), "grey levels"),
        ("brighter (orange), darker (purple)", signed, [], ("PuOr_r", -most, most), "grey levels"),
    ]
    if colour_map is not None:
        effect, regions = colour_map.effect, colour_map.regions
        panels.append(("by how much colour moves p", effect, regions, ("magma", 0, None), "probability"))
    figure = Figure(figsize=(3.2 * len(panels), 3.6), layout="constrained")
    all_axes = figure.subplots(1, len(panels))
    for axes, (title, values, regions, (colours, least, most), unit) in zip(all_axes, panels, strict=True):
        options = {"extent": (0, width, height, 0), "interpolation": "nearest"}
        image = axes.imshow(values, cmap=colours, vmin=least, vmax=most, **options)
        axes.set_title(title, fontsize=9, color=INK)
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_color(FAINT)
        if unit:
            figure.colorbar(image, ax=axes, shrink=0.8, label=unit)
        for region in regions:
            _outline(axes, region.blocks, height, width)
    for number, region in enumerate(change_map.regions, start=1):
        x, y = region.box[0] * width, region.box[1] * height
        all_axes[0].text(x, y, f"{number}", color=OUTLINE, fontsize=9, va="bottom", weight="bold")
    save_figure(figure, path)


def _outline(axes, blocks, height, width):
    """Draws the border of (B, B) booleans: a line wherever a block adjoins one that is not among them."""
    padded, y, x = np.pad(blocks, 1), height / blocks.shape[0], width / blocks.shape[1]
    rows, columns = np.argwhere(padded[1:] != padded[:-1]).T  # above block row r, at padded column c
    axes.hlines(rows * y, (columns - 1) * x, columns * x, OUTLINE)
    rows, columns = np.argwhere(padded[:, 1:] != padded[:, :-1]).T
    axes.vlines(columns * x, (rows - 1) * y, rows * y, OUTLINE)
