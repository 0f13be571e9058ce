// RUN: diagc-opt %s --derive-streams --canonicalize-diag | filecheck %s

// A map that makes the streamed axis from nothing is marked in the body: there it makes a chunk of
// the axis, so it is not the equal map outside (which CSE would put in its place).
// CHECK-LABEL: func.func @axis_from_nothing
// CHECK: "diag.stream"
// CHECK: diag.chunked
// CHECK: return
func.func @axis_from_nothing(%a: tensor<?x?xf32, ["e", "x"]>, %b: tensor<?xf32, ["f"]>)
    -> (tensor<?x?xf32, ["e", "x"]>, tensor<?x?x?xf32, ["e", "x", "f"]>) {
  %t = "diag.map"() ({
    %0 = "diag.element"(%a) : (tensor<?x?xf32, ["e", "x"]>) -> f32
    %1 = arith.addf %0, %0 : f32
    "diag.yield"(%1) : (f32) -> ()
  }) : () -> tensor<?x?x?xf32, ["e", "x", "f"]>
  %s = "diag.reduce"(%t) {over = ["f"], kind = "add"} : (tensor<?x?x?xf32, ["e", "x", "f"]>) -> tensor<?x?xf32, ["e", "x"]>
  return %s, %t : tensor<?x?xf32, ["e", "x"]>, tensor<?x?x?xf32, ["e", "x", "f"]>
}
