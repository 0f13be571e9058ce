// RUN: diagc opt %s --factor-scales | filecheck %s
// RUN: diagc opt %s --factor-scales="products=true" | filecheck %s --check-prefixes=CHECK,WIDE

!q = tensor<?x64xf32, ["q", "d"]>
!k = tensor<?x64xf8E4M3FN, ["m", "d"]>
!w = tensor<?x64xf32, ["m", "d"]>
!s = tensor<?xf32, ["m"]>
!p = tensor<?x?xf32, ["q", "m"]>

// A factor that lacks the summed axis goes behind the sum.
// CHECK-LABEL: func.func @behind
// CHECK-SAME: scales of narrow numbers moved behind the sum
// CHECK: %[[Y:.*]] = "diag.contract"(%arg0, %arg1)
// CHECK: "diag.map"
// CHECK: "diag.element"(%[[Y]])
// CHECK: "diag.element"(%arg2)
// CHECK: arith.mulf
// CHECK: return
func.func @behind(%q: !q, %k: !k, %s: !s) -> !p {
  %x = "diag.map"() ({
    %e = "diag.element"(%k) : (!k) -> f8E4M3FN
    %w = arith.extf %e : f8E4M3FN to f32
    %c = "diag.element"(%s) : (!s) -> f32
    %y = arith.mulf %w, %c : f32
    "diag.yield"(%y) : (f32) -> ()
  }) : () -> !w
  %y = "diag.contract"(%q, %x) {over = ["d"]} : (!q, !w) -> !p
  return %y : !p
}

// One that has it goes to the other operand; a quotient stays one.
// CHECK-LABEL: func.func @beside
// CHECK-SAME: scales of narrow numbers moved to the other operand
// CHECK: "diag.element"(%arg0)
// CHECK: "diag.element"(%arg2)
// CHECK: arith.divf
// CHECK: "diag.contract"(%{{.*}}, %arg1)
// CHECK: return
func.func @beside(%p: !p, %v: !k, %s: !s) -> !q {
  %x = "diag.map"() ({
    %e = "diag.element"(%v) : (!k) -> f8E4M3FN
    %w = arith.extf %e : f8E4M3FN to f32
    %c = "diag.element"(%s) : (!s) -> f32
    %y = arith.divf %w, %c : f32
    "diag.yield"(%y) : (f32) -> ()
  }) : () -> !w
  %o = "diag.contract"(%p, %x) {over = ["m"]} : (!p, !w) -> !q
  return %o : !q
}

// Nothing but a conversion, which the contraction does itself.
// CHECK-LABEL: func.func @converted
// CHECK: "diag.contract"(%arg0, %arg1)
// CHECK-NEXT: return
func.func @converted(%q: !q, %k: !k) -> !p {
  %x = "diag.map"() ({
    %e = "diag.element"(%k) : (!k) -> f8E4M3FN
    %w = arith.extf %e : f8E4M3FN to f32
    "diag.yield"(%w) : (f32) -> ()
  }) : () -> !w
  %y = "diag.contract"(%q, %x) {over = ["d"]} : (!q, !w) -> !p
  return %y : !p
}

// A sum is no product; a factor of both axes has an axis that the other operand lacks.
// CHECK-LABEL: func.func @declined
// CHECK: %[[A:.*]] = "diag.map"
// CHECK: "diag.contract"(%arg0, %[[A]])
// CHECK: %[[B:.*]] = "diag.map"
// CHECK: "diag.contract"(%arg0, %[[B]])
// CHECK-NEXT: return
func.func @declined(%q: !q, %k: !k, %s: !s, %t: !w) -> (!p, !p) {
  %x = "diag.map"() ({
    %e = "diag.element"(%k) : (!k) -> f8E4M3FN
    %w = arith.extf %e : f8E4M3FN to f32
    %c = "diag.element"(%s) : (!s) -> f32
    %a = arith.addf %w, %c : f32
    "diag.yield"(%a) : (f32) -> ()
  }) : () -> !w
  %y = "diag.contract"(%q, %x) {over = ["d"]} : (!q, !w) -> !p
  %u = "diag.map"() ({
    %e = "diag.element"(%k) : (!k) -> f8E4M3FN
    %w = arith.extf %e : f8E4M3FN to f32
    %f = "diag.element"(%t) : (!w) -> f32
    %r = arith.mulf %w, %f : f32
    "diag.yield"(%r) : (f32) -> ()
  }) : () -> !w
  %z = "diag.contract"(%q, %u) {over = ["d"]} : (!q, !w) -> !p
  return %y, %z : !p, !p
}

!a = tensor<?x64xbf16, ["m", "d"]>
!b = tensor<?x64xbf16, ["q", "d"]>
!c = tensor<?x?xbf16, ["q", "m"]>

// Of 16 bits where the target multiplies these: the cotangents of an average, divided by the sums
// of rows. What meets them along these rows is rounded once, behind the factor.
// WIDE-LABEL: func.func @sixteen
// WIDE: %[[S:.*]] = "diag.contract"(%arg0, %arg1) {over = ["d"]} : {{.*}} -> tensor<?x?xf32, ["q", "m"]>
// WIDE: "diag.element"(%[[S]])
// WIDE: arith.truncf
// WIDE: %[[R:.*]] = "diag.map"
// WIDE: "diag.element"(%arg3)
// WIDE: arith.mulf
// WIDE: arith.truncf
// WIDE: "diag.contract"(%{{.*}}, %arg1)
// CHECK-LABEL: func.func @argument
func.func @sixteen(%q: !b, %v: !a, %s: !s, %p: tensor<?x?xf32, ["q", "m"]>) -> (!c, !q) {
  %x = "diag.map"() ({
    %e = "diag.element"(%v) : (!a) -> bf16
    %w = arith.extf %e : bf16 to f32
    %c = "diag.element"(%s) : (!s) -> f32
    %y = arith.mulf %w, %c : f32
    "diag.yield"(%y) : (f32) -> ()
  }) : () -> !w
  %r = "diag.map"() ({
    %e = "diag.element"(%p) : (tensor<?x?xf32, ["q", "m"]>) -> f32
    %w = arith.truncf %e : f32 to bf16
    "diag.yield"(%w) : (bf16) -> ()
  }) : () -> !c
  %y = "diag.contract"(%q, %x) {over = ["d"]} : (!b, !w) -> !c
  %o = "diag.contract"(%r, %x) {over = ["m"]} : (!c, !w) -> !q
  return %y, %o : !c, !q
}

// An array takes no factor: it would be computed then.
// CHECK: arith.mulf
// CHECK: "diag.contract"(%arg0, %{{[0-9]+}})
func.func @argument(%p: !c, %v: !a, %s: !s) -> !q {
  %x = "diag.map"() ({
    %e = "diag.element"(%v) : (!a) -> bf16
    %w = arith.extf %e : bf16 to f32
    %c = "diag.element"(%s) : (!s) -> f32
    %y = arith.mulf %w, %c : f32
    "diag.yield"(%y) : (f32) -> ()
  }) : () -> !w
  %o = "diag.contract"(%p, %x) {over = ["m"]} : (!c, !w) -> !q
  return %o : !q
}
