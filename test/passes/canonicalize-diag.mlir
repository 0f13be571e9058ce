// RUN: diagc-opt %s --split-input-file --canonicalize-diag | filecheck %s

// Views of views are one view, and a map that only a map reads is computed in its body.
// CHECK-LABEL: func.func @views_and_maps
// CHECK-SAME: (%[[X:[a-z0-9]+]]: tensor<4x8xf32, ["q", "d"]>
// CHECK-NEXT: %[[Y:[0-9]+]] = "diag.relabel"(%[[X]]) {from = ["q"], to = ["x"]}
// CHECK-NEXT: %[[R:[0-9]+]] = "diag.map"() ({
// CHECK: "diag.element"(%[[Y]])
// CHECK: arith.mulf
// CHECK-NEXT: math.exp
// CHECK-NOT: diag.map
// CHECK: return %[[R]]
func.func @views_and_maps(%x: tensor<4x8xf32, ["q", "d"]>) -> tensor<4x8xf32, ["x", "d"]> {
  %k = "diag.relabel"(%x) {from = ["q"], to = ["p"]} : (tensor<4x8xf32, ["q", "d"]>) -> tensor<4x8xf32, ["p", "d"]>
  %y = "diag.relabel"(%k) {from = ["p"], to = ["x"]} : (tensor<4x8xf32, ["p", "d"]>) -> tensor<4x8xf32, ["x", "d"]>
  %half = "diag.constant"() {value = dense<0.5> : tensor<f32>} : () -> tensor<f32, []>
  %s = "diag.map"() ({
    %0 = "diag.element"(%y) : (tensor<4x8xf32, ["x", "d"]>) -> f32
    %1 = "diag.element"(%half) : (tensor<f32, []>) -> f32
    %2 = arith.mulf %0, %1 : f32
    "diag.yield"(%2) : (f32) -> ()
  }) : () -> tensor<4x8xf32, ["x", "d"]>
  %t = "diag.map"() ({
    %0 = "diag.element"(%s) : (tensor<4x8xf32, ["x", "d"]>) -> f32
    %1 = math.exp %0 : f32
    "diag.yield"(%1) : (f32) -> ()
  }) : () -> tensor<4x8xf32, ["x", "d"]>
  return %t : tensor<4x8xf32, ["x", "d"]>
}

// -----

// Literals stand in map bodies: constants of one value, hoisted scalars, maps without elements.
// CHECK-LABEL: func.func @literals_sink
// CHECK-NEXT: "diag.map"() ({
// CHECK-DAG: arith.constant 3.000000e+00
// CHECK-DAG: arith.constant 4.000000e+00
// CHECK-DAG: arith.constant 5.000000e+00
// CHECK: "diag.yield"
func.func @literals_sink(%x: tensor<4xf32, ["q"]>) -> tensor<4xf32, ["q"]> {
  %three = arith.constant 3.0 : f32
  %four = "diag.constant"() {value = dense<4.0> : tensor<4xf32>} : () -> tensor<4xf32, ["q"]>
  %five = "diag.map"() ({
    %0 = arith.constant 5.0 : f32
    "diag.yield"(%0) : (f32) -> ()
  }) : () -> tensor<4xf32, ["q"]>
  %y = "diag.map"() ({
    %0 = "diag.element"(%x) : (tensor<4xf32, ["q"]>) -> f32
    %1 = "diag.element"(%four) : (tensor<4xf32, ["q"]>) -> f32
    %2 = "diag.element"(%five) : (tensor<4xf32, ["q"]>) -> f32
    %3 = arith.mulf %0, %three : f32
    %4 = arith.addf %3, %1 : f32
    %5 = arith.divf %4, %2 : f32
    "diag.yield"(%5) : (f32) -> ()
  }) : () -> tensor<4xf32, ["q"]>
  return %y : tensor<4xf32, ["q"]>
}

// -----

// A table of different values stays: it is data.
// CHECK-LABEL: func.func @table_stays
// CHECK: "diag.constant"
func.func @table_stays(%x: tensor<2xf32, ["q"]>) -> tensor<2xf32, ["q"]> {
  %c = "diag.constant"() {value = dense<[1.0, 2.0]> : tensor<2xf32>} : () -> tensor<2xf32, ["q"]>
  %y = "diag.map"() ({
    %0 = "diag.element"(%x) : (tensor<2xf32, ["q"]>) -> f32
    %1 = "diag.element"(%c) : (tensor<2xf32, ["q"]>) -> f32
    %2 = arith.mulf %0, %1 : f32
    "diag.yield"(%2) : (f32) -> ()
  }) : () -> tensor<2xf32, ["q"]>
  return %y : tensor<2xf32, ["q"]>
}

// -----

// A map with two readers, and one that is broadcast, are not computed twice.
// CHECK-LABEL: func.func @no_recomputation
// CHECK-COUNT-4: "diag.map"()
// CHECK-NOT: "diag.map"()
func.func @no_recomputation(%x: tensor<4xf32, ["q"]>, %w: tensor<4x8xf32, ["q", "d"]>) -> (tensor<4xf32, ["q"]>, tensor<4x8xf32, ["q", "d"]>) {
  %e = "diag.map"() ({
    %0 = "diag.element"(%x) : (tensor<4xf32, ["q"]>) -> f32
    %1 = math.exp %0 : f32
    "diag.yield"(%1) : (f32) -> ()
  }) : () -> tensor<4xf32, ["q"]>
  %a = "diag.map"() ({
    %0 = "diag.element"(%e) : (tensor<4xf32, ["q"]>) -> f32
    %1 = math.sqrt %0 : f32
    "diag.yield"(%1) : (f32) -> ()
  }) : () -> tensor<4xf32, ["q"]>
  %b = "diag.map"() ({
    %0 = "diag.element"(%e) : (tensor<4xf32, ["q"]>) -> f32
    %1 = math.log %0 : f32
    "diag.yield"(%1) : (f32) -> ()
  }) : () -> tensor<4xf32, ["q"]>
  %c = "diag.map"() ({
    %0 = "diag.element"(%a) : (tensor<4xf32, ["q"]>) -> f32
    %1 = "diag.element"(%w) : (tensor<4x8xf32, ["q", "d"]>) -> f32
    %2 = arith.mulf %0, %1 : f32
    "diag.yield"(%2) : (f32) -> ()
  }) : () -> tensor<4x8xf32, ["q", "d"]>
  return %b, %c : tensor<4xf32, ["q"]>, tensor<4x8xf32, ["q", "d"]>
}

// -----

// A mask of positions stays apart from what it masks; masks of masks are one.
// CHECK-LABEL: func.func @mask_stays_apart
// CHECK: %[[MASK:[0-9]+]] = "diag.map"() ({
// CHECK: arith.cmpi sge
// CHECK: arith.cmpi slt
// CHECK: arith.andi
// CHECK: }) : () -> tensor<4x8xi1, ["q", "x"]>
// CHECK: "diag.map"() ({
// CHECK: "diag.element"(%[[MASK]])
// CHECK: arith.select
func.func @mask_stays_apart(%s: tensor<4x8xf32, ["q", "x"]>) -> tensor<4x8xf32, ["q", "x"]> {
  %q = "diag.index"() {axis = "q"} : () -> tensor<4xindex, ["q"]>
  %x = "diag.index"() {axis = "x"} : () -> tensor<8xindex, ["x"]>
  %causal = "diag.map"() ({
    %0 = "diag.element"(%q) : (tensor<4xindex, ["q"]>) -> index
    %1 = "diag.element"(%x) : (tensor<8xindex, ["x"]>) -> index
    %2 = arith.cmpi sge, %0, %1 : index
    "diag.yield"(%2) : (i1) -> ()
  }) : () -> tensor<4x8xi1, ["q", "x"]>
  %keep = "diag.map"() ({
    %0 = "diag.element"(%causal) : (tensor<4x8xi1, ["q", "x"]>) -> i1
    %1 = "diag.element"(%x) : (tensor<8xindex, ["x"]>) -> index
    %c6 = arith.constant 6 : index
    %2 = arith.cmpi slt, %1, %c6 : index
    %3 = arith.andi %0, %2 : i1
    "diag.yield"(%3) : (i1) -> ()
  }) : () -> tensor<4x8xi1, ["q", "x"]>
  %y = "diag.map"() ({
    %0 = "diag.element"(%s) : (tensor<4x8xf32, ["q", "x"]>) -> f32
    %1 = "diag.element"(%keep) : (tensor<4x8xi1, ["q", "x"]>) -> i1
    %low = arith.constant 0xFF800000 : f32
    %2 = arith.select %1, %0, %low : f32
    "diag.yield"(%2) : (f32) -> ()
  }) : () -> tensor<4x8xf32, ["q", "x"]>
  return %y : tensor<4x8xf32, ["q", "x"]>
}

// -----

// Splitting an axis and merging it again is nothing.
// CHECK-LABEL: func.func @split_and_merge
// CHECK-SAME: (%[[X:[a-z0-9]+]]:
// CHECK-NEXT: return %[[X]]
func.func @split_and_merge(%x: tensor<2x64xf32, ["b", "c"]>) -> tensor<2x64xf32, ["b", "c"]> {
  %s = "diag.reindex"(%x) {map = affine_map<(b, h, d) -> (b, h * 16 + d)>} : (tensor<2x64xf32, ["b", "c"]>) -> tensor<2x4x16xf32, ["b", "h", "d"]>
  %m = "diag.reindex"(%s) {map = affine_map<(b, c) -> (b, c floordiv 16, c mod 16)>} : (tensor<2x4x16xf32, ["b", "h", "d"]>) -> tensor<2x64xf32, ["b", "c"]>
  return %m : tensor<2x64xf32, ["b", "c"]>
}

// -----

// A transpose is no identity, though every axis has the same size.
// CHECK-LABEL: func.func @transpose_stays
// CHECK-NEXT: "diag.reindex"
func.func @transpose_stays(%x: tensor<4x4xf32, ["a", "b"]>) -> tensor<4x4xf32, ["c", "d"]> {
  %t = "diag.reindex"(%x) {map = affine_map<(c, d) -> (d, c)>} : (tensor<4x4xf32, ["a", "b"]>) -> tensor<4x4xf32, ["c", "d"]>
  return %t : tensor<4x4xf32, ["c", "d"]>
}

// -----

// Axes of size 1 are views, a contraction over nothing is a product, sums of sums are one sum.
// CHECK-LABEL: func.func @unit_axes
// CHECK: %[[L:[0-9]+]] = "diag.reindex"
// CHECK: %[[R:[0-9]+]] = "diag.reindex"
// CHECK: %[[P:[0-9]+]] = "diag.map"() ({
// CHECK: arith.extf {{.*}} : bf16 to f32
// CHECK: arith.mulf {{.*}} : f32
// CHECK: arith.truncf {{.*}} : f32 to bf16
// CHECK: "diag.reduce"(%[[P]]) {kind = "add", over = ["y", "x"]}
// CHECK-NOT: diag.contract
func.func @unit_axes(%l: tensor<4x1xbf16, ["x", "d"]>, %r: tensor<5x1xbf16, ["y", "d"]>) -> tensor<bf16, []> {
  %c = "diag.contract"(%l, %r) {over = ["d"]} : (tensor<4x1xbf16, ["x", "d"]>, tensor<5x1xbf16, ["y", "d"]>) -> tensor<4x5xbf16, ["x", "y"]>
  %s = "diag.reduce"(%c) {kind = "add", over = ["y"]} : (tensor<4x5xbf16, ["x", "y"]>) -> tensor<4xbf16, ["x"]>
  %t = "diag.reduce"(%s) {kind = "add", over = ["x"]} : (tensor<4xbf16, ["x"]>) -> tensor<bf16, []>
  return %t : tensor<bf16, []>
}

// -----

// A sum of maxima is not one reduction.
// CHECK-LABEL: func.func @mixed_reductions_stay
// CHECK-COUNT-2: "diag.reduce"
func.func @mixed_reductions_stay(%x: tensor<4x8xf32, ["q", "d"]>) -> tensor<f32, []> {
  %s = "diag.reduce"(%x) {kind = "max", over = ["d"]} : (tensor<4x8xf32, ["q", "d"]>) -> tensor<4xf32, ["q"]>
  %t = "diag.reduce"(%s) {kind = "add", over = ["q"]} : (tensor<4xf32, ["q"]>) -> tensor<f32, []>
  return %t : tensor<f32, []>
}

// -----

// Equal ops are merged, dead ones erased, exact casts and constant conditions fold.
// CHECK-LABEL: func.func @upstream_folds
// CHECK-SAME: (%[[X:[a-z0-9]+]]:
// CHECK-NEXT: return %[[X]], %[[X]]
func.func @upstream_folds(%x: tensor<4xbf16, ["q"]>) -> (tensor<4xbf16, ["q"]>, tensor<4xbf16, ["q"]>) {
  %true = arith.constant true
  %dead = "diag.reduce"(%x) {kind = "add", over = ["q"]} : (tensor<4xbf16, ["q"]>) -> tensor<bf16, []>
  %y = "diag.map"() ({
    %0 = "diag.element"(%x) : (tensor<4xbf16, ["q"]>) -> bf16
    %1 = arith.extf %0 : bf16 to f32
    %2 = arith.truncf %1 : f32 to bf16
    "diag.yield"(%2) : (bf16) -> ()
  }) : () -> tensor<4xbf16, ["q"]>
  %z = "diag.map"() ({
    %0 = "diag.element"(%x) : (tensor<4xbf16, ["q"]>) -> bf16
    %1 = math.exp %0 : bf16
    %2 = arith.select %true, %0, %1 : bf16
    "diag.yield"(%2) : (bf16) -> ()
  }) : () -> tensor<4xbf16, ["q"]>
  return %y, %z : tensor<4xbf16, ["q"]>, tensor<4xbf16, ["q"]>
}

// -----

// The chunk of a mask of positions is a mask of chunks.
// CHECK-LABEL: func.func @chunk_of_mask
// CHECK: "diag.stream"() ({
// CHECK: %[[POSITION:[0-9]+]] = "diag.chunk"({{.*}}) : (tensor<8xindex, ["x"]>)
// CHECK: %[[MASK:[0-9]+]] = "diag.map"() ({
// CHECK: "diag.element"(%[[POSITION]])
// CHECK: "diag.element"(%[[MASK]])
func.func @chunk_of_mask(%s: tensor<8xf32, ["x"]>) -> tensor<f32, []> {
  %x = "diag.index"() {axis = "x"} : () -> tensor<8xindex, ["x"]>
  %keep = "diag.map"() ({
    %0 = "diag.element"(%x) : (tensor<8xindex, ["x"]>) -> index
    %c6 = arith.constant 6 : index
    %1 = arith.cmpi slt, %0, %c6 : index
    "diag.yield"(%1) : (i1) -> ()
  }) : () -> tensor<8xi1, ["x"]>
  %sum = "diag.stream"() ({
    %zero = "diag.constant"() {value = dense<0.0> : tensor<f32>} : () -> tensor<f32, []>
    "diag.yield"(%zero) : (tensor<f32, []>) -> ()
  }, {
  ^bb0(%z: tensor<f32, []>):
    %chunk = "diag.chunk"(%s) : (tensor<8xf32, ["x"]>) -> tensor<?xf32, ["x"]>
    %mask = "diag.chunk"(%keep) : (tensor<8xi1, ["x"]>) -> tensor<?xi1, ["x"]>
    %kept = "diag.map"() ({
      %0 = "diag.element"(%chunk) : (tensor<?xf32, ["x"]>) -> f32
      %1 = "diag.element"(%mask) : (tensor<?xi1, ["x"]>) -> i1
      %none = arith.constant 0.0 : f32
      %2 = arith.select %1, %0, %none : f32
      "diag.yield"(%2) : (f32) -> ()
    }) : () -> tensor<?xf32, ["x"]>
    %part = "diag.reduce"(%kept) {kind = "add", over = ["x"]} : (tensor<?xf32, ["x"]>) -> tensor<f32, []>
    %next = "diag.map"() ({
      %0 = "diag.element"(%z) : (tensor<f32, []>) -> f32
      %1 = "diag.element"(%part) : (tensor<f32, []>) -> f32
      %2 = arith.addf %0, %1 : f32
      "diag.yield"(%2) : (f32) -> ()
    }) : () -> tensor<f32, []>
    "diag.yield"(%next) : (tensor<f32, []>) -> ()
  }, {
  }, {
  ^bb0(%z: tensor<f32, []>):
    "diag.yield"(%z) : (tensor<f32, []>) -> ()
  }) {axis = "x", resultSegmentSizes = array<i32: 1, 0, 0, 0, 0, 0, 0, 0>} : () -> tensor<f32, []>
  return %sum : tensor<f32, []>
}

// -----

// A condition of positions inside a map becomes a mask, which can bound a loop.
// CHECK-LABEL: func.func @inline_condition
// CHECK: %[[MASK:.*]] = "diag.map"() ({
// CHECK: arith.cmpi sge
// CHECK: -> tensor<4x4xi1, ["q", "x"]>
// CHECK: "diag.map"() ({
// CHECK-NOT: arith.cmpi
// CHECK: "diag.element"(%[[MASK]])
// CHECK: arith.select
// CHECK: return
func.func @inline_condition(%s: tensor<2x4x4xf32, ["h", "q", "x"]>) -> tensor<2x4x4xf32, ["h", "q", "x"]> {
  %i = "diag.index"() {axis = "q"} : () -> tensor<4xindex, ["q"]>
  %j = "diag.index"() {axis = "x"} : () -> tensor<4xindex, ["x"]>
  %u = "diag.map"() ({
    %0 = "diag.element"(%s) : (tensor<2x4x4xf32, ["h", "q", "x"]>) -> f32
    %1 = "diag.element"(%i) : (tensor<4xindex, ["q"]>) -> index
    %2 = "diag.element"(%j) : (tensor<4xindex, ["x"]>) -> index
    %3 = arith.cmpi sge, %1, %2 : index
    %none = arith.constant 0.0 : f32
    %4 = arith.select %3, %0, %none : f32
    "diag.yield"(%4) : (f32) -> ()
  }) : () -> tensor<2x4x4xf32, ["h", "q", "x"]>
  return %u : tensor<2x4x4xf32, ["h", "q", "x"]>
}

// -----

// A condition of elements stays where it is.
// CHECK-LABEL: func.func @condition_of_elements
// CHECK-NOT: i1, [
// CHECK: arith.cmpf
// CHECK: return
func.func @condition_of_elements(%s: tensor<4xf32, ["x"]>) -> tensor<4xf32, ["x"]> {
  %u = "diag.map"() ({
    %0 = "diag.element"(%s) : (tensor<4xf32, ["x"]>) -> f32
    %none = arith.constant 0.0 : f32
    %1 = arith.cmpf ogt, %0, %none : f32
    %2 = arith.select %1, %0, %none : f32
    "diag.yield"(%2) : (f32) -> ()
  }) : () -> tensor<4xf32, ["x"]>
  return %u : tensor<4xf32, ["x"]>
}

// -----

// Scores that a mask leaves out, and those that the opposite mask keeps, are one wire: the number comes last, widening goes to what
// is selected, and the opposite of joined conditions is made of the opposites of each.
// CHECK-LABEL: func.func @one_form_of_masked_scores
// CHECK-COUNT-1: arith.andi
// CHECK-NOT: arith.andi
// CHECK: %[[S:.*]] = "diag.map"() ({
// CHECK: arith.extf
// CHECK-NEXT: arith.select
// CHECK-NOT: arith.select
// CHECK: return %[[S]], %[[S]]
func.func @one_form_of_masked_scores(%s: tensor<4x4xf16, ["q", "x"]>) -> (tensor<4x4xf32, ["q", "x"]>, tensor<4x4xf32, ["q", "x"]>) {
  %i = "diag.index"() {axis = "q"} : () -> tensor<4xindex, ["q"]>
  %j = "diag.index"() {axis = "x"} : () -> tensor<4xindex, ["x"]>
  %keep = "diag.map"() ({
    %1 = "diag.element"(%i) : (tensor<4xindex, ["q"]>) -> index
    %2 = "diag.element"(%j) : (tensor<4xindex, ["x"]>) -> index
    %c2 = arith.constant 2 : index
    %true = arith.constant true
    %3 = arith.cmpi slt, %1, %2 : index
    %4 = arith.addi %2, %c2 : index
    %5 = arith.cmpi sge, %1, %4 : index
    %6 = arith.ori %3, %5 : i1
    %7 = arith.xori %6, %true : i1
    "diag.yield"(%7) : (i1) -> ()
  }) : () -> tensor<4x4xi1, ["q", "x"]>
  %u = "diag.map"() ({
    %0 = "diag.element"(%s) : (tensor<4x4xf16, ["q", "x"]>) -> f16
    %1 = "diag.element"(%keep) : (tensor<4x4xi1, ["q", "x"]>) -> i1
    %none = arith.constant 0xFF800000 : f32
    %2 = arith.extf %0 : f16 to f32
    %3 = arith.select %1, %2, %none : f32
    "diag.yield"(%3) : (f32) -> ()
  }) : () -> tensor<4x4xf32, ["q", "x"]>
  %v = "diag.map"() ({
    %0 = "diag.element"(%s) : (tensor<4x4xf16, ["q", "x"]>) -> f16
    %1 = "diag.element"(%i) : (tensor<4xindex, ["q"]>) -> index
    %2 = "diag.element"(%j) : (tensor<4xindex, ["x"]>) -> index
    %c2 = arith.constant 2 : index
    %none = arith.constant 0xFC00 : f16
    %3 = arith.cmpi slt, %1, %2 : index
    %4 = arith.addi %2, %c2 : index
    %5 = arith.cmpi sge, %1, %4 : index
    %6 = arith.ori %3, %5 : i1
    %7 = arith.select %6, %none, %0 : f16
    %8 = arith.extf %7 : f16 to f32
    "diag.yield"(%8) : (f32) -> ()
  }) : () -> tensor<4x4xf32, ["q", "x"]>
  return %u, %v : tensor<4x4xf32, ["q", "x"]>, tensor<4x4xf32, ["q", "x"]>
}

// -----

// A mask that comes from memory is not turned round: its opposite would be another array. Two computed values stay in order.
// CHECK-LABEL: func.func @selections_that_stay
// CHECK: arith.select %{{.*}}, %{{.*}}cst{{.*}}, %
// CHECK-NOT: arith.xori
// CHECK: return
func.func @selections_that_stay(%s: tensor<4xf32, ["x"]>, %m: tensor<4xi1, ["x"]>) -> (tensor<4xf32, ["x"]>, tensor<4xf32, ["x"]>) {
  %j = "diag.index"() {axis = "x"} : () -> tensor<4xindex, ["x"]>
  %u = "diag.map"() ({
    %0 = "diag.element"(%s) : (tensor<4xf32, ["x"]>) -> f32
    %1 = "diag.element"(%m) : (tensor<4xi1, ["x"]>) -> i1
    %none = arith.constant 0xFF800000 : f32
    %2 = arith.select %1, %none, %0 : f32
    "diag.yield"(%2) : (f32) -> ()
  }) : () -> tensor<4xf32, ["x"]>
  %w = "diag.map"() ({
    %0 = "diag.element"(%s) : (tensor<4xf32, ["x"]>) -> f32
    %1 = "diag.element"(%j) : (tensor<4xindex, ["x"]>) -> index
    %c2 = arith.constant 2 : index
    %2 = arith.cmpi slt, %1, %c2 : index
    %3 = math.exp %0 : f32
    %4 = arith.select %2, %3, %0 : f32
    "diag.yield"(%4) : (f32) -> ()
  }) : () -> tensor<4xf32, ["x"]>
  return %u, %w : tensor<4xf32, ["x"]>, tensor<4xf32, ["x"]>
}

// -----

// Nothing to do.
// CHECK-LABEL: func.func @argument_is_result
// CHECK-NEXT: return
func.func @argument_is_result(%x: tensor<4xf32, ["q"]>) -> tensor<4xf32, ["q"]> {
  return %x : tensor<4xf32, ["q"]>
}

// -----

// A condition of smaller wires under other labels reads these under other labels: it is not stored.
// CHECK-LABEL: func.func @relabel_of_condition
// CHECK-SAME: (%[[F:[a-z0-9]+]]: tensor<8xi32, ["b"]>)
// CHECK: %[[R:[0-9]+]] = "diag.relabel"(%[[F]]) {from = ["b"], to = ["a"]}
// CHECK: %[[M:[0-9]+]] = "diag.map"() ({
// CHECK: "diag.element"(%[[R]])
// CHECK: }) : () -> tensor<8x8xi1, ["b", "a"]>
// CHECK-NEXT: return %[[M]]
func.func @relabel_of_condition(%f: tensor<8xi32, ["b"]>) -> tensor<8x8xi1, ["b", "a"]> {
  %i = "diag.index"() {axis = "m"} : () -> tensor<8xindex, ["m"]>
  %c = "diag.map"() ({
    %0 = "diag.element"(%f) : (tensor<8xi32, ["b"]>) -> i32
    %1 = "diag.element"(%i) : (tensor<8xindex, ["m"]>) -> index
    %2 = arith.index_cast %0 : i32 to index
    %3 = arith.cmpi sle, %2, %1 : index
    "diag.yield"(%3) : (i1) -> ()
  }) : () -> tensor<8x8xi1, ["m", "b"]>
  %r = "diag.relabel"(%c) {from = ["m", "b"], to = ["b", "a"]} : (tensor<8x8xi1, ["m", "b"]>) -> tensor<8x8xi1, ["b", "a"]>
  return %r : tensor<8x8xi1, ["b", "a"]>
}

// -----

// One that others read, and one of a wire as large as it is, stay.
// CHECK-LABEL: func.func @relabels_of_stored_conditions
// CHECK: "diag.map"
// CHECK: "diag.map"
// CHECK: "diag.relabel"(%{{.*}}) {from = ["a"], to = ["c"]}
// CHECK-NEXT: "diag.relabel"(%{{.*}}) {from = ["a"], to = ["c"]}
// CHECK-NEXT: return
func.func @relabels_of_stored_conditions(%f: tensor<8xi32, ["b"]>, %k: tensor<4x8xi1, ["a", "b"]>) -> (tensor<4x8xi1, ["a", "b"]>, tensor<4x8xi1, ["c", "b"]>, tensor<4x8xi1, ["c", "b"]>) {
  %i = "diag.index"() {axis = "a"} : () -> tensor<4xindex, ["a"]>
  %c = "diag.map"() ({
    %0 = "diag.element"(%f) : (tensor<8xi32, ["b"]>) -> i32
    %1 = "diag.element"(%i) : (tensor<4xindex, ["a"]>) -> index
    %2 = arith.index_cast %0 : i32 to index
    %3 = arith.cmpi sle, %2, %1 : index
    "diag.yield"(%3) : (i1) -> ()
  }) : () -> tensor<4x8xi1, ["a", "b"]>
  %n = "diag.map"() ({
    %0 = "diag.element"(%k) : (tensor<4x8xi1, ["a", "b"]>) -> i1
    %1 = arith.constant true
    %2 = arith.xori %0, %1 : i1
    "diag.yield"(%2) : (i1) -> ()
  }) : () -> tensor<4x8xi1, ["a", "b"]>
  %r = "diag.relabel"(%c) {from = ["a"], to = ["c"]} : (tensor<4x8xi1, ["a", "b"]>) -> tensor<4x8xi1, ["c", "b"]>
  %s = "diag.relabel"(%n) {from = ["a"], to = ["c"]} : (tensor<4x8xi1, ["a", "b"]>) -> tensor<4x8xi1, ["c", "b"]>
  return %c, %r, %s : tensor<4x8xi1, ["a", "b"]>, tensor<4x8xi1, ["c", "b"]>, tensor<4x8xi1, ["c", "b"]>
}
