"""Contractions as matrix products: right for any labels and strides, without needless copies."""

import numpy as np
import pytest
import torch

from diagc.runtime.contraction import Labelled, plan_product
from diagc.runtime.program import Program
from diagc.runtime.steps import ArrayType, Contract, Input, Output

SIZES = {"a": 2, "b": 3, "c": 4, "d": 5, "e": 1, "f": 3}


def labelled(labels: str, order: str | None = None) -> Labelled:
    dense = Labelled({x: SIZES[x] for x in labels}, {}).dense(order or labels)
    return Labelled({x: SIZES[x] for x in labels}, dense.strides)


def program(lhs: str, rhs: str, over: str, out: str, dims: str | None = None) -> Program:
    types = [ArrayType(tuple(labels), "f32") for labels in (lhs, rhs, out)]
    inputs = [
        Input(name, "user", t, tuple(SIZES[x] for x in t.labels), tuple((x,) for x in t.labels))
        for name, t in zip(("lhs", "rhs"), types[:2], strict=True)
    ]
    step = Contract((types[2],), (tuple(SIZES[x] for x in out),), 0, 1, tuple(over))
    result = Output(2, tuple((x,) for x in dims or out), tuple(range(len(out))))
    return Program(inputs, [step], [result])


def strided(rng: np.random.Generator, labels: str) -> torch.Tensor:
    """Random values in memory of a random order, sometimes with gaps."""
    order = rng.permutation(len(labels))
    sizes = [SIZES[labels[axis]] for axis in order]
    gaps = rng.integers(0, 2, len(labels))
    wide = torch.from_numpy(rng.standard_normal([s + g for s, g in zip(sizes, gaps, strict=True)]))
    view = wide.float()[tuple(slice(0, size) for size in sizes)]
    return view.permute(tuple(int(axis) for axis in np.argsort(order)))


@pytest.mark.parametrize("seed", range(200))
def test_random_contractions_equal_einsum(seed: int) -> None:
    rng = np.random.default_rng(seed)
    parts = {"both": "", "over": "", "lhs": "", "rhs": ""}
    for label in SIZES:
        parts[str(rng.choice(list(parts)))] += label
    lhs = "".join(rng.permutation(list(parts["both"] + parts["over"] + parts["lhs"])))
    rhs = "".join(rng.permutation(list(parts["both"] + parts["over"] + parts["rhs"])))
    free = list(parts["both"] + parts["lhs"] + parts["rhs"])
    out, dims = "".join(rng.permutation(free)), "".join(rng.permutation(free))
    x, y = strided(rng, lhs), strided(rng, rhs)
    (result,) = program(lhs, rhs, parts["over"], out, dims)([x, y])
    expected = torch.einsum(f"{lhs},{rhs}->{dims}", x.double(), y.double())
    assert result.is_contiguous()
    torch.testing.assert_close(result.double(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("seed", range(100))
def test_columns_in_front_of_rows_as_a_batch(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diagc.runtime.contraction.SMALLEST_MATRIX", 1)
    test_random_contractions_equal_einsum(seed)


def test_a_result_wanted_around_the_rows_is_not_copied() -> None:
    sizes = {"n": 30, "i": 9, "d": 40, "g": 50}
    lhs = Labelled({x: sizes[x] for x in "ind"}, {}).dense("ind")
    rhs = Labelled({x: sizes[x] for x in "gi"}, {}).dense("gi")
    product = plan_product(lhs, rhs, "i", "ngd")
    assert product.out == ("n", "g", "d")
    assert copies(product) == [None, None]


def copies(product: object) -> list[object]:
    return [product.first.copy, product.second.copy]  # type: ignore[attr-defined]


def test_linear_layer_is_one_product_without_copies() -> None:
    product = plan_product(labelled("abc"), labelled("dc"), "c", "abd")
    assert copies(product) == [None, None]
    assert product.first.shape == (1, 6, 4)
    assert product.out == ("a", "b", "d")


def test_heads_that_lie_beside_features_are_one_summed_axis() -> None:
    attention = labelled("abfc", "afbc")  # b heads, f positions; memory: position, head, feature
    product = plan_product(attention, labelled("dbc"), "bc", "afd")
    assert copies(product) == [None, None]
    assert product.first.shape == (1, 6, 12)


def test_rows_with_gaps_become_a_batch_not_a_copy() -> None:
    rows = Labelled({"a": 2, "b": 3, "c": 4}, {"a": 100, "b": 4, "c": 1})
    product = plan_product(rows, labelled("dc"), "c", "abd")
    assert copies(product) == [None, None]
    assert product.first.shape == (2, 3, 4)
    assert product.second.strides[0] == 0


def test_wanted_order_swaps_the_factors() -> None:
    product = plan_product(labelled("abc"), labelled("dc"), "c", "dab")
    assert product.swapped
    assert product.out == ("d", "a", "b")


def test_mixed_dtypes_are_summed_in_the_wider() -> None:
    types = [ArrayType(("a", "c"), "bf16"), ArrayType(("c", "d"), "f32")]
    inputs = [
        Input(str(i), "user", t, tuple(SIZES[x] for x in t.labels), tuple((x,) for x in t.labels))
        for i, t in enumerate(types)
    ]
    step = Contract((ArrayType(("a", "d"), "bf16"),), ((2, 5),), 0, 1, ("c",))
    run = Program(inputs, [step], [Output(2, (("a",), ("d",)), (0, 1))])
    x, y = torch.randn(2, 4).bfloat16(), torch.randn(4, 5)
    (result,) = run([x, y])
    torch.testing.assert_close(result, (x.float() @ y).bfloat16(), rtol=0, atol=0)


@pytest.mark.parametrize("seed", range(60))
def test_random_products_with_bias(seed: int) -> None:
    rng = np.random.default_rng(seed)
    parts = {"both": "", "over": "c", "lhs": "", "rhs": "d"}
    for label in "abef":
        parts[str(rng.choice(["both", "lhs", "rhs"]))] += label
    lhs = "".join(rng.permutation(list(parts["both"] + parts["over"] + parts["lhs"])))
    rhs = "".join(rng.permutation(list(parts["both"] + parts["over"] + parts["rhs"])))
    out = "".join(rng.permutation(list(parts["both"] + parts["lhs"] + parts["rhs"])))
    bias = "".join(rng.permutation(list(parts[str(rng.choice(["lhs", "rhs"]))])))
    x, y, z = strided(rng, lhs), strided(rng, rhs), strided(rng, bias)
    types = [ArrayType(tuple(labels), "f32") for labels in (lhs, rhs, bias)]
    inputs = [
        Input(str(i), "user", t, tuple(SIZES[a] for a in t.labels), tuple((a,) for a in t.labels))
        for i, t in enumerate(types)
    ]
    step = Contract(
        (ArrayType(tuple(out), "f32"),), (tuple(SIZES[a] for a in out),), 0, 1, ("c",), 2
    )
    result = Output(3, tuple((a,) for a in out), tuple(range(len(out))))
    (found,) = Program(inputs, [step], [result])([x, y, z])
    ones = torch.ones([SIZES[a] for a in out], dtype=torch.float64)
    expected = torch.einsum(f"{lhs},{rhs}->{out}", x.double(), y.double())
    expected = expected + torch.einsum(f"{bias},{out}->{out}", z.double(), ones)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)
