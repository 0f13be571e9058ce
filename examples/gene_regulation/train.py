"""Training: the layer compiled by diagc, or as it is, and the linear baseline."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from examples.gene_regulation.model import GeneAttention
from examples.gene_regulation.network import derivative

__all__ = ["Settings", "compiled_by_diagc", "fit_linear", "train"]


@dataclass(frozen=True)
class Settings:
    """Of Adam with a cosine schedule, the same for both models."""

    steps: int = 1500
    cells: int = 128
    learning_rate: float = 1e-2


def compiled_by_diagc(model: nn.Module) -> Callable[[Tensor], Tensor]:
    """Attention becomes a kernel of diagc, the linear layers stay with torch."""
    return torch.compile(model, backend="diagc", options={"rest": "eager", "take": "streams"})


def train(
    weights: str, paths: Tensor, seed: int, settings: Settings, *, compiled: bool = True
) -> tuple[GeneAttention, list[float]]:
    """Fit dx/dt on all states of the trajectories [samples, cells, genes]; gives model and losses.

    Parameters and batches depend on the seed alone, so that two runs differ by the compiler only.
    """
    torch.manual_seed(seed)
    model = GeneAttention(weights)
    predict = compiled_by_diagc(model) if compiled else model
    inputs, targets = (part.flatten(0, 1).float() for part in (paths, derivative(paths)))
    optimizer = torch.optim.Adam(model.parameters(), settings.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings.steps)
    losses = []
    for _ in range(settings.steps):
        rows = torch.randint(len(inputs), (settings.cells,))
        loss = nn.functional.mse_loss(predict(inputs[rows]), targets[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    return model, losses


def fit_linear(paths: Tensor) -> Callable[[Tensor], Tensor]:
    """Give f(x) = A x + b by least squares on all states of the trajectories, in f64."""
    inputs = paths.flatten(0, 1)
    ones = inputs.new_ones(len(inputs), 1)
    solution = torch.linalg.lstsq(torch.cat([inputs, ones], 1), derivative(inputs)).solution
    matrix, offset = solution[:-1], solution[-1]
    return lambda expression: expression @ matrix + offset
