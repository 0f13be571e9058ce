"""Gradients from saved values are those without, for every normaliser of the table, in float64."""

from dataclasses import replace

import numpy as np
import pytest

from diagc.algebra.normalizers import NORMALIZERS
from diagc.compiler import compile_module
from diagc.context import make_context
from diagc.frontend.text import parse
from diagc.mlir import ir
from diagc.options import CompileOptions
from diagc.runtime.program import Program
from diagc.testing.seed import SEED

TEXT = """
axis h = 2, q = 6, x = 9, d = 3, e = 4
diagram attention(Q: h q d, K: h x d, V: h x e) {
  S = Q . K over d
  P = KIND(S) along x where (q >= x)
  Y = P . V over x
  return Y
}
"""
SHAPES = [(2, 6, 3), (2, 9, 3), (2, 9, 4)]
ROW, OUT = (2, 6), (2, 6, 4)
SAVED = {
    "softmax": 3,
    "l2": 2,
    "l1": 2,
    "relu-sum": 2,
    "sigmoid": 0,
    "none": 0,
    "rms": 2,
    "layer": 3,
}
"""Statistics of scores, and the sum over keys where that is not the result itself."""
INTERP = CompileOptions(target="interp", reassociate="off")


def program(kind: str, options: CompileOptions) -> Program:
    with make_context(), ir.Location.unknown():
        module = parse(TEXT.replace("KIND", kind.replace("-", "_")))
        return compile_module(module, options.target, options)


@pytest.mark.parametrize("kind", SAVED)
def test_saved_values_give_the_same_gradients(kind: str) -> None:
    random = np.random.default_rng(SEED)
    inputs = [random.standard_normal(shape) for shape in SHAPES]
    given = program(kind, replace(INTERP, saves=True)).run(inputs)
    (plain,) = program(kind, INTERP).run(inputs)
    np.testing.assert_allclose(given[0], plain, rtol=1e-12, atol=1e-12)
    assert len(given) - 1 == SAVED[kind]
    assert all(value.shape in (ROW, OUT) for value in given)
    wrt = replace(INTERP, wrt=("Q", "K", "V"))
    cotangent = random.standard_normal(plain.shape)
    wanted = program(kind, wrt).run([*inputs, cotangent])
    found = program(kind, replace(wrt, saves=True)).run([*inputs, cotangent, *given[1:]])
    for ours, right in zip(found, wanted, strict=True):
        np.testing.assert_allclose(ours, right, rtol=1e-9, atol=1e-9)


def test_every_row_of_the_table_is_tried() -> None:
    assert SAVED.keys() == {name for name, row in NORMALIZERS.items() if not row.parameters}
