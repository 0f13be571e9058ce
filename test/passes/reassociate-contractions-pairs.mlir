// RUN: diagc-opt %s --split-input-file --reassociate-contractions | filecheck %s
// RUN: diagc-opt %s --split-input-file --reassociate-contractions --validate | filecheck %s --check-prefix=VALID

// VALID: func.func @few_columns

// A linear chain is taken in the order that saves time, however short what is summed first is.
// CHECK-LABEL: func.func @few_columns
// CHECK: %[[BC:[0-9]+]] = "diag.contract"(%arg1, %arg2) {over = ["c"]}
// CHECK: "diag.contract"(%arg0, %[[BC]]) {over = ["b"]}
func.func @few_columns(%a: tensor<512x512xf32, ["a", "b"]>, %b: tensor<512x512xf32, ["b", "c"]>, %c: tensor<512x8xf32, ["c", "e"]>) -> tensor<512x8xf32, ["a", "e"]> {
  %m = "diag.contract"(%a, %b) {over = ["b"]} : (tensor<512x512xf32, ["a", "b"]>, tensor<512x512xf32, ["b", "c"]>) -> tensor<512x512xf32, ["a", "c"]>
  %o = "diag.contract"(%m, %c) {over = ["c"]} : (tensor<512x512xf32, ["a", "c"]>, tensor<512x8xf32, ["c", "e"]>) -> tensor<512x8xf32, ["a", "e"]>
  return %o : tensor<512x8xf32, ["a", "e"]>
}

// -----

// Declined: the order is the best already.
// CHECK-LABEL: func.func @few_rows
// CHECK: "diag.contract"(%arg0, %arg1) {over = ["b"]}
func.func @few_rows(%a: tensor<8x512xf32, ["a", "b"]>, %b: tensor<512x512xf32, ["b", "c"]>, %c: tensor<512x512xf32, ["c", "e"]>) -> tensor<8x512xf32, ["a", "e"]> {
  %m = "diag.contract"(%a, %b) {over = ["b"]} : (tensor<8x512xf32, ["a", "b"]>, tensor<512x512xf32, ["b", "c"]>) -> tensor<8x512xf32, ["a", "c"]>
  %o = "diag.contract"(%m, %c) {over = ["c"]} : (tensor<8x512xf32, ["a", "c"]>, tensor<512x512xf32, ["c", "e"]>) -> tensor<8x512xf32, ["a", "e"]>
  return %o : tensor<8x512xf32, ["a", "e"]>
}

// -----

// Scores of pairs of keys that are only squared and summed, or contracted with pairs of values: the
// Gram matrices of both keys, multiplied. No wire has an axis of queries and one of keys.
// CHECK-LABEL: func.func @pairs
// CHECK-NOT: ["q", "j"
// CHECK: "diag.contract"(%{{[0-9]+}}, %{{[0-9]+}}) {over = ["j"]} : (tensor<256x16xf64, ["j", "d"]>, tensor<256x16xf64, ["j", "d'"]>) -> tensor<16x16xf64
// CHECK: "diag.contract"(%{{[0-9]+}}, %{{[0-9]+}}) {over = ["k"]} : {{.*}} -> tensor<16x16xf64
// CHECK: {over = []} : (tensor<16x16xf64
// CHECK: arith.maximumf
// CHECK: arith.truncf
// CHECK: {over = []} : (tensor<16x16xf64
// CHECK-NOT: diag.stream
// CHECK: return
func.func @pairs(%q: tensor<256x16xf32, ["q", "d"]>, %a: tensor<256x16xf32, ["j", "d"]>, %b: tensor<256x16xf32, ["k", "d"]>, %v: tensor<256x16xf32, ["j", "e"]>, %w: tensor<256x16xf32, ["k", "e"]>) -> (tensor<256xf32, ["q"]>, tensor<256x16xf32, ["q", "e"]>) {
  %m = "diag.map"() ({
    %0 = "diag.element"(%q) : (tensor<256x16xf32, ["q", "d"]>) -> f32
    %1 = "diag.element"(%a) : (tensor<256x16xf32, ["j", "d"]>) -> f32
    %2 = arith.mulf %0, %1 : f32
    "diag.yield"(%2) : (f32) -> ()
  }) : () -> tensor<256x16x256xf32, ["q", "d", "j"]>
  %s = "diag.contract"(%m, %b) {over = ["d"]} : (tensor<256x16x256xf32, ["q", "d", "j"]>, tensor<256x16xf32, ["k", "d"]>) -> tensor<256x256x256xf32, ["q", "j", "k"]>
  %p = "diag.map"() ({
    %0 = "diag.element"(%s) : (tensor<256x256x256xf32, ["q", "j", "k"]>) -> f32
    %1 = arith.mulf %0, %0 : f32
    "diag.yield"(%1) : (f32) -> ()
  }) : () -> tensor<256x256x256xf32, ["q", "j", "k"]>
  %z = "diag.reduce"(%p) {kind = "add", over = ["j", "k"]} : (tensor<256x256x256xf32, ["q", "j", "k"]>) -> tensor<256xf32, ["q"]>
  %t = "diag.contract"(%s, %v) {over = ["j"]} : (tensor<256x256x256xf32, ["q", "j", "k"]>, tensor<256x16xf32, ["j", "e"]>) -> tensor<256x256x16xf32, ["q", "k", "e"]>
  %o = "diag.contract"(%t, %w) {over = ["k"]} : (tensor<256x256x16xf32, ["q", "k", "e"]>, tensor<256x16xf32, ["k", "e"]>) -> tensor<256x16xf32, ["q", "e"]>
  return %z, %o : tensor<256xf32, ["q"]>, tensor<256x16xf32, ["q", "e"]>
}

// -----

// Declined: fewer keys than the matrices are wide.
// CHECK-LABEL: func.func @few_pairs
// CHECK-NOT: f64
// CHECK: return
func.func @few_pairs(%q: tensor<8x16xf32, ["q", "d"]>, %a: tensor<8x16xf32, ["j", "d"]>, %b: tensor<8x16xf32, ["k", "d"]>, %v: tensor<8x16xf32, ["j", "e"]>, %w: tensor<8x16xf32, ["k", "e"]>) -> (tensor<8xf32, ["q"]>, tensor<8x16xf32, ["q", "e"]>) {
  %m = "diag.map"() ({
    %0 = "diag.element"(%q) : (tensor<8x16xf32, ["q", "d"]>) -> f32
    %1 = "diag.element"(%a) : (tensor<8x16xf32, ["j", "d"]>) -> f32
    %2 = arith.mulf %0, %1 : f32
    "diag.yield"(%2) : (f32) -> ()
  }) : () -> tensor<8x16x8xf32, ["q", "d", "j"]>
  %s = "diag.contract"(%m, %b) {over = ["d"]} : (tensor<8x16x8xf32, ["q", "d", "j"]>, tensor<8x16xf32, ["k", "d"]>) -> tensor<8x8x8xf32, ["q", "j", "k"]>
  %p = "diag.map"() ({
    %0 = "diag.element"(%s) : (tensor<8x8x8xf32, ["q", "j", "k"]>) -> f32
    %1 = arith.mulf %0, %0 : f32
    "diag.yield"(%1) : (f32) -> ()
  }) : () -> tensor<8x8x8xf32, ["q", "j", "k"]>
  %z = "diag.reduce"(%p) {kind = "add", over = ["j", "k"]} : (tensor<8x8x8xf32, ["q", "j", "k"]>) -> tensor<8xf32, ["q"]>
  %t = "diag.contract"(%s, %v) {over = ["j"]} : (tensor<8x8x8xf32, ["q", "j", "k"]>, tensor<8x16xf32, ["j", "e"]>) -> tensor<8x8x16xf32, ["q", "k", "e"]>
  %o = "diag.contract"(%t, %w) {over = ["k"]} : (tensor<8x8x16xf32, ["q", "k", "e"]>, tensor<8x16xf32, ["k", "e"]>) -> tensor<8x16xf32, ["q", "e"]>
  return %z, %o : tensor<8xf32, ["q"]>, tensor<8x16xf32, ["q", "e"]>
}

// -----

// Not a polynomial: scores stay. The product that is stored has the axis that is summed last, so
// that a stream of this axis has it one chunk at a time.
// CHECK-LABEL: func.func @pairs_of_exp
// CHECK: %[[M:[0-9]+]] = "diag.map"() ({
// CHECK: "diag.element"(%arg0)
// CHECK: "diag.element"(%arg2)
// CHECK: -> tensor<64x16x64xf32, ["q", "d", "k"]>
// CHECK: "diag.contract"(%[[M]], %arg1) {over = ["d"]}
func.func @pairs_of_exp(%q: tensor<64x16xf32, ["q", "d"]>, %a: tensor<64x16xf32, ["j", "d"]>, %b: tensor<64x16xf32, ["k", "d"]>, %v: tensor<64x16xf32, ["j", "e"]>, %w: tensor<64x16xf32, ["k", "e"]>) -> (tensor<64xf32, ["q"]>, tensor<64x16xf32, ["q", "e"]>) {
  %m = "diag.map"() ({
    %0 = "diag.element"(%q) : (tensor<64x16xf32, ["q", "d"]>) -> f32
    %1 = "diag.element"(%a) : (tensor<64x16xf32, ["j", "d"]>) -> f32
    %2 = arith.mulf %0, %1 : f32
    "diag.yield"(%2) : (f32) -> ()
  }) : () -> tensor<64x16x64xf32, ["q", "d", "j"]>
  %s = "diag.contract"(%m, %b) {over = ["d"]} : (tensor<64x16x64xf32, ["q", "d", "j"]>, tensor<64x16xf32, ["k", "d"]>) -> tensor<64x64x64xf32, ["q", "j", "k"]>
  %p = "diag.map"() ({
    %0 = "diag.element"(%s) : (tensor<64x64x64xf32, ["q", "j", "k"]>) -> f32
    %1 = math.exp %0 : f32
    "diag.yield"(%1) : (f32) -> ()
  }) : () -> tensor<64x64x64xf32, ["q", "j", "k"]>
  %z = "diag.reduce"(%p) {kind = "add", over = ["j", "k"]} : (tensor<64x64x64xf32, ["q", "j", "k"]>) -> tensor<64xf32, ["q"]>
  %t = "diag.contract"(%p, %v) {over = ["j"]} : (tensor<64x64x64xf32, ["q", "j", "k"]>, tensor<64x16xf32, ["j", "e"]>) -> tensor<64x64x16xf32, ["q", "k", "e"]>
  %o = "diag.contract"(%t, %w) {over = ["k"]} : (tensor<64x64x16xf32, ["q", "k", "e"]>, tensor<64x16xf32, ["k", "e"]>) -> tensor<64x16xf32, ["q", "e"]>
  return %z, %o : tensor<64xf32, ["q"]>, tensor<64x16xf32, ["q", "e"]>
}
