"""Large products as streams: at which rate they are chosen, and what stays where no law helps."""

from typing import Any

import pytest

from diagc.algebra.refusal import Refusal
from diagc.compiler import run_pipeline
from diagc.dialects import diag
from diagc.frontend.text import parse
from diagc.mlir import ir
from diagc.options import CompileOptions, use
from diagc.passes.contractions.product_times import kernel_seconds
from diagc.passes.remarks import DECLINED, REMARKS
from diagc.passes.streams import stream_products
from diagc.passes.streams.stream_products import StreamProductsPass


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


NORM = """axis n = 256, c = 128, o = 512
diagram f(X: n c bf16, W: o c bf16) {
  Y: n c bf16 = rms(X) along c
  return Y . W over c
}
"""


def attempted(refused: bool, monkeypatch: pytest.MonkeyPatch) -> tuple[ir.Module, str]:
    """A norm and its product behind the pass, and their text before it."""

    def refuse(_graph: Any, _axis: str, reductions: Any, _absorbed: Any) -> Any:
        raise Refusal("the law says no", reductions[0])

    module = parse(NORM)
    run_pipeline(module, CompileOptions(target="nvptx:sm_90a"), "reassociated")
    before = str(module)
    if refused:
        monkeypatch.setattr(stream_products, "derive", refuse)
    (function,) = (op.operation for op in module.body.operations)
    with module.context, ir.Location.unknown():
        StreamProductsPass(products=True, library="none").run(function)
    return module, before


def test_what_no_law_streams_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """The norm would else stand behind the product, with other rounding, and nothing gained."""
    module, before = attempted(True, monkeypatch)
    (function,) = (op.operation for op in module.body.operations)
    assert "tile by tile: the law says no" in str(function.attributes[REMARKS])
    del function.attributes[REMARKS]
    for op in diag.walk_ops(module.operation.regions[0]):
        if DECLINED in op.attributes:
            del op.attributes[DECLINED]
    assert str(module) == before


def test_statistics_join_the_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    module, _before = attempted(False, monkeypatch)
    names = [op.operation.name for op in module.body.operations[0].regions[0].blocks[0].operations]
    assert "diag.stream" in names
    assert not {"diag.contract", "diag.reduce"} & set(names)
    assert module.operation.verify()
