// A kernel is a function: twelve inputs and nine results of distinct types, a stream of six states.

// RUN: diagc opt %s | diagc opt | filecheck %s
// RUN: diagc opt %s --canonicalize --cse | filecheck %s

// CHECK-LABEL: func.func private @kernel
// CHECK-SAME:    -> (tensor<?xf32, ["q"]>, tensor<?x8xf32, ["q", "d"]>, tensor<?x4xf32, ["q", "e"]>, tensor<8xf32, ["d"]>, tensor<f32, []>, tensor<4x8xf32, ["e", "d"]>, tensor<2x?xf64, ["h", "q"]>, tensor<?xi32, ["q"]>, tensor<?x?xi1, ["q", "x"]>)
// CHECK-SAME:    attributes {diag.kernel, diag.schedule = {grid = ["h"], lanes = "q", mode = "lanes"}}
// CHECK:         %[[RESULTS:.*]]:6 = "diag.stream"() ({
// CHECK-COUNT-6: "diag.yield"
// CHECK:         ^bb0(%[[M:.*]]: tensor<?xf32, ["q"]>, %[[P:.*]]: tensor<?x8xf32, ["q", "d"]>, %[[R:.*]]: tensor<?x4xf32, ["q", "e"]>, %[[S:.*]]: tensor<8xf32, ["d"]>, %[[T:.*]]: tensor<f32, []>, %[[G:.*]]: tensor<4x8xf32, ["e", "d"]>):
// CHECK:         }) {axis = "x", resultSegmentSizes = array<i32: 1, 1, 1, 1, 1, 1, 0, 0>}
// CHECK:         return %[[RESULTS]]#0, %[[RESULTS]]#1, %[[RESULTS]]#2, %[[RESULTS]]#3, %[[RESULTS]]#4, %[[RESULTS]]#5
func.func private @kernel(
    %a: tensor<?xf32, ["q"]>, %b: tensor<?x8xf32, ["q", "d"]>, %c: tensor<?x8xbf16, ["x", "d"]>,
    %e: tensor<?x4xf16, ["x", "e"]>, %f: tensor<?xi1, ["x"]>, %g: tensor<f64, []>,
    %h: tensor<2x?xf64, ["h", "q"]>, %i: tensor<?xi32, ["q"]>, %j: tensor<3xi64, ["k"]>,
    %k: tensor<?x?xf32, ["q", "x"]>, %l: tensor<?x?xi1, ["q", "x"]>, %m: tensor<4x8xf32, ["e", "d"]>)
    -> (tensor<?xf32, ["q"]>, tensor<?x8xf32, ["q", "d"]>, tensor<?x4xf32, ["q", "e"]>,
        tensor<8xf32, ["d"]>, tensor<f32, []>, tensor<4x8xf32, ["e", "d"]>,
        tensor<2x?xf64, ["h", "q"]>, tensor<?xi32, ["q"]>, tensor<?x?xi1, ["q", "x"]>)
    attributes {diag.kernel, diag.schedule = {mode = "lanes", grid = ["h"], lanes = "q"}} {
  %r:6 = "diag.stream"() ({
    %0 = "diag.constant"() {value = dense<0.0> : tensor<f32>} : () -> tensor<f32, []>
    %1 = "diag.constant"() {value = dense<0.0> : tensor<8xf32>} : () -> tensor<8xf32, ["d"]>
    %2 = "diag.contract"(%b, %m) {over = ["d"]} : (tensor<?x8xf32, ["q", "d"]>, tensor<4x8xf32, ["e", "d"]>) -> tensor<?x4xf32, ["q", "e"]>
    "diag.yield"(%a) : (tensor<?xf32, ["q"]>) -> ()
    "diag.yield"(%b) : (tensor<?x8xf32, ["q", "d"]>) -> ()
    "diag.yield"(%2) : (tensor<?x4xf32, ["q", "e"]>) -> ()
    "diag.yield"(%1) : (tensor<8xf32, ["d"]>) -> ()
    "diag.yield"(%0) : (tensor<f32, []>) -> ()
    "diag.yield"(%m) : (tensor<4x8xf32, ["e", "d"]>) -> ()
  }, {
  ^bb0(%p: tensor<?xf32, ["q"]>, %q: tensor<?x8xf32, ["q", "d"]>, %s: tensor<?x4xf32, ["q", "e"]>, %t: tensor<8xf32, ["d"]>, %u: tensor<f32, []>, %v: tensor<4x8xf32, ["e", "d"]>):
    %k1 = "diag.chunk"(%k) : (tensor<?x?xf32, ["q", "x"]>) -> tensor<?x?xf32, ["q", "x"]>
    %c1 = "diag.chunk"(%c) : (tensor<?x8xbf16, ["x", "d"]>) -> tensor<?x8xbf16, ["x", "d"]>
    %e1 = "diag.chunk"(%e) : (tensor<?x4xf16, ["x", "e"]>) -> tensor<?x4xf16, ["x", "e"]>
    %p1 = "diag.reduce"(%k1) {over = ["x"], kind = "add"} : (tensor<?x?xf32, ["q", "x"]>) -> tensor<?xf32, ["q"]>
    %q1 = "diag.contract"(%k1, %c1) {over = ["x"]} : (tensor<?x?xf32, ["q", "x"]>, tensor<?x8xbf16, ["x", "d"]>) -> tensor<?x8xf32, ["q", "d"]>
    %s1 = "diag.contract"(%k1, %e1) {over = ["x"]} : (tensor<?x?xf32, ["q", "x"]>, tensor<?x4xf16, ["x", "e"]>) -> tensor<?x4xf32, ["q", "e"]>
    %v1 = "diag.contract"(%e1, %c1) {over = ["x"]} : (tensor<?x4xf16, ["x", "e"]>, tensor<?x8xbf16, ["x", "d"]>) -> tensor<4x8xf32, ["e", "d"]>
    "diag.yield"(%p1) : (tensor<?xf32, ["q"]>) -> ()
    "diag.yield"(%q1) : (tensor<?x8xf32, ["q", "d"]>) -> ()
    "diag.yield"(%s1) : (tensor<?x4xf32, ["q", "e"]>) -> ()
    "diag.yield"(%t) : (tensor<8xf32, ["d"]>) -> ()
    "diag.yield"(%u) : (tensor<f32, []>) -> ()
    "diag.yield"(%v1) : (tensor<4x8xf32, ["e", "d"]>) -> ()
  }, {
  }, {
  ^bb0(%p: tensor<?xf32, ["q"]>, %q: tensor<?x8xf32, ["q", "d"]>, %s: tensor<?x4xf32, ["q", "e"]>, %t: tensor<8xf32, ["d"]>, %u: tensor<f32, []>, %v: tensor<4x8xf32, ["e", "d"]>):
    "diag.yield"(%p) : (tensor<?xf32, ["q"]>) -> ()
    "diag.yield"(%q) : (tensor<?x8xf32, ["q", "d"]>) -> ()
    "diag.yield"(%s) : (tensor<?x4xf32, ["q", "e"]>) -> ()
    "diag.yield"(%t) : (tensor<8xf32, ["d"]>) -> ()
    "diag.yield"(%u) : (tensor<f32, []>) -> ()
    "diag.yield"(%v) : (tensor<4x8xf32, ["e", "d"]>) -> ()
  }) {axis = "x", resultSegmentSizes = array<i32: 1, 1, 1, 1, 1, 1, 0, 0>}
    : () -> (tensor<?xf32, ["q"]>, tensor<?x8xf32, ["q", "d"]>, tensor<?x4xf32, ["q", "e"]>, tensor<8xf32, ["d"]>, tensor<f32, []>, tensor<4x8xf32, ["e", "d"]>)
  return %r#0, %r#1, %r#2, %r#3, %r#4, %r#5, %h, %i, %l : tensor<?xf32, ["q"]>, tensor<?x8xf32, ["q", "d"]>, tensor<?x4xf32, ["q", "e"]>, tensor<8xf32, ["d"]>, tensor<f32, []>, tensor<4x8xf32, ["e", "d"]>, tensor<2x?xf64, ["h", "q"]>, tensor<?xi32, ["q"]>, tensor<?x?xi1, ["q", "x"]>
}

// CHECK-LABEL: func.func @main
// CHECK:         %{{.*}}:9 = call @kernel
func.func @main(
    %a: tensor<?xf32, ["q"]>, %b: tensor<?x8xf32, ["q", "d"]>, %c: tensor<?x8xbf16, ["x", "d"]>,
    %e: tensor<?x4xf16, ["x", "e"]>, %f: tensor<?xi1, ["x"]>, %g: tensor<f64, []>,
    %h: tensor<2x?xf64, ["h", "q"]>, %i: tensor<?xi32, ["q"]>, %j: tensor<3xi64, ["k"]>,
    %k: tensor<?x?xf32, ["q", "x"]>, %l: tensor<?x?xi1, ["q", "x"]>, %m: tensor<4x8xf32, ["e", "d"]>)
    -> tensor<?xf32, ["q"]> {
  %r:9 = call @kernel(%a, %b, %c, %e, %f, %g, %h, %i, %j, %k, %l, %m) : (tensor<?xf32, ["q"]>, tensor<?x8xf32, ["q", "d"]>, tensor<?x8xbf16, ["x", "d"]>, tensor<?x4xf16, ["x", "e"]>, tensor<?xi1, ["x"]>, tensor<f64, []>, tensor<2x?xf64, ["h", "q"]>, tensor<?xi32, ["q"]>, tensor<3xi64, ["k"]>, tensor<?x?xf32, ["q", "x"]>, tensor<?x?xi1, ["q", "x"]>, tensor<4x8xf32, ["e", "d"]>) -> (tensor<?xf32, ["q"]>, tensor<?x8xf32, ["q", "d"]>, tensor<?x4xf32, ["q", "e"]>, tensor<8xf32, ["d"]>, tensor<f32, []>, tensor<4x8xf32, ["e", "d"]>, tensor<2x?xf64, ["h", "q"]>, tensor<?xi32, ["q"]>, tensor<?x?xi1, ["q", "x"]>)
  return %r#0 : tensor<?xf32, ["q"]>
}
