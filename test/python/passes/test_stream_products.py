"""Large products as streams: at which rate they are chosen, and what stays where no law helps."""

import pytest

from diagc.dialects import diag
from diagc.frontend.text import parse
from diagc.mlir import ir
from diagc.options import CompileOptions, use
from diagc.passes.product_times import kernel_seconds


def product(rows: str) -> tuple[ir.Module, ir.Operation]:
    module = parse(
        "axis n = 8192, c = 8192, o = 8192\n"
        f"diagram f(X: {rows} bf16, W: o c bf16) {{\n  return X . W over c\n}}\n"
    )
    found = diag.walk_ops(module.operation.regions[0])
    return module, next(op for op in found if op.name == "diag.contract")


@pytest.mark.parametrize(("target", "rate"), [("nvptx:sm_90a", 1.5), ("nvptx:sm_90", 1.0)])
def test_rows_across_the_sum_are_for_tiles(target: str, rate: float) -> None:
    """Warpgroups, of 0.6 of the peak, take rows along the sum alone; tiles reach 0.4."""
    seconds = []
    with use(CompileOptions(target=target, device="h200")):
        for rows in ("n c", "c n"):
            _module, op = product(rows)
            x, w = op.operands
            seconds.append(kernel_seconds([op], [x], [w, *op.results]))
    along, across = seconds
    assert across / along == pytest.approx(rate, rel=0.05)
