"""One trial: cells of one experiment and seed, the models fitted to them, how good they are."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from examples.gene_regulation.data import INTERVAL, SAMPLES, Cells, draw_cells
from examples.gene_regulation.edges import Agreement, agreement, jacobian, readouts, shuffled
from examples.gene_regulation.model import WEIGHTS, GeneAttention
from examples.gene_regulation.network import derivative, edges, simulate
from examples.gene_regulation.train import Settings, fit_linear, train

__all__ = ["SHUFFLED", "Errors", "Fit", "Trial", "evaluate", "run_trial"]

Field = Callable[[Tensor], Tensor]
Matrix = list[list[float]]

SHUFFLED = 200
"""How often the network is dealt out anew for the chance level."""


@dataclass(frozen=True)
class Errors:
    """Of a model on held-out cells."""

    derivative: float
    """Mean squared error of dx/dt over the variance of dx/dt."""
    path: float
    """Root mean squared error of expression when the model is integrated from the starts."""
    fates: float
    """Part of the cells whose integrated end, rounded to on and off, is that of the ODEs."""


@dataclass
class Fit:
    """What is reported of one model in one trial."""

    errors: Errors
    readouts: dict[str, Matrix]
    agreements: dict[str, Agreement]
    paths: list[Matrix]
    """Integrated expression [samples, genes] of the first four held-out cells."""
    losses: list[float] = field(default_factory=list)
    eager_losses: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Trial:
    """The fits of one experiment and seed."""

    experiment: str
    seed: int
    fits: dict[str, Fit]
    chance: list[Agreement]
    """The softmax model's Jacobian against shuffled networks."""


def run_trial(experiment: str, seed: int, settings: Settings, *, eager_too: bool = False) -> Trial:
    """Draw cells, fit all models, judge them on held-out cells."""
    torch.set_num_threads(1)  # the layers are small
    cells = draw_cells(experiment, seed)
    states = cells.test.flatten(0, 1)
    fits = {"ODEs": _fit_of(derivative, cells, {"jacobian": jacobian(derivative, states)})}
    linear = fit_linear(cells.training)
    fits["linear"] = _fit_of(linear, cells, {"jacobian": jacobian(linear, states)})
    for weights in WEIGHTS:
        model, losses = train(weights, cells.training, seed, settings)
        fit = _fit_of(_in_f64(model), cells, readouts(model, states.float()))
        fit.losses = losses
        if eager_too:
            fit.eager_losses = train(weights, cells.training, seed, settings, compiled=False)[1]
        fits[weights] = fit
    chance = shuffled(torch.tensor(fits["softmax"].readouts["jacobian"]), edges(), SHUFFLED, seed)
    return Trial(experiment, seed, fits, chance)


@torch.no_grad()
def evaluate(predict: Field, paths: Tensor) -> tuple[Errors, Tensor]:
    """Judge a field dx/dt on trajectories [samples, cells, genes]; gives its own ones too."""
    truth = derivative(paths)
    own = simulate(predict, paths[0], SAMPLES, INTERVAL)
    mean_square = (predict(paths) - truth).square().mean()
    same_end = (own[-1].round() == paths[-1].round()).all(-1)
    errors = Errors(
        derivative=float(mean_square / truth.var((0, 1), correction=0).mean()),
        path=float((own - paths).square().mean().sqrt()),
        fates=float(same_end.double().mean()),
    )
    return errors, own


def _fit_of(predict: Field, cells: Cells, found: dict[str, Tensor]) -> Fit:
    errors, own = evaluate(predict, cells.test)
    return Fit(
        errors,
        {name: matrix.tolist() for name, matrix in found.items()},
        {name: agreement(matrix, edges()) for name, matrix in found.items()},
        own[:, :4].transpose(0, 1).tolist(),
    )


def _in_f64(model: GeneAttention) -> Field:
    """Give a model as a field of f64 expressions; it computes in f32 as it was trained."""
    return lambda expression: model(expression.float()).double()
