// RUN: diagc-opt %s --split-input-file --reassociate-contractions="wide-squares=true" | filecheck %s
// RUN: diagc-opt %s --split-input-file --reassociate-contractions | filecheck %s --check-prefix=OFF
// RUN: diagc-opt %s --split-input-file --reassociate-contractions="reassociate=off wide-squares=true" | filecheck %s --check-prefix=OFF

// Scores stay for the sum of their absolute values; their product with values does without them, in f64; for gradients only.
// CHECK-LABEL: func.func @shared
// CHECK: %[[S:.*]] = "diag.contract"(%arg0, %arg1) {over = ["d"]}
// CHECK-DAG: "diag.element"(%[[S]])
// CHECK-DAG: %[[M:.*]] = "diag.contract"({{.*}}) {over = ["x"]} : (tensor<2048x64xf64, ["x", "d"]>, tensor<2048x64xf64, ["x", "e"]>) -> tensor<64x64xf64
// CHECK: "diag.contract"({{.*}}) {over = ["d"]} : {{.*}} -> tensor<2048x64xf64
// CHECK-NOT: "diag.contract"(%[[S]]
// OFF-LABEL: func.func @shared
// OFF: %[[S:.*]] = "diag.contract"(%arg0, %arg1)
// OFF: "diag.contract"(%[[S]], %arg2)
func.func @shared(%Q: tensor<2048x64xf32, ["q", "d"]>, %K: tensor<2048x64xf32, ["x", "d"]>, %V: tensor<2048x64xf32, ["x", "e"]>) -> (tensor<2048xf32, ["q"]>, tensor<2048x64xf32, ["q", "e"]>) {
  %S = "diag.contract"(%Q, %K) {over = ["d"]} : (tensor<2048x64xf32, ["q", "d"]>, tensor<2048x64xf32, ["x", "d"]>) -> tensor<2048x2048xf32, ["q", "x"]>
  %A = "diag.map"() ({
    %0 = "diag.element"(%S) : (tensor<2048x2048xf32, ["q", "x"]>) -> f32
    %1 = math.absf %0 : f32
    "diag.yield"(%1) : (f32) -> ()
  }) : () -> tensor<2048x2048xf32, ["q", "x"]>
  %Z = "diag.reduce"(%A) {over = ["x"], kind = "add"} : (tensor<2048x2048xf32, ["q", "x"]>) -> tensor<2048xf32, ["q"]>
  %O = "diag.contract"(%S, %V) {over = ["x"]} : (tensor<2048x2048xf32, ["q", "x"]>, tensor<2048x64xf32, ["x", "e"]>) -> tensor<2048x64xf32, ["q", "e"]>
  return %Z, %O : tensor<2048xf32, ["q"]>, tensor<2048x64xf32, ["q", "e"]>
}

// -----

// Declined: few keys, for which the matrix of features would cost more.
// CHECK-LABEL: func.func @few
// CHECK: %[[S:.*]] = "diag.contract"(%arg0, %arg1)
// CHECK: "diag.contract"(%[[S]], %arg2)
func.func @few(%Q: tensor<2048x64xf32, ["q", "d"]>, %K: tensor<32x64xf32, ["x", "d"]>, %V: tensor<32x64xf32, ["x", "e"]>) -> (tensor<2048xf32, ["q"]>, tensor<2048x64xf32, ["q", "e"]>) {
  %S = "diag.contract"(%Q, %K) {over = ["d"]} : (tensor<2048x64xf32, ["q", "d"]>, tensor<32x64xf32, ["x", "d"]>) -> tensor<2048x32xf32, ["q", "x"]>
  %A = "diag.map"() ({
    %0 = "diag.element"(%S) : (tensor<2048x32xf32, ["q", "x"]>) -> f32
    %1 = math.absf %0 : f32
    "diag.yield"(%1) : (f32) -> ()
  }) : () -> tensor<2048x32xf32, ["q", "x"]>
  %Z = "diag.reduce"(%A) {over = ["x"], kind = "add"} : (tensor<2048x32xf32, ["q", "x"]>) -> tensor<2048xf32, ["q"]>
  %O = "diag.contract"(%S, %V) {over = ["x"]} : (tensor<2048x32xf32, ["q", "x"]>, tensor<32x64xf32, ["x", "e"]>) -> tensor<2048x64xf32, ["q", "e"]>
  return %Z, %O : tensor<2048xf32, ["q"]>, tensor<2048x64xf32, ["q", "e"]>
}

// -----

// Declined: weights that are no product, but a function of one.
// CHECK-LABEL: func.func @function
// CHECK: "diag.contract"({{.*}}, %arg2) {over = ["x"]} : (tensor<2048x2048xf32
func.func @function(%Q: tensor<2048x64xf32, ["q", "d"]>, %K: tensor<2048x64xf32, ["x", "d"]>, %V: tensor<2048x64xf32, ["x", "e"]>) -> (tensor<2048xf32, ["q"]>, tensor<2048x64xf32, ["q", "e"]>) {
  %S = "diag.contract"(%Q, %K) {over = ["d"]} : (tensor<2048x64xf32, ["q", "d"]>, tensor<2048x64xf32, ["x", "d"]>) -> tensor<2048x2048xf32, ["q", "x"]>
  %A = "diag.map"() ({
    %0 = "diag.element"(%S) : (tensor<2048x2048xf32, ["q", "x"]>) -> f32
    %1 = math.exp %0 : f32
    "diag.yield"(%1) : (f32) -> ()
  }) : () -> tensor<2048x2048xf32, ["q", "x"]>
  %Z = "diag.reduce"(%A) {over = ["x"], kind = "add"} : (tensor<2048x2048xf32, ["q", "x"]>) -> tensor<2048xf32, ["q"]>
  %O = "diag.contract"(%A, %V) {over = ["x"]} : (tensor<2048x2048xf32, ["q", "x"]>, tensor<2048x64xf32, ["x", "e"]>) -> tensor<2048x64xf32, ["q", "e"]>
  return %Z, %O : tensor<2048xf32, ["q"]>, tensor<2048x64xf32, ["q", "e"]>
}
