"""Charts: that of CD, the correlations of the data beside those of the counterfactuals, and how one is saved."""

import numpy as np

from guided_diffusion.storage import write_file

DATA, FOUND, INK, FAINT = "#9aa3b2", "#1c7a50", "#20242c", "#787e88"


def correlation_chart(path, attributes, expected, found, query, cd):
    """A PNG of bars: names and correlations with `query` (A,), in the data and among the changes, sorted."""
    # Figure alone, without pyplot: no display and no state of the process is touched.
    from matplotlib.figure import Figure

    order = np.argsort(expected, kind="stable")
    figure = Figure(figsize=(8, 1.2 + 0.24 * len(attributes)), layout="constrained")
    axes = figure.subplots()
    rows = np.arange(len(attributes))
    axes.barh(rows + 0.2, np.asarray(expected)[order], height=0.38, color=DATA, label="labels of the training data")
    axes.barh(rows - 0.2, np.asarray(found)[order], height=0.38, color=FOUND, label="changes of counterfactuals")
    axes.set_yticks(rows, [attributes[a].replace("_", " ") for a in order])
    axes.set(xlim=(-1, 1), xticks=np.linspace(-1, 1, 5), ylim=(-0.7, len(attributes) - 0.3))
    axes.set_title(f"Correlation with {query.replace('_', ' ')} (CD {cd:.2f})", fontsize=11, color=INK)
    axes.axvline(0, color=FAINT, linewidth=0.8)
    axes.grid(axis="x", color="#e6e8ec")
    axes.set_axisbelow(True)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0, labelsize=8, labelcolor=INK)
    axes.legend(loc="lower right", fontsize=8, frameon=False)
    save_figure(figure, path)


def save_figure(figure, path):
    """write_file of a matplotlib Figure as a PNG."""
    write_file(path, lambda file: figure.savefig(file, format="png", dpi=130))
