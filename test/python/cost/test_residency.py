"""M, the most that a kernel holds at once, against counts by hand."""

import pytest

from diagc.context import make_context
from diagc.cost import resident_bytes
from diagc.dialects import diag
from diagc.mlir import ir

F32 = 4

MATMUL = """
func.func private @k(%A: tensor<?x?xf32, ["q", "x"]>, %B: tensor<?x64xf32, ["x", "e"]>)
    -> tensor<?x64xf32, ["q", "e"]> attributes {diag.kernel} {
  %O = "diag.stream"() ({
    %z = "diag.map"() ({
      %c = arith.constant 0.0 : f32
      "diag.yield"(%c) : (f32) -> ()
    }) : () -> tensor<?x64xf32, ["q", "e"]>
    "diag.yield"(%z) : (tensor<?x64xf32, ["q", "e"]>) -> ()
  }, {
  ^bb0(%o: tensor<?x64xf32, ["q", "e"]>):
    %a = "diag.chunk"(%A) : (tensor<?x?xf32, ["q", "x"]>) -> tensor<?x?xf32, ["q", "x"]>
    %b = "diag.chunk"(%B) : (tensor<?x64xf32, ["x", "e"]>) -> tensor<?x64xf32, ["x", "e"]>
    %p = "diag.contract"(%a, %b) {over = ["x"]} : (tensor<?x?xf32, ["q", "x"]>,
        tensor<?x64xf32, ["x", "e"]>) -> tensor<?x64xf32, ["q", "e"]>
    %n = "diag.map"() ({
      %s = "diag.element"(%o) : (tensor<?x64xf32, ["q", "e"]>) -> f32
      %t = "diag.element"(%p) : (tensor<?x64xf32, ["q", "e"]>) -> f32
      %u = arith.addf %s, %t : f32
      "diag.yield"(%u) : (f32) -> ()
    }) : () -> tensor<?x64xf32, ["q", "e"]>
    "diag.yield"(%n) : (tensor<?x64xf32, ["q", "e"]>) -> ()
  }, {
  }, {
  ^bb0(%o: tensor<?x64xf32, ["q", "e"]>):
    "diag.yield"(%o) : (tensor<?x64xf32, ["q", "e"]>) -> ()
  }) {axis = "x", resultSegmentSizes = array<i32: 1, 0, 0, 0, 0, 0, 0, 0>}
    : () -> tensor<?x64xf32, ["q", "e"]>
  return %O : tensor<?x64xf32, ["q", "e"]>
}
"""

CHAIN = """
func.func private @k(%X: tensor<?x64xf32, ["n", "d"]>) -> tensor<?xf32, ["n"]>
    attributes {diag.kernel} {
  %Y = "diag.relabel"(%X) {from = ["n"], to = ["m"]}
      : (tensor<?x64xf32, ["n", "d"]>) -> tensor<?x64xf32, ["m", "d"]>
  %S = "diag.contract"(%X, %Y) {over = ["d"]} : (tensor<?x64xf32, ["n", "d"]>,
      tensor<?x64xf32, ["m", "d"]>) -> tensor<?x?xf32, ["n", "m"]>
  %R = "diag.reduce"(%S) {over = ["m"], kind = "max"}
      : (tensor<?x?xf32, ["n", "m"]>) -> tensor<?xf32, ["n"]>
  return %R : tensor<?xf32, ["n"]>
}
"""


def resident(text: str, groups: dict[str, int], chunks: dict[str, int]) -> int | None:
    with make_context(), ir.Location.unknown():
        module = ir.Module.parse(text)
        module.operation.verify()
        (kernel,) = diag.functions(module)
        return resident_bytes(kernel, groups, chunks)


@pytest.mark.parametrize(("group", "chunk"), [(16, 256), (16, 4), (128, 32), (1, 1)])
def test_streamed_product_holds_state_chunks_and_their_product(group: int, chunk: int) -> None:
    multiplying = 2 * group * 64 + group * chunk + chunk * 64  # o and p, a, b
    adding = 3 * group * 64  # o, p and the next o
    expected = F32 * max(multiplying, adding)
    assert resident(MATMUL, {"q": group}, {"x": chunk}) == expected


def test_whole_length_that_is_open_has_no_bytes() -> None:
    assert resident(MATMUL, {"q": 16}, {}) is None
    assert resident(MATMUL, {}, {"x": 16}) is None


def test_view_is_the_array_it_views() -> None:
    # X and the scores; Y is X
    assert resident(CHAIN, {"n": 8, "m": 32}, {}) == F32 * (8 * 64 + 8 * 32)


def test_chunks_are_of_streamed_axes_only() -> None:
    assert resident(CHAIN, {"n": 8}, {"m": 32}) is None
