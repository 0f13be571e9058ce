"""Losses of labels and positions of extremes, raised as reductions over classes."""

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import diagc
from diagc.errors import UserError

GENERATOR = torch.Generator().manual_seed(5)
CLASSES = 37
SCORES = torch.randn(11, CLASSES, generator=GENERATOR)
LABELS = torch.randint(0, CLASSES, (11,), generator=GENERATOR)
FIRST = int(LABELS[0])
SOME = torch.where(torch.arange(11) % 3 == 0, -100, LABELS)
WEIGHT = torch.rand(CLASSES, generator=GENERATOR) + 0.1
SHARES = torch.softmax(torch.randn(11, CLASSES, generator=GENERATOR), -1)

LOSSES: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], Tensor]] = {
    "mean": (F.cross_entropy, LABELS),
    "sum": (lambda x, t: F.cross_entropy(x, t, reduction="sum"), LABELS),
    "each": (lambda x, t: F.cross_entropy(x, t, reduction="none"), LABELS),
    "ignored": (F.cross_entropy, SOME),
    "ignored class": (lambda x, t: F.cross_entropy(x, t, ignore_index=FIRST), LABELS),
    "smoothed": (lambda x, t: F.cross_entropy(x, t, label_smoothing=0.1), SOME),
    "all ignored": (F.cross_entropy, torch.full((11,), -100)),
    "one row": (lambda x, t: F.cross_entropy(x[0], t[0]), LABELS),
    "nll": (lambda x, t: F.nll_loss(F.log_softmax(x, dim=-1), t), SOME),
    "module": (lambda x, t: torch.nn.CrossEntropyLoss()(x * 2, t), LABELS),
    "weights": (lambda x, t: F.cross_entropy(x, t, WEIGHT.to(x.dtype)), SOME),
    "weights, sum": (
        lambda x, t: F.cross_entropy(x, t, WEIGHT.to(x.dtype), reduction="sum"),
        SOME,
    ),
    "weights, smoothed": (
        lambda x, t: F.cross_entropy(x, t, WEIGHT.to(x.dtype), label_smoothing=0.1),
        SOME,
    ),
    "nll, weights": (lambda x, t: F.nll_loss(x.log_softmax(-1), t, WEIGHT.to(x.dtype)), SOME),
    "positions": (lambda x, t: F.cross_entropy(x.T[None], t[None], reduction="none"), SOME),
    "probabilities": (lambda x, p: F.cross_entropy(x, p.to(x.dtype)), SHARES),
    "probabilities, each": (
        lambda x, p: F.cross_entropy(
            x, p.to(x.dtype), WEIGHT.to(x.dtype), label_smoothing=0.2, reduction="none"
        ),
        SHARES,
    ),
    "gather": (lambda x, t: x.log_softmax(-1).gather(-1, t[:, None]), LABELS),
    "gather, first dim": (lambda x, t: (x.T * 2).log_softmax(0).gather(0, t[None]), LABELS),
    "index": (lambda x, t: -x.log_softmax(-1)[torch.arange(11), t].mean(), LABELS),
}


def raised(compiled: Any) -> bool:
    """Whether nothing but the check of labels is left to torch."""
    outside = {work["what"] for work in json.loads(compiled.explain("json"))["outside"]}
    return outside <= {"diagc.check_labels.default"}


@pytest.mark.parametrize("name", LOSSES)
def test_losses_are_those_of_torch(name: str) -> None:
    function, labels = LOSSES[name]
    compiled = diagc.compile(function, SCORES, labels)
    assert raised(compiled)
    exact = function(SCORES.double(), labels)
    found = compiled(SCORES, labels)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, exact.float(), rtol=1e-5, atol=1e-6, equal_nan=True)


def test_a_loss_of_16_bit_scores_is_summed_in_f32() -> None:
    scores = (SCORES * 4).bfloat16()
    compiled = diagc.compile(F.cross_entropy, scores, LABELS)
    found = compiled(scores, LABELS)
    assert found.dtype == torch.bfloat16
    exact = F.cross_entropy(scores.double(), LABELS)
    assert abs(float(found) - float(exact)) <= 2**-8 * float(exact)


@pytest.mark.parametrize("label", [CLASSES, -1, -101, 2**40])
def test_a_label_that_is_no_class_is_an_error(label: int) -> None:
    compiled = diagc.compile(F.cross_entropy, SCORES, LABELS)
    wrong = LABELS.clone()
    wrong[4] = label
    with pytest.raises(UserError, match=f"label {label} is out of bounds: classes are 0 to 36"):
        compiled(SCORES, wrong)


@pytest.mark.parametrize("name", ["gather", "index"])
def test_an_index_of_no_element_is_an_error(name: str) -> None:
    function, labels = LOSSES[name]
    compiled = diagc.compile(function, SCORES, labels)
    with pytest.raises(UserError, match="label 37 is out of bounds"):
        compiled(SCORES, torch.where(torch.arange(11) == 4, CLASSES, labels))


UNRAISED: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "array in memory": lambda x, t: x.gather(-1, t[:, None]),
    "two of a row": lambda x, t: (x * 2).gather(-1, torch.stack((t, t), 1)),
    "some rows": lambda x, t: (x * 2).gather(-1, t[:5, None]),
    "rows in another order": lambda x, t: (x * 2)[t % 11, t],
}


@pytest.mark.parametrize("name", UNRAISED)
def test_other_picks_are_left_to_torch(name: str) -> None:
    function = UNRAISED[name]
    compiled = diagc.compile(function, SCORES, LABELS)
    assert not raised(compiled)
    torch.testing.assert_close(compiled(SCORES, LABELS), function(SCORES, LABELS))


# ---- positions -----------------------------------------------------------------------------------

TIES = torch.tensor([[1.0, 3.0, 3.0, 0.0], [2.0, 2.0, 2.0, 2.0], [-1.0, -5.0, -5.0, -1.0]])
EDGES = torch.tensor(
    [
        [-torch.inf] * 4,
        [0.0, torch.nan, 9.0, torch.nan],
        [torch.inf, 0.0, torch.inf, -torch.inf],
        [-torch.inf, -torch.inf, 1.0, -torch.inf],
    ]
)

POSITIONS: dict[str, Callable[[Tensor], Any]] = {
    "argmax": lambda x: (x.argmax(-1), x.argmax(0), x.argmax(1, keepdim=True)),
    "argmin": lambda x: (x.argmin(-1), x.argmin()),
    "flat": lambda x: x.argmax(),
    "max": lambda x: tuple(x.max(dim=-1)),
    "top 1": lambda x: torch.topk(x, 1).values,
    "min": lambda x: tuple(x.min(dim=0, keepdim=True)),
    "integers": lambda x: (x * 10).nan_to_num(0, 0, 0).to(torch.int64).argmax(-1),
}


@pytest.mark.parametrize("name", POSITIONS)
@pytest.mark.parametrize("data", [SCORES, TIES, EDGES], ids=["random", "ties", "edges"])
def test_positions_are_those_of_torch(name: str, data: Tensor) -> None:
    function = POSITIONS[name]
    compiled = diagc.compile(function, data)
    assert raised(compiled)
    torch.testing.assert_close(compiled(data), function(data), rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("name", ["argmax", "argmin", "flat", "max"])
def test_positions_are_found_while_scores_stream(name: str) -> None:
    """With ties in different chunks, infinities and NaN; axes longer than what is ever kept."""
    data = torch.randint(-3, 4, (7, 9001), generator=GENERATOR).float()
    data[1, 5000:] = torch.nan
    data[2] = -torch.inf
    data[3, 8999] = torch.inf
    if name == "flat":
        data[1] = 0.0
    function = POSITIONS[name]
    compiled = diagc.compile(function, data)
    report = json.loads(compiled.explain("json"))
    laws = [s["law"] for k in report["kernels"] for s in k["streams"]]
    assert any("void when" in line for law in laws for line in law)
    torch.testing.assert_close(compiled(data), function(data), rtol=0, atol=0, equal_nan=True)


def test_positions_along_an_empty_or_very_long_axis_are_torchs() -> None:
    long = torch.zeros(1, (1 << 24) + 1)
    compiled = diagc.compile(lambda x: x.argmax(-1), long)
    assert not raised(compiled)
    assert compiled(long).tolist() == [0]
