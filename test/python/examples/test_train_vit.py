"""Training a small vision transformer: compiled losses are those of eager mode, and it learns."""

import torch

from diagc.testing.seed import SEED
from examples.train_vit.report import FIRST, Trial
from examples.train_vit.train import Run, Settings, train

SMALL = Settings(steps=FIRST, batch=2, width=32, classes=2, held_out=8, rest="eager")


def test_compiled_training_is_eager_s() -> None:
    """Spherical attention; softmax trains in the example of gene regulation."""
    compiled = train("spherical", SEED, SMALL, compiled=True)
    eager = train("spherical", SEED, SMALL, compiled=False)
    trial = Trial("spherical", SMALL.depth, [compiled], [eager], {}, {})
    assert trial.first <= 1e-4
    assert compiled.streams == SMALL.depth
    assert abs(compiled.final - eager.final) <= 1e-3
    assert compiled.losses[-1] != compiled.losses[0]
    torch._dynamo.reset()


def test_what_is_missed_is_said() -> None:
    good = Run([2.0] * FIRST, 1.0, streams=4)
    eager = [good, Run([2.0] * FIRST, 0.5)]
    assert Trial("softmax", 4, [good], eager, {4: 1.0}, {4: 2.0}).missed() == []
    worse = Run([2.0] * (FIRST - 1) + [float("nan")], 1.5)
    missed = Trial("softmax", 4, [worse], eager, {4: 3.0}, {4: 2.0}).missed()
    assert [reason.split()[0] for reason in missed] == ["a", "a", "the", "final", "training"]
