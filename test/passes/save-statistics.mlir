// RUN: diagc-opt %s --split-input-file --save-statistics | filecheck %s
// RUN: diagc-opt %s --split-input-file --save-statistics --differentiate --canonicalize-diag | filecheck %s --check-prefix=GRAD

// A sum of exponentials of scores, and their product with values, are results of the forward pass and arguments of the backward pass, which
// reduces nothing over keys but the gradient of queries.
// CHECK-LABEL: func.func @attention
// CHECK-SAME: tensor<5xf32, ["q"]> {diag.name = "saved0"}, tensor<5x4xf32, ["q", "e"]> {diag.name = "saved1"}) attributes {diag.saved = 2 : i64}
// CHECK: %[[Z:.*]] = "diag.reduce"
// CHECK: %[[O:.*]] = "diag.contract"({{.*}}) {over = ["x"]}
// CHECK: return %{{.*}}, %[[Z]], %[[O]]
// GRAD-LABEL: func.func @attention
// GRAD-SAME: tensor<5xf32, ["q"]> {diag.kind = "user", diag.name = "saved0"}, %{{.*}}: tensor<5x4xf32, ["q", "e"]> {diag.kind = "user", diag.name = "saved1"})
// GRAD-SAME: -> (tensor<5x4xf32, ["q", "d"]> {diag.name = "d_arg0"}
// GRAD-NOT: diag.saved
// GRAD-NOT: "diag.reduce"({{.*}}over = ["x"]
// GRAD: "diag.contract"({{.*}}) {over = ["x"]} : {{.*}} -> tensor<5x4xf32, ["q", "d"]>
// GRAD-NOT: over = ["x"]
// GRAD: return
func.func @attention(%Q: tensor<5x4xf32, ["q", "d"]>, %K: tensor<9x4xf32, ["x", "d"]>, %V: tensor<9x4xf32, ["x", "e"]>) -> tensor<5x4xf32, ["q", "e"]> {
  %S = "diag.contract"(%Q, %K) {over = ["d"]} : (tensor<5x4xf32, ["q", "d"]>, tensor<9x4xf32, ["x", "d"]>) -> tensor<5x9xf32, ["q", "x"]>
  %E = "diag.map"() ({
    %0 = "diag.element"(%S) : (tensor<5x9xf32, ["q", "x"]>) -> f32
    %1 = math.exp %0 : f32
    "diag.yield"(%1) : (f32) -> ()
  }) : () -> tensor<5x9xf32, ["q", "x"]>
  %Z = "diag.reduce"(%E) {over = ["x"], kind = "add"} : (tensor<5x9xf32, ["q", "x"]>) -> tensor<5xf32, ["q"]>
  %O = "diag.contract"(%E, %V) {over = ["x"]} : (tensor<5x9xf32, ["q", "x"]>, tensor<9x4xf32, ["x", "e"]>) -> tensor<5x4xf32, ["q", "e"]>
  %Y = "diag.map"() ({
    %0 = "diag.element"(%O) : (tensor<5x4xf32, ["q", "e"]>) -> f32
    %1 = "diag.element"(%Z) : (tensor<5xf32, ["q"]>) -> f32
    %2 = arith.divf %0, %1 : f32
    "diag.yield"(%2) : (f32) -> ()
  }) : () -> tensor<5x4xf32, ["q", "e"]>
  return %Y : tensor<5x4xf32, ["q", "e"]>
}

// -----

// Declined: what only the caller reads, and a result that is as large as the scores.
// CHECK-LABEL: func.func @results
// CHECK-NOT: saved
// CHECK: return
func.func @results(%Q: tensor<5x4xf32, ["q", "d"]>, %K: tensor<9x4xf32, ["x", "d"]>, %V: tensor<9x8xf32, ["x", "e"]>) -> (tensor<5xf32, ["q"]>, tensor<5x8xf32, ["q", "e"]>) {
  %S = "diag.contract"(%Q, %K) {over = ["d"]} : (tensor<5x4xf32, ["q", "d"]>, tensor<9x4xf32, ["x", "d"]>) -> tensor<5x9xf32, ["q", "x"]>
  %Z = "diag.reduce"(%S) {over = ["x"], kind = "add"} : (tensor<5x9xf32, ["q", "x"]>) -> tensor<5xf32, ["q"]>
  %O = "diag.contract"(%S, %V) {over = ["x"]} : (tensor<5x9xf32, ["q", "x"]>, tensor<9x8xf32, ["x", "e"]>) -> tensor<5x8xf32, ["q", "e"]>
  %Y = "diag.map"() ({
    %0 = "diag.element"(%O) : (tensor<5x8xf32, ["q", "e"]>) -> f32
    %1 = math.exp %0 : f32
    "diag.yield"(%1) : (f32) -> ()
  }) : () -> tensor<5x8xf32, ["q", "e"]>
  return %Z, %Y : tensor<5xf32, ["q"]>, tensor<5x8xf32, ["q", "e"]>
}

// -----

// Declined: a sum of what was given; no contraction made it larger.
// CHECK-LABEL: func.func @given
// CHECK-NOT: saved
// CHECK: return
func.func @given(%S: tensor<5x9xf32, ["q", "x"]>) -> tensor<5xf32, ["q"]> {
  %Z = "diag.reduce"(%S) {over = ["x"], kind = "add"} : (tensor<5x9xf32, ["q", "x"]>) -> tensor<5xf32, ["q"]>
  %Y = "diag.map"() ({
    %0 = "diag.element"(%Z) : (tensor<5xf32, ["q"]>) -> f32
    %1 = math.exp %0 : f32
    "diag.yield"(%1) : (f32) -> ()
  }) : () -> tensor<5xf32, ["q"]>
  return %Y : tensor<5xf32, ["q"]>
}
