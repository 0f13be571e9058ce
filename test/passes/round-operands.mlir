// RUN: diagc opt %s --round-operands="float8-matmul-precision=high" | filecheck %s
// RUN: diagc opt %s --round-operands | filecheck %s --check-prefix=HIGHEST

!p = tensor<?x?xf32, ["q", "x"]>
!v = tensor<?x64xf8E4M3FN, ["x", "e"]>
!w = tensor<?x64xbf16, ["x", "e"]>
!o = tensor<?x64xf32, ["q", "e"]>

// HIGHEST-NOT: mul =
// CHECK: "diag.contract"(%arg0, %arg1) {mul = f8E4M3FN, over = ["x"]}
// CHECK: "diag.contract"(%arg0, %arg2) {over = ["x"]}
func.func @weights(%p: !p, %v: !v, %w: !w) -> (!o, !o) {
  %o = "diag.contract"(%p, %v) {over = ["x"]} : (!p, !v) -> !o
  %u = "diag.contract"(%p, %w) {over = ["x"]} : (!p, !w) -> !o
  return %o, %u : !o, !o
}
