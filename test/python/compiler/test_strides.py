"""Affine maps as views, groups of axes as one axis."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from diagc.runtime.steps import Affine
from diagc.runtime.strides import linear_form, nests, permuted_strides, view_strides


def evaluate(expr: Affine, positions: tuple[int, ...]) -> int:
    if isinstance(expr, int):
        return expr
    if expr[0] == "dim":
        return positions[expr[1]]
    left, right = (evaluate(part, positions) for part in expr[1:])
    return {
        "+": lambda: left + right,
        "*": lambda: left * right,
        "//": lambda: left // right,
        "%": lambda: left % right,
    }[expr[0]]()


def evaluate_form(form: dict[object, int], positions: tuple[int, ...]) -> int:
    total = 0
    for atom, factor in form.items():
        if not isinstance(atom, tuple):
            total += factor
        elif atom[0] == "dim":
            total += factor * positions[atom[1]]
        else:
            total += factor * (evaluate_form(dict(atom[1]), positions) // atom[2])
    return total


SIZES = (3, 4, 5)


def expressions() -> st.SearchStrategy[Affine]:
    leaves = st.integers(0, 6) | st.sampled_from([("dim", i) for i in range(len(SIZES))])
    return st.recursive(
        leaves,
        lambda inner: (
            st.tuples(st.just("+"), inner, inner)
            | st.tuples(st.just("*"), inner, st.integers(0, 4))
            | st.tuples(st.sampled_from(["//", "%"]), inner, st.integers(1, 6))
        ),
        max_leaves=6,
    )


@given(expressions())
def test_linear_form_has_the_value_of_the_expression(expr: Affine) -> None:
    form = linear_form(expr, SIZES)
    for positions in itertools.product(*map(range, SIZES)):
        assert evaluate_form(form, positions) == evaluate(expr, positions)


def test_split_and_merge_of_a_dense_array_are_views() -> None:
    merge = (("//", ("dim", 0), 5), ("%", ("dim", 0), 5))
    assert view_strides(merge, (20,), (5, 1)) == (0, (1,))
    assert view_strides(merge, (20,), (6, 1)) is None
    split = (("+", ("*", ("dim", 0), 5), ("dim", 1)),)
    assert view_strides(split, (4, 5), (2,)) == (0, (10, 2))
    split_of_merge = (
        ("//", ("+", ("*", ("dim", 0), 5), ("dim", 1)), 5),
        ("%", ("+", ("*", ("dim", 0), 5), ("dim", 1)), 5),
    )
    assert view_strides(split_of_merge, (4, 5), (7, 3)) == (0, (7, 3))


def test_slice_and_diagonal_are_views_and_reversal_is_not() -> None:
    assert view_strides((("+", ("dim", 0), 2), ("dim", 1)), (3, 4), (10, 1)) == (20, (10, 1))
    assert view_strides((("dim", 0), ("dim", 0)), (3,), (10, 1)) == (0, (11,))
    assert view_strides((("+", 4, ("*", ("dim", 0), -1)),), (5,), (1,)) is None


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_permuted_strides_are_those_of_a_transposed_dense_array(order: tuple[int, ...]) -> None:
    dense = np.zeros([SIZES[axis] for axis in order], dtype=np.int8)
    view = dense.transpose(np.argsort(order))
    assert permuted_strides(SIZES, order) == view.strides


def test_axes_of_size_one_nest_with_anything() -> None:
    assert nests((4, 1, 5), (5, 999, 1))
    assert not nests((4, 5), (6, 1))
    assert nests((), ())
