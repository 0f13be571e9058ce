// RUN: diagc opt %s --split-input-file --split-words="split-words=true" | filecheck %s
// RUN: diagc opt %s --split-input-file --split-words | filecheck %s --check-prefix=OFF

!k = tensor<2x?x64xbf16, ["b", "x", "d"]>
!v = tensor<2x?x32xbf16, ["b", "x", "e"]>
!q = tensor<2x?x64xbf16, ["b", "q", "d"]>
!m = tensor<2x64x32xf32, ["b", "d", "e"]>
!o = tensor<2x?x32xbf16, ["b", "q", "e"]>
!f = tensor<2x?x32xf32, ["b", "q", "e"]>

// The state of a stream is two matrices of bf16, which the kernel of the stream makes; rounding goes
// by way of bits, since targets keep all digits of numbers in registers.
// CHECK-LABEL: func.func @moments
// CHECK: %[[M:[0-9]+]] = "diag.stream"
// CHECK: {axis = "x"
// CHECK: %[[HIGH:[0-9]+]] = "diag.map"
// CHECK: %[[E:[0-9]+]] = "diag.element"(%[[M]])
// CHECK: arith.truncf %[[E]] : f32 to bf16
// CHECK: arith.bitcast {{.*}} : bf16 to i16
// CHECK: arith.bitcast {{.*}} : i16 to bf16
// CHECK: %[[LOW:[0-9]+]] = "diag.map"
// CHECK: arith.bitcast
// CHECK: math.absf
// CHECK: arith.cmpf olt
// CHECK: arith.subf
// CHECK: arith.select
// CHECK: arith.truncf {{.*}} : f32 to bf16
// CHECK: %[[A:[0-9]+]] = "diag.contract"(%arg0, %[[HIGH]]) {over = ["d"]}
// CHECK: %[[B:[0-9]+]] = "diag.contract"(%arg0, %[[LOW]]) {over = ["d"]}
// CHECK: "diag.map"
// CHECK: "diag.element"(%[[A]])
// CHECK: "diag.element"(%[[B]])
// CHECK: arith.addf
// CHECK: arith.truncf
// The same words serve a second product.
// CHECK: "diag.contract"(%arg0, %[[HIGH]])
// CHECK: "diag.contract"(%arg0, %[[LOW]])
// CHECK: return
// OFF-NOT: arith.bitcast
func.func @moments(%q: !q, %k: !k, %v: !v) -> (!o, !o) {
  %m = "diag.stream"() ({
    %zero = "diag.map"() ({
      %0 = arith.constant 0.0 : f32
      "diag.yield"(%0) : (f32) -> ()
    }) : () -> !m
    "diag.yield"(%zero) : (!m) -> ()
  }, {
  ^bb0(%a: !m):
    %kc = "diag.chunk"(%k) : (!k) -> !k
    %vc = "diag.chunk"(%v) : (!v) -> !v
    %u = "diag.contract"(%kc, %vc) {over = ["x"]} : (!k, !v) -> !m
    %n = "diag.map"() ({
      %0 = "diag.element"(%a) : (!m) -> f32
      %1 = "diag.element"(%u) : (!m) -> f32
      %2 = arith.addf %0, %1 : f32
      "diag.yield"(%2) : (f32) -> ()
    }) : () -> !m
    "diag.yield"(%n) : (!m) -> ()
  }, {
  }, {
  ^bb0(%a: !m):
    "diag.yield"(%a) : (!m) -> ()
  }) {axis = "x", resultSegmentSizes = array<i32: 1, 0, 0, 0, 0, 0, 0, 0>} : () -> !m
  %o = "diag.contract"(%q, %m) {over = ["d"]} : (!q, !m) -> !o
  %s = "diag.contract"(%q, %m) {over = ["d"]} : (!q, !m) -> !f
  %r = "diag.map"() ({
    %0 = "diag.element"(%s) : (!f) -> f32
    %1 = arith.mulf %0, %0 : f32
    %2 = arith.truncf %1 : f32 to bf16
    "diag.yield"(%2) : (bf16) -> ()
  }) : () -> !o
  return %o, %r : !o, !o
}

// -----

!k = tensor<2x?x64xbf16, ["b", "x", "d"]>
!v = tensor<2x?x32xbf16, ["b", "x", "e"]>
!q = tensor<2x?x64xbf16, ["b", "q", "d"]>
!h = tensor<2x?x64xf16, ["b", "q", "d"]>
!m = tensor<2x64x32xf32, ["b", "d", "e"]>
!o = tensor<2x?x32xbf16, ["b", "q", "e"]>
!f = tensor<2x?x32xf32, ["b", "q", "e"]>
!i = tensor<2x?x32xi1, ["b", "q", "e"]>

// Not split: rows of f16, a result that leaves in f32, a matrix that is an argument or a product,
// results whose error may be larger than that of their rounding.
// CHECK-LABEL: func.func @others
// CHECK-NOT: arith.bitcast
func.func @others(%q: !q, %h: !h, %k: !k, %v: !v, %w: !m, %c: !f) -> (!o, !f, !o, !o, !o, !o, !i) {
  %m = "diag.stream"() ({
    %zero = "diag.map"() ({
      %0 = arith.constant 0.0 : f32
      "diag.yield"(%0) : (f32) -> ()
    }) : () -> !m
    "diag.yield"(%zero) : (!m) -> ()
  }, {
  ^bb0(%a: !m):
    %kc = "diag.chunk"(%k) : (!k) -> !k
    %vc = "diag.chunk"(%v) : (!v) -> !v
    %u = "diag.contract"(%kc, %vc) {over = ["x"]} : (!k, !v) -> !m
    %n = "diag.map"() ({
      %0 = "diag.element"(%a) : (!m) -> f32
      %1 = "diag.element"(%u) : (!m) -> f32
      %2 = arith.addf %0, %1 : f32
      "diag.yield"(%2) : (f32) -> ()
    }) : () -> !m
    "diag.yield"(%n) : (!m) -> ()
  }, {
  }, {
  ^bb0(%a: !m):
    "diag.yield"(%a) : (!m) -> ()
  }) {axis = "x", resultSegmentSizes = array<i32: 1, 0, 0, 0, 0, 0, 0, 0>} : () -> !m
  %p = "diag.contract"(%k, %v) {over = ["x"]} : (!k, !v) -> !m
  %o = "diag.contract"(%h, %m) {over = ["d"]} : (!h, !m) -> !o
  %s = "diag.contract"(%q, %m) {over = ["d"]} : (!q, !m) -> !f
  %t = "diag.map"() ({
    %0 = "diag.element"(%s) : (!f) -> f32
    %1 = math.exp %0 : f32
    "diag.yield"(%1) : (f32) -> ()
  }) : () -> !f
  %u = "diag.contract"(%q, %w) {over = ["d"]} : (!q, !m) -> !o
  %y = "diag.contract"(%q, %p) {over = ["d"]} : (!q, !m) -> !o
  // what is added, an exponent, or a condition may have a larger error than the rounding of bf16
  %s1 = "diag.contract"(%q, %m) {over = ["d"]} : (!q, !m) -> !f
  %d = "diag.map"() ({
    %0 = "diag.element"(%s1) : (!f) -> f32
    %1 = "diag.element"(%c) : (!f) -> f32
    %2 = arith.subf %0, %1 : f32
    %3 = arith.truncf %2 : f32 to bf16
    "diag.yield"(%3) : (bf16) -> ()
  }) : () -> !o
  %s2 = "diag.contract"(%q, %m) {over = ["d"]} : (!q, !m) -> !f
  %e = "diag.map"() ({
    %0 = "diag.element"(%s2) : (!f) -> f32
    %1 = math.exp %0 : f32
    %2 = arith.truncf %1 : f32 to bf16
    "diag.yield"(%2) : (bf16) -> ()
  }) : () -> !o
  %s3 = "diag.contract"(%q, %m) {over = ["d"]} : (!q, !m) -> !f
  %i = "diag.map"() ({
    %0 = "diag.element"(%s3) : (!f) -> f32
    %1 = "diag.element"(%c) : (!f) -> f32
    %2 = arith.cmpf ogt, %0, %1 : f32
    "diag.yield"(%2) : (i1) -> ()
  }) : () -> !i
  return %o, %t, %u, %y, %d, %e, %i : !o, !f, !o, !o, !o, !o, !i
}
