// Every op of the dialect parses, verifies and prints as it was read.

// RUN: diagc opt %s | filecheck %s
// RUN: diagc opt %s | diagc opt | filecheck %s
// RUN: diagc opt %s --print-op-generic | diagc opt | filecheck %s

// CHECK-LABEL: func.func @contraction_weaves_shared_labels
// CHECK:         "diag.contract"(%{{.*}}, %{{.*}}) {over = ["d"]} : (tensor<2x?x64xf32, ["h", "q", "d"]>, tensor<2x?x64xf32, ["h", "x", "d"]>) -> tensor<2x?x?xf32, ["h", "q", "x"]>
// CHECK:         "diag.contract"(%{{.*}}, %{{.*}}) {acc = f64, over = ["h", "x"]} : {{.*}} -> tensor<64x?xbf16, ["d", "q"]>
func.func @contraction_weaves_shared_labels(
    %Q: tensor<2x?x64xf32, ["h", "q", "d"]>, %K: tensor<2x?x64xf32, ["h", "x", "d"]>)
    -> tensor<64x?xbf16, ["d", "q"]> {
  %S = "diag.contract"(%Q, %K) {over = ["d"]} : (tensor<2x?x64xf32, ["h", "q", "d"]>, tensor<2x?x64xf32, ["h", "x", "d"]>) -> tensor<2x?x?xf32, ["h", "q", "x"]>
  %O = "diag.contract"(%S, %K) {over = ["h", "x"], acc = f64} : (tensor<2x?x?xf32, ["h", "q", "x"]>, tensor<2x?x64xf32, ["h", "x", "d"]>) -> tensor<64x?xbf16, ["d", "q"]>
  return %O : tensor<64x?xbf16, ["d", "q"]>
}

// CHECK-LABEL: func.func @outer_product_contracts_nothing
// CHECK:         "diag.contract"(%{{.*}}, %{{.*}}) {over = []}
func.func @outer_product_contracts_nothing(%a: tensor<4xf32, ["i"]>, %b: tensor<5xf32, ["j"]>)
    -> tensor<4x5xf32, ["i", "j"]> {
  %0 = "diag.contract"(%a, %b) {over = []} : (tensor<4xf32, ["i"]>, tensor<5xf32, ["j"]>) -> tensor<4x5xf32, ["i", "j"]>
  return %0 : tensor<4x5xf32, ["i", "j"]>
}

// CHECK-LABEL: func.func @map_broadcasts_by_label
// CHECK:         "diag.map"() ({
// CHECK:           %[[SCORE:.*]] = "diag.element"(%{{.*}}) : (tensor<?x8xf32, ["q", "x"]>) -> f32
// CHECK:           %[[BIAS:.*]] = "diag.element"(%{{.*}}) : (tensor<8xf32, ["x"]>) -> f32
// CHECK:           %[[SUM:.*]] = arith.addf %[[SCORE]], %[[BIAS]] : f32
// CHECK:           %[[EXP:.*]] = math.exp %[[SUM]] : f32
// CHECK:           "diag.yield"(%[[EXP]]) : (f32) -> ()
// CHECK:         }) : () -> tensor<?x8xf32, ["q", "x"]>
func.func @map_broadcasts_by_label(%S: tensor<?x8xf32, ["q", "x"]>, %B: tensor<8xf32, ["x"]>)
    -> tensor<?x8xf32, ["q", "x"]> {
  %0 = "diag.map"() ({
    %s = "diag.element"(%S) : (tensor<?x8xf32, ["q", "x"]>) -> f32
    %b = "diag.element"(%B) : (tensor<8xf32, ["x"]>) -> f32
    %1 = arith.addf %s, %b : f32
    %2 = math.exp %1 : f32
    "diag.yield"(%2) : (f32) -> ()
  }) : () -> tensor<?x8xf32, ["q", "x"]>
  return %0 : tensor<?x8xf32, ["q", "x"]>
}

// CHECK-LABEL: func.func @map_makes_axes_that_nothing_has
// CHECK:         %[[ONE:.*]] = arith.constant 1.000000e+00 : f32
// CHECK:         "diag.yield"(%[[ONE]]) : (f32) -> ()
// CHECK:         }) : () -> tensor<?x3xf32, ["q", "k"]>
func.func @map_makes_axes_that_nothing_has() -> tensor<?x3xf32, ["q", "k"]> {
  %0 = "diag.map"() ({
    %one = arith.constant 1.0 : f32
    "diag.yield"(%one) : (f32) -> ()
  }) : () -> tensor<?x3xf32, ["q", "k"]>
  return %0 : tensor<?x3xf32, ["q", "k"]>
}

// CHECK-LABEL: func.func @map_may_use_a_constant_from_outside
func.func @map_may_use_a_constant_from_outside(%A: tensor<3xf32, ["k"]>) -> tensor<3xf32, ["k"]> {
  %two = arith.constant 2.0 : f32
  %0 = "diag.map"() ({
    %a = "diag.element"(%A) : (tensor<3xf32, ["k"]>) -> f32
    %1 = arith.mulf %a, %two : f32
    "diag.yield"(%1) : (f32) -> ()
  }) : () -> tensor<3xf32, ["k"]>
  return %0 : tensor<3xf32, ["k"]>
}

// CHECK-LABEL: func.func @reductions_of_every_kind
// CHECK:         "diag.reduce"(%{{.*}}) {kind = "add", over = ["x"]} : (tensor<4x?xf32, ["q", "x"]>) -> tensor<4xf32, ["q"]>
// CHECK:         kind = "mul"
// CHECK:         kind = "max", over = ["x", "q"]
// CHECK:         kind = "min"
// CHECK:         kind = "or"
// CHECK:         kind = "and"
// CHECK:         kind = "add", over = ["x"]} : (tensor<4x?xi32, ["q", "x"]>) -> tensor<4xi32, ["q"]>
func.func @reductions_of_every_kind(
    %F: tensor<4x?xf32, ["q", "x"]>, %B: tensor<4x?xi1, ["q", "x"]>, %I: tensor<4x?xi32, ["q", "x"]>) {
  %0 = "diag.reduce"(%F) {over = ["x"], kind = "add"} : (tensor<4x?xf32, ["q", "x"]>) -> tensor<4xf32, ["q"]>
  %1 = "diag.reduce"(%F) {over = ["x"], kind = "mul"} : (tensor<4x?xf32, ["q", "x"]>) -> tensor<4xf32, ["q"]>
  %2 = "diag.reduce"(%F) {over = ["x", "q"], kind = "max"} : (tensor<4x?xf32, ["q", "x"]>) -> tensor<f32, []>
  %3 = "diag.reduce"(%F) {over = ["q"], kind = "min"} : (tensor<4x?xf32, ["q", "x"]>) -> tensor<?xf32, ["x"]>
  %4 = "diag.reduce"(%B) {over = ["x"], kind = "or"} : (tensor<4x?xi1, ["q", "x"]>) -> tensor<4xi1, ["q"]>
  %5 = "diag.reduce"(%B) {over = ["x"], kind = "and"} : (tensor<4x?xi1, ["q", "x"]>) -> tensor<4xi1, ["q"]>
  %6 = "diag.reduce"(%I) {over = ["x"], kind = "add"} : (tensor<4x?xi32, ["q", "x"]>) -> tensor<4xi32, ["q"]>
  return
}

// CHECK-LABEL: func.func @normalisers_with_mask_and_epsilon
// CHECK:         "diag.normalize"(%{{.*}}) {along = ["x"], kind = "softmax"} : (tensor<4x?xf32, ["q", "x"]>) -> tensor<4x?xf32, ["q", "x"]>
// CHECK:         "diag.normalize"(%{{.*}}, %{{.*}}) {along = ["x"], kind = "l2"} : (tensor<4x?xf32, ["q", "x"]>, tensor<?xi1, ["x"]>)
// CHECK:         {along = ["q", "x"], eps = 1.250000e-01 : f64, eps_place = "inside", kind = "rms"}
func.func @normalisers_with_mask_and_epsilon(
    %S: tensor<4x?xf32, ["q", "x"]>, %keep: tensor<?xi1, ["x"]>) {
  %0 = "diag.normalize"(%S) {along = ["x"], kind = "softmax"} : (tensor<4x?xf32, ["q", "x"]>) -> tensor<4x?xf32, ["q", "x"]>
  %1 = "diag.normalize"(%S, %keep) {along = ["x"], kind = "l2"} : (tensor<4x?xf32, ["q", "x"]>, tensor<?xi1, ["x"]>) -> tensor<4x?xf32, ["q", "x"]>
  %2 = "diag.normalize"(%S) {along = ["q", "x"], kind = "rms", eps = 0.125 : f64, eps_place = "inside"} : (tensor<4x?xf32, ["q", "x"]>) -> tensor<4x?xf32, ["q", "x"]>
  return
}

// CHECK-LABEL: func.func @self_attention_reads_one_wire_under_two_labels
// CHECK:         "diag.relabel"(%{{.*}}) {from = ["q"], to = ["x"]} : (tensor<?x64xf32, ["q", "d"]>) -> tensor<?x64xf32, ["x", "d"]>
func.func @self_attention_reads_one_wire_under_two_labels(%X: tensor<?x64xf32, ["q", "d"]>)
    -> tensor<?x?xf32, ["q", "x"]> {
  %K = "diag.relabel"(%X) {from = ["q"], to = ["x"]} : (tensor<?x64xf32, ["q", "d"]>) -> tensor<?x64xf32, ["x", "d"]>
  %S = "diag.contract"(%X, %K) {over = ["d"]} : (tensor<?x64xf32, ["q", "d"]>, tensor<?x64xf32, ["x", "d"]>) -> tensor<?x?xf32, ["q", "x"]>
  return %S : tensor<?x?xf32, ["q", "x"]>
}

// CHECK-LABEL: func.func @reindexings
// CHECK:         "diag.reindex"{{.*}} -> tensor<8x4xf32, ["d", "q"]>
// CHECK:         "diag.reindex"{{.*}} -> tensor<4x3xf32, ["q", "m"]>
// CHECK:         "diag.reindex"{{.*}} -> tensor<4xf32, ["q"]>
// CHECK:         "diag.reindex"{{.*}} -> tensor<32xf32, ["z"]>
// CHECK:         "diag.reindex"{{.*}} -> tensor<4x2x4xf32, ["q", "h", "e"]>
// CHECK:         "diag.reindex"{{.*}} -> tensor<5x4x8xf32, ["b", "q", "d"]>
func.func @reindexings(%A: tensor<4x8xf32, ["q", "d"]>) {
  %transpose = "diag.reindex"(%A) {map = affine_map<(d, q) -> (q, d)>} : (tensor<4x8xf32, ["q", "d"]>) -> tensor<8x4xf32, ["d", "q"]>
  %stride = "diag.reindex"(%A) {map = affine_map<(q, m) -> (q, m * 2 + 1)>} : (tensor<4x8xf32, ["q", "d"]>) -> tensor<4x3xf32, ["q", "m"]>
  %diagonal = "diag.reindex"(%A) {map = affine_map<(q) -> (q, q)>} : (tensor<4x8xf32, ["q", "d"]>) -> tensor<4xf32, ["q"]>
  %merge = "diag.reindex"(%A) {map = affine_map<(z) -> (z floordiv 8, z mod 8)>} : (tensor<4x8xf32, ["q", "d"]>) -> tensor<32xf32, ["z"]>
  %split = "diag.reindex"(%A) {map = affine_map<(q, h, e) -> (q, h * 4 + e)>} : (tensor<4x8xf32, ["q", "d"]>) -> tensor<4x2x4xf32, ["q", "h", "e"]>
  %broadcast = "diag.reindex"(%A) {map = affine_map<(b, q, d) -> (q, d)>} : (tensor<4x8xf32, ["q", "d"]>) -> tensor<5x4x8xf32, ["b", "q", "d"]>
  return
}

// CHECK-LABEL: func.func @positions_literals_and_tables
// CHECK:         "diag.index"() {axis = "q"} : () -> tensor<?xindex, ["q"]>
// CHECK:         "diag.constant"() {value = dense<2.500000e-01> : tensor<f32>} : () -> tensor<f32, []>
// CHECK:         "diag.constant"() {value = dense<[1, 2, 3]> : tensor<3xi64>} : () -> tensor<3xi64, ["k"]>
func.func @positions_literals_and_tables() {
  %0 = "diag.index"() {axis = "q"} : () -> tensor<?xindex, ["q"]>
  %1 = "diag.constant"() {value = dense<0.25> : tensor<f32>} : () -> tensor<f32, []>
  %2 = "diag.constant"() {value = dense<[1, 2, 3]> : tensor<3xi64>} : () -> tensor<3xi64, ["k"]>
  return
}

// CHECK-LABEL: func.func @a_cache_grows_and_is_padded
// CHECK:         "diag.concat"(%{{.*}}, %{{.*}}) {axes = ["p", "n"], to = "x"} : {{.*}} -> tensor<?x8xf32, ["x", "d"]>
// CHECK:         "diag.pad"(%{{.*}}) {axis = "n", high = 2 : i64, low = 1 : i64, to = "m", value = 0.000000e+00 : f32} : {{.*}} -> tensor<7x8xf32, ["m", "d"]>
func.func @a_cache_grows_and_is_padded(
    %past: tensor<?x8xf32, ["p", "d"]>, %new: tensor<4x8xf32, ["n", "d"]>) {
  %0 = "diag.concat"(%past, %new) {axes = ["p", "n"], to = "x"} : (tensor<?x8xf32, ["p", "d"]>, tensor<4x8xf32, ["n", "d"]>) -> tensor<?x8xf32, ["x", "d"]>
  %1 = "diag.pad"(%new) {axis = "n", to = "m", low = 1, high = 2, value = 0.0 : f32} : (tensor<4x8xf32, ["n", "d"]>) -> tensor<7x8xf32, ["m", "d"]>
  return
}

// An L2-normalised contraction as a stream: two sums, divided at the end; a monoid with a condition.

// CHECK-LABEL: func.func @stream_of_an_l2_normalised_contraction
// CHECK:         %{{.*}}:2 = "diag.stream"(%{{.*}}) ({
// CHECK:           "diag.yield"
// CHECK:           "diag.yield"
// CHECK:         }, {
// CHECK:         ^bb0(%{{.*}}: tensor<?xf32, ["q"]>, %{{.*}}: tensor<?x8xf32, ["q", "e"]>):
// CHECK:           "diag.chunk"(%{{.*}}) : (tensor<?x?xf32, ["q", "x"]>) -> tensor<?x?xf32, ["q", "x"]>
// CHECK:         }, {
// CHECK:         ^bb0({{(%[a-z_0-9]+: tensor<.*>(, )?)+}}):
// CHECK:         }, {
// CHECK:         }) {axis = "x", law = ["l2"], properties = ["monoid", "commutative"], resultSegmentSizes = array<i32: 1, 1, 0, 0, 0, 0, 0, 0>}
func.func @stream_of_an_l2_normalised_contraction(
    %S: tensor<?x?xf32, ["q", "x"]>, %V: tensor<?x8xf32, ["x", "e"]>, %where: tensor<?xi1, ["q"]>)
    -> (tensor<?x8xf32, ["q", "e"]>, tensor<?xf32, ["q"]>) {
  %O, %Z = "diag.stream"(%where) ({
    %z = "diag.map"() ({
      %zero = arith.constant 0.0 : f32
      "diag.yield"(%zero) : (f32) -> ()
    }) : () -> tensor<?xf32, ["q"]>
    %o = "diag.map"() ({
      %zero = arith.constant 0.0 : f32
      "diag.yield"(%zero) : (f32) -> ()
    }) : () -> tensor<?x8xf32, ["q", "e"]>
    "diag.yield"(%z) : (tensor<?xf32, ["q"]>) -> ()
    "diag.yield"(%o) : (tensor<?x8xf32, ["q", "e"]>) -> ()
  }, {
  ^bb0(%z: tensor<?xf32, ["q"]>, %o: tensor<?x8xf32, ["q", "e"]>):
    %s = "diag.chunk"(%S) : (tensor<?x?xf32, ["q", "x"]>) -> tensor<?x?xf32, ["q", "x"]>
    %v = "diag.chunk"(%V) : (tensor<?x8xf32, ["x", "e"]>) -> tensor<?x8xf32, ["x", "e"]>
    %squares = "diag.contract"(%s, %s) {over = ["x"]} : (tensor<?x?xf32, ["q", "x"]>, tensor<?x?xf32, ["q", "x"]>) -> tensor<?xf32, ["q"]>
    %products = "diag.contract"(%s, %v) {over = ["x"]} : (tensor<?x?xf32, ["q", "x"]>, tensor<?x8xf32, ["x", "e"]>) -> tensor<?x8xf32, ["q", "e"]>
    %z1 = "diag.map"() ({
      %a = "diag.element"(%z) : (tensor<?xf32, ["q"]>) -> f32
      %b = "diag.element"(%squares) : (tensor<?xf32, ["q"]>) -> f32
      %c = arith.addf %a, %b : f32
      "diag.yield"(%c) : (f32) -> ()
    }) : () -> tensor<?xf32, ["q"]>
    %o1 = "diag.map"() ({
      %a = "diag.element"(%o) : (tensor<?x8xf32, ["q", "e"]>) -> f32
      %b = "diag.element"(%products) : (tensor<?x8xf32, ["q", "e"]>) -> f32
      %c = arith.addf %a, %b : f32
      "diag.yield"(%c) : (f32) -> ()
    }) : () -> tensor<?x8xf32, ["q", "e"]>
    "diag.yield"(%z1) : (tensor<?xf32, ["q"]>) -> ()
    "diag.yield"(%o1) : (tensor<?x8xf32, ["q", "e"]>) -> ()
  }, {
  ^bb0(%za: tensor<?xf32, ["q"]>, %oa: tensor<?x8xf32, ["q", "e"]>, %zb: tensor<?xf32, ["q"]>, %ob: tensor<?x8xf32, ["q", "e"]>):
    %z = "diag.map"() ({
      %a = "diag.element"(%za) : (tensor<?xf32, ["q"]>) -> f32
      %b = "diag.element"(%zb) : (tensor<?xf32, ["q"]>) -> f32
      %c = arith.addf %a, %b : f32
      "diag.yield"(%c) : (f32) -> ()
    }) : () -> tensor<?xf32, ["q"]>
    %o = "diag.map"() ({
      %a = "diag.element"(%oa) : (tensor<?x8xf32, ["q", "e"]>) -> f32
      %b = "diag.element"(%ob) : (tensor<?x8xf32, ["q", "e"]>) -> f32
      %c = arith.addf %a, %b : f32
      "diag.yield"(%c) : (f32) -> ()
    }) : () -> tensor<?x8xf32, ["q", "e"]>
    "diag.yield"(%z) : (tensor<?xf32, ["q"]>) -> ()
    "diag.yield"(%o) : (tensor<?x8xf32, ["q", "e"]>) -> ()
  }, {
  ^bb0(%z: tensor<?xf32, ["q"]>, %o: tensor<?x8xf32, ["q", "e"]>):
    %r = "diag.map"() ({
      %a = "diag.element"(%o) : (tensor<?x8xf32, ["q", "e"]>) -> f32
      %b = "diag.element"(%z) : (tensor<?xf32, ["q"]>) -> f32
      %c = math.rsqrt %b : f32
      %d = arith.mulf %a, %c : f32
      "diag.yield"(%d) : (f32) -> ()
    }) : () -> tensor<?x8xf32, ["q", "e"]>
    "diag.yield"(%r) : (tensor<?x8xf32, ["q", "e"]>) -> ()
    "diag.yield"(%z) : (tensor<?xf32, ["q"]>) -> ()
  }) {axis = "x", law = ["l2"], properties = ["monoid", "commutative"], resultSegmentSizes = array<i32: 1, 1, 0, 0, 0, 0, 0, 0>}
    : (tensor<?xi1, ["q"]>) -> (tensor<?x8xf32, ["q", "e"]>, tensor<?xf32, ["q"]>)
  return %O, %Z : tensor<?x8xf32, ["q", "e"]>, tensor<?xf32, ["q"]>
}
