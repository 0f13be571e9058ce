// RUN: not diagc-opt %s --differentiate 2>&1 | filecheck %s
// RUN: not diagc-opt %s --derive-streams --differentiate="wrt=arg0" 2>&1 | filecheck %s --check-prefix=STREAM

// CHECK: differentiate-invalid.mlir:14:8: error: 'diag.reindex' is not supported yet: its gradient is a scatter, which no view gives: axis "x" is read in steps of 2
// STREAM: error: 'diag.stream' is not supported yet: it has no rule in the pass 'differentiate'; differentiate the diagram before streams are derived
func.func @main(%x: tensor<5x?xf32, ["q", "x"]>, %v: tensor<?x4xf32, ["x", "d"]>) -> (tensor<5xf32, ["q"]>, tensor<?xf32, ["k"]>) {
  %S = "diag.map"() ({
    %0 = "diag.element"(%x) : (tensor<5x?xf32, ["q", "x"]>) -> f32
    %1 = math.exp %0 : f32
    "diag.yield"(%1) : (f32) -> ()
  }) : () -> tensor<5x?xf32, ["q", "x"]>
  %z = "diag.reduce"(%S) {over = ["x"], kind = "add"} : (tensor<5x?xf32, ["q", "x"]>) -> tensor<5xf32, ["q"]>
  %w = "diag.reduce"(%v) {over = ["d"], kind = "add"} : (tensor<?x4xf32, ["x", "d"]>) -> tensor<?xf32, ["x"]>
  %y = "diag.reindex"(%w) {map = affine_map<(k) -> (k * 2)>} : (tensor<?xf32, ["x"]>) -> tensor<?xf32, ["k"]>
  return %z, %y : tensor<5xf32, ["q"]>, tensor<?xf32, ["k"]>
}
