// RUN: diagc opt %s --split-pads --canonicalize-diag | filecheck %s

!s = tensor<4x9xf32, ["q", "x"]>
!p = tensor<4x10xf32, ["q", "p"]>
!y = tensor<4x9xf32, ["q", "y"]>
!r = tensor<4xf32, ["q"]>
!v = tensor<9x5xf32, ["y", "e"]>
!o = tensor<4x5xf32, ["q", "e"]>

// A sink joins each row of scores; its weight is dropped again. The row is summed without it, the
// axis of the values is that of the scores, and the position of the sink is known.
// CHECK-LABEL: func.func @sink
// CHECK-SAME: text = "axis \22p\22 is split into \22x\22 and what it is padded by"
// CHECK-DAG: %[[V:.*]] = "diag.relabel"(%{{.*}}) {from = ["y"], to = ["x"]}
// CHECK-DAG: %[[SUM:.*]] = "diag.reduce"(%{{.*}}) {kind = "add", over = ["x"]} : (tensor<4x9xf32, ["q", "x"]>)
// CHECK-NOT: diag.pad
// CHECK-NOT: diag.reindex
// CHECK-NOT: "p"
// CHECK: "diag.contract"(%{{.*}}, %[[V]]) {over = ["x"]}
// CHECK: return
func.func @sink(%s: !s, %t: !r, %v: !v) -> !o {
  %p = "diag.pad"(%s) {axis = "x", to = "p", low = 0 : i64, high = 1 : i64, value = 0.0 : f32} : (!s) -> !p
  %i = "diag.index"() {axis = "p"} : () -> tensor<10xindex, ["p"]>
  %m = "diag.map"() ({
    %n = "diag.element"(%i) : (tensor<10xindex, ["p"]>) -> index
    %c = arith.constant 9 : index
    %b = arith.cmpi eq, %n, %c : index
    "diag.yield"(%b) : (i1) -> ()
  }) : () -> tensor<10xi1, ["p"]>
  %e = "diag.map"() ({
    %b = "diag.element"(%m) : (tensor<10xi1, ["p"]>) -> i1
    %x = "diag.element"(%p) : (!p) -> f32
    %y = "diag.element"(%t) : (!r) -> f32
    %z = arith.select %b, %y, %x : f32
    %f = math.exp %z : f32
    "diag.yield"(%f) : (f32) -> ()
  }) : () -> !p
  %z = "diag.reduce"(%e) {over = ["p"], kind = "add"} : (!p) -> !r
  %w = "diag.map"() ({
    %a = "diag.element"(%e) : (!p) -> f32
    %b = "diag.element"(%z) : (!r) -> f32
    %c = arith.divf %a, %b : f32
    "diag.yield"(%c) : (f32) -> ()
  }) : () -> !p
  %l = "diag.reindex"(%w) {map = affine_map<(d0, d1) -> (d0, d1)>} : (!p) -> !y
  %o = "diag.contract"(%l, %v) {over = ["y"]} : (!y, !v) -> !o
  return %o : !o
}

// The padded row is a result, too: it must be made, so nothing is split.
// CHECK-LABEL: func.func @returned
// CHECK: "diag.pad"
// CHECK: "diag.reduce"(%{{.*}}) {kind = "max", over = ["p"]}
func.func @returned(%s: !s) -> (!r, !p) {
  %p = "diag.pad"(%s) {axis = "x", to = "p", low = 1 : i64, high = 0 : i64, value = 0.0 : f32} : (!s) -> !p
  %z = "diag.reduce"(%p) {over = ["p"], kind = "max"} : (!p) -> !r
  return %z, %p : !r, !p
}

// Windows of a convolution reach over both ends.
// CHECK-LABEL: func.func @windows
// CHECK: "diag.pad"
// CHECK: "diag.reindex"
func.func @windows(%s: !s) -> (!r, tensor<4x8x3xf32, ["q", "o", "k"]>) {
  %p = "diag.pad"(%s) {axis = "x", to = "p", low = 1 : i64, high = 0 : i64, value = 0.0 : f32} : (!s) -> !p
  %z = "diag.reduce"(%p) {over = ["p"], kind = "max"} : (!p) -> !r
  %w = "diag.reindex"(%p) {map = affine_map<(d0, d1, d2) -> (d0, d1 + d2)>} : (!p) -> tensor<4x8x3xf32, ["q", "o", "k"]>
  return %z, %w : !r, tensor<4x8x3xf32, ["q", "o", "k"]>
}
