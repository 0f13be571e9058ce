"""The axis analysis: woven, local, streamed and broadcast axes of ops and kernels."""

from collections.abc import Callable

import pytest

from diagc.compiler import run_pipeline
from diagc.dialects import diag
from diagc.frontend.builder import Diagram, Wire, fn
from diagc.mlir import ir
from diagc.passes.kernels.kernel_axes import (
    KernelAxes,
    analyze_kernel,
    contraction_axes,
    is_index_map,
    op_axes,
    row_operand,
)

kept: list[ir.Module] = []  # a function's handle does not keep its module alive


def function(build: Callable[[Diagram], Wire], stage: str = "diag") -> ir.Operation:
    """The entry of a diagram, taken to a stage."""
    with Diagram("main") as g:
        g.output(build(g))
    kept.append(g.module)
    with g.module.context:
        run_pipeline(g.module, last=stage)
    return diag.functions(g.module)[0]


def op(build: Callable[[Diagram], Wire], stage: str = "diag") -> ir.Operation:
    """The op that makes the diagram's output."""
    ops = list(diag.function_body(function(build, stage)).operations)
    found: ir.Operation = ops[-1].operation.operands[0].owner.operation
    return found


def axes(build: Callable[[Diagram], Wire], stage: str = "streams") -> KernelAxes:
    return analyze_kernel(function(build, stage))


def attention(g: Diagram) -> Wire:
    q = g.input("Q", b=2, h=..., q=..., d=64)
    k, v = g.input("K", b=2, h=..., x=..., d=64), g.input("V", b=2, h=..., x=..., e=32)
    return q.contract(k, "d").normalize("softmax", "x").contract(v, "x")


def rows(g: Diagram) -> Wire:
    x = g.input("X", b=2, n=..., c=24)
    return x / x.sum("c")


def test_map_and_reduction_weave_their_results() -> None:
    reduction = op_axes(op(lambda g: g.input("X", b=2, n=3, c=4).sum("n")))
    assert (reduction.woven, reduction.reduced) == (("b", "c"), ("n",))
    assert str(reduction) == "diag.reduce weaves b c, reduces n"
    mapped = op_axes(op(lambda g: fn.exp(g.input("X", b=2, n=3))))
    assert str(mapped) == "diag.map weaves b n"


def test_contraction_keeps_few_features_inside_the_task() -> None:
    found = op(lambda g: g.input("X", b=2, n=..., c=8).contract(g.input("M", b=2, c=8, f=16), "c"))
    assert row_operand(found) == 0
    assert op_axes(found).woven == ("b", "n")
    assert contraction_axes(found).rhs_lacks == ("n",)
    assert contraction_axes(found).lhs_lacks == ("f",)
    assert contraction_axes(found).broadcast == ("n", "f")


def test_contraction_weaves_many_features() -> None:
    found = op(lambda g: g.input("X", n=..., c=8).contract(g.input("W", c=8, f=3072), "c"))
    assert op_axes(found).woven == ("n", "f")


def test_rows_are_the_operand_with_more_free_positions() -> None:
    found = op(lambda g: g.input("M", f=16, c=8).contract(g.input("X", n=100, c=8), "c"))
    assert row_operand(found) == 1
    assert op_axes(found).woven == ("n",)


def test_attention_weaves_batch_heads_and_queries() -> None:
    found = axes(attention)
    assert found.common == ("b", "h", "q")
    assert found.local == ("e",)
    assert found.streamed == ("x",)
    assert found.size("q") == diag.DYNAMIC
    assert found.size("d") == 64
    assert found.results == (("b", "h", "q", "e"),)
    assert {c.over for c in found.contractions} == {("d",), ("x",)}


def test_rows_share_what_all_their_ops_weave() -> None:
    found = axes(rows)
    assert found.common == ("b", "n")
    assert found.local == ("c",)
    assert found.reduced == ("c",)


def test_analysis_prints_sizes_and_one_line_an_op() -> None:
    text = str(axes(rows))
    assert text.splitlines()[0] == "sizes: b=2 n=? c=24"
    assert "common: b n\nlocal: c" in text
    assert "diag.reduce weaves b n, reduces c" in text


def test_unknown_axis_is_refused() -> None:
    with pytest.raises(KeyError):
        axes(rows).size("z")


def test_maps_of_positions_are_masks() -> None:
    def mask(g: Diagram) -> Wire:
        g.input("Q", q=4)
        g.input("K", x=5)
        return g.index("q") >= g.index("x") + 1

    assert is_index_map(op(mask))
    assert not is_index_map(op(lambda g: fn.exp(g.input("X", n=3))))
    assert not is_index_map(op(lambda g: g.input("X", n=3).sum("n")))
