"""Cascades of reductions: what streams in one pass, what is refused and with which witness."""

from itertools import product
from typing import Any

import numpy as np
import pytest

from diagc.algebra.expressions import call, exp, symbol
from diagc.compiler import run_pipeline
from diagc.context import make_context
from diagc.frontend.text import parse
from diagc.mlir import ir
from diagc.options import CompileOptions
from diagc.targets import interp
from diagc.testing.cascade_judge import rank, run_errors, verdict
from diagc.testing.cascade_report import report
from diagc.testing.random_cascades import Cascade, Step

X, Y, M, S, Z, U = (symbol(name) for name in "XYMSZU")


def test_random_cascades() -> None:
    """A sample; `python -m diagc.testing.cascade_report 1000` judges them all."""
    found = report(range(5000, 5100), numbers_every=4)
    assert (found.legal, found.illegal) == (50, 50)
    assert not found.wrong_accepts
    assert len(found.wrong_refusals) <= 1
    assert not found.without_witness
    assert not found.mislabelled
    assert not found.wrong_results


def cascade(*steps: tuple[str, str | None, Any]) -> Cascade:
    return Cascade(tuple(Step(*step) for step in steps), legal=True)


LOG_Z = call("log", Z)
WEIGHTED = (("M", "max", X), ("Z", "sum", exp(X - M)), ("U", "sum", exp(X - M) * Y))


@pytest.mark.parametrize(
    "steps",
    [
        # the variance of values under softmax weights: a factor and a binomial matrix together
        (*WEIGHTED, ("S", None, U / Z), ("R", "sum", exp(X - M) * (Y - S) * (Y - S))),
        # around a log-sum-exp, which grows with the row, but slowly
        (*WEIGHTED[:2], ("S", None, M + call("log", Z)), ("R", "sum", (Y - S) * (Y - S))),
        # two exponentials of different rates: a sum of its own for each
        (("M", "max", X), ("R", "sum", exp(X - M) + exp((X - M) * 2.0) * Y)),
        # x * exp(x): scalar and binomial
        (("M", "max", X), ("R", "sum", exp(X - M) * (X - M) * (X - M))),
        # no polynomial and no exponential: sums that do not move, weighed at the end
        (("M", "mean", X), ("R", "sum", call("cos", Y - M) + call("tanh", M) * X)),
        # a logarithm within a product: three statistics, and a factor that stands twice
        (
            *WEIGHTED[:2],
            ("R", "sum", exp((X - M - LOG_Z) * 0.5) * (X - M - LOG_Z) * (X - M - LOG_Z)),
        ),
        # the same with one statistic, log-sum-exp: the logarithm is not split off
        (
            *WEIGHTED[:2],
            ("S", None, M + LOG_Z),
            ("U", "mean", exp((X - S) * 0.5) * (X - S) * (X - S)),
            ("R", "sum", (Y - U) * (Y - U)),
        ),
        # the logarithm only in what is summed up, not in a statistic: z is guarded there as well
        (
            *WEIGHTED[:2],
            ("U", "mean", X - (M + LOG_Z)),
            ("R", "sum", (X - U) * (X - U)),
        ),
        # three levels, the third around a statistic that is itself weighed
        (
            ("M", "max", X),
            ("S", "mean", call("sin", Y + M)),
            ("R", "sum", (X - S) * (X - S) * (X - S)),
        ),
    ],
)
def test_legal_cascades_stream_and_compute(steps: Any) -> None:
    made = cascade(*steps)
    found = verdict(made)
    assert found.accepted, found.remarks
    assert run_errors(made, seed=1) == []


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        (
            (("M", "mean", X), ("R", "sum", call("tanh", X - M))),
            "tanh(a - z / n) changes with a statistic by no law of rank up to 6: singular values",
        ),
        (  # no scale is taken off an element that something is divided by
            (("M", "min", X), ("R", "sum", (M - X) * Y + 1.0 / (exp(Y - M) + 1.0))),
            "by no law of rank up to 6: singular values of [phi(x_i, s_j)] are",
        ),
        (
            (("M", "max", X), ("R", "sum", call("pow", X - M, 6.0))),
            "by no law of rank up to 6: singular values of [phi(x_i, s_j)] are",
        ),
        (
            (("M", "mean", X), ("R", "max", X * M)),
            "by no shift that is the same for all positions: from statistics",
        ),
        (  # in range at the end, but not while the mean is still far from the largest element
            (("M", "mean", X), ("R", "sum", exp(X - M))),
            "leaves the range of floats, or loses all digits, before the statistic is final: "
            "on the row [",
        ),
        (  # the maximum of other elements keeps nothing in range
            (("M", "max", Y), ("R", "sum", exp(X - M))),
            "leaves the range of floats, or loses all digits",
        ),
        (
            (("M", "sum", X), ("S", None, 1.0 / M), ("R", "sum", (X - S) * X)),
            "a statistic that it uses, 1 / z, may be infinite or no number at first: "
            "it is no number where z = 0",
        ),
    ],
)
def test_refusals_show_a_witness(steps: Any, message: str) -> None:
    found = verdict(cascade(*steps))
    assert not found.accepted
    assert any(message in remark for remark in found.remarks), found.remarks


def test_the_judge_knows_ranks() -> None:
    assert rank(Step("R", "sum", (X - M) * (X - M))) == 3
    assert rank(Step("R", "sum", exp(X - M))) == 1
    assert rank(Step("R", "sum", call("cos", X - M))) == 2
    assert rank(Step("R", "sum", (X - M) * (Y - S))) == 4
    assert rank(Step("R", "sum", call("tanh", (X - M) * 0.01))) > 6


def check_one_stream(text: str, arrays: list[Any], wanted: Any, rtol: float) -> None:
    """A diagram is one stream, which is right for all chunks and orders of joining them."""
    with make_context(), ir.Location.unknown():
        module = parse(text)
        run_pipeline(module, CompileOptions(), "streams")
        assert str(module).count('"diag.stream"') == 1
        for chunk, tree in product((1, 3, 100), (False, True)):
            (found,) = interp.evaluate(module, arrays, chunk=chunk, tree=tree)
            np.testing.assert_allclose(found, wanted, rtol=rtol)


def test_a_fully_masked_first_chunk_poisons_nothing() -> None:
    text = (
        "axis b = 2, x\n"
        "diagram main(X: b x f64, Y: b x f64, K: b x i1) {\n"
        "  A = where(K, X, -inf)\n  M = max(A) over x\n"
        "  E = exp(A - M)\n  Z = sum(E) over x\n"
        "  S = sum(E * Y) over x / Z\n"
        "  R = sum(E * (Y - S) * (Y - S)) over x\n  return R\n}\n"
    )
    rng = np.random.default_rng(5)
    x, y = rng.standard_normal((2, 2, 9))
    keep = np.ones((2, 9), bool)
    keep[:, :4] = False
    weights = np.where(keep, np.exp(x - np.where(keep, x, -np.inf).max(1, keepdims=True)), 0.0)
    mean = (weights * y).sum(1, keepdims=True) / weights.sum(1, keepdims=True)
    check_one_stream(text, [x, y, keep], (weights * (y - mean) ** 2).sum(1), 1e-12)


def test_a_masked_first_chunk_may_meet_a_logarithm_in_a_summand() -> None:
    """The sum under the logarithm is 0 there, and no statistic of its own."""
    text = (
        "axis b = 2, x\n"
        "diagram main(X: b x f64, K: b x i1) {\n"
        "  A = where(K, X, -inf)\n  M = max(A) over x\n"
        "  Z = sum(exp(A - M)) over x\n"
        "  U = sum(where(K, X - M - log(Z), 0.0)) over x\n"
        "  R = sum((X - U) * (X - U)) over x\n  return R\n}\n"
    )
    x = np.random.default_rng(6).standard_normal((2, 9))
    keep = np.ones((2, 9), bool)
    keep[:, :4] = False
    logarithm = np.log((np.exp(x) * keep).sum(1, keepdims=True))
    total = ((x - logarithm) * keep).sum(1, keepdims=True)
    check_one_stream(text, [x, keep], ((x - total) ** 2).sum(1), 1e-11)
