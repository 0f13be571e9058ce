// MLIR's own cse and canonicalize work on diag ops: equal ops merge, unused ones go, regions stay.

// RUN: diagc opt %s --cse --canonicalize | filecheck %s

// CHECK-LABEL: func.func @equal_ops_merge
// CHECK:         %[[S:.*]] = "diag.contract"
// CHECK-NOT:     "diag.contract"
// CHECK:         return %[[S]], %[[S]]
func.func @equal_ops_merge(%Q: tensor<?x64xf32, ["q", "d"]>, %K: tensor<?x64xf32, ["x", "d"]>)
    -> (tensor<?x?xf32, ["q", "x"]>, tensor<?x?xf32, ["q", "x"]>) {
  %0 = "diag.contract"(%Q, %K) {over = ["d"]} : (tensor<?x64xf32, ["q", "d"]>, tensor<?x64xf32, ["x", "d"]>) -> tensor<?x?xf32, ["q", "x"]>
  %1 = "diag.contract"(%Q, %K) {over = ["d"]} : (tensor<?x64xf32, ["q", "d"]>, tensor<?x64xf32, ["x", "d"]>) -> tensor<?x?xf32, ["q", "x"]>
  return %0, %1 : tensor<?x?xf32, ["q", "x"]>, tensor<?x?xf32, ["q", "x"]>
}

// CHECK-LABEL: func.func @different_ops_stay
// CHECK-COUNT-2: "diag.reduce"
func.func @different_ops_stay(%S: tensor<4x6xf32, ["q", "x"]>)
    -> (tensor<4xf32, ["q"]>, tensor<4xf32, ["q"]>) {
  %0 = "diag.reduce"(%S) {over = ["x"], kind = "add"} : (tensor<4x6xf32, ["q", "x"]>) -> tensor<4xf32, ["q"]>
  %1 = "diag.reduce"(%S) {over = ["x"], kind = "max"} : (tensor<4x6xf32, ["q", "x"]>) -> tensor<4xf32, ["q"]>
  return %0, %1 : tensor<4xf32, ["q"]>, tensor<4xf32, ["q"]>
}

// CHECK-LABEL: func.func @unused_ops_go
// CHECK-NEXT:    return
func.func @unused_ops_go(%S: tensor<4x6xf32, ["q", "x"]>) {
  %0 = "diag.normalize"(%S) {along = ["x"], kind = "softmax"} : (tensor<4x6xf32, ["q", "x"]>) -> tensor<4x6xf32, ["q", "x"]>
  %1 = "diag.map"() ({
    %a = "diag.element"(%0) : (tensor<4x6xf32, ["q", "x"]>) -> f32
    %b = math.exp %a : f32
    "diag.yield"(%b) : (f32) -> ()
  }) : () -> tensor<4x6xf32, ["q", "x"]>
  return
}

// A constant may move out of a map; the map still verifies.

// CHECK-LABEL: func.func @scalar_bodies_are_simplified
// CHECK:         "diag.map"() ({
// CHECK:           %[[A:.*]] = "diag.element"
// CHECK-NOT:       "diag.element"
// CHECK:           %[[SQUARE:.*]] = arith.mulf %[[A]], %[[A]]
// CHECK-NEXT:      "diag.yield"(%[[SQUARE]])
func.func @scalar_bodies_are_simplified(%S: tensor<4xf32, ["q"]>) -> tensor<4xf32, ["q"]> {
  %0 = "diag.map"() ({
    %one = arith.constant 1.0 : f32
    %a = "diag.element"(%S) : (tensor<4xf32, ["q"]>) -> f32
    %b = "diag.element"(%S) : (tensor<4xf32, ["q"]>) -> f32
    %c = arith.mulf %a, %b : f32
    %d = arith.mulf %c, %one : f32
    "diag.yield"(%d) : (f32) -> ()
  }) : () -> tensor<4xf32, ["q"]>
  return %0 : tensor<4xf32, ["q"]>
}

// CHECK-LABEL: func.func @a_chunk_stays_in_its_stream
// CHECK:         ^bb0
// CHECK:           "diag.chunk"
func.func @a_chunk_stays_in_its_stream(%V: tensor<?xf32, ["x"]>) -> tensor<f32, []> {
  %0 = "diag.stream"() ({
    %z = "diag.constant"() {value = dense<0.0> : tensor<f32>} : () -> tensor<f32, []>
    "diag.yield"(%z) : (tensor<f32, []>) -> ()
  }, {
  ^bb0(%z: tensor<f32, []>):
    %v = "diag.chunk"(%V) : (tensor<?xf32, ["x"]>) -> tensor<?xf32, ["x"]>
    %r = "diag.reduce"(%v) {over = ["x"], kind = "add"} : (tensor<?xf32, ["x"]>) -> tensor<f32, []>
    "diag.yield"(%r) : (tensor<f32, []>) -> ()
  }, {
  }, {
  ^bb0(%z: tensor<f32, []>):
    "diag.yield"(%z) : (tensor<f32, []>) -> ()
  }) {axis = "x", resultSegmentSizes = array<i32: 1, 0, 0, 0, 0, 0, 0, 0>} : () -> tensor<f32, []>
  return %0 : tensor<f32, []>
}
