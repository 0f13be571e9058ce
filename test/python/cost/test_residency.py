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

LATER = """
func.func private @k(%X: tensor<?xf32, ["n"]>) -> tensor<?xf32, ["n"]> attributes {diag.kernel} {
  %Y = "diag.map"() ({
    %a = "diag.element"(%X) : (tensor<?xf32, ["n"]>) -> f32
    %b = math.exp %a : f32
    "diag.yield"(%b) : (f32) -> ()
  }) : () -> tensor<?xf32, ["n"]>
  %Z = "diag.map"() ({
    %a = "diag.element"(%X) : (tensor<?xf32, ["n"]>) -> f32
    %b = "diag.element"(%Y) : (tensor<?xf32, ["n"]>) -> f32
    %c = arith.addf %a, %b : f32
    "diag.yield"(%c) : (f32) -> ()
  }) : () -> tensor<?xf32, ["n"]>
  %W = "diag.map"() ({
    %a = "diag.element"(%Y) : (tensor<?xf32, ["n"]>) -> f32
    %b = "diag.element"(%Z) : (tensor<?xf32, ["n"]>) -> f32
    %c = arith.mulf %a, %b : f32
    "diag.yield"(%c) : (f32) -> ()
  }) : () -> tensor<?xf32, ["n"]>
  return %W : tensor<?xf32, ["n"]>
}
"""


def resident(text: str, groups: dict[str, int], chunks: dict[str, int]) -> int | None:
    with make_context(), ir.Location.unknown():
        module = ir.Module.parse(text)
        module.operation.verify()
        (kernel,) = diag.functions(module)
        return resident_bytes(kernel, groups, chunks)


@pytest.mark.parametrize(("group", "chunk"), [(16, 256), (16, 4), (128, 32), (1, 1)])
def test_streamed_product_is_summed_up_in_its_state(group: int, chunk: int) -> None:
    expected = F32 * (group * 64 + group * chunk + chunk * 64)  # o, a, b
    assert resident(MATMUL, {"q": group}, {"x": chunk}) == expected


def test_product_that_is_read_twice_is_held_beside_the_state() -> None:
    twice = MATMUL.replace("arith.addf %s, %t", "arith.addf %v, %t").replace(
        "%u = arith", "%v = arith.mulf %s, %t : f32\n      %u = arith"
    )
    assert resident(twice, {"q": 16}, {"x": 4}) == F32 * (2 * 16 * 64 + 16 * 4 + 4 * 64)


def test_result_of_a_map_takes_no_place_of_what_is_read_later() -> None:
    # X, Y and their sum: X is an input and Y is read again
    assert resident(LATER, {"n": 8}, {}) == 3 * F32 * 8


def test_whole_length_that_is_open_has_no_bytes() -> None:
    assert resident(MATMUL, {"q": 16}, {}) is None
    assert resident(MATMUL, {}, {"x": 16}) is None


def test_view_is_the_array_it_views() -> None:
    # X and the scores; Y is X
    assert resident(CHAIN, {"n": 8, "m": 32}, {}) == F32 * (8 * 64 + 8 * 32)


def test_chunks_are_of_streamed_axes_only() -> None:
    assert resident(CHAIN, {"n": 8}, {"m": 32}) is None
