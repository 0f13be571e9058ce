"""What the runs show: whether compiled training is eager's, and figures of losses and memory."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from statistics import median

import matplotlib

matplotlib.use("Agg")
import torch
from matplotlib import pyplot as plt

from examples.train_vit.train import Run

__all__ = ["FIRST", "Trial", "draw"]

FIRST = 20
"""Steps whose losses have to be those of eager mode."""

_ALLOWED = 1e-4
"""Largest difference of those losses, in f32."""

Peaks = Mapping[int, float]
"""Megabytes at the peak, by number of tokens."""


@dataclass(frozen=True)
class Trial:
    """All runs of one kind of attention.

    Args:
        weights: "softmax" or "spherical".
        layers: of attention.
        compiled: runs by seed.
        eager: likewise, as many or more.
        compiled_peaks: of a training step.
        eager_peaks: likewise.
    """

    weights: str
    layers: int
    compiled: Sequence[Run]
    eager: Sequence[Run]
    compiled_peaks: Peaks
    eager_peaks: Peaks

    @property
    def first(self) -> float:
        """Largest difference of the first losses from those of eager mode with the same seed."""
        ours, theirs = (
            torch.tensor([run.losses[:FIRST] for run in runs], dtype=torch.float64)
            for runs in (self.compiled, self.eager[: len(self.compiled)])
        )
        return float((ours - theirs).abs().max())  # NaN if any is

    @property
    def final(self) -> float:
        """The final loss in the middle."""
        return median(run.final for run in self.compiled)

    @property
    def spread(self) -> tuple[float, float]:
        """Least and largest final loss of eager mode."""
        finals = [run.final for run in self.eager]
        return min(finals), max(finals)

    def missed(self) -> list[str]:
        """What is not as it has to be, in words."""
        low, high = self.spread
        said = []
        if any(run.streams != self.layers for run in self.compiled):
            said.append("a layer of attention is not computed in a stream")
        if not all(isfinite(loss) for run in self.compiled for loss in run.losses):
            said.append("a loss is not finite")
        if not self.first <= _ALLOWED:
            said.append(f"the first {FIRST} losses differ by {self.first:.1e}")
        if not low <= self.final <= high:
            said.append(f"final loss {self.final:.4f} is not in {low:.4f} .. {high:.4f}")
        tokens = max(self.eager_peaks, default=None)
        if tokens and self.compiled_peaks[tokens] >= self.eager_peaks[tokens]:
            said.append("training takes no less memory than in eager mode")
        return said

    def text(self) -> str:
        """A few lines for people."""
        low, high = self.spread
        lines = [
            f"{self.weights}: first {FIRST} losses differ by {self.first:.1e}; final loss "
            f"{self.final:.4f}, eager {low:.4f} .. {high:.4f} ({len(self.eager)} seeds)"
        ]
        for tokens, peak in self.eager_peaks.items():
            ours = self.compiled_peaks[tokens]
            part = f"{ours:.0f} MB, eager {peak:.0f} MB: {ours / peak:.3f}"
            lines.append(f"  a step with {tokens} tokens: {part}")
        return "\n".join([*lines, *(f"  MISSED: {reason}" for reason in self.missed())])


def draw(trials: Sequence[Trial], path: Path) -> None:
    """Losses of all runs, how far compiled and eager ones are apart, and memory, as PNG."""
    figure, rows = plt.subplots(len(trials), 3, figsize=(12, 3.2 * len(trials)), squeeze=False)
    for trial, (losses, apart, memory) in zip(trials, rows, strict=True):
        for number, run in enumerate(trial.eager):
            label = {"label": "eager, by seed"} if number == 0 else {}
            losses.plot(run.losses, color="#bbbbbb", linewidth=0.8, **label)
        losses.plot(trial.compiled[0].losses, color="#2b6cb0", linewidth=1, label="diagc, seed 0")
        losses.set(title=f"{trial.weights}: loss", xlabel="step")
        for ours, theirs in zip(trial.compiled, trial.eager, strict=False):
            pairs = zip(ours.losses, theirs.losses, strict=True)
            apart.semilogy([max(abs(a - b), 1e-9) for a, b in pairs], linewidth=0.8)
        apart.axhline(_ALLOWED, color="#b3261e", linewidth=0.8, label=f"allowed, {FIRST} steps")
        apart.axvline(FIRST, color="#b3261e", linewidth=0.8)
        apart.set(title="difference from eager, same seed", xlabel="step")
        for name, peaks in (("eager", trial.eager_peaks), ("diagc", trial.compiled_peaks)):
            memory.loglog(list(peaks), list(peaks.values()), "o-", label=name)
        memory.set(title="peak of a training step, MB", xlabel="tokens")
        for axes in (losses, apart, memory):
            axes.legend(frameon=False, fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)
