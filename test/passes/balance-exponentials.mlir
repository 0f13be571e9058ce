// RUN: diagc-opt %s --split-input-file --balance-exponentials --canonicalize-diag | filecheck %s

// Softmax without a maximum gets the row's own: it cancels between the sum and the elements.
// CHECK-LABEL: func.func @softmax
// CHECK: %[[M:[0-9]+]] = "diag.reduce"(%arg0) {kind = "max", over = ["x"]}
// CHECK: %[[C:[0-9]+]] = "diag.map"() ({
// CHECK: "diag.element"(%[[M]])
// CHECK: arith.select
// CHECK: %[[E:[0-9]+]] = "diag.map"() ({
// CHECK: "diag.element"(%arg0)
// CHECK: "diag.element"(%[[C]])
// CHECK: arith.subf
// CHECK: math.exp
// CHECK: "diag.reduce"(%[[E]]) {kind = "add", over = ["x"]}
// CHECK: arith.divf
func.func @softmax(%s: tensor<?x?xf32, ["q", "x"]>) -> tensor<?x?xf32, ["q", "x"]> {
  %e = "diag.map"() ({
    %0 = "diag.element"(%s) : (tensor<?x?xf32, ["q", "x"]>) -> f32
    %1 = math.exp %0 : f32
    "diag.yield"(%1) : (f32) -> ()
  }) : () -> tensor<?x?xf32, ["q", "x"]>
  %z = "diag.reduce"(%e) {kind = "add", over = ["x"]} : (tensor<?x?xf32, ["q", "x"]>) -> tensor<?xf32, ["q"]>
  %p = "diag.map"() ({
    %0 = "diag.element"(%e) : (tensor<?x?xf32, ["q", "x"]>) -> f32
    %1 = "diag.element"(%z) : (tensor<?xf32, ["q"]>) -> f32
    %2 = arith.divf %0, %1 : f32
    "diag.yield"(%2) : (f32) -> ()
  }) : () -> tensor<?x?xf32, ["q", "x"]>
  return %p : tensor<?x?xf32, ["q", "x"]>
}

// -----

// The logarithm of the sum gets the maximum back, and is infinite where the maximum is.
// CHECK-LABEL: func.func @log_sum_exp
// CHECK: kind = "max"
// CHECK: math.exp
// CHECK: kind = "add"
// CHECK: math.log
// CHECK: arith.select
// CHECK: arith.addf
func.func @log_sum_exp(%s: tensor<?x?xf32, ["q", "x"]>) -> tensor<?xf32, ["q"]> {
  %e = "diag.map"() ({
    %0 = "diag.element"(%s) : (tensor<?x?xf32, ["q", "x"]>) -> f32
    %1 = math.exp %0 : f32
    "diag.yield"(%1) : (f32) -> ()
  }) : () -> tensor<?x?xf32, ["q", "x"]>
  %z = "diag.reduce"(%e) {kind = "add", over = ["x"]} : (tensor<?x?xf32, ["q", "x"]>) -> tensor<?xf32, ["q"]>
  %l = "diag.map"() ({
    %0 = "diag.element"(%z) : (tensor<?xf32, ["q"]>) -> f32
    %1 = math.log %0 : f32
    "diag.yield"(%1) : (f32) -> ()
  }) : () -> tensor<?xf32, ["q"]>
  return %l : tensor<?xf32, ["q"]>
}

// -----

// A plain sum of exponentials depends on their scale: nothing is subtracted.
// CHECK-LABEL: func.func @plain_sum
// CHECK-NOT: kind = "max"
// CHECK: return
func.func @plain_sum(%s: tensor<?x?xf32, ["q", "x"]>) -> tensor<?xf32, ["q"]> {
  %e = "diag.map"() ({
    %0 = "diag.element"(%s) : (tensor<?x?xf32, ["q", "x"]>) -> f32
    %1 = math.exp %0 : f32
    "diag.yield"(%1) : (f32) -> ()
  }) : () -> tensor<?x?xf32, ["q", "x"]>
  %z = "diag.reduce"(%e) {kind = "add", over = ["x"]} : (tensor<?x?xf32, ["q", "x"]>) -> tensor<?xf32, ["q"]>
  return %z : tensor<?xf32, ["q"]>
}

// -----

// So does the sum of exponentials over another axis, divided by that over this one.
// CHECK-LABEL: func.func @another_axis
// CHECK-NOT: kind = "max"
// CHECK: return
func.func @another_axis(%s: tensor<?x?xf32, ["q", "x"]>) -> tensor<?x?xf32, ["q", "x"]> {
  %e = "diag.map"() ({
    %0 = "diag.element"(%s) : (tensor<?x?xf32, ["q", "x"]>) -> f32
    %1 = math.exp %0 : f32
    "diag.yield"(%1) : (f32) -> ()
  }) : () -> tensor<?x?xf32, ["q", "x"]>
  %z = "diag.reduce"(%e) {kind = "add", over = ["x"]} : (tensor<?x?xf32, ["q", "x"]>) -> tensor<?xf32, ["q"]>
  %y = "diag.reduce"(%e) {kind = "add", over = ["q"]} : (tensor<?x?xf32, ["q", "x"]>) -> tensor<?xf32, ["x"]>
  %p = "diag.map"() ({
    %0 = "diag.element"(%y) : (tensor<?xf32, ["x"]>) -> f32
    %1 = "diag.element"(%z) : (tensor<?xf32, ["q"]>) -> f32
    %2 = arith.divf %0, %1 : f32
    "diag.yield"(%2) : (f32) -> ()
  }) : () -> tensor<?x?xf32, ["q", "x"]>
  return %p : tensor<?x?xf32, ["q", "x"]>
}

// -----

// exp(s - log z) with z the sum of exp(s) is a division by z; then the maximum cancels.
// CHECK-LABEL: func.func @split
// CHECK: kind = "max"
// CHECK: kind = "add"
// CHECK-NOT: math.log
// CHECK: arith.divf
func.func @split(%s: tensor<?x?xf32, ["q", "x"]>) -> tensor<?x?xf32, ["q", "x"]> {
  %e = "diag.map"() ({
    %0 = "diag.element"(%s) : (tensor<?x?xf32, ["q", "x"]>) -> f32
    %1 = math.exp %0 : f32
    "diag.yield"(%1) : (f32) -> ()
  }) : () -> tensor<?x?xf32, ["q", "x"]>
  %z = "diag.reduce"(%e) {kind = "add", over = ["x"]} : (tensor<?x?xf32, ["q", "x"]>) -> tensor<?xf32, ["q"]>
  %p = "diag.map"() ({
    %0 = "diag.element"(%s) : (tensor<?x?xf32, ["q", "x"]>) -> f32
    %1 = "diag.element"(%z) : (tensor<?xf32, ["q"]>) -> f32
    %2 = math.log %1 : f32
    %3 = arith.subf %0, %2 : f32
    %4 = math.exp %3 : f32
    "diag.yield"(%4) : (f32) -> ()
  }) : () -> tensor<?x?xf32, ["q", "x"]>
  return %p : tensor<?x?xf32, ["q", "x"]>
}

// -----

// The sum of other exponentials stays under its logarithm.
// CHECK-LABEL: func.func @another_sum
// CHECK: math.log
// CHECK: return
func.func @another_sum(%s: tensor<?x?xf32, ["q", "x"]>, %t: tensor<?x?xf32, ["q", "x"]>) -> tensor<?x?xf32, ["q", "x"]> {
  %e = "diag.map"() ({
    %0 = "diag.element"(%t) : (tensor<?x?xf32, ["q", "x"]>) -> f32
    %1 = math.exp %0 : f32
    "diag.yield"(%1) : (f32) -> ()
  }) : () -> tensor<?x?xf32, ["q", "x"]>
  %z = "diag.reduce"(%e) {kind = "add", over = ["x"]} : (tensor<?x?xf32, ["q", "x"]>) -> tensor<?xf32, ["q"]>
  %p = "diag.map"() ({
    %0 = "diag.element"(%s) : (tensor<?x?xf32, ["q", "x"]>) -> f32
    %1 = "diag.element"(%z) : (tensor<?xf32, ["q"]>) -> f32
    %2 = math.log %1 : f32
    %3 = arith.subf %0, %2 : f32
    %4 = math.exp %3 : f32
    "diag.yield"(%4) : (f32) -> ()
  }) : () -> tensor<?x?xf32, ["q", "x"]>
  return %p : tensor<?x?xf32, ["q", "x"]>
}

// -----

// A logarithm that would stay within a product is not split off: log-sum-exp is one statistic.
// CHECK-LABEL: func.func @within_a_product
// CHECK: %[[Z:[0-9]+]] = "diag.reduce"({{.*}}) {kind = "add", over = ["x"]}
// CHECK: %[[L:[0-9]+]] = "diag.map"() ({
// CHECK: "diag.element"(%[[Z]])
// CHECK: math.log
// CHECK: "diag.map"() ({
// CHECK-NOT: "diag.element"(%[[Z]])
// CHECK: "diag.element"(%[[L]])
// CHECK-NOT: math.log
// CHECK: return
func.func @within_a_product(%s: tensor<?x?xf32, ["q", "x"]>) -> tensor<?xf32, ["q"]> {
  %m = "diag.reduce"(%s) {kind = "max", over = ["x"]} : (tensor<?x?xf32, ["q", "x"]>) -> tensor<?xf32, ["q"]>
  %e = "diag.map"() ({
    %0 = "diag.element"(%s) : (tensor<?x?xf32, ["q", "x"]>) -> f32
    %1 = "diag.element"(%m) : (tensor<?xf32, ["q"]>) -> f32
    %2 = arith.subf %0, %1 : f32
    %3 = math.exp %2 : f32
    "diag.yield"(%3) : (f32) -> ()
  }) : () -> tensor<?x?xf32, ["q", "x"]>
  %z = "diag.reduce"(%e) {kind = "add", over = ["x"]} : (tensor<?x?xf32, ["q", "x"]>) -> tensor<?xf32, ["q"]>
  %l = "diag.map"() ({
    %0 = "diag.element"(%m) : (tensor<?xf32, ["q"]>) -> f32
    %1 = "diag.element"(%z) : (tensor<?xf32, ["q"]>) -> f32
    %2 = math.log %1 : f32
    %3 = arith.addf %0, %2 : f32
    "diag.yield"(%3) : (f32) -> ()
  }) : () -> tensor<?xf32, ["q"]>
  %p = "diag.map"() ({
    %0 = "diag.element"(%s) : (tensor<?x?xf32, ["q", "x"]>) -> f32
    %1 = "diag.element"(%l) : (tensor<?xf32, ["q"]>) -> f32
    %2 = arith.subf %0, %1 : f32
    %3 = math.exp %2 : f32
    %4 = arith.mulf %3, %2 : f32
    "diag.yield"(%4) : (f32) -> ()
  }) : () -> tensor<?x?xf32, ["q", "x"]>
  %h = "diag.reduce"(%p) {kind = "add", over = ["x"]} : (tensor<?x?xf32, ["q", "x"]>) -> tensor<?xf32, ["q"]>
  return %h : tensor<?xf32, ["q"]>
}

// -----

// The logarithm of a weight is its score below the maximum, less the logarithm of the sum.
// CHECK-LABEL: func.func @entropy
// CHECK-SAME: the logarithm of a product with an exponential became a sum with its exponent
// CHECK: %[[Z:[0-9]+]] = "diag.reduce"
// CHECK: "diag.map"
// CHECK-DAG: "diag.element"(%[[Z]])
// CHECK-DAG: math.log
// CHECK-DAG: arith.subf
func.func @entropy(%s: tensor<4x9xf32, ["q", "x"]>, %m: tensor<4xf32, ["q"]>) -> tensor<4x9xf32, ["q", "x"]> {
  %e = "diag.map"() ({
    %0 = "diag.element"(%s) : (tensor<4x9xf32, ["q", "x"]>) -> f32
    %1 = "diag.element"(%m) : (tensor<4xf32, ["q"]>) -> f32
    %2 = arith.subf %0, %1 : f32
    %3 = math.exp %2 : f32
    "diag.yield"(%3) : (f32) -> ()
  }) : () -> tensor<4x9xf32, ["q", "x"]>
  %z = "diag.reduce"(%e) {kind = "add", over = ["x"]} : (tensor<4x9xf32, ["q", "x"]>) -> tensor<4xf32, ["q"]>
  %p = "diag.map"() ({
    %0 = "diag.element"(%e) : (tensor<4x9xf32, ["q", "x"]>) -> f32
    %1 = "diag.element"(%z) : (tensor<4xf32, ["q"]>) -> f32
    %2 = arith.divf %0, %1 : f32
    %3 = math.log %2 : f32
    %4 = arith.mulf %2, %3 : f32
    "diag.yield"(%4) : (f32) -> ()
  }) : () -> tensor<4x9xf32, ["q", "x"]>
  return %p : tensor<4x9xf32, ["q", "x"]>
}

// -----

// Of an exponential that something was added to, the logarithm stays.
// CHECK-LABEL: func.func @smoothed
// CHECK: math.exp
// CHECK: arith.addf
// CHECK: math.log
func.func @smoothed(%s: tensor<4x9xf32, ["q", "x"]>) -> tensor<4x9xf32, ["q", "x"]> {
  %p = "diag.map"() ({
    %0 = "diag.element"(%s) : (tensor<4x9xf32, ["q", "x"]>) -> f32
    %c = arith.constant 0.5 : f32
    %1 = math.exp %0 : f32
    %2 = arith.addf %1, %c : f32
    %3 = math.log %2 : f32
    "diag.yield"(%3) : (f32) -> ()
  }) : () -> tensor<4x9xf32, ["q", "x"]>
  return %p : tensor<4x9xf32, ["q", "x"]>
}
