// RUN: diagc opt %s --join-blocks | filecheck %s

!k = tensor<2x?x16x64xf8E4M3FN, ["b", "f", "m", "d"]>
!x = tensor<2x?x16x64xf32, ["b", "f", "m", "d"]>
!s = tensor<2x?xf32, ["b", "f"]>
!t = tensor<2x64xf32, ["b", "d"]>
!h = tensor<2x?x16x64xf32, ["b", "f", "m", "d"]>

// The scale of a block is repeated; all else computes with one axis.
// CHECK-LABEL: func.func @scaled
// CHECK-SAME: axes \22f\22 and \22m\22 are one
// CHECK: %[[J:.*]] = "diag.reindex"(%arg0)
// CHECK-SAME: tensor<2x?x64xf8E4M3FN, ["b", "fm", "d"]>
// CHECK: %[[R:.*]] = "diag.reindex"(%arg1)
// CHECK-SAME: tensor<2x?xf32, ["b", "fm"]>
// CHECK: "diag.element"(%[[J]])
// CHECK: "diag.element"(%[[R]])
// CHECK: "diag.reduce"
// CHECK-SAME: over = ["fm"]
func.func @scaled(%k: !k, %s: !s) -> !t {
  %x = "diag.map"() ({
    %e = "diag.element"(%k) : (!k) -> f8E4M3FN
    %w = arith.extf %e : f8E4M3FN to f32
    %c = "diag.element"(%s) : (!s) -> f32
    %y = arith.mulf %w, %c : f32
    "diag.yield"(%y) : (f32) -> ()
  }) : () -> !x
  %t = "diag.reduce"(%x) {over = ["f", "m"], kind = "add"} : (!x) -> !t
  return %t : !t
}

// Results have the axes that the function promises; positions of both axes are one position.
// CHECK-LABEL: func.func @positions
// CHECK: "diag.index"() {axis = "fm"}
// CHECK: arith.index_cast
// CHECK-NOT: arith.muli
// CHECK: "diag.reindex"
// CHECK-SAME: -> tensor<2x?x16x64xf32, ["b", "f", "m", "d"]>
// CHECK: return
func.func @positions(%k: !k, %s: !s) -> !x {
  %f = "diag.index"() {axis = "f"} : () -> tensor<?xindex, ["f"]>
  %m = "diag.index"() {axis = "m"} : () -> tensor<16xindex, ["m"]>
  %x = "diag.map"() ({
    %e = "diag.element"(%k) : (!k) -> f8E4M3FN
    %w = arith.extf %e : f8E4M3FN to f32
    %c = "diag.element"(%s) : (!s) -> f32
    %y = arith.mulf %w, %c : f32
    %i = "diag.element"(%f) : (tensor<?xindex, ["f"]>) -> index
    %j = "diag.element"(%m) : (tensor<16xindex, ["m"]>) -> index
    %n = arith.constant 16 : index
    %p = arith.muli %i, %n : index
    %q = arith.addi %p, %j : index
    %a = arith.index_cast %q : index to i64
    %b = arith.sitofp %a : i64 to f32
    %z = arith.addf %y, %b : f32
    "diag.yield"(%z) : (f32) -> ()
  }) : () -> !x
  return %x : !x
}

// A sum over one of the axes alone.
// CHECK-LABEL: func.func @apart
// CHECK-NOT: diag.reindex
// CHECK: return
func.func @apart(%k: !k, %s: !s) -> tensor<2x16x64xf32, ["b", "m", "d"]> {
  %x = "diag.map"() ({
    %e = "diag.element"(%k) : (!k) -> f8E4M3FN
    %w = arith.extf %e : f8E4M3FN to f32
    %c = "diag.element"(%s) : (!s) -> f32
    %y = arith.mulf %w, %c : f32
    "diag.yield"(%y) : (f32) -> ()
  }) : () -> !x
  %t = "diag.reduce"(%x) {over = ["f"], kind = "add"} : (!x) -> tensor<2x16x64xf32, ["b", "m", "d"]>
  return %t : tensor<2x16x64xf32, ["b", "m", "d"]>
}

// Numbers of another type: heads in groups look like that.
// CHECK-LABEL: func.func @wide
// CHECK-NOT: diag.reindex
// CHECK: return
func.func @wide(%k: !h, %s: !s) -> !t {
  %x = "diag.map"() ({
    %e = "diag.element"(%k) : (!h) -> f32
    %c = "diag.element"(%s) : (!s) -> f32
    %y = arith.mulf %e, %c : f32
    "diag.yield"(%y) : (f32) -> ()
  }) : () -> !x
  %t = "diag.reduce"(%x) {over = ["f", "m"], kind = "add"} : (!x) -> !t
  return %t : !t
}

// What is read by blocks is as large as the numbers, or nearly: to repeat it would cost more.
// CHECK-LABEL: func.func @large
// CHECK-NOT: diag.reindex
// CHECK: return
func.func @large(%k: !k, %s: tensor<2x?x64xf32, ["b", "f", "d"]>) -> !t {
  %x = "diag.map"() ({
    %e = "diag.element"(%k) : (!k) -> f8E4M3FN
    %w = arith.extf %e : f8E4M3FN to f32
    %c = "diag.element"(%s) : (tensor<2x?x64xf32, ["b", "f", "d"]>) -> f32
    %y = arith.mulf %w, %c : f32
    "diag.yield"(%y) : (f32) -> ()
  }) : () -> !x
  %t = "diag.reduce"(%x) {over = ["f", "m"], kind = "add"} : (!x) -> !t
  return %t : !t
}

// What is given back as it came keeps its axes.
// CHECK-LABEL: func.func @given_back
// CHECK-SAME: axes \22f\22 and \22m\22 are one
// CHECK: return %{{.*}}, %arg0 : tensor<2x64xf32, ["b", "d"]>, tensor<2x?x16x64xf8E4M3FN, ["b", "f", "m", "d"]>
func.func @given_back(%k: !k, %s: !s) -> (!t, !k) {
  %x = "diag.map"() ({
    %e = "diag.element"(%k) : (!k) -> f8E4M3FN
    %w = arith.extf %e : f8E4M3FN to f32
    %c = "diag.element"(%s) : (!s) -> f32
    %y = arith.mulf %w, %c : f32
    "diag.yield"(%y) : (f32) -> ()
  }) : () -> !x
  %t = "diag.reduce"(%x) {over = ["f", "m"], kind = "add"} : (!x) -> !t
  return %t, %k : !t, !k
}
