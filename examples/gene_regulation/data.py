"""Expression data of simulated cells: trajectories of the ODEs from two kinds of starts."""

from dataclasses import dataclass

import torch
from torch import Tensor

from examples.gene_regulation.network import (
    CELL_TYPES,
    GENES,
    PROGENITOR,
    derivative,
    simulate,
    state,
)

__all__ = ["EXPERIMENTS", "INTERVAL", "SAMPLES", "Cells", "draw_cells", "end_of"]

SAMPLES = 41
INTERVAL = 0.2
"""Cells are seen at 41 times, 0 to 8 life times; most have nearly come to rest by then."""

TRAINING_CELLS, TEST_CELLS = 64, 32
SPREAD = 0.6
"""Progenitors differ from the published one by up to this in every gene."""
_CANDIDATES = 2048


@dataclass(frozen=True)
class Cells:
    """Trajectories in f64, [samples, cells, genes] each; cells of `test` are not in `training`."""

    training: Tensor
    test: Tensor


def draw_cells(experiment: str, seed: int) -> Cells:
    """Simulate the cells of one experiment: what is drawn depends on the seed alone."""
    generator = torch.Generator().manual_seed(seed)
    starts = EXPERIMENTS[experiment](generator)
    paths = simulate(derivative, starts, SAMPLES, INTERVAL)
    training, test = paths.split([TRAINING_CELLS, TEST_CELLS], dim=1)
    return Cells(training, test)


def end_of(starts: Tensor) -> Tensor:
    """Give for each start [cells, genes] the number of the cell type it ends as, or -1."""
    ends = simulate(derivative, starts, samples=16, interval=1.0)[-1]
    types = torch.stack([state(active) for active in CELL_TYPES.values()])
    distance, nearest = (ends[:, None] - types).abs().amax(-1).min(-1)
    return torch.where(distance < 0.1, nearest, -1)


def _differentiation(generator: torch.Generator) -> Tensor:
    """Progenitors, the same number of each cell type to be.

    Left to chance most become granulocytes and one in fifty a monocyte.
    """
    noise = torch.rand(_CANDIDATES, len(GENES), generator=generator, dtype=torch.float64)
    starts = (state(PROGENITOR) - SPREAD * noise).abs()
    ends = end_of(starts)
    count = (TRAINING_CELLS + TEST_CELLS) // len(CELL_TYPES)
    rows = [torch.nonzero(ends == kind).flatten()[:count] for kind in range(len(CELL_TYPES))]
    if min(map(len, rows)) < count:
        raise RuntimeError(f"too few of {_CANDIDATES} progenitors become one of the cell types")
    return starts[torch.stack(rows, 1).flatten()]


def _perturbation(generator: torch.Generator) -> Tensor:
    """Every gene anywhere between off and on, as after many over-expressions and knock-downs."""
    shape = (TRAINING_CELLS + TEST_CELLS, len(GENES))
    return torch.rand(*shape, generator=generator, dtype=torch.float64)


EXPERIMENTS = {"differentiation": _differentiation, "perturbation": _perturbation}
