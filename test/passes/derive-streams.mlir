// RUN: diagc-opt %s --split-input-file --derive-streams | filecheck %s
// RUN: diagc-opt %s --split-input-file --derive-streams --validate | filecheck %s --check-prefix=VALID

// VALID: diag.stream

// Softmax attention is found, not known: a maximum, a sum and a contraction that follow it by the same
// factor. The old maximum enters the factor as it is, the new one guarded, so that exp(-inf - m) is 0
// while nothing was seen; all exponents are at most 0. The division joins the tail.
// CHECK-LABEL: func.func @attention
// CHECK-SAME: op = "diag.contract", text = "one pass over axis \22x\22 computes 3 reductions
// CHECK-NEXT: "diag.stream"() ({
// CHECK: arith.constant 0xFF800000 : f32
// CHECK: ^bb0(%[[M:arg[0-9]+]]: tensor<?xf32, ["q"]>, %[[Z:arg[0-9]+]]: tensor<?xf32, ["q"]>, %[[O:arg[0-9]+]]: tensor<?x64xf32, ["q", "e"]>):
// CHECK: %[[KC:[0-9]+]] = "diag.chunk"(%arg1)
// CHECK: %[[S:[0-9]+]] = "diag.contract"(%arg0, %[[KC]]) {over = ["d"]}
// CHECK: %[[MC:[0-9]+]] = "diag.reduce"(%[[S]]) {kind = "max", over = ["x"]}
// CHECK: "diag.element"(%[[M]])
// CHECK: "diag.element"(%[[MC]])
// CHECK: arith.maximumf
// CHECK: %[[G:[0-9]+]] = "diag.map"() ({
// CHECK: arith.select
// CHECK: %[[E:[0-9]+]] = "diag.map"() ({
// CHECK: "diag.element"(%[[S]])
// CHECK: "diag.element"(%[[G]])
// CHECK: math.exp {{.*}} {diag.nonpositive}
// CHECK: "diag.reduce"(%[[E]]) {kind = "add", over = ["x"]}
// CHECK: %[[F:[0-9]+]] = "diag.map"() ({
// CHECK: "diag.element"(%[[M]])
// CHECK: "diag.element"(%[[G]])
// CHECK: math.exp {{.*}} {diag.nonpositive}
// CHECK: "diag.element"(%[[Z]])
// CHECK: "diag.element"(%[[F]])
// CHECK: %[[VC:[0-9]+]] = "diag.chunk"(%arg2)
// CHECK: "diag.contract"(%[[E]], %[[VC]]) {over = ["x"]}
// CHECK: "diag.element"(%[[O]])
// CHECK: "diag.element"(%[[F]])
// CHECK: arith.divf
// CHECK: axis = "x", law = ["m: maximum of a", "z: sum of exp(a - m), corrected by exp(m - m')", "o: sum of exp(a - m) * b, corrected by exp(m - m')"], properties = ["monoid", "commutative"]
// CHECK-NEXT: return
func.func @attention(%q: tensor<?x64xf32, ["q", "d"]>, %k: tensor<?x64xf32, ["x", "d"]>, %v: tensor<?x64xf32, ["x", "e"]>) -> tensor<?x64xf32, ["q", "e"]> {
  %s = "diag.contract"(%q, %k) {over = ["d"]} : (tensor<?x64xf32, ["q", "d"]>, tensor<?x64xf32, ["x", "d"]>) -> tensor<?x?xf32, ["q", "x"]>
  %m = "diag.reduce"(%s) {kind = "max", over = ["x"]} : (tensor<?x?xf32, ["q", "x"]>) -> tensor<?xf32, ["q"]>
  %g = "diag.map"() ({
    %0 = "diag.element"(%m) : (tensor<?xf32, ["q"]>) -> f32
    %c = arith.constant 0xFF800000 : f32
    %n = arith.constant 0.0 : f32
    %b = arith.cmpf oeq, %0, %c : f32
    %1 = arith.select %b, %n, %0 : f32
    "diag.yield"(%1) : (f32) -> ()
  }) : () -> tensor<?xf32, ["q"]>
  %e = "diag.map"() ({
    %0 = "diag.element"(%s) : (tensor<?x?xf32, ["q", "x"]>) -> f32
    %1 = "diag.element"(%g) : (tensor<?xf32, ["q"]>) -> f32
    %2 = arith.subf %0, %1 : f32
    %3 = math.exp %2 : f32
    "diag.yield"(%3) : (f32) -> ()
  }) : () -> tensor<?x?xf32, ["q", "x"]>
  %z = "diag.reduce"(%e) {kind = "add", over = ["x"]} : (tensor<?x?xf32, ["q", "x"]>) -> tensor<?xf32, ["q"]>
  %o = "diag.contract"(%e, %v) {over = ["x"]} : (tensor<?x?xf32, ["q", "x"]>, tensor<?x64xf32, ["x", "e"]>) -> tensor<?x64xf32, ["q", "e"]>
  %y = "diag.map"() ({
    %0 = "diag.element"(%z) : (tensor<?xf32, ["q"]>) -> f32
    %1 = "diag.element"(%o) : (tensor<?x64xf32, ["q", "e"]>) -> f32
    %2 = arith.divf %1, %0 : f32
    "diag.yield"(%2) : (f32) -> ()
  }) : () -> tensor<?x64xf32, ["q", "e"]>
  return %y : tensor<?x64xf32, ["q", "e"]>
}

// -----

// A bare maximum gets a guard of its own: the first chunk may be fully masked.
// CHECK-LABEL: func.func @without_guard
// CHECK: arith.maximumf
// CHECK: arith.cmpf oeq
// CHECK: arith.select
// CHECK: law = ["m: maximum of a", "z: sum of exp(a - m), corrected by exp(m - m')"]
func.func @without_guard(%x: tensor<?x?xf32, ["q", "x"]>) -> (tensor<?xf32, ["q"]>, tensor<?xf32, ["q"]>) {
  %m = "diag.reduce"(%x) {kind = "max", over = ["x"]} : (tensor<?x?xf32, ["q", "x"]>) -> tensor<?xf32, ["q"]>
  %e = "diag.map"() ({
    %0 = "diag.element"(%x) : (tensor<?x?xf32, ["q", "x"]>) -> f32
    %1 = "diag.element"(%m) : (tensor<?xf32, ["q"]>) -> f32
    %2 = arith.subf %0, %1 : f32
    %3 = math.exp %2 : f32
    "diag.yield"(%3) : (f32) -> ()
  }) : () -> tensor<?x?xf32, ["q", "x"]>
  %z = "diag.reduce"(%e) {kind = "add", over = ["x"]} : (tensor<?x?xf32, ["q", "x"]>) -> tensor<?xf32, ["q"]>
  return %m, %z : tensor<?xf32, ["q"]>, tensor<?xf32, ["q"]>
}

// -----

// Statistics of one wire share a stream, with every one of them as a result.
// CHECK-LABEL: func.func @four_statistics
// CHECK: "diag.stream"
// CHECK: law = ["m: maximum of a", "l: minimum of a", "z: sum of abs(a)", "z2: sum of a * a"]
// CHECK-SAME: array<i32: 1, 1, 1, 1, 0, 0, 0, 0>
// CHECK-NOT: "diag.stream"
func.func @four_statistics(%x: tensor<?x?xf32, ["q", "x"]>) -> (tensor<?xf32, ["q"]>, tensor<?xf32, ["q"]>, tensor<?xf32, ["q"]>, tensor<?xf32, ["q"]>) {
  %m = "diag.reduce"(%x) {kind = "max", over = ["x"]} : (tensor<?x?xf32, ["q", "x"]>) -> tensor<?xf32, ["q"]>
  %l = "diag.reduce"(%x) {kind = "min", over = ["x"]} : (tensor<?x?xf32, ["q", "x"]>) -> tensor<?xf32, ["q"]>
  %a = "diag.map"() ({
    %0 = "diag.element"(%x) : (tensor<?x?xf32, ["q", "x"]>) -> f32
    %1 = math.absf %0 : f32
    "diag.yield"(%1) : (f32) -> ()
  }) : () -> tensor<?x?xf32, ["q", "x"]>
  %s = "diag.reduce"(%a) {kind = "add", over = ["x"]} : (tensor<?x?xf32, ["q", "x"]>) -> tensor<?xf32, ["q"]>
  %b = "diag.map"() ({
    %0 = "diag.element"(%x) : (tensor<?x?xf32, ["q", "x"]>) -> f32
    %1 = arith.mulf %0, %0 : f32
    "diag.yield"(%1) : (f32) -> ()
  }) : () -> tensor<?x?xf32, ["q", "x"]>
  %t = "diag.reduce"(%b) {kind = "add", over = ["x"]} : (tensor<?x?xf32, ["q", "x"]>) -> tensor<?xf32, ["q"]>
  return %m, %l, %s, %t : tensor<?xf32, ["q"]>, tensor<?xf32, ["q"]>, tensor<?xf32, ["q"]>, tensor<?xf32, ["q"]>
}

// -----

// Matrices that contractions of the same wire sum to are states too.
// CHECK-LABEL: func.func @gram
// CHECK: law = ["o: sum of a * b", "o2: sum of a * c"]
func.func @gram(%k: tensor<?x64xf32, ["x", "d"]>, %v: tensor<?x64xf32, ["x", "e"]>) -> (tensor<64x64xf32, ["d", "f"]>, tensor<64x64xf32, ["d", "e"]>) {
  %f = "diag.relabel"(%k) {from = ["d"], to = ["f"]} : (tensor<?x64xf32, ["x", "d"]>) -> tensor<?x64xf32, ["x", "f"]>
  %g = "diag.contract"(%k, %f) {over = ["x"]} : (tensor<?x64xf32, ["x", "d"]>, tensor<?x64xf32, ["x", "f"]>) -> tensor<64x64xf32, ["d", "f"]>
  %o = "diag.contract"(%k, %v) {over = ["x"]} : (tensor<?x64xf32, ["x", "d"]>, tensor<?x64xf32, ["x", "e"]>) -> tensor<64x64xf32, ["d", "e"]>
  return %g, %o : tensor<64x64xf32, ["d", "f"]>, tensor<64x64xf32, ["d", "e"]>
}

// -----

// The weights are returned: they are computed behind the stream from its statistics.
// CHECK-LABEL: func.func @returned_weights
// CHECK: %[[S:[0-9]+]]:3 = "diag.stream"
// CHECK: "diag.chunk"(%arg0)
// CHECK: "diag.map"
// CHECK: "diag.element"(%[[S]]#0)
// CHECK: return
func.func @returned_weights(%x: tensor<?x?xf32, ["q", "x"]>, %v: tensor<?x64xf32, ["x", "e"]>) -> (tensor<?x?xf32, ["q", "x"]>, tensor<?x64xf32, ["q", "e"]>) {
  %m = "diag.reduce"(%x) {kind = "max", over = ["x"]} : (tensor<?x?xf32, ["q", "x"]>) -> tensor<?xf32, ["q"]>
  %e = "diag.map"() ({
    %0 = "diag.element"(%x) : (tensor<?x?xf32, ["q", "x"]>) -> f32
    %1 = "diag.element"(%m) : (tensor<?xf32, ["q"]>) -> f32
    %2 = arith.subf %0, %1 : f32
    %3 = math.exp %2 : f32
    "diag.yield"(%3) : (f32) -> ()
  }) : () -> tensor<?x?xf32, ["q", "x"]>
  %z = "diag.reduce"(%e) {kind = "add", over = ["x"]} : (tensor<?x?xf32, ["q", "x"]>) -> tensor<?xf32, ["q"]>
  %p = "diag.map"() ({
    %0 = "diag.element"(%e) : (tensor<?x?xf32, ["q", "x"]>) -> f32
    %1 = "diag.element"(%z) : (tensor<?xf32, ["q"]>) -> f32
    %2 = arith.divf %0, %1 : f32
    "diag.yield"(%2) : (f32) -> ()
  }) : () -> tensor<?x?xf32, ["q", "x"]>
  %o = "diag.contract"(%e, %v) {over = ["x"]} : (tensor<?x?xf32, ["q", "x"]>, tensor<?x64xf32, ["x", "e"]>) -> tensor<?x64xf32, ["q", "e"]>
  %y = "diag.map"() ({
    %0 = "diag.element"(%z) : (tensor<?xf32, ["q"]>) -> f32
    %1 = "diag.element"(%o) : (tensor<?x64xf32, ["q", "e"]>) -> f32
    %2 = arith.divf %1, %0 : f32
    "diag.yield"(%2) : (f32) -> ()
  }) : () -> tensor<?x64xf32, ["q", "e"]>
  return %p, %y : tensor<?x?xf32, ["q", "x"]>, tensor<?x64xf32, ["q", "e"]>
}

// -----

// Declined with a remark: the mean divides by the whole length, so that it is no mean while the row is
// read, and the sums would be taken around a number far from all elements. Each sum streams alone.
// CHECK-LABEL: func.func @variance
// CHECK-SAME: is not streamed together with earlier reductions: a statistic that it uses, z / u, grows with the row, so that digits would be lost
// CHECK: law = ["z: sum of a"]
// CHECK: law = ["z: sum of (a - u) * (a - u)"]
func.func @variance(%x: tensor<?x?xf32, ["q", "x"]>, %n: tensor<?xf32, ["q"]>) -> tensor<?xf32, ["q"]> {
  %s = "diag.reduce"(%x) {kind = "add", over = ["x"]} : (tensor<?x?xf32, ["q", "x"]>) -> tensor<?xf32, ["q"]>
  %u = "diag.map"() ({
    %0 = "diag.element"(%s) : (tensor<?xf32, ["q"]>) -> f32
    %1 = "diag.element"(%n) : (tensor<?xf32, ["q"]>) -> f32
    %2 = arith.divf %0, %1 : f32
    "diag.yield"(%2) : (f32) -> ()
  }) : () -> tensor<?xf32, ["q"]>
  %c = "diag.map"() ({
    %0 = "diag.element"(%x) : (tensor<?x?xf32, ["q", "x"]>) -> f32
    %1 = "diag.element"(%u) : (tensor<?xf32, ["q"]>) -> f32
    %2 = arith.subf %0, %1 : f32
    %3 = arith.mulf %2, %2 : f32
    "diag.yield"(%3) : (f32) -> ()
  }) : () -> tensor<?x?xf32, ["q", "x"]>
  %t = "diag.reduce"(%c) {kind = "add", over = ["x"]} : (tensor<?x?xf32, ["q", "x"]>) -> tensor<?xf32, ["q"]>
  return %t : tensor<?xf32, ["q"]>
}

// -----

// A variance follows the running mean with two further sums, which never grow large.
// CHECK-LABEL: func.func @running_variance
// CHECK: "diag.stream"
// CHECK: law = ["z: sum of a", "n: sum of 1", "z2: sum of (a - z / max(n, 1)) * (a - z / max(n, 1)), corrected by 2 further sums and z' / max(n', 1) - z / max(n, 1)"]
// CHECK-NOT: "diag.stream"
func.func @running_variance(%x: tensor<?x?xf32, ["q", "x"]>) -> tensor<?xf32, ["q"]> {
  %s = "diag.reduce"(%x) {kind = "add", over = ["x"]} : (tensor<?x?xf32, ["q", "x"]>) -> tensor<?xf32, ["q"]>
  %one = "diag.map"() ({
    %0 = arith.constant 1.0 : f32
    "diag.yield"(%0) : (f32) -> ()
  }) : () -> tensor<?xf32, ["x"]>
  %n = "diag.reduce"(%one) {kind = "add", over = ["x"]} : (tensor<?xf32, ["x"]>) -> tensor<f32, []>
  %u = "diag.map"() ({
    %0 = "diag.element"(%s) : (tensor<?xf32, ["q"]>) -> f32
    %1 = "diag.element"(%n) : (tensor<f32, []>) -> f32
    %2 = arith.constant 1.0 : f32
    %3 = arith.maximumf %1, %2 : f32
    %4 = arith.divf %0, %3 : f32
    "diag.yield"(%4) : (f32) -> ()
  }) : () -> tensor<?xf32, ["q"]>
  %c = "diag.map"() ({
    %0 = "diag.element"(%x) : (tensor<?x?xf32, ["q", "x"]>) -> f32
    %1 = "diag.element"(%u) : (tensor<?xf32, ["q"]>) -> f32
    %2 = arith.subf %0, %1 : f32
    %3 = arith.mulf %2, %2 : f32
    "diag.yield"(%3) : (f32) -> ()
  }) : () -> tensor<?x?xf32, ["q", "x"]>
  %t = "diag.reduce"(%c) {kind = "add", over = ["x"]} : (tensor<?x?xf32, ["q", "x"]>) -> tensor<?xf32, ["q"]>
  return %t : tensor<?xf32, ["q"]>
}

// -----

// Declined with a remark: a product follows no statistic.
// CHECK-LABEL: func.func @product
// CHECK-SAME: no law lets a reduction by 'mul' follow a statistic
// CHECK: law = ["m: maximum of a"]
// CHECK: law = ["p: product of a - u"]
func.func @product(%x: tensor<?x?xf32, ["q", "x"]>) -> tensor<?xf32, ["q"]> {
  %m = "diag.reduce"(%x) {kind = "max", over = ["x"]} : (tensor<?x?xf32, ["q", "x"]>) -> tensor<?xf32, ["q"]>
  %c = "diag.map"() ({
    %0 = "diag.element"(%x) : (tensor<?x?xf32, ["q", "x"]>) -> f32
    %1 = "diag.element"(%m) : (tensor<?xf32, ["q"]>) -> f32
    %2 = arith.subf %0, %1 : f32
    "diag.yield"(%2) : (f32) -> ()
  }) : () -> tensor<?x?xf32, ["q", "x"]>
  %t = "diag.reduce"(%c) {kind = "mul", over = ["x"]} : (tensor<?x?xf32, ["q", "x"]>) -> tensor<?xf32, ["q"]>
  return %t : tensor<?xf32, ["q"]>
}

// -----

// Declined with a remark: a logarithm that is infinite until something was summed.
// CHECK-LABEL: func.func @logarithm
// CHECK-SAME: a statistic that it uses, log(z), may be infinite or no number at first
// CHECK-COUNT-2: "diag.stream"
func.func @logarithm(%x: tensor<?x?xf32, ["q", "x"]>) -> tensor<?xf32, ["q"]> {
  %s = "diag.reduce"(%x) {kind = "add", over = ["x"]} : (tensor<?x?xf32, ["q", "x"]>) -> tensor<?xf32, ["q"]>
  %u = "diag.map"() ({
    %0 = "diag.element"(%s) : (tensor<?xf32, ["q"]>) -> f32
    %1 = math.log %0 : f32
    "diag.yield"(%1) : (f32) -> ()
  }) : () -> tensor<?xf32, ["q"]>
  %e = "diag.map"() ({
    %0 = "diag.element"(%x) : (tensor<?x?xf32, ["q", "x"]>) -> f32
    %1 = "diag.element"(%u) : (tensor<?xf32, ["q"]>) -> f32
    %2 = arith.subf %0, %1 : f32
    %3 = math.exp %2 : f32
    "diag.yield"(%3) : (f32) -> ()
  }) : () -> tensor<?x?xf32, ["q", "x"]>
  %t = "diag.reduce"(%e) {kind = "add", over = ["x"]} : (tensor<?x?xf32, ["q", "x"]>) -> tensor<?xf32, ["q"]>
  return %t : tensor<?xf32, ["q"]>
}

// -----

// Not worth a stream: a short axis over which nothing is contracted, a contraction of its own, a linear
// layer whose weights are parameters.
// CHECK-LABEL: func.func @short_axis
// CHECK-NOT: diag.stream
// CHECK: return
func.func @short_axis(%x: tensor<4x768xf32, ["n", "c"]>, %k: tensor<?x64xf32, ["x", "d"]>, %v: tensor<?x64xf32, ["x", "e"]>, %w: tensor<?x?xf32, ["q", "x"]> {diag.kind = "user"}) -> (tensor<4xf32, ["n"]>, tensor<?x64xf32, ["q", "e"]>) {
  %s = "diag.reduce"(%x) {kind = "add", over = ["c"]} : (tensor<4x768xf32, ["n", "c"]>) -> tensor<4xf32, ["n"]>
  %o = "diag.contract"(%w, %v) {over = ["x"]} : (tensor<?x?xf32, ["q", "x"]>, tensor<?x64xf32, ["x", "e"]>) -> tensor<?x64xf32, ["q", "e"]>
  return %s, %o : tensor<4xf32, ["n"]>, tensor<?x64xf32, ["q", "e"]>
}

// -----

// Above the limit, a static axis is long.
// CHECK-LABEL: func.func @long_axis
// CHECK: "diag.chunk"(%arg0) : (tensor<4x8192xf32, ["n", "c"]>) -> tensor<4x?xf32, ["n", "c"]>
func.func @long_axis(%x: tensor<4x8192xf32, ["n", "c"]>) -> tensor<4xf32, ["n"]> {
  %s = "diag.reduce"(%x) {kind = "add", over = ["c"]} : (tensor<4x8192xf32, ["n", "c"]>) -> tensor<4xf32, ["n"]>
  return %s : tensor<4xf32, ["n"]>
}

// -----

// A layer whose result has 32768 columns is summed as it is made: the sums need not wait for all of it.
// CHECK-LABEL: func.func @classes
// CHECK: "diag.stream"
// CHECK: "diag.chunk"(%arg1)
// CHECK: "diag.contract"(%arg0,
// CHECK: axis = "c"
func.func @classes(%x: tensor<64x256xf32, ["t", "d"]>, %w: tensor<32768x256xf32, ["c", "d"]> {diag.kind = "param"}) -> tensor<64xf32, ["t"]> {
  %s = "diag.contract"(%x, %w) {over = ["d"]} : (tensor<64x256xf32, ["t", "d"]>, tensor<32768x256xf32, ["c", "d"]>) -> tensor<64x32768xf32, ["t", "c"]>
  %m = "diag.reduce"(%s) {kind = "max", over = ["c"]} : (tensor<64x32768xf32, ["t", "c"]>) -> tensor<64xf32, ["t"]>
  return %m : tensor<64xf32, ["t"]>
}

// -----

// A short one is the library's.
// CHECK-LABEL: func.func @few_classes
// CHECK-NOT: "diag.stream"
// CHECK: return
func.func @few_classes(%x: tensor<64x256xf32, ["t", "d"]>, %w: tensor<1000x256xf32, ["c", "d"]> {diag.kind = "param"}) -> tensor<64xf32, ["t"]> {
  %s = "diag.contract"(%x, %w) {over = ["d"]} : (tensor<64x256xf32, ["t", "d"]>, tensor<1000x256xf32, ["c", "d"]>) -> tensor<64x1000xf32, ["t", "c"]>
  %m = "diag.reduce"(%s) {kind = "max", over = ["c"]} : (tensor<64x1000xf32, ["t", "c"]>) -> tensor<64xf32, ["t"]>
  return %m : tensor<64xf32, ["t"]>
}

// -----

// The first position of the maximum: hits are void when the maximum changes, and a maximum that is
// still minus infinity is compared as it is.
// CHECK-LABEL: func.func @first_position
// CHECK: "diag.stream"
// CHECK: law = ["m: maximum of a", "l: minimum of select(a == m, b, inf), void when m changes"]
func.func @first_position(%x: tensor<8x?xf32, ["t", "c"]>, %p: tensor<?xf32, ["c"]>) -> (tensor<8xf32, ["t"]>, tensor<8xf32, ["t"]>) {
  %m = "diag.reduce"(%x) {kind = "max", over = ["c"]} : (tensor<8x?xf32, ["t", "c"]>) -> tensor<8xf32, ["t"]>
  %h = "diag.map"() ({
    %0 = "diag.element"(%x) : (tensor<8x?xf32, ["t", "c"]>) -> f32
    %1 = "diag.element"(%m) : (tensor<8xf32, ["t"]>) -> f32
    %2 = "diag.element"(%p) : (tensor<?xf32, ["c"]>) -> f32
    %i = arith.constant 0x7F800000 : f32
    %b = arith.cmpf oeq, %0, %1 : f32
    %3 = arith.select %b, %2, %i : f32
    "diag.yield"(%3) : (f32) -> ()
  }) : () -> tensor<8x?xf32, ["t", "c"]>
  %l = "diag.reduce"(%h) {kind = "min", over = ["c"]} : (tensor<8x?xf32, ["t", "c"]>) -> tensor<8xf32, ["t"]>
  return %m, %l : tensor<8xf32, ["t"]>, tensor<8xf32, ["t"]>
}

// -----

// Elements of another wire may equal a maximum that comes later: nothing says which were hits.
// CHECK-LABEL: func.func @hits_of_another_wire
// CHECK: is not streamed together with earlier reductions
func.func @hits_of_another_wire(%x: tensor<8x?xf32, ["t", "c"]>, %p: tensor<8x?xf32, ["t", "c"]>) -> (tensor<8xf32, ["t"]>, tensor<8xf32, ["t"]>) {
  %m = "diag.reduce"(%x) {kind = "max", over = ["c"]} : (tensor<8x?xf32, ["t", "c"]>) -> tensor<8xf32, ["t"]>
  %h = "diag.map"() ({
    %0 = "diag.element"(%p) : (tensor<8x?xf32, ["t", "c"]>) -> f32
    %1 = "diag.element"(%m) : (tensor<8xf32, ["t"]>) -> f32
    %2 = "diag.element"(%x) : (tensor<8x?xf32, ["t", "c"]>) -> f32
    %i = arith.constant 0x7F800000 : f32
    %b = arith.cmpf oeq, %0, %1 : f32
    %3 = arith.select %b, %2, %i : f32
    "diag.yield"(%3) : (f32) -> ()
  }) : () -> tensor<8x?xf32, ["t", "c"]>
  %l = "diag.reduce"(%h) {kind = "min", over = ["c"]} : (tensor<8x?xf32, ["t", "c"]>) -> tensor<8xf32, ["t"]>
  return %m, %l : tensor<8xf32, ["t"]>, tensor<8xf32, ["t"]>
}

// -----

// What is left of no hit must be the identity of the reduction: here it is 0 in a minimum.
// CHECK-LABEL: func.func @no_identity
// CHECK: is not streamed together with earlier reductions
func.func @no_identity(%x: tensor<8x?xf32, ["t", "c"]>, %p: tensor<?xf32, ["c"]>) -> (tensor<8xf32, ["t"]>, tensor<8xf32, ["t"]>) {
  %m = "diag.reduce"(%x) {kind = "max", over = ["c"]} : (tensor<8x?xf32, ["t", "c"]>) -> tensor<8xf32, ["t"]>
  %h = "diag.map"() ({
    %0 = "diag.element"(%x) : (tensor<8x?xf32, ["t", "c"]>) -> f32
    %1 = "diag.element"(%m) : (tensor<8xf32, ["t"]>) -> f32
    %2 = "diag.element"(%p) : (tensor<?xf32, ["c"]>) -> f32
    %i = arith.constant 0.0 : f32
    %b = arith.cmpf oeq, %0, %1 : f32
    %3 = arith.select %b, %2, %i : f32
    "diag.yield"(%3) : (f32) -> ()
  }) : () -> tensor<8x?xf32, ["t", "c"]>
  %l = "diag.reduce"(%h) {kind = "min", over = ["c"]} : (tensor<8x?xf32, ["t", "c"]>) -> tensor<8xf32, ["t"]>
  return %m, %l : tensor<8xf32, ["t"]>, tensor<8xf32, ["t"]>
}

// -----

// Between two large products nothing is gained by blocks: their sums would be read and written again.
// CHECK-LABEL: func.func @two_products
// CHECK-SAME: only large products make and reduce it
// CHECK-NOT: "diag.stream"
// CHECK: return
func.func @two_products(%x: tensor<1024x512xf32, ["t", "d"]>, %w: tensor<4096x512xf32, ["h", "d"]>, %v: tensor<4096x512xf32, ["h", "e"]>) -> tensor<1024x512xf32, ["t", "e"]> {
  %s = "diag.contract"(%x, %w) {over = ["d"]} : (tensor<1024x512xf32, ["t", "d"]>, tensor<4096x512xf32, ["h", "d"]>) -> tensor<1024x4096xf32, ["t", "h"]>
  %a = "diag.map"() ({
    %0 = "diag.element"(%s) : (tensor<1024x4096xf32, ["t", "h"]>) -> f32
    %1 = math.exp %0 : f32
    "diag.yield"(%1) : (f32) -> ()
  }) : () -> tensor<1024x4096xf32, ["t", "h"]>
  %o = "diag.contract"(%a, %v) {over = ["h"]} : (tensor<1024x4096xf32, ["t", "h"]>, tensor<4096x512xf32, ["h", "e"]>) -> tensor<1024x512xf32, ["t", "e"]>
  return %o : tensor<1024x512xf32, ["t", "e"]>
}
