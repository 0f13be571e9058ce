"""The pass differentiate: every rule against torch.autograd and finite differences, in float64."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch

from diagc.compiler import run_pipeline
from diagc.context import make_context
from diagc.dialects import diag
from diagc.errors import DiagcError, UnsupportedError
from diagc.frontend.builder import Diagram, Wire, fn
from diagc.mlir import ir
from diagc.options import CompileOptions
from diagc.testing.gradients import (
    Array,
    by_differences,
    differentiated,
    gradients,
    random_cotangents,
)
from diagc.testing.seed import SEED

Model = Callable[[Diagram], Sequence[Wire]]
Formula = Callable[..., Any]


def text(model: Model) -> str:
    with Diagram("main") as g:
        g.output(*model(g))
    return str(g.module.operation.get_asm(enable_debug_info=True))


def elementwise(function: Callable[[Any], Any]) -> Model:
    return lambda g: [function(g.input("X", "f64", n=4, c=5))]


def binary(function: Callable[[Any, Any], Any]) -> Model:
    """Y lacks an axis of X, so that it is broadcast."""
    return lambda g: [function(g.input("X", "f64", n=4, c=5), g.input("Y", "f64", c=5))]


def positive(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    return rng.uniform(0.3, 2.0, shape)


def normal(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    return rng.standard_normal(shape)


def some_zeros(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """No zero in the first row, one in the second, several in the third."""
    array = rng.uniform(0.5, 1.5, shape)
    array[1, 2] = array[2, 0] = array[2, 3] = 0.0
    return array


def check(
    model: Model, formula: Formula, shapes: Sequence[tuple[int, ...]], draw: Any = normal
) -> None:
    """Compare all gradients of a model with those of torch, and with differences."""
    rng = np.random.default_rng(SEED)
    source, inputs = text(model), [draw(rng, shape) for shape in shapes]
    cotangents = random_cotangents(source, inputs, SEED)
    found = gradients(source, inputs, cotangents)
    tensors = [torch.tensor(array, requires_grad=True) for array in inputs]
    results = formula(*tensors)
    results = results if isinstance(results, tuple) else (results,)
    given = [torch.tensor(array) for array in cotangents]
    wanted = torch.autograd.grad(results, tensors, given, allow_unused=True)
    for number, (mine, theirs) in enumerate(zip(found, wanted, strict=True)):
        expected = np.zeros_like(inputs[number]) if theirs is None else theirs.numpy()
        np.testing.assert_allclose(mine, expected, rtol=1e-9, atol=1e-11)
    direction = [rng.standard_normal(shape) for shape in shapes]
    slope = sum(float((mine * d).sum()) for mine, d in zip(found, direction, strict=True))
    difference = by_differences(source, inputs, cotangents, direction)
    np.testing.assert_allclose(slope, difference, rtol=1e-6, atol=1e-6)


# ---- scalar functions --------------------------------------------------------------------------

ONE: dict[str, tuple[Callable[[Any], Any], Formula, Any]] = {
    "neg": (lambda x: -x, torch.neg, normal),
    "abs": (abs, torch.abs, normal),
    "exp": (fn.exp, torch.exp, normal),
    "exp2": (fn.exp2, torch.exp2, normal),
    "expm1": (fn.expm1, torch.expm1, normal),
    "log": (fn.log, torch.log, positive),
    "log1p": (fn.log1p, torch.log1p, positive),
    "sqrt": (fn.sqrt, torch.sqrt, positive),
    "rsqrt": (fn.rsqrt, torch.rsqrt, positive),
    "tanh": (fn.tanh, torch.tanh, normal),
    "erf": (fn.erf, torch.erf, normal),
    "sin": (fn.sin, torch.sin, normal),
    "cos": (fn.cos, torch.cos, normal),
    "sigmoid": (fn.sigmoid, torch.sigmoid, normal),
    "gelu": (fn.gelu, torch.nn.functional.gelu, normal),
    "silu": (lambda x: x * fn.sigmoid(x), torch.nn.functional.silu, normal),
    "relu": (fn.relu, torch.relu, normal),
    "cube": (lambda x: x**3, lambda x: x**3, normal),
    "power": (lambda x: x**1.7, lambda x: x**1.7, positive),
    "reciprocal": (lambda x: 1.0 / x, torch.reciprocal, positive),
    "twice": (lambda x: x * x + x, lambda x: x * x + x, normal),
    "where": (
        lambda x: fn.where(x > 0.5, x * x, -x),
        lambda x: torch.where(x > 0.5, x * x, -x),
        normal,
    ),
    "cast": (lambda x: x.cast("bf16").cast("f64") * 2.0, lambda x: x * 2.0, normal),
}


@pytest.mark.parametrize("name", ONE)
def test_functions_of_one_wire(name: str) -> None:
    function, formula, draw = ONE[name]
    check(elementwise(function), formula, [(4, 5)], draw)


TWO: dict[str, tuple[Callable[[Any, Any], Any], Formula, Any]] = {
    "add": (lambda x, y: x + y, torch.add, normal),
    "sub": (lambda x, y: x - y, torch.sub, normal),
    "rem": (lambda x, y: x % y, torch.remainder, positive),
    "mul": (lambda x, y: x * y, torch.mul, normal),
    "div": (lambda x, y: x / y, torch.div, positive),
    "max": (fn.max, torch.maximum, normal),
    "min": (fn.min, torch.minimum, normal),
    "pow": (lambda x, y: x**y, torch.pow, positive),
    "only one": (lambda x, y: 0.0 * x + fn.exp(y), lambda x, y: 0.0 * x + y.exp(), normal),
}


@pytest.mark.parametrize("name", TWO)
def test_functions_of_two_wires_one_broadcast(name: str) -> None:
    function, formula, draw = TWO[name]
    check(binary(function), formula, [(4, 5), (5,)], draw)


def test_kinks_have_the_subgradients_of_torch() -> None:
    x = np.array([[0.0, 0.0, 1.0, -1.0, 2.0]] * 4)
    y = np.array([0.0, 1.0, 1.0, -1.0, 3.0])
    pairs: list[tuple[Model, Formula, list[Array]]] = [
        (elementwise(abs), torch.abs, [x]),
        (elementwise(fn.relu), torch.relu, [x]),
        (binary(fn.max), torch.maximum, [x, y]),
        (binary(fn.min), torch.minimum, [x, y]),
    ]
    for model, formula, inputs in pairs:
        cotangents = random_cotangents(text(model), inputs, SEED)
        tensors = [torch.tensor(array, requires_grad=True) for array in inputs]
        wanted = torch.autograd.grad(formula(*tensors), tensors, torch.tensor(cotangents[0]))
        for mine, theirs in zip(gradients(text(model), inputs, cotangents), wanted, strict=True):
            np.testing.assert_allclose(mine, theirs.numpy())


# ---- ops ---------------------------------------------------------------------------------------


def product(over: str, total: str = "") -> Model:
    def build(g: Diagram) -> Sequence[Wire]:
        a, b = g.input("A", "f64", b=2, n=3, c=4), g.input("B", "f64", b=2, c=4, m=5)
        y = a.contract(b, over)
        return [y.sum(total) if total else y]

    return build


OPS: dict[str, tuple[Model, Formula, list[tuple[int, ...]]]] = {
    "contract": (
        product("c"),
        lambda a, b: torch.einsum("bnc,bcm->bnm", a, b),
        [(2, 3, 4), (2, 4, 5)],
    ),
    "contract over the batch too": (
        product("b c"),
        lambda a, b: torch.einsum("bnc,bcm->nm", a, b),
        [(2, 3, 4), (2, 4, 5)],
    ),
    "outer product": (
        lambda g: [g.input("A", "f64", n=3).contract(g.input("B", "f64", m=5), "")],
        lambda a, b: torch.einsum("n,m->nm", a, b),
        [(3,), (5,)],
    ),
    "sum of a contraction": (
        product("c", total="m"),
        lambda a, b: torch.einsum("bnc,bcm->bn", a, b),
        [(2, 3, 4), (2, 4, 5)],
    ),
    "a wire times itself": (
        lambda g: [(lambda a: a.contract(a.relabel(n="m"), "c"))(g.input("A", "f64", n=3, c=4))],
        lambda a: a @ a.T,
        [(3, 4)],
    ),
    "sum of everything": (
        lambda g: [fn.exp(g.input("A", "f64", n=3, c=4)).sum("n c")],
        lambda a: a.exp().sum(),
        [(3, 4)],
    ),
    "mean": (
        lambda g: [g.input("A", "f64", n=3, c=4).mean("c") ** 2],
        lambda a: a.mean(1) ** 2,
        [(3, 4)],
    ),
    "max": (lambda g: [g.input("A", "f64", n=3, c=4).max("c")], lambda a: a.amax(1), [(3, 4)]),
    "min": (lambda g: [g.input("A", "f64", n=3, c=4).min("n c")], lambda a: a.amin(), [(3, 4)]),
    "two results": (
        lambda g: [(lambda x: (x.sum("c"), x * x))(fn.sin(g.input("A", "f64", n=3, c=4)))][0],
        lambda a: (a.sin().sum(1), a.sin() ** 2),
        [(3, 4)],
    ),
    "an argument that nothing reads": (
        lambda g: [(lambda a, b: a * 2.0)(g.input("A", "f64", n=3), g.input("B", "f64", c=4))],
        lambda a, b: a * 2.0,
        [(3,), (4,)],
    ),
    "a result that is an argument": (
        lambda g: [g.input("A", "f64", n=3)],
        lambda a: a * 1.0,
        [(3,)],
    ),
    "concat": (
        lambda g: [
            g.input("A", "f64", n=3, c=4).concat(g.input("B", "f64", m=2, c=4), "n m", "k") ** 2
        ],
        lambda a, b: torch.cat([a, b]) ** 2,
        [(3, 4), (2, 4)],
    ),
    "pad": (
        lambda g: [g.input("A", "f64", n=3, c=4).pad("n", "k", 2, 1, 5.0) ** 2],
        lambda a: torch.nn.functional.pad(a, (0, 0, 2, 1), value=5.0) ** 2,
        [(3, 4)],
    ),
    "sum over a padded axis": (
        lambda g: [g.input("A", "f64", n=3, c=4).pad("n", "k", 2, 1, 5.0).sum("k")],
        lambda a: a.sum(0) + 15.0,
        [(3, 4)],
    ),
    "positions": (
        lambda g: [
            (lambda a: fn.where(g.index("c") <= g.index("n"), a**2, 0.0))(
                g.input("A", "f64", n=3, c=4)
            )
        ],
        lambda a: (a.tril() ** 2).T,
        [(3, 4)],
    ),
}


@pytest.mark.parametrize("name", OPS)
def test_ops(name: str) -> None:
    check(*OPS[name])


def test_ties_of_a_maximum_share_the_cotangent() -> None:
    x = np.array([[1.0, 1.0, 0.0, 1.0], [2.0, 0.0, 2.0, 1.0], [0.0, 0.0, 0.0, 0.0]])
    source = text(lambda g: [g.input("A", "f64", n=3, c=4).max("c")])
    tensor = torch.tensor(x, requires_grad=True)
    cotangents = random_cotangents(source, [x], SEED)
    (wanted,) = torch.autograd.grad(tensor.amax(1), tensor, torch.tensor(cotangents[0]))
    (found,) = gradients(source, [x], cotangents)
    np.testing.assert_allclose(found, wanted.numpy())


def test_a_product_of_elements_with_zeros() -> None:
    shapes = [(3, 4)]
    check(
        lambda g: [g.input("A", "f64", n=3, c=4).reduce("prod", "c")],
        lambda a: a.prod(1),
        shapes,
        some_zeros,
    )


# ---- whole models ------------------------------------------------------------------------------

ROWS: dict[str, Callable[[Any], Any]] = {
    "softmax": lambda s: s.softmax(-1),
    "l2": lambda s: s / s.norm(dim=-1, keepdim=True),
    "l1": lambda s: s / s.abs().sum(-1, keepdim=True),
    "relu-sum": lambda s: s.relu() / s.relu().sum(-1, keepdim=True).clamp_min(1e-300),
    "sigmoid": torch.sigmoid,
    "none": lambda s: s,
    "rms": lambda s: s / (s**2).mean(-1, keepdim=True).sqrt(),
    "layer": lambda s: torch.nn.functional.layer_norm(s, s.shape[-1:], eps=0.0),
}
SHAPES = [(2, 5, 4), (2, 7, 4), (2, 7, 3)]


def attention(kind: str, masked: bool = False) -> Model:
    def build(g: Diagram) -> Sequence[Wire]:
        q, k = g.input("Q", "f64", h=2, q=5, d=4), g.input("K", "f64", h=2, x=7, d=4)
        v = g.input("V", "f64", h=2, x=7, e=3)
        keep = g.index("x") <= g.index("q") + 2 if masked else None
        return [(q * 0.5).contract(k, "d").normalize(kind, "x", keep=keep).contract(v, "x")]

    return build


@pytest.mark.parametrize("kind", ROWS)
def test_attention(kind: str) -> None:
    check(attention(kind), lambda q, k, v: ROWS[kind](q * 0.5 @ k.mT) @ v, SHAPES)


def test_masked_attention() -> None:
    keep = torch.ones(5, 7, dtype=torch.bool).tril(2)
    check(
        attention("softmax", masked=True),
        lambda q, k, v: (q * 0.5 @ k.mT).masked_fill(~keep, -torch.inf).softmax(-1) @ v,
        SHAPES,
    )


def test_rms_norm_and_linear() -> None:
    def model(g: Diagram) -> Sequence[Wire]:
        x, gain = g.input("X", "f64", n=5, c=6), g.input("g", "f64", c=6)
        y = x.normalize("rms", "c", eps=1e-5) * gain
        return [y.contract(g.input("W", "f64", c=6, f=4), "c")]

    def formula(x: Any, gain: Any, w: Any) -> Any:
        return torch.nn.functional.rms_norm(x, (6,), gain, 1e-5) @ w

    check(model, formula, [(5, 6), (6,), (6, 4)])


def cross_entropy(g: Diagram) -> Sequence[Wire]:
    x, w = g.input("X", "f64", n=5, c=6), g.input("W", "f64", c=6, v=8)
    y = x.contract(w, "c")
    m = y.max("v")
    lse = m + fn.log(fn.exp(y - m).sum("v"))
    return [lse - (y * g.input("T", "f64", n=5, v=8)).sum("v")]


def test_log_sum_exp_of_a_linear_layer() -> None:
    def formula(x: Any, w: Any, t: Any) -> Any:
        return (x @ w).logsumexp(-1) - (x @ w * t).sum(-1)

    check(cross_entropy, formula, [(5, 6), (6, 8), (5, 8)])


def test_only_the_gradients_that_are_wanted() -> None:
    source, rng = text(attention("softmax")), np.random.default_rng(SEED)
    inputs = [rng.standard_normal(shape) for shape in SHAPES]
    cotangents = random_cotangents(source, inputs, SEED)
    dq, _, dv = gradients(source, inputs, cotangents)
    found = gradients(source, inputs, cotangents, wrt=["V", "Q"])
    assert len(found) == 2
    np.testing.assert_allclose(found[0], dv)
    np.testing.assert_allclose(found[1], dq)


def test_the_gradient_of_a_gradient() -> None:
    def model(g: Diagram) -> Sequence[Wire]:
        x = g.input("X", "f64", n=3, c=4)
        return [fn.exp(x).max("c") * (x * x.normalize("softmax", "c")).sum("c")]

    def formula(x: Any) -> Any:
        return x.exp().amax(1) * (x * x.softmax(1)).sum(1)

    rng = np.random.default_rng(SEED)
    x, d, u = (rng.standard_normal(shape) for shape in ((3, 4), (3,), (3, 4)))
    with make_context(), ir.Location.unknown():
        first = str(differentiated(text(model)))
    found = gradients(first, [x, d], [u])
    tensors = [torch.tensor(array, requires_grad=True) for array in (x, d)]
    (dx,) = torch.autograd.grad(formula(tensors[0]), tensors[0], tensors[1], create_graph=True)
    wanted = torch.autograd.grad(dx, tensors, torch.tensor(u))
    for mine, theirs in zip(found, wanted, strict=True):
        np.testing.assert_allclose(mine, theirs.numpy(), rtol=1e-9, atol=1e-11)


# ---- rows without mass, and shifts that cancel -------------------------------------------------


@pytest.mark.parametrize("kind", ["softmax", "l2", "l1", "relu-sum"])
def test_rows_without_mass_have_no_gradient(kind: str) -> None:
    """Such a row gives 0 whatever its elements are; 1 / 0 reaches no gradient."""

    def model(g: Diagram) -> Sequence[Wire]:
        x, keep = g.input("X", "f64", n=3, c=4), g.input("M", "i1", n=3, c=4)
        return [x.normalize(kind, "c", keep=keep)]

    x = np.random.default_rng(SEED).uniform(0.5, 1.0, (3, 4))
    keep = np.array([[True, True, False, True], [False] * 4, [True] * 4])
    (found,) = gradients(text(model), [x, keep], random_cotangents(text(model), [x, keep], SEED))
    assert np.isfinite(found).all()
    assert not found[1].any()
    assert not found[0, 2]
    assert found[0].any()
    assert found[2].any()


def names_after(model: Model) -> list[str]:
    with make_context(), ir.Location.unknown():
        module = differentiated(text(model))
        return [op.name for op in diag.walk_ops(module.operation.regions[0])]


def test_a_maximum_that_cancels_is_a_constant() -> None:
    """The reductions are m, z and D; no sum sends a gradient to the maximum."""
    assert names_after(attention("softmax")).count("diag.reduce") == 3
    assert "arith.uitofp" not in names_after(cross_entropy)


def test_a_maximum_that_shows_keeps_its_gradient() -> None:
    def model(g: Diagram) -> Sequence[Wire]:
        x = g.input("X", "f64", n=3, c=4)
        return [fn.exp(x - x.max("c")).sum("c")]

    check(model, lambda x: (x - x.amax(1, keepdim=True)).exp().sum(1), [(3, 4)])


def test_an_extremum_of_sums_is_refused() -> None:
    """A kernel that computes the sums again may round otherwise, and miss the extremum."""

    def model(g: Diagram) -> Sequence[Wire]:
        return [g.input("X", "f64", n=3, c=4).normalize("softmax", "c").max("c")]

    with pytest.raises(UnsupportedError, match="gradient of an extremum"):
        names_after(model)


# ---- streams -----------------------------------------------------------------------------------

# states of each stream, by axis
STREAMS = {
    "softmax": [("x", 3), ("x", 1), ("q", 2)],
    "l2": [("x", 4), ("q", 2)],
    "l1": [("x", 4), ("q", 2)],
    "relu-sum": [("x", 2), ("x", 1), ("q", 2)],
    "sigmoid": [("x", 1), ("q", 2)],
    "rms": [("x", 5), ("q", 2)],
    "layer": [("x", 7), ("x", 1), ("x", 1), ("q", 2)],
}


def open_attention(kind: str) -> Model:
    def build(g: Diagram) -> Sequence[Wire]:
        q, k = g.input("Q", q=None, d=4), g.input("K", x=None, d=4)
        p = q.contract(k, "d").normalize(kind, "x")
        return [p.contract(g.input("V", x=None, e=3), "x")]

    return build


def streams(module: ir.Module) -> list[tuple[str, int]]:
    """Axis and number of states of each stream; nothing else may sum or multiply."""
    run_pipeline(module, CompileOptions(), "streams", after="expanded")
    top = [op.operation for op in diag.function_body(diag.functions(module)[0]).operations]
    assert {op.name for op in top} <= {"diag.stream", "diag.map", "func.return"}
    found = [op for op in top if op.name == "diag.stream"]
    return [(s.attributes["axis"].value, len(s.regions[1].blocks[0].arguments)) for s in found]


@pytest.mark.parametrize("kind", STREAMS)
def test_the_backward_of_attention_streams(kind: str) -> None:
    """No scores are stored; statistics and dQ stream over keys, dK and dV over queries."""
    source, rng = text(open_attention(kind)), np.random.default_rng(SEED)
    inputs = [rng.standard_normal(shape) for shape in ((9, 4), (17, 4), (17, 3))]
    cotangents = random_cotangents(source, inputs, SEED)
    wanted = gradients(source, inputs, cotangents)
    found: list[tuple[str, int]] = []
    result = gradients(source, inputs, cotangents, after=lambda m: found.extend(streams(m)))
    assert found == STREAMS[kind]
    for mine, plain in zip(result, wanted, strict=True):
        np.testing.assert_allclose(mine, plain, rtol=1e-8, atol=1e-10)


# ---- refusals ----------------------------------------------------------------------------------


def refusal(source: str, wrt: Sequence[str] = ()) -> DiagcError:
    with make_context(), ir.Location.unknown(), pytest.raises(DiagcError) as caught:
        differentiated(source, wrt)
    return caught.value


def test_streams_are_refused() -> None:
    with make_context(), ir.Location.unknown():
        module = ir.Module.parse(text(open_attention("softmax")))
        run_pipeline(module, CompileOptions(), "streams")
        source = str(module)
    error = refusal(source)
    assert "'diag.stream'" in error.summary
    assert "before streams are derived" in error.summary


def test_wrong_names_are_refused() -> None:
    source = text(attention("softmax"))
    assert "'Z' in option 'wrt' of pass 'differentiate' is no argument" in str(refusal(source, "Z"))
    masked = text(lambda g: [fn.where(g.input("M", "i1", n=3), g.input("A", n=3), 0.0)])
    assert "holds no floats, expected A, found 'M'" in str(refusal(masked, "M"))
