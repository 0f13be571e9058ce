"""Cloning with a mapping of captured values."""

from collections.abc import Iterator

import pytest

from diagc.context import make_context
from diagc.dialects import diag
from diagc.mlir import ir
from diagc.passes.cloning import clone, clone_all, used_values

TEXT = """
func.func @f(%a: tensor<4xf32, ["q"]>, %b: tensor<4xf32, ["q"]>) -> tensor<4xf32, ["q"]> {
  %c = arith.constant 2.0 : f32
  %0 = "diag.map"() ({
    %1 = "diag.element"(%a) : (tensor<4xf32, ["q"]>) -> f32
    %2 = arith.mulf %1, %c : f32
    "diag.yield"(%2) : (f32) -> ()
  }) : () -> tensor<4xf32, ["q"]>
  %3 = "diag.reduce"(%0) {kind = "add", over = []} : (tensor<4xf32, ["q"]>) -> tensor<4xf32, ["q"]>
  return %3 : tensor<4xf32, ["q"]>
}
"""


@pytest.fixture
def block() -> Iterator[ir.Block]:
    with make_context(), ir.Location.unknown():
        module = ir.Module.parse(TEXT)
        yield diag.function_body(diag.functions(module)[0])


def test_used_values_are_operands_and_captures_in_order(block: ir.Block) -> None:
    constant, mapped = (op.operation for op in list(block.operations)[:2])
    assert used_values(mapped) == [block.arguments[0], constant.results[0]]
    assert used_values(constant) == []


def test_clone_maps_what_regions_capture(block: ir.Block) -> None:
    ops = [op.operation for op in block.operations]
    mapping = {block.arguments[0]: block.arguments[1]}
    copy = clone(ops[1], mapping, ir.InsertionPoint(ops[-1]))
    assert used_values(copy)[0] == block.arguments[1]
    assert used_values(ops[1])[0] == block.arguments[0]
    assert mapping[ops[1].results[0]] == copy.results[0]
    assert copy.location == ops[1].location


def test_clone_all_connects_the_copies(block: ir.Block) -> None:
    ops = [op.operation for op in block.operations]
    copies = clone_all(ops[1:3], {}, ir.InsertionPoint(ops[-1]))
    assert copies[1].operands[0] == copies[0].results[0]
    assert copies[0].results[0] != ops[1].results[0]
