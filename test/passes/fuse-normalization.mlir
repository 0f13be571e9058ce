// RUN: diagc-opt %s --split-input-file --fuse-normalization | filecheck %s
// RUN: diagc-opt %s --split-input-file --fuse-normalization="empty-rows=eager" | filecheck %s --check-prefix=EAGER

// A factor without the contracted axis multiplies the result instead.
// CHECK-LABEL: func.func @factor
// CHECK-SAME: diag.done = [{at = "{{.*}}:{{[0-9]+}}:{{[0-9]+}}", op = "diag.contract", text = "a factor that is constant there moved behind the sum over \22x\22, to be applied once a row"}]
// CHECK: %[[C:[0-9]+]] = "diag.contract"(%arg0, %arg2) {over = ["x"]}
// CHECK: "diag.element"(%[[C]])
// CHECK: "diag.element"(%arg1)
// CHECK: arith.mulf
// CHECK-NOT: diag.contract
func.func @factor(%e: tensor<?x?xf32, ["q", "x"]>, %r: tensor<?xf32, ["q"]>, %v: tensor<?x64xf32, ["x", "e"]>) -> tensor<?x64xf32, ["q", "e"]> {
  %p = "diag.map"() ({
    %0 = "diag.element"(%e) : (tensor<?x?xf32, ["q", "x"]>) -> f32
    %1 = "diag.element"(%r) : (tensor<?xf32, ["q"]>) -> f32
    %2 = arith.mulf %0, %1 : f32
    "diag.yield"(%2) : (f32) -> ()
  }) : () -> tensor<?x?xf32, ["q", "x"]>
  %o = "diag.contract"(%p, %v) {over = ["x"]} : (tensor<?x?xf32, ["q", "x"]>, tensor<?x64xf32, ["x", "e"]>) -> tensor<?x64xf32, ["q", "e"]>
  return %o : tensor<?x64xf32, ["q", "e"]>
}

// -----

// Division, negation and a mask are products too; so is a cast in a map of its own. A statistic of the
// contracted axis divides by its reciprocal, which is 0 where the statistic is 0.
// CHECK-LABEL: func.func @statistic
// CHECK: %[[Z:[0-9]+]] = "diag.reduce"(%arg0) {kind = "add", over = ["x"]}
// CHECK: arith.select
// CHECK-NEXT: arith.negf
// CHECK-NOT: arith.divf
// CHECK: %[[C:[0-9]+]] = "diag.contract"(%{{.*}}, %arg2) {over = ["x"]}
// CHECK-SAME: -> tensor<?x64xf32, ["q", "e"]>
// CHECK: arith.divf
// CHECK-NEXT: arith.select
// CHECK: "diag.element"(%[[C]])
// CHECK: arith.mulf
// CHECK: arith.truncf
// EAGER-LABEL: func.func @statistic
// EAGER: "diag.contract"
// EAGER: arith.divf
// EAGER-NOT: arith.select
// EAGER: return
func.func @statistic(%e: tensor<?x?xf32, ["q", "x"]>, %k: tensor<?x?xi1, ["q", "x"]>, %v: tensor<?x64xbf16, ["x", "e"]>) -> tensor<?x64xbf16, ["q", "e"]> {
  %z = "diag.reduce"(%e) {kind = "add", over = ["x"]} : (tensor<?x?xf32, ["q", "x"]>) -> tensor<?xf32, ["q"]>
  %p = "diag.map"() ({
    %0 = "diag.element"(%e) : (tensor<?x?xf32, ["q", "x"]>) -> f32
    %1 = "diag.element"(%z) : (tensor<?xf32, ["q"]>) -> f32
    %2 = "diag.element"(%k) : (tensor<?x?xi1, ["q", "x"]>) -> i1
    %3 = arith.divf %0, %1 : f32
    %4 = arith.constant 0.0 : f32
    %5 = arith.select %2, %3, %4 : f32
    %6 = arith.negf %5 : f32
    "diag.yield"(%6) : (f32) -> ()
  }) : () -> tensor<?x?xf32, ["q", "x"]>
  %h = "diag.map"() ({
    %0 = "diag.element"(%p) : (tensor<?x?xf32, ["q", "x"]>) -> f32
    %1 = arith.truncf %0 : f32 to bf16
    "diag.yield"(%1) : (bf16) -> ()
  }) : () -> tensor<?x?xbf16, ["q", "x"]>
  %o = "diag.contract"(%h, %v) {over = ["x"]} : (tensor<?x?xbf16, ["q", "x"]>, tensor<?x64xbf16, ["x", "e"]>) -> tensor<?x64xbf16, ["q", "e"]>
  return %o : tensor<?x64xbf16, ["q", "e"]>
}

// -----

// A sum is linear as a contraction is; a maximum is not.
// CHECK-LABEL: func.func @sum
// CHECK: "diag.reduce"(%arg0) {kind = "add", over = ["x"]}
// CHECK: "diag.map"
// CHECK: %[[P:[0-9]+]] = "diag.map"
// CHECK: "diag.reduce"(%[[P]]) {kind = "max", over = ["x"]}
func.func @sum(%e: tensor<?x?xf32, ["q", "x"]>, %r: tensor<?xf32, ["q"]>) -> (tensor<?xf32, ["q"]>, tensor<?xf32, ["q"]>) {
  %p = "diag.map"() ({
    %0 = "diag.element"(%e) : (tensor<?x?xf32, ["q", "x"]>) -> f32
    %1 = "diag.element"(%r) : (tensor<?xf32, ["q"]>) -> f32
    %2 = arith.mulf %0, %1 : f32
    "diag.yield"(%2) : (f32) -> ()
  }) : () -> tensor<?x?xf32, ["q", "x"]>
  %s = "diag.reduce"(%p) {kind = "add", over = ["x"]} : (tensor<?x?xf32, ["q", "x"]>) -> tensor<?xf32, ["q"]>
  %h = "diag.map"() ({
    %0 = "diag.element"(%e) : (tensor<?x?xf32, ["q", "x"]>) -> f32
    %1 = "diag.element"(%r) : (tensor<?xf32, ["q"]>) -> f32
    %2 = arith.mulf %0, %1 : f32
    "diag.yield"(%2) : (f32) -> ()
  }) : () -> tensor<?x?xf32, ["q", "x"]>
  %m = "diag.reduce"(%h) {kind = "max", over = ["x"]} : (tensor<?x?xf32, ["q", "x"]>) -> tensor<?xf32, ["q"]>
  return %s, %m : tensor<?xf32, ["q"]>, tensor<?xf32, ["q"]>
}

// -----

// The product lives on for its other user; the contraction reads the rest.
// CHECK-LABEL: func.func @returned_weights
// CHECK: %[[P:[0-9]+]] = "diag.map"
// CHECK: "diag.contract"(%arg0, %arg2)
// CHECK: return %[[P]]
func.func @returned_weights(%e: tensor<?x?xf32, ["q", "x"]>, %r: tensor<?xf32, ["q"]>, %v: tensor<?x64xf32, ["x", "e"]>) -> (tensor<?x?xf32, ["q", "x"]>, tensor<?x64xf32, ["q", "e"]>) {
  %p = "diag.map"() ({
    %0 = "diag.element"(%e) : (tensor<?x?xf32, ["q", "x"]>) -> f32
    %1 = "diag.element"(%r) : (tensor<?xf32, ["q"]>) -> f32
    %2 = arith.mulf %0, %1 : f32
    "diag.yield"(%2) : (f32) -> ()
  }) : () -> tensor<?x?xf32, ["q", "x"]>
  %o = "diag.contract"(%p, %v) {over = ["x"]} : (tensor<?x?xf32, ["q", "x"]>, tensor<?x64xf32, ["x", "e"]>) -> tensor<?x64xf32, ["q", "e"]>
  return %p, %o : tensor<?x?xf32, ["q", "x"]>, tensor<?x64xf32, ["q", "e"]>
}

// -----

// Declined: an exponential that the other user of the product would compute again.
// CHECK-LABEL: func.func @repeated_work
// CHECK: %[[P:[0-9]+]] = "diag.map"
// CHECK: math.exp
// CHECK: %[[O:[0-9]+]] = "diag.contract"(%[[P]], %arg2)
// CHECK: return %[[P]], %[[O]]
func.func @repeated_work(%e: tensor<?x?xf32, ["q", "x"]>, %r: tensor<?xf32, ["q"]>, %v: tensor<?x64xf32, ["x", "e"]>) -> (tensor<?x?xf32, ["q", "x"]>, tensor<?x64xf32, ["q", "e"]>) {
  %p = "diag.map"() ({
    %0 = "diag.element"(%e) : (tensor<?x?xf32, ["q", "x"]>) -> f32
    %1 = "diag.element"(%r) : (tensor<?xf32, ["q"]>) -> f32
    %2 = math.exp %0 : f32
    %3 = arith.mulf %2, %1 : f32
    "diag.yield"(%3) : (f32) -> ()
  }) : () -> tensor<?x?xf32, ["q", "x"]>
  %o = "diag.contract"(%p, %v) {over = ["x"]} : (tensor<?x?xf32, ["q", "x"]>, tensor<?x64xf32, ["x", "e"]>) -> tensor<?x64xf32, ["q", "e"]>
  return %p, %o : tensor<?x?xf32, ["q", "x"]>, tensor<?x64xf32, ["q", "e"]>
}

// -----

// Declined: the factor carries the contracted axis, stands under a function, is added.
// CHECK-LABEL: func.func @not_a_factor
// CHECK-COUNT-3: "diag.map"
// CHECK-COUNT-3: "diag.contract"
// CHECK-NOT: "diag.map"
func.func @not_a_factor(%e: tensor<?x?xf32, ["q", "x"]>, %r: tensor<?xf32, ["q"]>, %w: tensor<?xf32, ["x"]>, %v: tensor<?x64xf32, ["x", "e"]>) -> (tensor<?x64xf32, ["q", "e"]>, tensor<?x64xf32, ["q", "e"]>, tensor<?x64xf32, ["q", "e"]>) {
  %a = "diag.map"() ({
    %0 = "diag.element"(%e) : (tensor<?x?xf32, ["q", "x"]>) -> f32
    %1 = "diag.element"(%w) : (tensor<?xf32, ["x"]>) -> f32
    %2 = arith.mulf %0, %1 : f32
    "diag.yield"(%2) : (f32) -> ()
  }) : () -> tensor<?x?xf32, ["q", "x"]>
  %b = "diag.map"() ({
    %0 = "diag.element"(%e) : (tensor<?x?xf32, ["q", "x"]>) -> f32
    %1 = "diag.element"(%r) : (tensor<?xf32, ["q"]>) -> f32
    %2 = arith.mulf %0, %1 : f32
    %3 = math.exp %2 : f32
    "diag.yield"(%3) : (f32) -> ()
  }) : () -> tensor<?x?xf32, ["q", "x"]>
  %c = "diag.map"() ({
    %0 = "diag.element"(%e) : (tensor<?x?xf32, ["q", "x"]>) -> f32
    %1 = "diag.element"(%r) : (tensor<?xf32, ["q"]>) -> f32
    %2 = arith.addf %0, %1 : f32
    "diag.yield"(%2) : (f32) -> ()
  }) : () -> tensor<?x?xf32, ["q", "x"]>
  %o0 = "diag.contract"(%a, %v) {over = ["x"]} : (tensor<?x?xf32, ["q", "x"]>, tensor<?x64xf32, ["x", "e"]>) -> tensor<?x64xf32, ["q", "e"]>
  %o1 = "diag.contract"(%b, %v) {over = ["x"]} : (tensor<?x?xf32, ["q", "x"]>, tensor<?x64xf32, ["x", "e"]>) -> tensor<?x64xf32, ["q", "e"]>
  %o2 = "diag.contract"(%c, %v) {over = ["x"]} : (tensor<?x?xf32, ["q", "x"]>, tensor<?x64xf32, ["x", "e"]>) -> tensor<?x64xf32, ["q", "e"]>
  return %o0, %o1, %o2 : tensor<?x64xf32, ["q", "e"]>, tensor<?x64xf32, ["q", "e"]>, tensor<?x64xf32, ["q", "e"]>
}

// -----

// Declined: the result is larger than the operand, and the factor is no statistic of the axis. It
// would be multiplied once for every score instead of once for every element of the query.
// CHECK-LABEL: func.func @larger_result
// CHECK: %[[P:[0-9]+]] = "diag.map"
// CHECK: "diag.contract"(%[[P]], %arg2) {over = ["d"]}
// CHECK-NOT: "diag.map"
func.func @larger_result(%q: tensor<?x64xf32, ["q", "d"]>, %r: tensor<?xf32, ["q"]>, %k: tensor<?x64xf32, ["x", "d"]>) -> tensor<?x?xf32, ["q", "x"]> {
  %p = "diag.map"() ({
    %0 = "diag.element"(%q) : (tensor<?x64xf32, ["q", "d"]>) -> f32
    %1 = "diag.element"(%r) : (tensor<?xf32, ["q"]>) -> f32
    %2 = arith.mulf %0, %1 : f32
    "diag.yield"(%2) : (f32) -> ()
  }) : () -> tensor<?x64xf32, ["q", "d"]>
  %o = "diag.contract"(%p, %k) {over = ["d"]} : (tensor<?x64xf32, ["q", "d"]>, tensor<?x64xf32, ["x", "d"]>) -> tensor<?x?xf32, ["q", "x"]>
  return %o : tensor<?x?xf32, ["q", "x"]>
}

// -----

// Declined: a linear layer behind a normaliser of features; its weights are parameters.
// CHECK-LABEL: func.func @linear_layer
// CHECK: %[[P:[0-9]+]] = "diag.map"
// CHECK: "diag.contract"(%[[P]], %arg1) {over = ["c"]}
// CHECK-NOT: "diag.map"
func.func @linear_layer(%x: tensor<?x768xf32, ["n", "c"]>, %w: tensor<768x768xf32, ["c", "e"]> {diag.kind = "param"}) -> tensor<?x768xf32, ["n", "e"]> {
  %z = "diag.reduce"(%x) {kind = "add", over = ["c"]} : (tensor<?x768xf32, ["n", "c"]>) -> tensor<?xf32, ["n"]>
  %p = "diag.map"() ({
    %0 = "diag.element"(%x) : (tensor<?x768xf32, ["n", "c"]>) -> f32
    %1 = "diag.element"(%z) : (tensor<?xf32, ["n"]>) -> f32
    %2 = arith.divf %0, %1 : f32
    "diag.yield"(%2) : (f32) -> ()
  }) : () -> tensor<?x768xf32, ["n", "c"]>
  %o = "diag.contract"(%p, %w) {over = ["c"]} : (tensor<?x768xf32, ["n", "c"]>, tensor<768x768xf32, ["c", "e"]>) -> tensor<?x768xf32, ["n", "e"]>
  return %o : tensor<?x768xf32, ["n", "e"]>
}

// -----

// A square that does not vary along the summed axis, in a map that only its reader's type spreads
// over it: all of the product is the factor, and ones are summed.
// CHECK-LABEL: func.func @square_of_a_row
// CHECK: }) : () -> tensor<?x?xf32, ["t", "y"]>
// CHECK-NEXT: %[[ONES:[0-9]+]] = "diag.map"() ({
// CHECK-NEXT: arith.constant 1.0
// CHECK: tensor<?xf32, ["y"]>
// CHECK: %[[SQUARE:[0-9]+]] = "diag.map"
// CHECK: %[[DIV:[0-9]+]] = arith.divf
// CHECK-NEXT: %[[SQ:[0-9]+]] = arith.mulf %[[DIV]], %[[DIV]]
// CHECK-NEXT: "diag.yield"(%[[SQ]])
// CHECK: %[[N:[0-9]+]] = "diag.reduce"(%[[ONES]])
// CHECK: %[[OUT:[0-9]+]] = "diag.map"
// CHECK: "diag.element"(%[[N]])
// CHECK: "diag.element"(%[[SQUARE]])
// CHECK: arith.mulf
// CHECK-NEXT: "diag.yield"
// CHECK: return %[[OUT]],
func.func @square_of_a_row(%a: tensor<?xf32, ["t"]>, %b: tensor<?xf32, ["t"]>, %y: tensor<?xf32, ["y"]>) -> (tensor<?xf32, ["t"]>, tensor<?x?xf32, ["t", "y"]>) {
  %v = "diag.map"() ({
    %0 = "diag.element"(%a) : (tensor<?xf32, ["t"]>) -> f32
    %1 = "diag.element"(%b) : (tensor<?xf32, ["t"]>) -> f32
    %2 = arith.divf %0, %1 : f32
    "diag.yield"(%2) : (f32) -> ()
  }) : () -> tensor<?x?xf32, ["t", "y"]>
  %s = "diag.map"() ({
    %0 = "diag.element"(%v) : (tensor<?x?xf32, ["t", "y"]>) -> f32
    %1 = arith.mulf %0, %0 : f32
    "diag.yield"(%1) : (f32) -> ()
  }) : () -> tensor<?x?xf32, ["t", "y"]>
  %z = "diag.reduce"(%s) {kind = "add", over = ["y"]} : (tensor<?x?xf32, ["t", "y"]>) -> tensor<?xf32, ["t"]>
  return %z, %v : tensor<?xf32, ["t"]>, tensor<?x?xf32, ["t", "y"]>
}
