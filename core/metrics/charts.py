"""The chart of CD, which shows correlations in the data beside those in the counterfactuals; saving a chart."""

import numpy as np

from guided_diffusion.script.storage import write_file

DATA, CHANGES, INK, FAINT = "#9aa3b2", "#1c7a50", "#20242c", "#787e88"  # colours


def correlation_chart(path, attributes, expected, measured, query, cd):
    """Writes a PNG of two bars for each of the A attributes: its correlation with `query`, in the data (`expected`)
    and among the changes of the counterfactuals (`measured`), sorted by the first."""
    # Figure without pyplot, which would look for a display and keep the figure in a global list.
    from matplotlib.figure import Figure

    order = np.argsort(expected, kind="stable")
    figure = Figure(figsize=(8, 1.2 + 0.24 * len(attributes)), layout="constrained")
    axes = figure.subplots()
    rows = np.arange(len(attributes))
    axes.barh(rows + 0.2, np.asarray(expected)[order], height=0.38, color=DATA, label="labels of the training data")
    changes = np.asarray(measured)[order]
    axes.barh(rows - 0.2, changes, height=0.38, color=CHANGES, label="changes of counterfactuals")
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


def label_panel(axes, title, across):
    """Gives a panel its title and the name of its x axis, in small type and without a frame."""
    axes.set_title(title, fontsize=10, color=INK)
    axes.set_xlabel(across, fontsize=8, color=FAINT)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0, labelsize=8, labelcolor=INK)


def save_figure(figure, path):
    """Writes a matplotlib Figure as a PNG, whole or not at all (write_file)."""
    write_file(path, lambda file: figure.savefig(file, format="png", dpi=130))
