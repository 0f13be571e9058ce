"""The oracle itself: it accepts what rounding explains, and nothing else."""

from random import Random

import numpy as np
import pytest

from diagc.context import make_context
from diagc.mlir import ir
from diagc.targets import interp
from diagc.testing.oracle import ELEVEN_DIGITS, expect
from diagc.testing.random_diagrams import histogram, random_attention, random_diagram

SUM = """func.func @main(%x: tensor<?x64xTYPE, ["q","x"]>) -> tensor<?xTYPE, ["q"]> {
  %s = "diag.reduce"(%x) {over = ["x"], kind = "add"}
    : (tensor<?x64xTYPE, ["q","x"]>) -> tensor<?xTYPE, ["q"]>
  return %s : tensor<?xTYPE, ["q"]>
}"""


def sum_of(type_: str) -> ir.Module:
    return ir.Module.parse(SUM.replace("TYPE", type_))


def test_tolerances_follow_the_element_type() -> None:
    x = np.random.default_rng(0).normal(size=(5, 64))
    with make_context():
        allowed = {
            type_: float(np.mean(expect(sum_of(type_), [x]).tolerances[0]))
            for type_ in ("f64", "f32", "f16", "bf16")
        }
    assert allowed["f64"] < 1e-12 < allowed["f32"] < 1e-4 < allowed["f16"] < allowed["bf16"] < 1.0


def test_a_sum_in_f32_is_accepted_and_a_lost_element_is_not() -> None:
    x = np.random.default_rng(1).normal(size=(5, 64)).astype(np.float32)
    with make_context():
        expected = expect(sum_of("f32"), [x])
    total = np.zeros(5, dtype=np.float32)
    for column in x.T:  # one after the other: the least accurate order
        total += column
    assert expected.complaint([total]) is None
    complaint = expected.complaint([total - 0.001 * x[:, 3]])
    assert complaint is not None
    assert "result 0 is wrong in" in complaint


@pytest.mark.parametrize(
    ("found", "complaint"),
    [
        ([np.zeros(3)], "result 0 has shape (3,), expected (2,)"),
        ([], "expected 1 results, found 0"),
        ([np.array([np.nan, 64.0])], "expected 64 within"),
        ([np.array([64.0, np.inf])], "expected 64 within"),
    ],
)
def test_shapes_and_values_that_are_no_numbers(found: list[np.ndarray], complaint: str) -> None:
    with make_context():
        expected = expect(sum_of("f32"), [np.ones((2, 64))])
    assert complaint in (expected.complaint(found) or "")


def test_nan_and_infinity_must_meet_their_like() -> None:
    x = np.ones((3, 64))
    x[0, 5], x[1, 6] = np.nan, -np.inf
    with make_context():
        expected = expect(sum_of("f32"), [x])
    assert expected.complaint([np.array([np.nan, -np.inf, 64.0])]) is None
    assert expected.complaint([np.array([np.nan, np.inf, 64.0])]) is not None
    assert expected.complaint([np.array([0.0, -np.inf, 64.0])]) is not None


def test_rounding_at_every_cast_is_accepted_and_tolerances_are_tight(seed: int) -> None:
    """Tolerances near the size of a result would test nothing; they must be rare."""
    count, noisy = 100, 0
    for number in range(seed, seed + count):
        diagram = random_diagram(Random(number))
        with make_context():
            module, inputs = diagram.parse(), diagram.inputs(number)
            expected = expect(module, inputs)
            rounded = interp.evaluate(module, inputs, round_casts=True)
            noisy += expected.too_noisy()
        assert expected.complaint(rounded) is None, f"diagram of seed {number}"
    assert noisy <= 0.1 * count


def test_eleven_digits_are_nearly_exact(seed: int) -> None:
    diagram = random_attention(Random(seed))
    with make_context():
        expected = expect(diagram.parse(), diagram.inputs(0), ELEVEN_DIGITS)
    for exact, tolerance in zip(expected.exact, expected.tolerances, strict=True):
        size = float(np.max(np.abs(exact), initial=0.0))
        assert float(np.max(tolerance, initial=0.0)) <= 1e-6 * size + 1e-12


def test_a_seed_gives_one_diagram_and_one_set_of_inputs(seed: int) -> None:
    first, second = (random_diagram(Random(seed)) for _ in range(2))
    assert first == second
    for one, two in zip(first.inputs(3), second.inputs(3), strict=True):
        assert np.array_equal(one, two)
    assert histogram(first) == histogram(second)


def test_inputs_hold_numbers_of_their_type(seed: int) -> None:
    diagram = random_attention(Random(seed))
    for argument, array in zip(diagram.arguments, diagram.inputs(1), strict=True):
        if argument.element != "i1":
            assert np.array_equal(interp.round_to(array, argument.element), array)


def test_resized_diagrams_keep_static_sizes(seed: int) -> None:
    diagram = random_attention(Random(seed))
    other = diagram.resized(Random(seed + 1))
    assert other.text == diagram.text
    for old, new in zip(diagram.axes, other.axes, strict=True):
        assert old.dynamic or old.size == new.size
