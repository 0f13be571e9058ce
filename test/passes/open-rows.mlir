// RUN: diagc opt %s --open-rows | filecheck %s

!q = tensor<3x5x24xf32, ["h", "n", "d"]>
!k = tensor<3x65x24xf32, ["h", "m", "d"]>
!v = tensor<3x65x16xf32, ["h", "m", "e"]>
!s = tensor<3x5x65xf32, ["h", "n", "m"]>
!o = tensor<3x5x16xf32, ["h", "n", "e"]>

// One batch, heads and rows are open; what is summed and the features of a row are not.
// CHECK-LABEL: func.func @attention
// CHECK-SAME: %arg0: tensor<?x?x?x24xf32, ["r3", "h", "n", "d"]> {diag.dims = {{\[\[}}"r3"], ["h"], ["n"], ["d"]]}
// CHECK-SAME: %arg1: tensor<?x?x65x24xf32, ["r3", "h", "m", "d"]>
// CHECK: "diag.contract"
// CHECK-SAME: -> tensor<?x?x?x65xf32, ["r3", "h", "n", "m"]>
// CHECK: "diag.normalize"
// CHECK: %[[O:.*]] = "diag.contract"
// CHECK-SAME: -> tensor<?x?x?x16xf32, ["r3", "h", "n", "e"]>
// CHECK: %[[Y:.*]] = "diag.reindex"(%[[O]])
// CHECK-SAME: -> tensor<?x?x16xf32, ["h", "n", "e"]>
// CHECK: return %[[Y]]
func.func @attention(
    %q: !q {diag.dims = [[], ["h"], ["n"], ["d"]]}, %k: !k {diag.dims = [[], ["h"], ["m"], ["d"]]},
    %v: !v {diag.dims = [[], ["h"], ["m"], ["e"]]}) -> !o {
  %s = "diag.contract"(%q, %k) {over = ["d"]} : (!q, !k) -> !s
  %p = "diag.normalize"(%s) {along = ["m"], kind = "softmax"} : (!s) -> !s
  %o = "diag.contract"(%p, %v) {over = ["m"]} : (!s, !v) -> !o
  return %o : !o
}

!x = tensor<4x6xf32, ["b", "d"]>
!w = tensor<6x8xf32, ["d", "c"]>
!y = tensor<4x8xf32, ["b", "c"]>

// Columns of a parameter are no rows.
// CHECK-LABEL: func.func @linear
// CHECK: "diag.contract"
// CHECK-SAME: -> tensor<?x8xf32, ["b", "c"]>
func.func @linear(%x: !x {diag.dims = [["b"], ["d"]]}, %w: !w {diag.dims = [["d"], ["c"]], diag.kind = "param"}) -> !y {
  %y = "diag.contract"(%x, %w) {over = ["d"]} : (!x, !w) -> !y
  return %y : !y
}

!h = tensor<2x2x6xf32, ["z", "g", "d"]>

// Declined: an axis that a view splits. A dim of one position gets no axis beside others' rows.
// CHECK-LABEL: func.func @split
// CHECK-SAME: tensor<4x?xf32, ["b", "d"]>
// CHECK-SAME: tensor<?x?xf32, ["m", "d"]>
// CHECK-SAME: tensor<?xf32, ["d"]>
func.func @split(
    %x: !x {diag.dims = [["b"], ["d"]]}, %m: tensor<7x6xf32, ["m", "d"]> {diag.dims = [["m"], ["d"]]},
    %u: tensor<6xf32, ["d"]> {diag.dims = [[], ["d"]]}) -> (!h, tensor<7x6xf32, ["m", "d"]>) {
  %h = "diag.reindex"(%x) {map = affine_map<(d0, d1, d2) -> (d0 * 2 + d1, d2)>} : (!x) -> !h
  %t = "diag.map"() ({
    %a = "diag.element"(%m) : (tensor<7x6xf32, ["m", "d"]>) -> f32
    %b = "diag.element"(%u) : (tensor<6xf32, ["d"]>) -> f32
    %c = arith.addf %a, %b : f32
    "diag.yield"(%c) : (f32) -> ()
  }) : () -> tensor<7x6xf32, ["m", "d"]>
  return %h, %t : !h, tensor<7x6xf32, ["m", "d"]>
}
