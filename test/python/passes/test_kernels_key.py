"""The cache key of kernels, and their names."""

import pytest

from diagc.compiler import run_pipeline
from diagc.dialects import diag
from diagc.frontend.builder import Diagram, Wire, fn
from diagc.mlir import ir
from diagc.passes.kernels.generalize_kernels import kernel_key
from diagc.passes.kernels.kernel_names import describe_origin


def kernel(rows: int = 5, size: int = 24, scale: float = 2.0, axis: str = "c") -> ir.Operation:
    """The kernel of a softmax over a static axis, made at some line of this file."""
    with Diagram("main") as g:
        x: Wire = g.input("X", n=rows, **{axis: size})
        e = fn.exp(x * scale)
        g.output(e / e.sum(axis))
    with g.module.context:
        run_pipeline(g.module)
    kept.append(g.module)
    (found,) = [op for op in diag.functions(g.module) if diag.is_kernel(op)]
    return found


kept: list[ir.Module] = []  # a function's handle does not keep its module alive


def test_key_ignores_labels_open_sizes_names_and_locations() -> None:
    reference = kernel_key(kernel())
    assert kernel_key(kernel(rows=7)) == reference
    other = kernel(axis="features")
    other.attributes["sym_name"] = ir.StringAttr.get("another_name", other.context)
    assert kernel_key(other) == reference


@pytest.mark.parametrize("change", [{"size": 32}, {"scale": 3.0}])
def test_key_tells_kernels_apart(change: dict[str, float]) -> None:
    assert kernel_key(kernel(**change)) != kernel_key(kernel())  # type: ignore[arg-type]


def test_key_depends_on_what_the_target_adds() -> None:
    found = kernel()
    assert kernel_key(found, "avx512") != kernel_key(found, "avx2")
    assert "diag.origin" in found.attributes, "asking for the key must not change the kernel"


def test_name_says_what_is_computed() -> None:
    assert ir.StringAttr(kernel().attributes["sym_name"]).value == "reduce_max_exp_d24_f32"


def test_origin_names_op_and_place() -> None:
    with Diagram("main") as g:
        g.output(fn.exp(g.input("X", n=4)).named("warm"))
    op = next(iter(diag.function_body(diag.functions(g.module)[0]).operations)).operation
    assert describe_origin(op).startswith("map warm at ")
    assert "test_kernels_key.py" in describe_origin(op)
