"""The Python builder: what wires mean, where ops are located, how mistakes are explained."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diagc.dialects import diag
from diagc.errors import DiagcError, UserError, VerificationError
from diagc.frontend.builder import Diagram, Wire, fn
from diagc.frontend.text import parse
from diagc.frontend.text.printer import print_module
from diagc.targets.interp import evaluate

Array = np.ndarray[Any, Any]
HERE = Path(__file__).name


def arrays() -> list[Array]:
    rng = np.random.default_rng(5)
    return [rng.standard_normal(shape) for shape in ((3, 4), (5, 4), (5, 2))]


def run(make: Callable[[Diagram, Wire, Wire, Wire], object]) -> list[Array]:
    with Diagram("f") as g:
        A, B, C = g.input("A", q=..., d=4), g.input("B", x=None, d=4), g.input("C", x=..., e=2)
        outputs = make(g, A, B, C)
        for wire in outputs if isinstance(outputs, tuple) else (outputs,):
            g.output(wire)
    return evaluate(g.module, arrays(), function="f")


def softmax(x: Array) -> Array:
    return np.asarray(np.exp(x) / np.exp(x).sum(1, keepdims=True))


MEANINGS: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "attention": (
        lambda g, A, B, C: (A @ B * 0.5).normalize("softmax", along="x") @ C,
        lambda A, B, C: softmax(A @ B.T * 0.5) @ C,
    ),
    "masked": (
        lambda g, A, B, C: A.contract(B, over="d").normalize(
            "l1", along="x", keep=g.index("q") >= g.index("x")
        ),
        lambda A, B, C: np.tril(A @ B.T) / np.abs(np.tril(A @ B.T)).sum(1, keepdims=True),
    ),
    "operators": (
        lambda g, A, B, C: 1 - A * 2 / (3 + abs(A)) + A**2 % 0.7 - (-A),
        lambda A, B, C: 1 - A * 2 / (3 + abs(A)) + A**2 % 0.7 + A,
    ),
    "comparisons": (
        lambda g, A, B, C: fn.where((A > 0) & ~(A >= 1) | A.eq(2) | A.ne(A), A, -1),
        lambda A, B, C: np.where((A > 0) & ~(A >= 1), A, -1),
    ),
    "one map": (
        lambda g, A, B, C: g.map(lambda a, b: fn.exp(a) * b + fn.silu(b), A, B),
        lambda A, B, C: np.exp(A)[:, :, None] * B.T[None] + (B / (1 + np.exp(-B))).T[None],
    ),
    "reductions": (
        lambda g, A, B, C: (A.sum("d"), A.mean("q d"), A.max("q"), B.min(("x", "d"))),
        lambda A, B, C: (A.sum(1), A.mean(), A.max(0), B.min()),
    ),
    "views": (
        lambda g, A, B, C: (
            B.relabel(x="y").sum("d"),
            A.reindex({"d": lambda k: 2 * k + 1}, k=2),
            A.reindex({"d": lambda d: 3 - d}),
            A.pad("d", "p", 1, 2, 9.0),
            B.sum("d").concat(A.sum("d"), along="x q", to="z"),
        ),
        lambda A, B, C: (
            B.sum(1),
            A[:, 1::2],
            A[:, ::-1],
            np.pad(A, ((0, 0), (1, 2)), constant_values=9.0),
            np.concatenate([B.sum(1), A.sum(1)]),
        ),
    ),
    "constants and casts": (
        lambda g, A, B, C: (g.constant(0.25) * A, A.cast("f64"), g.index("q").cast("f32")),
        lambda A, B, C: (0.25 * A, A, np.arange(3.0)),
    ),
}


@pytest.mark.parametrize("name", MEANINGS)
def test_a_diagram_means(name: str) -> None:
    make, reference = MEANINGS[name]
    expected = reference(*arrays())
    found = run(make)
    for value, wanted in zip(
        found, expected if isinstance(expected, tuple) else (expected,), strict=True
    ):
        np.testing.assert_allclose(value, wanted, rtol=1e-6, atol=1e-12)


def test_text_and_builder_make_the_same_module() -> None:
    text = (
        "axis q, d = 64, x, e = 64\n"
        "diagram spherical(Q: q d, K: x d, V: x e) {\n"
        "  S = Q . K over d\n"
        "  P = l2(S) along x where (q >= x)\n"
        "  O = P . V over x\n"
        "  return O\n"
        "}\n"
    )
    with Diagram("spherical") as g:
        Q, K, V = g.input("Q", q=..., d=64), g.input("K", x=..., d=64), g.input("V", x=..., e=64)
        P = (Q @ K).normalize("l2", along="x", keep=g.index("q") >= g.index("x"))
        g.output(O=P @ V)
    ours, theirs = (
        str(m.operation.get_asm(print_generic_op_form=True)) for m in (g.module, parse(text))
    )
    assert ours == theirs


def test_every_op_has_the_place_of_the_call() -> None:
    with Diagram("f") as g:
        A = g.input("A", q=..., d=4)
        S = (A * 2).named("S")
        g.output(S.sum("d"))
    (function,) = diag.functions(g.module)
    places = [str(op.location) for op in diag.function_body(function).operations]
    assert all(HERE in place for place in places)
    assert places[0].startswith('loc("S"(')
    line = test_every_op_has_the_place_of_the_call.__code__.co_firstlineno
    assert f'{HERE}":{line + 3}:14)' in places[0]
    assert f'{HERE}":{line + 4}:18)' in places[1]
    assert "S: q d = A * 2.0" in print_module(g.module)


MISTAKES: dict[str, tuple[Callable[..., Any], str]] = {
    "label": (
        lambda g, A, B: A.contract(B, over="q"),
        'contracted axis "q" is missing in the right operand, expected one of x d',
    ),
    "matmul": (
        lambda g, A, B: A @ B.sum("d"),
        'contracted axis "d" is missing in the right operand, expected one of x',
    ),
    "no axes": (lambda g, A, B: A.sum("q d") @ B, "'@' needs an axis to contract"),
    "normaliser": (
        lambda g, A, B: A.normalize("sofmax", along="d"),
        "unknown normaliser 'sofmax', expected one of softmax, l2",
    ),
    "reduction": (lambda g, A, B: A.reduce("median", "d"), "unknown reduction 'median'"),
    "size": (
        lambda g, A, B: g.input("D", d=3),
        'axis "d" has another size already, expected 4, found 3; give a different axis',
    ),
    "rename": (lambda g, A, B: A.relabel(q="d"), 'axis "d" has another size already'),
    "axis": (lambda g, A, B: g.index("z"), 'unknown axis "z", expected one of q d x'),
    "position": (lambda g, A, B: A.reindex({"d": lambda z: z}), 'unknown axis "z"; give its size'),
    "out of range": (
        lambda g, A, B: g.output(A.reindex({"d": lambda k: k + 2}, k=4)),
        'positions 2..5 leave source axis "d" of size 4',
    ),
    "element type": (lambda g, A, B: A.cast("f33"), "unknown element type 'f33', expected one of"),
    "condition": (lambda g, A, B: fn.where(A, 1, 2), "'where' takes a condition (i1), found f32"),
    "operand": (lambda g, A, B: A + "a", "expected a number or a scalar, found str"),
    "result": (lambda g, A, B: g.map(lambda a: None, A), "expected a number or a scalar"),
    "truth": (lambda g, A, B: max(A, B), "an elementwise condition has no single truth value"),
    "arguments": (
        lambda g, A, B: fn.exp(A, B),
        "wrong number of arguments for 'exp', expected 1, found 2",
    ),
    "numbers only": (lambda g, A, B: fn.exp(1), "'exp' takes a wire or a scalar"),
    "output": (
        lambda g, A, B: g.output(3),
        "not a wire, expected a wire of this diagram, found int",
    ),
    "nothing": (lambda g, A, B: None, "diagram 'f' has no output; call g.output(wire)"),
    "concat": (
        lambda g, A, B: A.concat(B, "q x", "d"),
        'result label "d" is already an axis of the operands',
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_explained_at_its_line(name: str) -> None:
    make, words = MISTAKES[name]
    with pytest.raises(DiagcError) as caught, Diagram("f") as g:
        make(g, g.input("A", q=..., d=4), g.input("B", x=..., d=4))
    assert words in caught.value.summary
    assert caught.value.location is not None
    assert caught.value.location.file == __file__


def test_wires_of_two_diagrams_do_not_mix() -> None:
    with Diagram("one") as g:
        A = g.input("A", q=4)
        g.output(A)
    refusal = pytest.raises(UserError, match="a wire of diagram 'one' is used in diagram 'two'")
    with refusal, Diagram("two") as h:
        h.output(h.input("B", q=4) + A)


def test_a_failed_diagram_has_no_module_and_hides_no_exception() -> None:
    g = Diagram("f")
    with pytest.raises(ZeroDivisionError), g:
        g.input("A", q=1 // 0)
    with pytest.raises(UserError, match="was not finished"):
        g.module  # noqa: B018


def test_an_unknown_function_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no elementwise function 'median'"):
        fn.median  # noqa: B018


def test_a_later_error_points_to_the_python_line() -> None:
    with Diagram("f") as g:
        g.output(g.input("A", q=4) * 2)
    (function,) = diag.functions(g.module)
    op = diag.function_body(function).operations[0]
    shown = VerificationError("not so", location=op.location).render()
    assert 'g.output(g.input("A", q=4) * 2)' in shown
