// RUN: diagc opt %s --slide-scales | filecheck %s

!q = tensor<?x64xf32, ["q", "d"]>
!k = tensor<?x64xf32, ["x", "d"]>
!s = tensor<?x?xf32, ["q", "x"]>
!r = tensor<?xf32, ["q"]>
!h = tensor<?x64xbf16, ["q", "d"]>

// The scale of the scores goes to the queries, which do not stream.
// CHECK-LABEL: func.func @constant_scale
// CHECK-SAME: diag.done = [{at = "{{.*}}", op = "arith.mulf", text = "the scale 0.3 moved out of the stream
// CHECK: %[[SCALED:.*]] = "diag.map"
// CHECK: arith.mulf {{.*}} : f32
// CHECK: "diag.stream"
// CHECK: "diag.contract"(%[[SCALED]],
// CHECK-NOT: arith.mulf
// CHECK: return
func.func @constant_scale(%q: !q, %k: !k) -> !r {
  %z = "diag.stream"() ({
    %i = "diag.map"() ({
      %c = arith.constant 0.0 : f32
      "diag.yield"(%c) : (f32) -> ()
    }) : () -> !r
    "diag.yield"(%i) : (!r) -> ()
  }, {
  ^bb0(%z: !r):
    %kc = "diag.chunk"(%k) : (!k) -> !k
    %s = "diag.contract"(%q, %kc) {over = ["d"]} : (!q, !k) -> !s
    %a = "diag.map"() ({
      %e = "diag.element"(%s) : (!s) -> f32
      %c = arith.constant 0.3 : f32
      %m = arith.mulf %e, %c : f32
      %x = math.exp %m : f32
      "diag.yield"(%x) : (f32) -> ()
    }) : () -> !s
    %r = "diag.reduce"(%a) {over = ["x"], kind = "add"} : (!s) -> !r
    %n = "diag.map"() ({
      %e = "diag.element"(%z) : (!r) -> f32
      %f = "diag.element"(%r) : (!r) -> f32
      %m = arith.addf %e, %f : f32
      "diag.yield"(%m) : (f32) -> ()
    }) : () -> !r
    "diag.yield"(%n) : (!r) -> ()
  }, {}, {
  ^bb0(%z: !r):
    "diag.yield"(%z) : (!r) -> ()
  }) {axis = "x", resultSegmentSizes = array<i32: 1, 0, 0, 0, 0, 0, 0, 0>} : () -> !r
  return %z : !r
}

// bf16 queries would be rounded again, unless the scale is a power of two: refused.
// CHECK-LABEL: func.func @rounding_scale
// CHECK: "diag.stream"
// CHECK: "diag.contract"(%arg0,
// CHECK: arith.mulf
func.func @rounding_scale(%q: !h, %k: !k) -> !r {
  %z = "diag.stream"() ({
    %i = "diag.map"() ({
      %c = arith.constant 0.0 : f32
      "diag.yield"(%c) : (f32) -> ()
    }) : () -> !r
    "diag.yield"(%i) : (!r) -> ()
  }, {
  ^bb0(%z: !r):
    %kc = "diag.chunk"(%k) : (!k) -> !k
    %s = "diag.contract"(%q, %kc) {over = ["d"]} : (!h, !k) -> !s
    %a = "diag.map"() ({
      %e = "diag.element"(%s) : (!s) -> f32
      %c = arith.constant 0.3 : f32
      %m = arith.mulf %e, %c : f32
      "diag.yield"(%m) : (f32) -> ()
    }) : () -> !s
    %r = "diag.reduce"(%a) {over = ["x"], kind = "add"} : (!s) -> !r
    "diag.yield"(%r) : (!r) -> ()
  }, {}, {
  ^bb0(%z: !r):
    "diag.yield"(%z) : (!r) -> ()
  }) {axis = "x", resultSegmentSizes = array<i32: 1, 0, 0, 0, 0, 0, 0, 0>} : () -> !r
  return %z : !r
}

// Scores that something else reads must stay as they are: refused.
// CHECK-LABEL: func.func @scores_read_twice
// CHECK: "diag.stream"
// CHECK: "diag.contract"(%arg0,
// CHECK: arith.mulf
func.func @scores_read_twice(%q: !q, %k: !k) -> !r {
  %z = "diag.stream"() ({
    %i = "diag.map"() ({
      %c = arith.constant 0.0 : f32
      "diag.yield"(%c) : (f32) -> ()
    }) : () -> !r
    "diag.yield"(%i) : (!r) -> ()
  }, {
  ^bb0(%z: !r):
    %kc = "diag.chunk"(%k) : (!k) -> !k
    %s = "diag.contract"(%q, %kc) {over = ["d"]} : (!q, !k) -> !s
    %a = "diag.map"() ({
      %e = "diag.element"(%s) : (!s) -> f32
      %c = arith.constant 0.25 : f32
      %m = arith.mulf %e, %c : f32
      "diag.yield"(%m) : (f32) -> ()
    }) : () -> !s
    %both = "diag.map"() ({
      %e = "diag.element"(%s) : (!s) -> f32
      %f = "diag.element"(%a) : (!s) -> f32
      %m = arith.addf %e, %f : f32
      "diag.yield"(%m) : (f32) -> ()
    }) : () -> !s
    %r = "diag.reduce"(%both) {over = ["x"], kind = "add"} : (!s) -> !r
    "diag.yield"(%r) : (!r) -> ()
  }, {}, {
  ^bb0(%z: !r):
    "diag.yield"(%z) : (!r) -> ()
  }) {axis = "x", resultSegmentSizes = array<i32: 1, 0, 0, 0, 0, 0, 0, 0>} : () -> !r
  return %z : !r
}
