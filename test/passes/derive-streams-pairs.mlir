// RUN: diagc-opt %s --reassociate-contractions --derive-streams --canonicalize-diag | filecheck %s
// RUN: diagc-opt %s --reassociate-contractions --derive-streams --canonicalize-diag --validate | filecheck %s

// Sums over pairs of keys: one stream over the axis that is summed last, whose states have no axis of
// keys. The other axis is worked on whole, chunk by chunk of the first.
// CHECK-LABEL: func.func @pairs_of_exp
// CHECK-NOT: ["q", "j", "k"]
// CHECK: "diag.stream"
// CHECK: "diag.chunk"(%arg2)
// CHECK: {over = ["d"]} : {{.*}} -> tensor<{{.*}}["q", "j", "k"]>
// CHECK: "diag.reduce"({{.*}}) {kind = "add", over = ["j", "k"]}
// CHECK: "diag.contract"({{.*}}) {over = ["j"]}
// CHECK: "diag.contract"({{.*}}) {over = ["k"]}
// CHECK: axis = "k"
// CHECK-NOT: "diag.stream"
// CHECK: return
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
