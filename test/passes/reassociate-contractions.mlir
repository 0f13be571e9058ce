// RUN: diagc-opt %s --split-input-file --reassociate-contractions | filecheck %s
// RUN: diagc-opt %s --split-input-file --reassociate-contractions="reassociate=exact" | filecheck %s --check-prefix=EXACT
// RUN: diagc-opt %s --split-input-file --reassociate-contractions="reassociate=off" | filecheck %s --check-prefix=OFF
// RUN: diagc-opt %s --split-input-file --reassociate-contractions --validate | filecheck %s --check-prefix=VALID

// VALID: func.func @scores_and_squares

// Scores that are only squared and summed, or contracted with the values, need not exist: Gram matrices
// of the keys take their place. Rows that lose accuracy are streamed, and only they.
// CHECK-LABEL: func.func @scores_and_squares
// CHECK: %[[KEYS:[0-9]+]] = "diag.relabel"(%arg1) {from = ["d"], to = ["d'"]}
// CHECK: %[[GRAM:[0-9]+]] = "diag.contract"(%arg1, %[[KEYS]]) {over = ["x"]}
// CHECK: %[[COPY:[0-9]+]] = "diag.relabel"(%arg0) {from = ["d"], to = ["d'"]}
// CHECK: %[[ROW:[0-9]+]] = "diag.contract"(%[[COPY]], %[[GRAM]]) {over = ["d'"]}
// CHECK: %[[Z:[0-9]+]] = "diag.contract"(%arg0, %[[ROW]]) {over = ["d"]}
// CHECK: %[[M:[0-9]+]] = "diag.contract"(%arg1, %arg2) {over = ["x"]}
// CHECK: %[[O:[0-9]+]] = "diag.contract"(%arg0, %[[M]]) {over = ["d"]}
// CHECK: "diag.contract"(%arg0, %arg0) {over = ["d"]}
// CHECK: "diag.contract"(%[[GRAM]], %[[GRAM]]) {over = ["{{d'?}}", "{{d'?}}"]}
// CHECK: math.sqrt
// CHECK: arith.subf
// CHECK: arith.cmpf ole
// CHECK: "diag.stream"(%{{[0-9]+}})
// CHECK: "diag.chunk"(%arg1)
// CHECK: arith.maximumf
// CHECK: arith.select
// EXACT-LABEL: func.func @scores_and_squares
// EXACT-NOT: diag.relabel
// EXACT: return
// OFF-LABEL: func.func @scores_and_squares
// OFF-NOT: diag.relabel
// OFF: return
func.func @scores_and_squares(%q: tensor<?x64xf32, ["q", "d"]>, %k: tensor<?x64xf32, ["x", "d"]>, %v: tensor<?x64xf32, ["x", "e"]>) -> (tensor<?xf32, ["q"]>, tensor<?x64xf32, ["q", "e"]>) {
  %s = "diag.contract"(%q, %k) {over = ["d"]} : (tensor<?x64xf32, ["q", "d"]>, tensor<?x64xf32, ["x", "d"]>) -> tensor<?x?xf32, ["q", "x"]>
  %p = "diag.map"() ({
    %0 = "diag.element"(%s) : (tensor<?x?xf32, ["q", "x"]>) -> f32
    %1 = arith.mulf %0, %0 : f32
    "diag.yield"(%1) : (f32) -> ()
  }) : () -> tensor<?x?xf32, ["q", "x"]>
  %z = "diag.reduce"(%p) {kind = "add", over = ["x"]} : (tensor<?x?xf32, ["q", "x"]>) -> tensor<?xf32, ["q"]>
  %o = "diag.contract"(%s, %v) {over = ["x"]} : (tensor<?x?xf32, ["q", "x"]>, tensor<?x64xf32, ["x", "e"]>) -> tensor<?x64xf32, ["q", "e"]>
  return %z, %o : tensor<?xf32, ["q"]>, tensor<?x64xf32, ["q", "e"]>
}

// -----

// A linear chain needs no guard. The constant moves to the result.
// CHECK-LABEL: func.func @linear
// CHECK: %[[M:[0-9]+]] = "diag.contract"(%arg1, %arg2) {over = ["x"]}
// CHECK: %[[O:[0-9]+]] = "diag.contract"(%arg0, %[[M]]) {over = ["d"]}
// CHECK: arith.mulf
// CHECK-NOT: diag.stream
// EXACT-LABEL: func.func @linear
// EXACT: "diag.contract"(%arg1, %arg2)
// OFF-LABEL: func.func @linear
// OFF: "diag.contract"(%arg0, %arg1)
func.func @linear(%q: tensor<?x64xf32, ["q", "d"]>, %k: tensor<?x64xf32, ["x", "d"]>, %v: tensor<?x64xf32, ["x", "e"]>) -> tensor<?x64xf32, ["q", "e"]> {
  %s = "diag.contract"(%q, %k) {over = ["d"]} : (tensor<?x64xf32, ["q", "d"]>, tensor<?x64xf32, ["x", "d"]>) -> tensor<?x?xf32, ["q", "x"]>
  %p = "diag.map"() ({
    %0 = "diag.element"(%s) : (tensor<?x?xf32, ["q", "x"]>) -> f32
    %c = arith.constant 0.125 : f32
    %1 = arith.mulf %0, %c : f32
    "diag.yield"(%1) : (f32) -> ()
  }) : () -> tensor<?x?xf32, ["q", "x"]>
  %o = "diag.contract"(%p, %v) {over = ["x"]} : (tensor<?x?xf32, ["q", "x"]>, tensor<?x64xf32, ["x", "e"]>) -> tensor<?x64xf32, ["q", "e"]>
  return %o : tensor<?x64xf32, ["q", "e"]>
}

// -----

// A chain of three: the matrices in the middle are never multiplied with each other.
// CHECK-LABEL: func.func @chain_of_three
// CHECK: %[[CD:[0-9]+]] = "diag.contract"(%arg2, %arg3) {over = ["d"]}
// CHECK: %[[BCD:[0-9]+]] = "diag.contract"(%arg1, %[[CD]]) {over = ["c"]}
// CHECK: "diag.contract"(%arg0, %[[BCD]]) {over = ["b"]}
func.func @chain_of_three(%a: tensor<8x2048xf32, ["a", "b"]>, %b: tensor<2048x2048xf32, ["b", "c"]>, %c: tensor<2048x2048xf32, ["c", "d"]>, %d: tensor<2048x4xf32, ["d", "e"]>) -> tensor<8x4xf32, ["a", "e"]> {
  %bc = "diag.contract"(%b, %c) {over = ["c"]} : (tensor<2048x2048xf32, ["b", "c"]>, tensor<2048x2048xf32, ["c", "d"]>) -> tensor<2048x2048xf32, ["b", "d"]>
  %bcd = "diag.contract"(%bc, %d) {over = ["d"]} : (tensor<2048x2048xf32, ["b", "d"]>, tensor<2048x4xf32, ["d", "e"]>) -> tensor<2048x4xf32, ["b", "e"]>
  %o = "diag.contract"(%a, %bcd) {over = ["b"]} : (tensor<8x2048xf32, ["a", "b"]>, tensor<2048x4xf32, ["b", "e"]>) -> tensor<8x4xf32, ["a", "e"]>
  return %o : tensor<8x4xf32, ["a", "e"]>
}

// -----

// Keys that a mask excludes are zeroed rows, once for each of the two copies and for the values' matrix.
// CHECK-LABEL: func.func @padded_keys
// CHECK: %[[KEYS:[0-9]+]] = "diag.map"() ({
// CHECK: "diag.element"(%arg3)
// CHECK: arith.select
// CHECK: "diag.contract"({{.*}}) {over = ["x"]} : (tensor<?x64xf32, ["x", "d"]>, tensor<?x64xf32, ["x", "d'"]>)
func.func @padded_keys(%q: tensor<?x64xf32, ["q", "d"]>, %k: tensor<?x64xf32, ["x", "d"]>, %v: tensor<?x64xf32, ["x", "e"]>, %m: tensor<?xi1, ["x"]>) -> (tensor<?xf32, ["q"]>, tensor<?x64xf32, ["q", "e"]>) {
  %s = "diag.contract"(%q, %k) {over = ["d"]} : (tensor<?x64xf32, ["q", "d"]>, tensor<?x64xf32, ["x", "d"]>) -> tensor<?x?xf32, ["q", "x"]>
  %u = "diag.map"() ({
    %0 = "diag.element"(%s) : (tensor<?x?xf32, ["q", "x"]>) -> f32
    %1 = "diag.element"(%m) : (tensor<?xi1, ["x"]>) -> i1
    %2 = arith.constant 0.0 : f32
    %3 = arith.select %1, %0, %2 : f32
    "diag.yield"(%3) : (f32) -> ()
  }) : () -> tensor<?x?xf32, ["q", "x"]>
  %p = "diag.map"() ({
    %0 = "diag.element"(%u) : (tensor<?x?xf32, ["q", "x"]>) -> f32
    %1 = arith.mulf %0, %0 : f32
    "diag.yield"(%1) : (f32) -> ()
  }) : () -> tensor<?x?xf32, ["q", "x"]>
  %z = "diag.reduce"(%p) {kind = "add", over = ["x"]} : (tensor<?x?xf32, ["q", "x"]>) -> tensor<?xf32, ["q"]>
  %o = "diag.contract"(%u, %v) {over = ["x"]} : (tensor<?x?xf32, ["q", "x"]>, tensor<?x64xf32, ["x", "e"]>) -> tensor<?x64xf32, ["q", "e"]>
  return %z, %o : tensor<?xf32, ["q"]>, tensor<?x64xf32, ["q", "e"]>
}

// -----

// Declined: a mask over queries and keys, whose products cannot be summed apart.
// CHECK-LABEL: func.func @causal
// CHECK-NOT: diag.relabel
// CHECK: return
func.func @causal(%q: tensor<?x64xf32, ["q", "d"]>, %k: tensor<?x64xf32, ["x", "d"]>, %v: tensor<?x64xf32, ["x", "e"]>, %m: tensor<?x?xi1, ["q", "x"]>) -> (tensor<?xf32, ["q"]>, tensor<?x64xf32, ["q", "e"]>) {
  %s = "diag.contract"(%q, %k) {over = ["d"]} : (tensor<?x64xf32, ["q", "d"]>, tensor<?x64xf32, ["x", "d"]>) -> tensor<?x?xf32, ["q", "x"]>
  %u = "diag.map"() ({
    %0 = "diag.element"(%s) : (tensor<?x?xf32, ["q", "x"]>) -> f32
    %1 = "diag.element"(%m) : (tensor<?x?xi1, ["q", "x"]>) -> i1
    %2 = arith.constant 0.0 : f32
    %3 = arith.select %1, %0, %2 : f32
    "diag.yield"(%3) : (f32) -> ()
  }) : () -> tensor<?x?xf32, ["q", "x"]>
  %p = "diag.map"() ({
    %0 = "diag.element"(%u) : (tensor<?x?xf32, ["q", "x"]>) -> f32
    %1 = arith.mulf %0, %0 : f32
    "diag.yield"(%1) : (f32) -> ()
  }) : () -> tensor<?x?xf32, ["q", "x"]>
  %z = "diag.reduce"(%p) {kind = "add", over = ["x"]} : (tensor<?x?xf32, ["q", "x"]>) -> tensor<?xf32, ["q"]>
  %o = "diag.contract"(%u, %v) {over = ["x"]} : (tensor<?x?xf32, ["q", "x"]>, tensor<?x64xf32, ["x", "e"]>) -> tensor<?x64xf32, ["q", "e"]>
  return %z, %o : tensor<?xf32, ["q"]>, tensor<?x64xf32, ["q", "e"]>
}

// -----

// Declined: no polynomial.
// CHECK-LABEL: func.func @absolute
// CHECK-NOT: diag.relabel
// CHECK: return
func.func @absolute(%q: tensor<?x64xf32, ["q", "d"]>, %k: tensor<?x64xf32, ["x", "d"]>, %v: tensor<?x64xf32, ["x", "e"]>) -> (tensor<?xf32, ["q"]>, tensor<?x64xf32, ["q", "e"]>) {
  %s = "diag.contract"(%q, %k) {over = ["d"]} : (tensor<?x64xf32, ["q", "d"]>, tensor<?x64xf32, ["x", "d"]>) -> tensor<?x?xf32, ["q", "x"]>
  %p = "diag.map"() ({
    %0 = "diag.element"(%s) : (tensor<?x?xf32, ["q", "x"]>) -> f32
    %1 = math.absf %0 : f32
    "diag.yield"(%1) : (f32) -> ()
  }) : () -> tensor<?x?xf32, ["q", "x"]>
  %z = "diag.reduce"(%p) {kind = "add", over = ["x"]} : (tensor<?x?xf32, ["q", "x"]>) -> tensor<?xf32, ["q"]>
  %o = "diag.contract"(%s, %v) {over = ["x"]} : (tensor<?x?xf32, ["q", "x"]>, tensor<?x64xf32, ["x", "e"]>) -> tensor<?x64xf32, ["q", "e"]>
  return %z, %o : tensor<?xf32, ["q"]>, tensor<?x64xf32, ["q", "e"]>
}

// -----

// Declined: fewer keys than the matrices are wide, and a single query.
// CHECK-LABEL: func.func @few_keys
// CHECK-NOT: diag.relabel
// CHECK: return
func.func @few_keys(%q: tensor<?x64xf32, ["q", "d"]>, %k: tensor<96x64xf32, ["x", "d"]>, %v: tensor<96x64xf32, ["x", "e"]>) -> (tensor<?xf32, ["q"]>, tensor<?x64xf32, ["q", "e"]>) {
  %s = "diag.contract"(%q, %k) {over = ["d"]} : (tensor<?x64xf32, ["q", "d"]>, tensor<96x64xf32, ["x", "d"]>) -> tensor<?x96xf32, ["q", "x"]>
  %p = "diag.map"() ({
    %0 = "diag.element"(%s) : (tensor<?x96xf32, ["q", "x"]>) -> f32
    %1 = arith.mulf %0, %0 : f32
    "diag.yield"(%1) : (f32) -> ()
  }) : () -> tensor<?x96xf32, ["q", "x"]>
  %z = "diag.reduce"(%p) {kind = "add", over = ["x"]} : (tensor<?x96xf32, ["q", "x"]>) -> tensor<?xf32, ["q"]>
  %o = "diag.contract"(%s, %v) {over = ["x"]} : (tensor<?x96xf32, ["q", "x"]>, tensor<96x64xf32, ["x", "e"]>) -> tensor<?x64xf32, ["q", "e"]>
  return %z, %o : tensor<?xf32, ["q"]>, tensor<?x64xf32, ["q", "e"]>
}

// -----

// CHECK-LABEL: func.func @one_query
// CHECK-NOT: diag.relabel
// CHECK: return
func.func @one_query(%q: tensor<1x64xf32, ["q", "d"]>, %k: tensor<4096x64xf32, ["x", "d"]>, %v: tensor<4096x64xf32, ["x", "e"]>) -> (tensor<1xf32, ["q"]>, tensor<1x64xf32, ["q", "e"]>) {
  %s = "diag.contract"(%q, %k) {over = ["d"]} : (tensor<1x64xf32, ["q", "d"]>, tensor<4096x64xf32, ["x", "d"]>) -> tensor<1x4096xf32, ["q", "x"]>
  %p = "diag.map"() ({
    %0 = "diag.element"(%s) : (tensor<1x4096xf32, ["q", "x"]>) -> f32
    %1 = arith.mulf %0, %0 : f32
    "diag.yield"(%1) : (f32) -> ()
  }) : () -> tensor<1x4096xf32, ["q", "x"]>
  %z = "diag.reduce"(%p) {kind = "add", over = ["x"]} : (tensor<1x4096xf32, ["q", "x"]>) -> tensor<1xf32, ["q"]>
  %o = "diag.contract"(%s, %v) {over = ["x"]} : (tensor<1x4096xf32, ["q", "x"]>, tensor<4096x64xf32, ["x", "e"]>) -> tensor<1x64xf32, ["q", "e"]>
  return %z, %o : tensor<1xf32, ["q"]>, tensor<1x64xf32, ["q", "e"]>
}

// -----

// Declined, with a remark: of a third power no guard is known.
// CHECK-LABEL: func.func @third_power
// CHECK-NOT: diag.done
// CHECK-SAME: diag.remarks = [{at = "{{.*}}:{{[0-9]+}}:{{[0-9]+}}", op = "diag.contract", text = "not contracted in another order: no guard is known for this power of a contraction"}]
// CHECK-NOT: diag.relabel
// CHECK: return
func.func @third_power(%q: tensor<?x4xf32, ["q", "d"]>, %k: tensor<?x4xf32, ["x", "d"]>, %v: tensor<?x4xf32, ["x", "e"]>) -> (tensor<?xf32, ["q"]>, tensor<?x4xf32, ["q", "e"]>) {
  %s = "diag.contract"(%q, %k) {over = ["d"]} : (tensor<?x4xf32, ["q", "d"]>, tensor<?x4xf32, ["x", "d"]>) -> tensor<?x?xf32, ["q", "x"]>
  %p = "diag.map"() ({
    %0 = "diag.element"(%s) : (tensor<?x?xf32, ["q", "x"]>) -> f32
    %2 = arith.mulf %0, %0 : f32
    %1 = arith.mulf %2, %0 : f32
    "diag.yield"(%1) : (f32) -> ()
  }) : () -> tensor<?x?xf32, ["q", "x"]>
  %z = "diag.reduce"(%p) {kind = "add", over = ["x"]} : (tensor<?x?xf32, ["q", "x"]>) -> tensor<?xf32, ["q"]>
  %o = "diag.contract"(%s, %v) {over = ["x"]} : (tensor<?x?xf32, ["q", "x"]>, tensor<?x4xf32, ["x", "e"]>) -> tensor<?x4xf32, ["q", "e"]>
  return %z, %o : tensor<?xf32, ["q"]>, tensor<?x4xf32, ["q", "e"]>
}

// -----

// Declined: a sum of the scores that reads another one cannot be made together with it.
// CHECK-LABEL: func.func @sum_of_a_sum
// CHECK-NOT: diag.relabel
// CHECK: return
func.func @sum_of_a_sum(%q: tensor<?x4xf32, ["q", "d"]>, %k: tensor<?x4xf32, ["x", "d"]>) -> tensor<?xf32, ["x"]> {
  %s = "diag.contract"(%q, %k) {over = ["d"]} : (tensor<?x4xf32, ["q", "d"]>, tensor<?x4xf32, ["x", "d"]>) -> tensor<?x?xf32, ["q", "x"]>
  %p = "diag.map"() ({
    %0 = "diag.element"(%s) : (tensor<?x?xf32, ["q", "x"]>) -> f32
    %1 = arith.mulf %0, %0 : f32
    "diag.yield"(%1) : (f32) -> ()
  }) : () -> tensor<?x?xf32, ["q", "x"]>
  %z = "diag.reduce"(%p) {kind = "add", over = ["x"]} : (tensor<?x?xf32, ["q", "x"]>) -> tensor<?xf32, ["q"]>
  %r = "diag.map"() ({
    %0 = "diag.element"(%z) : (tensor<?xf32, ["q"]>) -> f32
    %1 = math.rsqrt %0 : f32
    "diag.yield"(%1) : (f32) -> ()
  }) : () -> tensor<?xf32, ["q"]>
  %o = "diag.contract"(%s, %r) {over = ["q"]} : (tensor<?x?xf32, ["q", "x"]>, tensor<?xf32, ["q"]>) -> tensor<?xf32, ["x"]>
  return %o : tensor<?xf32, ["x"]>
}

// -----

// A constant that stands outside the map which reads it, as before canonicalize-diag.
// CHECK-LABEL: func.func @scalar_from_outside
// CHECK: diag.done
// CHECK: return
func.func @scalar_from_outside(%q: tensor<?x4xf32, ["q", "d"]>, %a: tensor<?xf32, ["x"]>, %b: tensor<4xf32, ["d"]>, %v: tensor<?x4xf32, ["x", "e"]>) -> (tensor<?xf32, ["q"]>, tensor<?x4xf32, ["q", "e"]>) {
  %c = arith.constant 5.000000e-01 : f32
  %k = "diag.map"() ({
    %0 = "diag.element"(%a) : (tensor<?xf32, ["x"]>) -> f32
    %1 = "diag.element"(%b) : (tensor<4xf32, ["d"]>) -> f32
    %2 = arith.mulf %0, %1 : f32
    %3 = arith.mulf %2, %c : f32
    "diag.yield"(%3) : (f32) -> ()
  }) : () -> tensor<?x4xf32, ["x", "d"]>
  %s = "diag.contract"(%q, %k) {over = ["d"]} : (tensor<?x4xf32, ["q", "d"]>, tensor<?x4xf32, ["x", "d"]>) -> tensor<?x?xf32, ["q", "x"]>
  %p = "diag.map"() ({
    %0 = "diag.element"(%s) : (tensor<?x?xf32, ["q", "x"]>) -> f32
    %1 = arith.mulf %0, %0 : f32
    "diag.yield"(%1) : (f32) -> ()
  }) : () -> tensor<?x?xf32, ["q", "x"]>
  %z = "diag.reduce"(%p) {kind = "add", over = ["x"]} : (tensor<?x?xf32, ["q", "x"]>) -> tensor<?xf32, ["q"]>
  %o = "diag.contract"(%s, %v) {over = ["x"]} : (tensor<?x?xf32, ["q", "x"]>, tensor<?x4xf32, ["x", "e"]>) -> tensor<?x4xf32, ["q", "e"]>
  return %z, %o : tensor<?xf32, ["q"]>, tensor<?x4xf32, ["q", "e"]>
}
