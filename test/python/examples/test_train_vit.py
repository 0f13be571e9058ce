"""Training a small vision transformer: compiled losses are those of eager mode, and it learns."""

import pytest
import torch

from diagc.testing.seed import SEED
from diagc.torch_backend.report import collecting
from examples.train_vit.report import FIRST, Trial
from examples.train_vit.train import Run, Settings, train

SMALL = Settings(steps=30, batch=8, size=16, width=32, classes=4, held_out=64, rest="eager")


@pytest.mark.parametrize("weights", ["softmax", "spherical"])
def test_compiled_training_is_eager_s(weights: str) -> None:
    with collecting() as reports:
        compiled = train(weights, SEED, SMALL, compiled=True)
    eager = train(weights, SEED, SMALL, compiled=False)
    trial = Trial(weights, compiled, [eager], {}, {})
    assert trial.first <= 1e-4
    assert abs(compiled.final - eager.final) <= 1e-2
    assert sum(compiled.losses[-5:]) < sum(compiled.losses[:5])
    streamed = [
        region
        for report in reports
        for region in report.regions
        if any(kernel.streams for kernel in region.compiled.kernels)
        and any("matmul" in call for call in region.calls)
    ]
    assert len(streamed) == SMALL.depth
    gradients = {made.report is not None for r in streamed for made in r.compiled.report.gradients}
    assert gradients == {True}
    torch._dynamo.reset()


def test_what_is_missed_is_said() -> None:
    good = Run([2.0] * FIRST, 1.0)
    eager = [good, Run([2.0] * FIRST, 0.5)]
    assert Trial("softmax", good, eager, {4: 1.0}, {4: 2.0}).missed() == []
    worse = Run([2.0] * (FIRST - 1) + [float("nan")], 1.5)
    missed = Trial("softmax", worse, eager, {4: 3.0}, {4: 2.0}).missed()
    assert [reason.split()[0] for reason in missed] == ["a", "the", "final", "training"]
