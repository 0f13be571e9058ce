"""All runs of one kind of attention; in a module of its own, so that processes find it."""

import torch

from examples.train_vit.model import PATCH
from examples.train_vit.report import Trial
from examples.train_vit.train import Settings, peak_of_a_step, train

__all__ = ["run_trial"]

_SHAPES = ((32, 32), (32, 64), (64, 64))
"""Patches in each direction, for the comparison of memory: 1024, 2048 and 4096 tokens."""


def run_trial(weights: str, settings: Settings, seeds: int, compiled: int) -> Trial:
    """Train and measure on one thread.

    Args:
        weights: "softmax" or "spherical"
        settings: of all runs
        seeds: eager runs
        compiled: compiled runs, of the first seeds
    """
    torch.set_num_threads(1)

    def peaks(rest: str | None) -> dict[int, float]:  # what is not attention is eager in both
        return {
            height * width: peak_of_a_step(weights, (height * PATCH, width * PATCH), rest)
            for height, width in _SHAPES
        }

    return Trial(
        weights,
        settings.depth,
        [train(weights, seed, settings, compiled=True) for seed in range(compiled)],
        [train(weights, seed, settings, compiled=False) for seed in range(seeds)],
        peaks("eager"),
        peaks(None),
    )
