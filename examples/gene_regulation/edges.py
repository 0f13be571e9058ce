"""What a model says about edges, and how well that agrees with the network.

A readout is a matrix [genes, genes]; entry (i, j) is the signed effect of gene j on gene i,
its size says how sure the edge is. Readouts were fixed before any result was seen and are the same
for all models:

    jacobian   the mean of df_i/dx_j over held-out states: what the model computes, however
    path       the same with the weights held fixed: weight times effect of the value, over heads
    weight     the attention weight alone, mean over states and heads

Edges of a gene on itself are left out: there dx/dt has the decay -x too.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.func import jacrev, vmap

from examples.gene_regulation.model import GeneAttention

__all__ = [
    "Agreement",
    "agreement",
    "average_precision",
    "jacobian",
    "readouts",
    "roc_area",
    "shuffled",
]


@dataclass(frozen=True)
class Agreement:
    """How a readout agrees with the signed network, over all pairs of different genes."""

    auroc: float
    """Area under the ROC curve: the sizes of pairs with an edge against those without."""
    auprc: float
    """Average precision of the same ranking."""
    signs: float
    """Part of the true edges whose sign is right; 0 counts as wrong."""


def jacobian(field: Callable[[Tensor], Tensor], states: Tensor) -> Tensor:
    """Give the mean of d field_i / d x_j [genes, genes] over states [cells, genes]."""
    return vmap(jacrev(field))(states).mean(0)


def readouts(model: GeneAttention, states: Tensor) -> dict[str, Tensor]:
    """Read the signed effects [genes, genes] off a trained model, in the three ways."""
    weights = model.weights(states).detach()
    along_values = vmap(jacrev(model.derivative))(states, weights)
    return {
        "jacobian": jacobian(model, states),
        "path": along_values.mean(0),
        "weight": weights.mean((0, 1)),
    }


def agreement(readout: Tensor, signs: Tensor) -> Agreement:
    """Compare a readout with the signed network, both [genes, genes]."""
    found, true = _pairs(readout), _pairs(signs)
    edge = true != 0
    return Agreement(
        roc_area(np.abs(found), edge),
        average_precision(np.abs(found), edge),
        float((np.sign(found) == true)[edge].mean()),
    )


def shuffled(readout: Tensor, signs: Tensor, repeats: int, seed: int) -> list[Agreement]:
    """Compare with networks whose entries are dealt out anew: what chance gives."""
    generator = torch.Generator().manual_seed(seed)
    elsewhere = ~torch.eye(len(signs), dtype=torch.bool)
    results = []
    for _ in range(repeats):
        entries = signs[elsewhere]
        dealt = torch.zeros_like(signs)
        dealt[elsewhere] = entries[torch.randperm(len(entries), generator=generator)]
        results.append(agreement(readout, dealt))
    return results


def roc_area(scores: NDArray[np.float64], positive: NDArray[np.bool_]) -> float:
    """Give the chance that a positive has a higher score than a negative; equal ones count half."""
    difference = scores[positive][:, None] - scores[~positive][None, :]
    return float(((difference > 0) + 0.5 * (difference == 0)).mean())


def average_precision(scores: NDArray[np.float64], positive: NDArray[np.bool_]) -> float:
    """Give the mean over positives of the precision among all that score at least as high."""
    at_least = scores[None, :] >= scores[positive][:, None]
    return float(((at_least & positive).sum(1) / at_least.sum(1)).mean())


def _pairs(matrix: Tensor) -> NDArray[np.float64]:
    """Give the entries of a matrix outside of its diagonal."""
    elsewhere = ~torch.eye(len(matrix), dtype=torch.bool)
    return matrix.detach().double()[elsewhere].numpy()
