// RUN: diagc-opt %s --split-input-file --differentiate --canonicalize-diag | filecheck %s
// RUN: diagc-opt %s --split-input-file --differentiate="wrt=arg1" --canonicalize-diag | filecheck %s --check-prefix=WRT
// RUN: not diagc-opt %s --split-input-file --differentiate="wrt=K" 2>&1 | filecheck %s --check-prefix=BAD

// BAD: error: 'K' in option 'wrt' of pass 'differentiate' is no argument, expected arg0, arg1, found 'K'

// A contraction becomes one contraction for each operand.
// CHECK-LABEL: func.func @main
// CHECK-SAME: %arg2: tensor<5x7xf32, ["q", "x"]> {diag.kind = "user", diag.name = "d_result0"}
// CHECK-SAME: -> (tensor<5x4xf32, ["q", "d"]> {diag.name = "d_arg0"}, tensor<7x4xf32, ["x", "d"]> {diag.name = "d_arg1"})
// CHECK: %[[Q:.*]] = "diag.contract"(%arg2, %arg1) {over = ["x"]}
// CHECK: %[[K:.*]] = "diag.contract"(%arg2, %arg0) {over = ["q"]}
// CHECK: return %[[Q]], %[[K]]
// WRT-LABEL: func.func @main
// WRT-SAME: -> (tensor<7x4xf32, ["x", "d"]> {diag.name = "d_arg1"})
// WRT: %[[K:.*]] = "diag.contract"(%arg2, %arg0) {over = ["q"]}
// WRT-NEXT: return %[[K]]
func.func @main(%Q: tensor<5x4xf32, ["q", "d"]>, %K: tensor<7x4xf32, ["x", "d"]>) -> tensor<5x7xf32, ["q", "x"]> {
  %S = "diag.contract"(%Q, %K) {over = ["d"]} : (tensor<5x4xf32, ["q", "d"]>, tensor<7x4xf32, ["x", "d"]>) -> tensor<5x7xf32, ["q", "x"]>
  return %S : tensor<5x7xf32, ["q", "x"]>
}

// -----

// A wire that lacks an axis of the map gets the sum over it; the exponential is not computed again.
// CHECK-LABEL: func.func @map
// CHECK: math.exp
// CHECK-NOT: math.exp
// CHECK: "diag.reduce"({{.*}}) {kind = "add", over = ["q"]} : (tensor<5x?xf32, ["q", "x"]>) -> tensor<?xf32, ["x"]>
// CHECK-NEXT: return
func.func @map(%x: tensor<5x?xf32, ["q", "x"]>, %b: tensor<?xf32, ["x"]>) -> tensor<5x?xf32, ["q", "x"]> {
  %y = "diag.map"() ({
    %0 = "diag.element"(%x) : (tensor<5x?xf32, ["q", "x"]>) -> f32
    %1 = "diag.element"(%b) : (tensor<?xf32, ["x"]>) -> f32
    %2 = arith.subf %0, %1 : f32
    %3 = math.exp %2 : f32
    "diag.yield"(%3) : (f32) -> ()
  }) : () -> tensor<5x?xf32, ["q", "x"]>
  return %y : tensor<5x?xf32, ["q", "x"]>
}

// -----

// The cotangent of a sum is not broadcast before it must be: here the sum of a product is a product of a sum.
// CHECK-LABEL: func.func @reduce
// CHECK: %[[S:.*]] = "diag.reduce"(%arg1) {kind = "add", over = ["x"]}
// CHECK: "diag.map"()
// CHECK: "diag.element"(%[[S]])
// CHECK: "diag.contract"(%arg2, %arg0) {over = ["q"]}
func.func @reduce(%Q: tensor<5x4xf32, ["q", "d"]>, %K: tensor<7x4xf32, ["x", "d"]>) -> tensor<5xf32, ["q"]> {
  %S = "diag.contract"(%Q, %K) {over = ["d"]} : (tensor<5x4xf32, ["q", "d"]>, tensor<7x4xf32, ["x", "d"]>) -> tensor<5x7xf32, ["q", "x"]>
  %y = "diag.reduce"(%S) {over = ["x"], kind = "add"} : (tensor<5x7xf32, ["q", "x"]>) -> tensor<5xf32, ["q"]>
  return %y : tensor<5xf32, ["q"]>
}

// -----

// Every element that is the maximum gets the same share.
// CHECK-LABEL: func.func @max
// CHECK: %[[M:.*]] = "diag.reduce"(%arg0) {kind = "max", over = ["x"]}
// CHECK: arith.cmpf oeq
// CHECK: %[[N:.*]] = "diag.reduce"({{.*}}) {kind = "add", over = ["x"]}
// CHECK: "diag.element"(%[[N]])
// CHECK: arith.divf
func.func @max(%x: tensor<5x?xf32, ["q", "x"]>, %y: tensor<4xf32, ["d"]>) -> tensor<5xf32, ["q"]> {
  %m = "diag.reduce"(%x) {over = ["x"], kind = "max"} : (tensor<5x?xf32, ["q", "x"]>) -> tensor<5xf32, ["q"]>
  return %m : tensor<5xf32, ["q"]>
}

// -----

// L2 attention: the cotangents of the weights, of the statistic (the sum over "x"), of the scores.
// CHECK-LABEL: func.func @attention
// CHECK: %[[S:.*]] = "diag.contract"(%arg0, %arg1) {over = ["d"]}
// CHECK: "diag.reduce"({{.*}}) {kind = "add", over = ["x"]}
// CHECK: %[[G:.*]] = "diag.contract"({{.*}}) {over = ["e"]}
// CHECK: "diag.element"(%[[G]])
// CHECK: "diag.element"(%[[S]])
// CHECK: "diag.reduce"({{.*}}) {kind = "add", over = ["x"]}
// CHECK: %[[Q:.*]] = "diag.contract"({{.*}}, %arg1) {over = ["x"]}
// CHECK: "diag.contract"({{.*}}, %arg0) {over = ["q"]}
// CHECK: return %[[Q]], %
func.func @attention(%Q: tensor<?x4xf32, ["q", "d"]>, %K: tensor<?x4xf32, ["x", "d"]>) -> tensor<?x4xf32, ["q", "e"]> {
  %V = "diag.relabel"(%K) {from = ["d"], to = ["e"]} : (tensor<?x4xf32, ["x", "d"]>) -> tensor<?x4xf32, ["x", "e"]>
  %S = "diag.contract"(%Q, %K) {over = ["d"]} : (tensor<?x4xf32, ["q", "d"]>, tensor<?x4xf32, ["x", "d"]>) -> tensor<?x?xf32, ["q", "x"]>
  %t = "diag.map"() ({
    %0 = "diag.element"(%S) : (tensor<?x?xf32, ["q", "x"]>) -> f32
    %1 = arith.mulf %0, %0 : f32
    "diag.yield"(%1) : (f32) -> ()
  }) : () -> tensor<?x?xf32, ["q", "x"]>
  %z = "diag.reduce"(%t) {over = ["x"], kind = "add"} : (tensor<?x?xf32, ["q", "x"]>) -> tensor<?xf32, ["q"]>
  %P = "diag.map"() ({
    %0 = "diag.element"(%S) : (tensor<?x?xf32, ["q", "x"]>) -> f32
    %1 = "diag.element"(%z) : (tensor<?xf32, ["q"]>) -> f32
    %2 = math.rsqrt %1 : f32
    %3 = arith.mulf %0, %2 : f32
    "diag.yield"(%3) : (f32) -> ()
  }) : () -> tensor<?x?xf32, ["q", "x"]>
  %O = "diag.contract"(%P, %V) {over = ["x"]} : (tensor<?x?xf32, ["q", "x"]>, tensor<?x4xf32, ["x", "e"]>) -> tensor<?x4xf32, ["q", "e"]>
  return %O : tensor<?x4xf32, ["q", "e"]>
}
