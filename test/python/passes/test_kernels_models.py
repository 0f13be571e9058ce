"""Whole models through the pipeline: their kernels, and that they still mean the same."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from diagc.compiler import run_pipeline
from diagc.dialects import diag
from diagc.frontend.builder import Diagram, Wire, fn
from diagc.mlir import ir
from diagc.options import CompileOptions
from diagc.targets import interp

Model = Callable[[Diagram], Sequence[Wire]]
SEED = 20260


def heads(g: Diagram, queries: int = 40, keys: int = 70) -> tuple[Wire, Wire, Wire]:
    return (
        g.input("Q", b=2, h=3, q=queries, d=16),
        g.input("K", b=2, h=3, x=keys, d=16),
        g.input("V", b=2, h=3, x=keys, e=8),
    )


def attention(kind: str, causal: bool = False, weights: bool = False) -> Model:
    def build(g: Diagram) -> Sequence[Wire]:
        q, k, v = heads(g)
        keep = g.index("x") <= g.index("q") + 30 if causal else None
        p = (q * 0.25).contract(k, "d").normalize(kind, "x", keep=keep)
        return [p.contract(v, "x"), *([p] if weights else [])]

    return build


def layer_norm(x: Wire, gain: Wire, bias: Wire) -> Wire:
    centred = x - x.mean("c")
    return centred * fn.rsqrt((centred * centred).mean("c") + 1e-5) * gain + bias


def norm(g: Diagram) -> Sequence[Wire]:
    return [layer_norm(g.input("X", b=2, n=5, c=24), g.input("g", c=24), g.input("o", c=24))]


def encoder(layers: int) -> Model:
    def layer(g: Diagram, i: int, x: Wire) -> Wire:
        def weight(name: str, **axes: int) -> Wire:
            return g.input(f"{name}{i}", **axes)

        q, k, v = (x.contract(weight(n, c=24, h=2, d=12), "c") for n in ("q", "k", "v"))
        s = q.relabel(n="q").contract(k.relabel(n="x"), "d")
        o = s.normalize("softmax", "x").contract(v.relabel(n="x", d="e"), "x")
        o = o.relabel(q="n", e="d").contract(weight("o", h=2, d=12, k=24), "h d").relabel(k="c")
        y = layer_norm(x + o, weight("g", c=24), weight("b", c=24))
        z = fn.gelu(y.contract(weight("w", c=24, f=48), "c") + weight("u", f=48))
        z = z.contract(weight("r", f=48, k=24), "f").relabel(k="c")
        return layer_norm(y + z, weight("gg", c=24), weight("bb", c=24))

    def build(g: Diagram) -> Sequence[Wire]:
        x = g.input("X", b=2, n=20, c=24)
        for i in range(layers):
            x = layer(g, i, x)
        return [x]

    return build


def chain(g: Diagram) -> Sequence[Wire]:
    x = g.input("X", n=6, c=10)
    for _ in range(5):
        x = fn.tanh(x * 1.5) + x
    return [x]


def diamond(g: Diagram) -> Sequence[Wire]:
    x = fn.exp(g.input("X", n=6, c=10))
    return [x.sum("c"), x / x.sum("c"), fn.sqrt(x)]


def branches(g: Diagram) -> Sequence[Wire]:
    return [fn.exp(g.input("X", n=6, c=10)), fn.exp(g.input("Y", m=3, k=7))]


def statistics(g: Diagram) -> Sequence[Wire]:
    x = g.input("X", n=6, c=10)
    return [x.sum("c"), x.max("c")]


def pooled(g: Diagram) -> Sequence[Wire]:
    x = g.input("X", b=2, n=6, c=10)
    return [fn.exp(x).sum("n"), (x * x).sum("b n c")]


# model, the most calls of kernels, the most products that are left to the library
MODELS: dict[str, tuple[Model, int, int]] = {
    "softmax": (attention("softmax"), 1, 0),
    "l1": (attention("l1"), 1, 0),
    "causal softmax": (attention("softmax", causal=True), 1, 0),
    "causal l2": (attention("l2", causal=True), 1, 0),
    "weights too": (attention("softmax", weights=True), 2, 1),
    "layer norm": (norm, 1, 0),
    "encoder layer": (encoder(1), 4, 6),
    "chain": (chain, 1, 0),
    "diamond": (diamond, 1, 0),
    "branches": (branches, 2, 0),
    "statistics": (statistics, 1, 0),
    "pooled": (pooled, 2, 0),
}


def build(model: Model) -> ir.Module:
    with Diagram("main") as g:
        g.output(*model(g))
    return g.module


def random_inputs(module: ir.Module) -> list[np.ndarray]:
    rng = np.random.default_rng(SEED)
    entry = diag.functions(module)[0]
    types = [argument.type for argument in diag.function_body(entry).arguments]
    return [rng.normal(size=tuple(type_.shape)) for type_ in types]


def entry_ops(module: ir.Module) -> list[str]:
    ops = [op.operation.name for op in diag.function_body(diag.functions(module)[0]).operations]
    return [name for name in ops if name != "builtin.unrealized_conversion_cast"]


@pytest.mark.parametrize("name", MODELS)
def test_model_becomes_few_kernels_and_keeps_its_meaning(name: str) -> None:
    model, calls, products = MODELS[name]
    module = build(model)
    with module.context:
        inputs = random_inputs(module)
        expected = interp.evaluate(ir.Module.parse(str(module)), inputs)
        run_pipeline(module, CompileOptions())
        found = interp.evaluate(module, inputs)
        ops = entry_ops(module)
    assert ops.count("func.call") <= calls, ops
    assert ops.count("diag.contract") <= products, ops
    for result, reference in zip(found, expected, strict=True):
        np.testing.assert_allclose(result, reference, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("library", ["auto", "none"])
def test_equal_layers_share_their_kernels(library: str) -> None:
    counts = []
    for layers in (1, 3):
        module = build(encoder(layers))
        with module.context:
            run_pipeline(module, CompileOptions(library=library))
            counts.append(sum(diag.is_kernel(op) for op in diag.functions(module)))
    assert counts[0] == counts[1]
    if library == "auto":
        assert counts[0] <= 3  # attention, add and norm, bias and activation


def test_no_product_is_left_to_the_library_when_it_is_not_wanted() -> None:
    module = build(encoder(1))
    with module.context:
        run_pipeline(module, CompileOptions(library="none"))
        assert "diag.contract" not in entry_ops(module)
