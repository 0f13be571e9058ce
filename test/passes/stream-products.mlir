// RUN: diagc-opt %s --split-input-file --stream-products="products=true library=none" | filecheck %s
// RUN: diagc-opt %s --split-input-file --stream-products="library=none" | filecheck %s --check-prefix=OFF
// RUN: diagc-opt %s --split-input-file --stream-products="products=true" | filecheck %s --check-prefix=LONE

// A target without tiles of products leaves all, and the library keeps what nothing is around of.
// OFF-NOT: "diag.stream"
// LONE-LABEL: func.func @lone
// LONE-NOT: "diag.stream"
// LONE-LABEL: func.func @scaled

// CHECK-LABEL: func.func @lone
// CHECK: "diag.stream"()
// CHECK: %[[X:.*]] = "diag.chunk"(%arg0)
// CHECK: %[[W:.*]] = "diag.chunk"(%arg1)
// CHECK: "diag.contract"(%[[X]], %[[W]]) {over = ["d"]}
// CHECK: {axis = "d", diag.tiled,

!x = tensor<256x128xbf16, ["n", "d"]>
!w = tensor<512x128xbf16, ["e", "d"]>
!y = tensor<256x512xbf16, ["n", "e"]>

func.func @lone(%x: !x, %w: !w) -> !y {
  %y = "diag.contract"(%x, %w) {over = ["d"]} : (!x, !w) -> !y
  return %y : !y
}

// -----

// The sum that rows are divided by is a state beside the product, which it scales at the end.
// CHECK-LABEL: func.func @scaled
// CHECK-NOT: "diag.reduce"(%{{.*}}) {{.*}} -> tensor<256x128
// CHECK: "diag.stream"()
// CHECK: "diag.reduce"
// CHECK: "diag.contract"
// CHECK: arith.divf
// CHECK: {axis = "d", diag.tiled,

!x = tensor<256x128xbf16, ["n", "d"]>
!w = tensor<512x128xbf16, ["e", "d"]>
!f = tensor<256x128xf32, ["n", "d"]>
!n = tensor<256xf32, ["n"]>
!y = tensor<256x512xbf16, ["n", "e"]>

func.func @scaled(%x: !x, %w: !w) -> !y {
  %a = "diag.map"() ({
    %e = "diag.element"(%x) : (!x) -> bf16
    %v = arith.extf %e : bf16 to f32
    %s = arith.mulf %v, %v : f32
    "diag.yield"(%s) : (f32) -> ()
  }) : () -> !f
  %z = "diag.reduce"(%a) {over = ["d"], kind = "add"} : (!f) -> !n
  %r = "diag.map"() ({
    %e = "diag.element"(%x) : (!x) -> bf16
    %v = arith.extf %e : bf16 to f32
    %s = "diag.element"(%z) : (!n) -> f32
    %q = arith.divf %v, %s : f32
    %t = arith.truncf %q : f32 to bf16
    "diag.yield"(%t) : (bf16) -> ()
  }) : () -> !x
  %y = "diag.contract"(%r, %w) {over = ["d"]} : (!x, !w) -> !y
  return %y : !y
}

// -----

// Columns of 32 positions would leave half of a tile empty.
// CHECK-LABEL: func.func @narrow
// CHECK-NOT: "diag.stream"
// CHECK: return

!x = tensor<256x128xbf16, ["n", "d"]>
!w = tensor<32x128xbf16, ["e", "d"]>
!y = tensor<256x32xbf16, ["n", "e"]>

func.func @narrow(%x: !x, %w: !w) -> !y {
  %y = "diag.contract"(%x, %w) {over = ["d"]} : (!x, !w) -> !y
  return %y : !y
}
