// RUN: diagc-opt %s --split-input-file --expand-normalizers | filecheck %s
// RUN: diagc-opt %s --split-input-file --expand-normalizers="empty-rows=eager" | filecheck %s --check-prefix=EAGER
// RUN: not diagc-opt %s --split-input-file --expand-normalizers="empty-rows=nan" 2>&1 | filecheck %s --check-prefix=BAD

// BAD: error: bad value for option 'empty-rows' of pass 'expand-normalizers', expected zero or eager, found 'nan'

// A maximum is subtracted and guarded, so that rows without elements give 0 and not NaN.
// CHECK-LABEL: func.func @softmax
// CHECK: %[[M:[0-9]+]] = "diag.reduce"(%arg0) {kind = "max", over = ["x"]}
// CHECK: "diag.element"(%[[M]])
// CHECK: arith.cmpf oeq
// CHECK: arith.select
// CHECK: arith.subf
// CHECK-NEXT: math.exp
// CHECK: %[[Z:[0-9]+]] = "diag.reduce"({{.*}}) {kind = "add", over = ["x"]}
// CHECK: "diag.element"(%[[Z]])
// CHECK: arith.cmpf oeq
// CHECK: arith.divf
// CHECK: arith.select
// CHECK: arith.mulf
// EAGER-LABEL: func.func @softmax
// EAGER-NOT: arith.select
// EAGER: math.exp
// EAGER: arith.divf
// EAGER-NOT: arith.select
// EAGER: return
func.func @softmax(%x: tensor<4x8xf32, ["q", "x"]>) -> tensor<4x8xf32, ["q", "x"]> {
  %y = "diag.normalize"(%x) {along = ["x"], kind = "softmax"} : (tensor<4x8xf32, ["q", "x"]>) -> tensor<4x8xf32, ["q", "x"]>
  return %y : tensor<4x8xf32, ["q", "x"]>
}

// -----

// Excluded elements become the identity of the maximum; statistics of bf16 are in f32.
// CHECK-LABEL: func.func @masked_bf16
// CHECK: arith.extf {{.*}} : bf16 to f32
// CHECK: %[[MINUS:.*]] = arith.constant 0xFF800000 : f32
// CHECK: arith.select {{.*}}, {{.*}}, %[[MINUS]] : f32
// CHECK: "diag.reduce"({{.*}}) {kind = "max", over = ["x"]} : (tensor<4x?xf32, ["q", "x"]>) -> tensor<4xf32, ["q"]>
// CHECK: "diag.reduce"({{.*}}) {kind = "add", over = ["x"]} : (tensor<4x?xf32, ["q", "x"]>) -> tensor<4xf32, ["q"]>
// CHECK: arith.truncf {{.*}} : f32 to bf16
func.func @masked_bf16(%x: tensor<4x?xbf16, ["q", "x"]>, %k: tensor<?xi1, ["x"]>) -> tensor<4x?xbf16, ["q", "x"]> {
  %y = "diag.normalize"(%x, %k) {along = ["x"], kind = "softmax"} : (tensor<4x?xbf16, ["q", "x"]>, tensor<?xi1, ["x"]>) -> tensor<4x?xbf16, ["q", "x"]>
  return %y : tensor<4x?xbf16, ["q", "x"]>
}

// -----

// The numerator of l2 is the element itself: it is not stored again.
// CHECK-LABEL: func.func @l2
// CHECK: "diag.map"
// CHECK: arith.mulf %[[A:[0-9]+]], %[[A]]
// CHECK: "diag.reduce"({{.*}}) {kind = "add", over = ["x"]}
// CHECK: math.sqrt
// CHECK: %{{.*}} = "diag.element"(%arg0)
// CHECK: arith.mulf
func.func @l2(%x: tensor<4x8xf32, ["q", "x"]>) -> tensor<4x8xf32, ["q", "x"]> {
  %y = "diag.normalize"(%x) {along = ["x"], kind = "l2"} : (tensor<4x8xf32, ["q", "x"]>) -> tensor<4x8xf32, ["q", "x"]>
  return %y : tensor<4x8xf32, ["q", "x"]>
}

// -----

// The place of eps: inside the root, and outside.
// CHECK-LABEL: func.func @eps
// CHECK: arith.addf
// CHECK-NEXT: math.sqrt
// CHECK: math.sqrt
// CHECK: arith.addf
func.func @eps(%x: tensor<4x8xf32, ["q", "x"]>) -> (tensor<4x8xf32, ["q", "x"]>, tensor<4x8xf32, ["q", "x"]>) {
  %y = "diag.normalize"(%x) {along = ["x"], kind = "l2", eps = 1.0e-6, eps_place = "inside"} : (tensor<4x8xf32, ["q", "x"]>) -> tensor<4x8xf32, ["q", "x"]>
  %z = "diag.normalize"(%x) {along = ["x"], kind = "l2", eps = 1.0e-6, eps_place = "outside"} : (tensor<4x8xf32, ["q", "x"]>) -> tensor<4x8xf32, ["q", "x"]>
  return %y, %z : tensor<4x8xf32, ["q", "x"]>, tensor<4x8xf32, ["q", "x"]>
}

// -----

// Two passes: the mean, then the mean of squares of what is centred; both divide by the size.
// CHECK-LABEL: func.func @layer
// CHECK: "diag.reduce"(%arg0) {kind = "add", over = ["x"]}
// CHECK: arith.constant 8.0{{.*}} : f32
// CHECK: arith.divf
// CHECK: arith.subf
// CHECK: arith.mulf
// CHECK: "diag.reduce"({{.*}}) {kind = "add", over = ["x"]}
// CHECK: arith.addf
// CHECK-NEXT: math.sqrt
func.func @layer(%x: tensor<4x8xf32, ["q", "x"]>) -> tensor<4x8xf32, ["q", "x"]> {
  %y = "diag.normalize"(%x) {along = ["x"], kind = "layer", eps = 1.0e-5} : (tensor<4x8xf32, ["q", "x"]>) -> tensor<4x8xf32, ["q", "x"]>
  return %y : tensor<4x8xf32, ["q", "x"]>
}

// -----

// The size of a dynamic axis is counted; several axes are normalised together.
// CHECK-LABEL: func.func @rms_over_two_axes
// CHECK: arith.constant 1.0{{.*}} : f32
// CHECK: "diag.reduce"({{.*}}) {kind = "add", over = ["x"]} : (tensor<?xf32, ["x"]>) -> tensor<f32, []>
// CHECK: "diag.reduce"({{.*}}) {kind = "add", over = ["q", "x"]} : (tensor<4x?xf32, ["q", "x"]>) -> tensor<f32, []>
// CHECK: arith.constant 4.0{{.*}} : f32
func.func @rms_over_two_axes(%x: tensor<4x?xf32, ["q", "x"]>) -> tensor<4x?xf32, ["q", "x"]> {
  %y = "diag.normalize"(%x) {along = ["q", "x"], kind = "rms"} : (tensor<4x?xf32, ["q", "x"]>) -> tensor<4x?xf32, ["q", "x"]>
  return %y : tensor<4x?xf32, ["q", "x"]>
}

// -----

// No statistic: one map, or nothing at all.
// CHECK-LABEL: func.func @without_statistic
// CHECK-NOT: diag.reduce
// CHECK: arith.negf
// CHECK-NEXT: math.exp
// CHECK: return %{{.*}}, %arg0
func.func @without_statistic(%x: tensor<4x8xf32, ["q", "x"]>) -> (tensor<4x8xf32, ["q", "x"]>, tensor<4x8xf32, ["q", "x"]>) {
  %y = "diag.normalize"(%x) {along = ["x"], kind = "sigmoid"} : (tensor<4x8xf32, ["q", "x"]>) -> tensor<4x8xf32, ["q", "x"]>
  %z = "diag.normalize"(%x) {along = ["x"], kind = "none"} : (tensor<4x8xf32, ["q", "x"]>) -> tensor<4x8xf32, ["q", "x"]>
  return %y, %z : tensor<4x8xf32, ["q", "x"]>, tensor<4x8xf32, ["q", "x"]>
}
