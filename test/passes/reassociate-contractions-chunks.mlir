// RUN: diagc-opt %s --split-input-file --reassociate-contractions | filecheck %s
// RUN: diagc-opt %s --split-input-file --reassociate-contractions="reassociate=exact" | filecheck %s --check-prefix=EXACT
// RUN: diagc-opt %s --split-input-file --reassociate-contractions --validate | filecheck %s --check-prefix=VALID

// VALID: func.func @causal

// Causal sums of products and of squares: scores within a chunk, states of the chunks before it. The
// squares are summed in f64, by Gram matrices.
// CHECK-LABEL: func.func @causal
// CHECK-SAME: chunks of {{[0-9]+}} positions, states of earlier chunks summed first
// CHECK: arith.cmpi sge
// CHECK: -> tensor<[[C:[0-9]+]]x[[C]]xi1, ["q.pos", "x.pos"]>
// CHECK: "diag.contract"(%{{[0-9]+}}, %{{[0-9]+}}) {over = ["d"]} : {{.*}} -> tensor<{{[0-9]+}}x[[C]]x[[C]]xf32, ["q.chunk", "q.pos", "x.pos"]>
// CHECK: "diag.reduce"({{.*}}) {kind = "add", over = ["x.pos"]}
// CHECK: arith.cmpi sgt
// CHECK: arith.select %{{[0-9]+}}, %{{.*}}, %{{.*}} : f64
// CHECK: "diag.contract"({{.*}}) {over = ["x.pos"]} : {{.*}} -> tensor<{{.*}}xf64, ["x.chunk", {{.*}}]>
// CHECK: "diag.contract"({{.*}}) {over = ["x.chunk"]}
// CHECK: arith.maximumf
// CHECK: arith.truncf
// CHECK: "diag.contract"({{.*}}) {over = ["x.pos"]} : {{.*}} -> tensor<{{.*}}xf64, ["x.chunk", {{.*}}]>
// CHECK: "diag.reindex"
// EXACT-LABEL: func.func @causal
// EXACT-NOT: diag.reindex
// EXACT: return
func.func @causal(%q: tensor<2048x16xf32, ["q", "d"]>, %k: tensor<2048x16xf32, ["x", "d"]>, %v: tensor<2048x16xf32, ["x", "e"]>) -> (tensor<2048xf32, ["q"]>, tensor<2048x16xf32, ["q", "e"]>) {
  %s = "diag.contract"(%q, %k) {over = ["d"]} : (tensor<2048x16xf32, ["q", "d"]>, tensor<2048x16xf32, ["x", "d"]>) -> tensor<2048x2048xf32, ["q", "x"]>
  %i = "diag.index"() {axis = "q"} : () -> tensor<2048xindex, ["q"]>
  %j = "diag.index"() {axis = "x"} : () -> tensor<2048xindex, ["x"]>
  %keep = "diag.map"() ({
    %0 = "diag.element"(%i) : (tensor<2048xindex, ["q"]>) -> index
    %1 = "diag.element"(%j) : (tensor<2048xindex, ["x"]>) -> index
    %2 = arith.cmpi sge, %0, %1 : index
    "diag.yield"(%2) : (i1) -> ()
  }) : () -> tensor<2048x2048xi1, ["q", "x"]>
  %u = "diag.map"() ({
    %0 = "diag.element"(%s) : (tensor<2048x2048xf32, ["q", "x"]>) -> f32
    %1 = "diag.element"(%keep) : (tensor<2048x2048xi1, ["q", "x"]>) -> i1
    %2 = arith.constant 0.0 : f32
    %3 = arith.select %1, %0, %2 : f32
    "diag.yield"(%3) : (f32) -> ()
  }) : () -> tensor<2048x2048xf32, ["q", "x"]>
  %p = "diag.map"() ({
    %0 = "diag.element"(%u) : (tensor<2048x2048xf32, ["q", "x"]>) -> f32
    %1 = arith.mulf %0, %0 : f32
    "diag.yield"(%1) : (f32) -> ()
  }) : () -> tensor<2048x2048xf32, ["q", "x"]>
  %z = "diag.reduce"(%p) {kind = "add", over = ["x"]} : (tensor<2048x2048xf32, ["q", "x"]>) -> tensor<2048xf32, ["q"]>
  %o = "diag.contract"(%u, %v) {over = ["x"]} : (tensor<2048x2048xf32, ["q", "x"]>, tensor<2048x16xf32, ["x", "e"]>) -> tensor<2048x16xf32, ["q", "e"]>
  return %z, %o : tensor<2048xf32, ["q"]>, tensor<2048x16xf32, ["q", "e"]>
}

// -----

// Keys before the query only, no statistic.
// CHECK-LABEL: func.func @before
// CHECK: arith.cmpi sgt
// CHECK: over = ["x.chunk"]
func.func @before(%q: tensor<1024x16xf32, ["q", "d"]>, %k: tensor<1024x16xf32, ["x", "d"]>, %v: tensor<1024x16xf32, ["x", "e"]>) -> (tensor<1024x16xf32, ["q", "e"]>) {
  %s = "diag.contract"(%q, %k) {over = ["d"]} : (tensor<1024x16xf32, ["q", "d"]>, tensor<1024x16xf32, ["x", "d"]>) -> tensor<1024x1024xf32, ["q", "x"]>
  %i = "diag.index"() {axis = "q"} : () -> tensor<1024xindex, ["q"]>
  %j = "diag.index"() {axis = "x"} : () -> tensor<1024xindex, ["x"]>
  %keep = "diag.map"() ({
    %0 = "diag.element"(%i) : (tensor<1024xindex, ["q"]>) -> index
    %1 = "diag.element"(%j) : (tensor<1024xindex, ["x"]>) -> index
    %2 = arith.cmpi sgt, %0, %1 : index
    "diag.yield"(%2) : (i1) -> ()
  }) : () -> tensor<1024x1024xi1, ["q", "x"]>
  %u = "diag.map"() ({
    %0 = "diag.element"(%s) : (tensor<1024x1024xf32, ["q", "x"]>) -> f32
    %1 = "diag.element"(%keep) : (tensor<1024x1024xi1, ["q", "x"]>) -> i1
    %2 = arith.constant 0.0 : f32
    %3 = arith.select %1, %0, %2 : f32
    "diag.yield"(%3) : (f32) -> ()
  }) : () -> tensor<1024x1024xf32, ["q", "x"]>
  %o = "diag.contract"(%u, %v) {over = ["x"]} : (tensor<1024x1024xf32, ["q", "x"]>, tensor<1024x16xf32, ["x", "e"]>) -> tensor<1024x16xf32, ["q", "e"]>
  return %o : tensor<1024x16xf32, ["q", "e"]>
}

// -----

// Declined by cost: a stream of scores does less.
// CHECK-LABEL: func.func @short
// CHECK-SAME: not cut into chunks: that would take
// CHECK-NOT: diag.reindex
// CHECK: return
func.func @short(%q: tensor<256x64xf32, ["q", "d"]>, %k: tensor<256x64xf32, ["x", "d"]>, %v: tensor<256x64xf32, ["x", "e"]>) -> (tensor<256xf32, ["q"]>, tensor<256x64xf32, ["q", "e"]>) {
  %s = "diag.contract"(%q, %k) {over = ["d"]} : (tensor<256x64xf32, ["q", "d"]>, tensor<256x64xf32, ["x", "d"]>) -> tensor<256x256xf32, ["q", "x"]>
  %i = "diag.index"() {axis = "q"} : () -> tensor<256xindex, ["q"]>
  %j = "diag.index"() {axis = "x"} : () -> tensor<256xindex, ["x"]>
  %keep = "diag.map"() ({
    %0 = "diag.element"(%i) : (tensor<256xindex, ["q"]>) -> index
    %1 = "diag.element"(%j) : (tensor<256xindex, ["x"]>) -> index
    %2 = arith.cmpi sge, %0, %1 : index
    "diag.yield"(%2) : (i1) -> ()
  }) : () -> tensor<256x256xi1, ["q", "x"]>
  %u = "diag.map"() ({
    %0 = "diag.element"(%s) : (tensor<256x256xf32, ["q", "x"]>) -> f32
    %1 = "diag.element"(%keep) : (tensor<256x256xi1, ["q", "x"]>) -> i1
    %2 = arith.constant 0.0 : f32
    %3 = arith.select %1, %0, %2 : f32
    "diag.yield"(%3) : (f32) -> ()
  }) : () -> tensor<256x256xf32, ["q", "x"]>
  %p = "diag.map"() ({
    %0 = "diag.element"(%u) : (tensor<256x256xf32, ["q", "x"]>) -> f32
    %1 = arith.mulf %0, %0 : f32
    "diag.yield"(%1) : (f32) -> ()
  }) : () -> tensor<256x256xf32, ["q", "x"]>
  %z = "diag.reduce"(%p) {kind = "add", over = ["x"]} : (tensor<256x256xf32, ["q", "x"]>) -> tensor<256xf32, ["q"]>
  %o = "diag.contract"(%u, %v) {over = ["x"]} : (tensor<256x256xf32, ["q", "x"]>, tensor<256x64xf32, ["x", "e"]>) -> tensor<256x64xf32, ["q", "e"]>
  return %z, %o : tensor<256xf32, ["q"]>, tensor<256x64xf32, ["q", "e"]>
}

// -----

// Declined: keys behind the query count, which is no causal mask.
// CHECK-LABEL: func.func @anticausal
// CHECK-SAME: not cut into chunks:
// CHECK-NOT: diag.reindex
// CHECK: return
func.func @anticausal(%q: tensor<2048x16xf32, ["q", "d"]>, %k: tensor<2048x16xf32, ["x", "d"]>, %v: tensor<2048x16xf32, ["x", "e"]>) -> (tensor<2048xf32, ["q"]>, tensor<2048x16xf32, ["q", "e"]>) {
  %s = "diag.contract"(%q, %k) {over = ["d"]} : (tensor<2048x16xf32, ["q", "d"]>, tensor<2048x16xf32, ["x", "d"]>) -> tensor<2048x2048xf32, ["q", "x"]>
  %i = "diag.index"() {axis = "q"} : () -> tensor<2048xindex, ["q"]>
  %j = "diag.index"() {axis = "x"} : () -> tensor<2048xindex, ["x"]>
  %keep = "diag.map"() ({
    %0 = "diag.element"(%i) : (tensor<2048xindex, ["q"]>) -> index
    %1 = "diag.element"(%j) : (tensor<2048xindex, ["x"]>) -> index
    %2 = arith.cmpi sle, %0, %1 : index
    "diag.yield"(%2) : (i1) -> ()
  }) : () -> tensor<2048x2048xi1, ["q", "x"]>
  %u = "diag.map"() ({
    %0 = "diag.element"(%s) : (tensor<2048x2048xf32, ["q", "x"]>) -> f32
    %1 = "diag.element"(%keep) : (tensor<2048x2048xi1, ["q", "x"]>) -> i1
    %2 = arith.constant 0.0 : f32
    %3 = arith.select %1, %0, %2 : f32
    "diag.yield"(%3) : (f32) -> ()
  }) : () -> tensor<2048x2048xf32, ["q", "x"]>
  %p = "diag.map"() ({
    %0 = "diag.element"(%u) : (tensor<2048x2048xf32, ["q", "x"]>) -> f32
    %1 = arith.mulf %0, %0 : f32
    "diag.yield"(%1) : (f32) -> ()
  }) : () -> tensor<2048x2048xf32, ["q", "x"]>
  %z = "diag.reduce"(%p) {kind = "add", over = ["x"]} : (tensor<2048x2048xf32, ["q", "x"]>) -> tensor<2048xf32, ["q"]>
  %o = "diag.contract"(%u, %v) {over = ["x"]} : (tensor<2048x2048xf32, ["q", "x"]>, tensor<2048x16xf32, ["x", "e"]>) -> tensor<2048x16xf32, ["q", "e"]>
  return %z, %o : tensor<2048xf32, ["q"]>, tensor<2048x16xf32, ["q", "e"]>
}

// -----

// Declined: a single position counts.
// CHECK-LABEL: func.func @diagonal
// CHECK-SAME: not cut into chunks: masks over both operands of a contraction are no causal mask
// CHECK-NOT: diag.reindex
// CHECK: return
func.func @diagonal(%q: tensor<2048x16xf32, ["q", "d"]>, %k: tensor<2048x16xf32, ["x", "d"]>, %v: tensor<2048x16xf32, ["x", "e"]>) -> (tensor<2048xf32, ["q"]>, tensor<2048x16xf32, ["q", "e"]>) {
  %s = "diag.contract"(%q, %k) {over = ["d"]} : (tensor<2048x16xf32, ["q", "d"]>, tensor<2048x16xf32, ["x", "d"]>) -> tensor<2048x2048xf32, ["q", "x"]>
  %i = "diag.index"() {axis = "q"} : () -> tensor<2048xindex, ["q"]>
  %j = "diag.index"() {axis = "x"} : () -> tensor<2048xindex, ["x"]>
  %keep = "diag.map"() ({
    %0 = "diag.element"(%i) : (tensor<2048xindex, ["q"]>) -> index
    %1 = "diag.element"(%j) : (tensor<2048xindex, ["x"]>) -> index
    %2 = arith.cmpi eq, %0, %1 : index
    "diag.yield"(%2) : (i1) -> ()
  }) : () -> tensor<2048x2048xi1, ["q", "x"]>
  %u = "diag.map"() ({
    %0 = "diag.element"(%s) : (tensor<2048x2048xf32, ["q", "x"]>) -> f32
    %1 = "diag.element"(%keep) : (tensor<2048x2048xi1, ["q", "x"]>) -> i1
    %2 = arith.constant 0.0 : f32
    %3 = arith.select %1, %0, %2 : f32
    "diag.yield"(%3) : (f32) -> ()
  }) : () -> tensor<2048x2048xf32, ["q", "x"]>
  %p = "diag.map"() ({
    %0 = "diag.element"(%u) : (tensor<2048x2048xf32, ["q", "x"]>) -> f32
    %1 = arith.mulf %0, %0 : f32
    "diag.yield"(%1) : (f32) -> ()
  }) : () -> tensor<2048x2048xf32, ["q", "x"]>
  %z = "diag.reduce"(%p) {kind = "add", over = ["x"]} : (tensor<2048x2048xf32, ["q", "x"]>) -> tensor<2048xf32, ["q"]>
  %o = "diag.contract"(%u, %v) {over = ["x"]} : (tensor<2048x2048xf32, ["q", "x"]>, tensor<2048x16xf32, ["x", "e"]>) -> tensor<2048x16xf32, ["q", "e"]>
  return %z, %o : tensor<2048xf32, ["q"]>, tensor<2048x16xf32, ["q", "e"]>
}

// -----

// Declined: open axes have no chunks, and a prime number of positions neither.
// CHECK-LABEL: func.func @open
// CHECK-SAME: not cut into chunks: a causal mask over open axes, or of different sizes, is not cut
// CHECK-NOT: diag.reindex
// CHECK: return
func.func @open(%q: tensor<?x16xf32, ["q", "d"]>, %k: tensor<?x16xf32, ["x", "d"]>, %v: tensor<?x16xf32, ["x", "e"]>) -> (tensor<?xf32, ["q"]>, tensor<?x16xf32, ["q", "e"]>) {
  %s = "diag.contract"(%q, %k) {over = ["d"]} : (tensor<?x16xf32, ["q", "d"]>, tensor<?x16xf32, ["x", "d"]>) -> tensor<?x?xf32, ["q", "x"]>
  %i = "diag.index"() {axis = "q"} : () -> tensor<?xindex, ["q"]>
  %j = "diag.index"() {axis = "x"} : () -> tensor<?xindex, ["x"]>
  %keep = "diag.map"() ({
    %0 = "diag.element"(%i) : (tensor<?xindex, ["q"]>) -> index
    %1 = "diag.element"(%j) : (tensor<?xindex, ["x"]>) -> index
    %2 = arith.cmpi sge, %0, %1 : index
    "diag.yield"(%2) : (i1) -> ()
  }) : () -> tensor<?x?xi1, ["q", "x"]>
  %u = "diag.map"() ({
    %0 = "diag.element"(%s) : (tensor<?x?xf32, ["q", "x"]>) -> f32
    %1 = "diag.element"(%keep) : (tensor<?x?xi1, ["q", "x"]>) -> i1
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
  %o = "diag.contract"(%u, %v) {over = ["x"]} : (tensor<?x?xf32, ["q", "x"]>, tensor<?x16xf32, ["x", "e"]>) -> tensor<?x16xf32, ["q", "e"]>
  return %z, %o : tensor<?xf32, ["q"]>, tensor<?x16xf32, ["q", "e"]>
}

// -----

// CHECK-LABEL: func.func @prime
// CHECK-SAME: not cut into chunks: no size of chunks divides 2053 positions into enough
// CHECK-NOT: diag.reindex
// CHECK: return
func.func @prime(%q: tensor<2053x16xf32, ["q", "d"]>, %k: tensor<2053x16xf32, ["x", "d"]>, %v: tensor<2053x16xf32, ["x", "e"]>) -> (tensor<2053xf32, ["q"]>, tensor<2053x16xf32, ["q", "e"]>) {
  %s = "diag.contract"(%q, %k) {over = ["d"]} : (tensor<2053x16xf32, ["q", "d"]>, tensor<2053x16xf32, ["x", "d"]>) -> tensor<2053x2053xf32, ["q", "x"]>
  %i = "diag.index"() {axis = "q"} : () -> tensor<2053xindex, ["q"]>
  %j = "diag.index"() {axis = "x"} : () -> tensor<2053xindex, ["x"]>
  %keep = "diag.map"() ({
    %0 = "diag.element"(%i) : (tensor<2053xindex, ["q"]>) -> index
    %1 = "diag.element"(%j) : (tensor<2053xindex, ["x"]>) -> index
    %2 = arith.cmpi sge, %0, %1 : index
    "diag.yield"(%2) : (i1) -> ()
  }) : () -> tensor<2053x2053xi1, ["q", "x"]>
  %u = "diag.map"() ({
    %0 = "diag.element"(%s) : (tensor<2053x2053xf32, ["q", "x"]>) -> f32
    %1 = "diag.element"(%keep) : (tensor<2053x2053xi1, ["q", "x"]>) -> i1
    %2 = arith.constant 0.0 : f32
    %3 = arith.select %1, %0, %2 : f32
    "diag.yield"(%3) : (f32) -> ()
  }) : () -> tensor<2053x2053xf32, ["q", "x"]>
  %p = "diag.map"() ({
    %0 = "diag.element"(%u) : (tensor<2053x2053xf32, ["q", "x"]>) -> f32
    %1 = arith.mulf %0, %0 : f32
    "diag.yield"(%1) : (f32) -> ()
  }) : () -> tensor<2053x2053xf32, ["q", "x"]>
  %z = "diag.reduce"(%p) {kind = "add", over = ["x"]} : (tensor<2053x2053xf32, ["q", "x"]>) -> tensor<2053xf32, ["q"]>
  %o = "diag.contract"(%u, %v) {over = ["x"]} : (tensor<2053x2053xf32, ["q", "x"]>, tensor<2053x16xf32, ["x", "e"]>) -> tensor<2053x16xf32, ["q", "e"]>
  return %z, %o : tensor<2053xf32, ["q"]>, tensor<2053x16xf32, ["q", "e"]>
}
