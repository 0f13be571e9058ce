"""Pictures of the network, the trajectories, the edges that were read, and the results."""

from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch
from matplotlib.text import Text

from examples.gene_regulation.data import INTERVAL, SAMPLES
from examples.gene_regulation.network import CELL_TYPES, GENES, edges
from examples.gene_regulation.report import READOUTS, experiments_of, relative_differences
from examples.gene_regulation.trial import Fit, Trial

__all__ = ["draw_all"]

ACTIVATES, INHIBITS = "#1a7f37", "#b3261e"
COLOURS = {"softmax": "#d9822b", "spherical": "#2b6cb0", "linear": "#777777"}

# Left what makes erythrocytes and megakaryocytes, right what makes granulocytes and monocytes.
PLACES = {
    "Gata2": (1.2, 3.3),
    "Cebpa": (4.6, 3.3),
    "Gata1": (-0.4, 1.6),
    "Pu1": (3.3, 0.95),
    "Fog1": (-1.8, 2.9),
    "SCL": (1.3, 0.8),
    "EKLF": (-1.8, 0.3),
    "Fli1": (-0.1, 0.0),
    "cJun": (2.9, -0.2),
    "EgrNab": (4.6, -0.1),
    "Gfi1": (5.0, 1.6),
}


def draw_all(trials: Sequence[Trial], folder: Path) -> None:
    """Write all figures as PNG into a folder."""
    figures = {
        "network": network(),
        "trajectories": trajectories(trials[0]),
        "results": results(trials),
        "losses": losses(trials),
    }
    for name in experiments_of(trials):
        own = [trial for trial in trials if trial.experiment == name]
        figures[f"edges_{name}"] = readouts(own)
    for name, figure in figures.items():
        figure.savefig(folder / f"{name}.png", dpi=110, bbox_inches="tight")
        plt.close(figure)


def network() -> Figure:
    """The signed network: arrows activate, bars inhibit."""
    figure, axes = plt.subplots(figsize=(8, 4.8))
    axes.set(xlim=(-2.5, 5.7), ylim=(-0.6, 4.1))
    axes.axis("off")
    box = {"boxstyle": "round,pad=0.35", "facecolor": "white", "edgecolor": "#333333"}
    labels = {
        name: axes.text(*place, name, ha="center", va="center", fontsize=11, bbox=box)
        for name, place in PLACES.items()
    }
    signs = edges()
    for target, source in signs.nonzero().tolist():
        ends = (labels[GENES[source]], labels[GENES[target]])
        axes.add_patch(_arrow(*ends, float(signs[target, source])))
    return figure


def _arrow(source: Text, target: Text, sign: float) -> FancyArrowPatch:
    begin, end = source.get_position(), target.get_position()
    loop = source is target  # above the gene
    if loop:
        begin, end = (begin[0] - 0.2, begin[1] + 0.2), (end[0] + 0.2, end[1] + 0.2)
    return FancyArrowPatch(
        begin,
        end,
        arrowstyle="-|>,head_length=5,head_width=2.5" if sign > 0 else "|-|,widthA=0,widthB=4",
        connectionstyle=f"arc3,rad={-1.5 if loop else 0.13}",
        color=ACTIVATES if sign > 0 else INHIBITS,
        patchA=None if loop else source.get_bbox_patch(),
        patchB=None if loop else target.get_bbox_patch(),
        shrinkA=0,
        shrinkB=0 if loop else 3,
        linewidth=1.4,
        zorder=4,  # drawn after the boxes, where these are known
    )


def trajectories(trial: Trial) -> Figure:
    """One held-out cell of each type, as it is and as the models integrate it from its start."""
    models = ("ODEs", "softmax", "spherical", "linear")
    figure, grid = plt.subplots(
        4, len(models), figsize=(11, 9), sharex=True, sharey=True, layout="constrained"
    )
    for row, kind in enumerate(CELL_TYPES):
        for column, model in enumerate(models):
            axes = grid[row, column]
            path = np.array(trial.fits[model].paths[row]).T
            extent = (0.0, (SAMPLES - 1) * INTERVAL, len(GENES) - 0.5, -0.5)
            image = axes.imshow(path, aspect="auto", vmin=0, vmax=1, cmap="viridis", extent=extent)
            axes.set_yticks(range(len(GENES)), GENES, fontsize=8)
            if row == 0:
                axes.set_title(model)
        grid[row, 0].set_ylabel(kind)
    figure.supxlabel("time, in life times of a factor")
    figure.colorbar(image, ax=grid, label="expression", fraction=0.03)
    return figure


def readouts(trials: Sequence[Trial]) -> Figure:
    """Means over trials of what was read; each matrix in units of its largest entry."""
    panels = [("ODEs", "jacobian"), ("linear", "jacobian")]
    panels += [(model, name) for model in ("softmax", "spherical") for name in READOUTS]
    figure, grid = plt.subplots(3, 3, figsize=(10, 10), layout="constrained")
    _matrix(grid[0, 0], edges().numpy(), "the network")
    for axes, (model, name) in zip(grid.flat[1:], panels, strict=True):
        own = [trial.fits[model].readouts[name] for trial in trials]
        _matrix(axes, np.mean(own, axis=0), f"{model}, {name}")
    return figure


def _matrix(
    axes: Axes, matrix: "np.ndarray[tuple[int, ...], np.dtype[np.float64]]", title: str
) -> None:
    shown = matrix.copy()
    np.fill_diagonal(shown, 0)
    limit = float(np.abs(shown).max())
    axes.imshow(shown, cmap="RdBu_r", vmin=-limit, vmax=limit)
    for target, source in edges().nonzero().tolist():
        if target != source:  # where an edge is in truth
            axes.plot(source, target, ".", color="black", markersize=3)
    axes.set_xticks(range(len(GENES)), GENES, rotation=90, fontsize=7)
    axes.set_yticks(range(len(GENES)), GENES, fontsize=7)
    axes.set_title(title, fontsize=9)


def results(trials: Sequence[Trial]) -> Figure:
    """Errors and agreements, a point for each seed."""
    names = experiments_of(trials)
    panels: list[tuple[str, Callable[[Fit], float]]] = [
        ("error of dx/dt", lambda fit: fit.errors.derivative),
        ("error of trajectories", lambda fit: fit.errors.path),
        ("AUROC, jacobian", lambda fit: fit.agreements["jacobian"].auroc),
        ("AUPRC, jacobian", lambda fit: fit.agreements["jacobian"].auprc),
        ("right signs, jacobian", lambda fit: fit.agreements["jacobian"].signs),
    ]
    figure, grid = plt.subplots(
        len(names), len(panels), figsize=(14, 3.1 * len(names)), squeeze=False, layout="constrained"
    )
    for row, name in enumerate(names):
        own = [trial for trial in trials if trial.experiment == name]
        for axes, (title, value) in zip(grid[row], panels, strict=True):
            for place, (model, colour) in enumerate(COLOURS.items()):
                values = [value(trial.fits[model]) for trial in own]
                shifts = place + np.linspace(-0.15, 0.15, len(values))
                axes.plot(shifts, values, "o", color=colour, markersize=5)
            axes.set_xticks(range(len(COLOURS)), COLOURS, fontsize=8)
            axes.set(title=title, xlim=(-0.5, len(COLOURS) - 0.5))
            if "error" in title:
                axes.set_yscale("log")
            else:
                axes.set_ylim(0.4, 1.02)
        grid[row, 0].set_ylabel(name)
    return figure


def losses(trials: Sequence[Trial]) -> Figure:
    """Losses of compiled training, and how far they are from those of eager training."""
    shown = [trial for trial in trials if trial.fits["softmax"].eager_losses]
    figure, grid = plt.subplots(
        2,
        len(shown),
        figsize=(5.5 * len(shown), 5),
        sharex=True,
        squeeze=False,
        layout="constrained",
    )
    for (above, below), trial in zip(grid.T, shown, strict=True):
        for model in ("softmax", "spherical"):
            fit = trial.fits[model]
            above.plot(fit.losses, color=COLOURS[model], label=model, linewidth=0.6)
            below.plot(relative_differences(fit), color=COLOURS[model], linewidth=0.6)
        above.set(title=f"{trial.experiment}, seed {trial.seed}", yscale="log")
        above.legend(fontsize=8)
        below.set(xlabel="step", yscale="log")
    grid[0, 0].set_ylabel("loss, compiled")
    grid[1, 0].set_ylabel("|compiled - eager| / eager")
    return figure
