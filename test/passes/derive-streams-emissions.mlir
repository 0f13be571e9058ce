// RUN: diagc-opt %s --split-input-file --derive-streams="limit=16 emits=8" | filecheck %s
// RUN: diagc-opt %s --split-input-file --derive-streams="limit=16 emits=9" | filecheck %s --check-prefix=FEW
// RUN: diagc-opt %s --split-input-file --derive-streams="limit=16" | filecheck %s --check-prefix=NEVER

// In a gradient, one stream over "x" sums D over keys for dQ and gives, for the keys of each chunk, its sum over queries: dK. 8 heads are 8
// tasks, which is enough; where 9 are asked for, and where the target gives nothing chunk by chunk, two streams compute D.
// CHECK-LABEL: func.func @gradient
// CHECK: %[[R:.*]]:2 = "diag.stream"()
// CHECK-COUNT-4: "diag.contract"
// CHECK-NOT: "diag.contract"
// CHECK: }) {axis = "x"
// CHECK-SAME: -> (tensor<8x40x4xf32, ["h", "q", "d"]>, tensor<8x40x4xf32, ["h", "x", "d"]>)
// CHECK-NOT: "diag.stream"
// CHECK: return %[[R]]#0, %[[R]]#1
// FEW-LABEL: func.func @gradient
// FEW-COUNT-2: "diag.stream"
// NEVER-LABEL: func.func @gradient
// NEVER-COUNT-2: "diag.stream"
func.func @gradient(%Q: tensor<8x40x4xf32, ["h", "q", "d"]>, %K: tensor<8x40x4xf32, ["h", "x", "d"]>, %V: tensor<8x40x3xf32, ["h", "x", "e"]>, %G: tensor<8x40x3xf32, ["h", "q", "e"]>) -> (tensor<8x40x4xf32, ["h", "q", "d"]>, tensor<8x40x4xf32, ["h", "x", "d"]>) attributes {diag.gradient} {
  %S = "diag.contract"(%Q, %K) {over = ["d"]} : (tensor<8x40x4xf32, ["h", "q", "d"]>, tensor<8x40x4xf32, ["h", "x", "d"]>) -> tensor<8x40x40xf32, ["h", "q", "x"]>
  %P = "diag.contract"(%G, %V) {over = ["e"]} : (tensor<8x40x3xf32, ["h", "q", "e"]>, tensor<8x40x3xf32, ["h", "x", "e"]>) -> tensor<8x40x40xf32, ["h", "q", "x"]>
  %D = "diag.map"() ({
    %0 = "diag.element"(%S) : (tensor<8x40x40xf32, ["h", "q", "x"]>) -> f32
    %1 = "diag.element"(%P) : (tensor<8x40x40xf32, ["h", "q", "x"]>) -> f32
    %2 = arith.mulf %0, %1 : f32
    "diag.yield"(%2) : (f32) -> ()
  }) : () -> tensor<8x40x40xf32, ["h", "q", "x"]>
  %dQ = "diag.contract"(%D, %K) {over = ["x"]} : (tensor<8x40x40xf32, ["h", "q", "x"]>, tensor<8x40x4xf32, ["h", "x", "d"]>) -> tensor<8x40x4xf32, ["h", "q", "d"]>
  %dK = "diag.contract"(%D, %Q) {over = ["q"]} : (tensor<8x40x40xf32, ["h", "q", "x"]>, tensor<8x40x4xf32, ["h", "q", "d"]>) -> tensor<8x40x4xf32, ["h", "x", "d"]>
  return %dQ, %dK : tensor<8x40x4xf32, ["h", "q", "d"]>, tensor<8x40x4xf32, ["h", "x", "d"]>
}

// -----

// Declined: no gradient, where scores that others read are stored all the same.
// CHECK-LABEL: func.func @forward
// CHECK-NOT: "diag.stream"
func.func @forward(%Q: tensor<8x40x4xf32, ["h", "q", "d"]>, %K: tensor<8x40x4xf32, ["h", "x", "d"]>) -> (tensor<8x40x4xf32, ["h", "q", "d"]>, tensor<8x40x4xf32, ["h", "x", "d"]>) {
  %S = "diag.contract"(%Q, %K) {over = ["d"]} : (tensor<8x40x4xf32, ["h", "q", "d"]>, tensor<8x40x4xf32, ["h", "x", "d"]>) -> tensor<8x40x40xf32, ["h", "q", "x"]>
  %dQ = "diag.contract"(%S, %K) {over = ["x"]} : (tensor<8x40x40xf32, ["h", "q", "x"]>, tensor<8x40x4xf32, ["h", "x", "d"]>) -> tensor<8x40x4xf32, ["h", "q", "d"]>
  %dK = "diag.contract"(%S, %Q) {over = ["q"]} : (tensor<8x40x40xf32, ["h", "q", "x"]>, tensor<8x40x4xf32, ["h", "q", "d"]>) -> tensor<8x40x4xf32, ["h", "x", "d"]>
  return %dQ, %dK : tensor<8x40x4xf32, ["h", "q", "d"]>, tensor<8x40x4xf32, ["h", "x", "d"]>
}

// -----

// Lengths may be open.
// CHECK-LABEL: func.func @lengths
// CHECK-COUNT-1: "diag.stream"
// CHECK-NOT: "diag.stream"
func.func @lengths(%Q: tensor<8x?x4xf32, ["h", "q", "d"]>, %K: tensor<8x?x4xf32, ["h", "x", "d"]>) -> (tensor<8x?x4xf32, ["h", "q", "d"]>, tensor<8x?x4xf32, ["h", "x", "d"]>) attributes {diag.gradient} {
  %S = "diag.contract"(%Q, %K) {over = ["d"]} : (tensor<8x?x4xf32, ["h", "q", "d"]>, tensor<8x?x4xf32, ["h", "x", "d"]>) -> tensor<8x?x?xf32, ["h", "q", "x"]>
  %dQ = "diag.contract"(%S, %K) {over = ["x"]} : (tensor<8x?x?xf32, ["h", "q", "x"]>, tensor<8x?x4xf32, ["h", "x", "d"]>) -> tensor<8x?x4xf32, ["h", "q", "d"]>
  %dK = "diag.contract"(%S, %Q) {over = ["q"]} : (tensor<8x?x?xf32, ["h", "q", "x"]>, tensor<8x?x4xf32, ["h", "q", "d"]>) -> tensor<8x?x4xf32, ["h", "x", "d"]>
  return %dQ, %dK : tensor<8x?x4xf32, ["h", "q", "d"]>, tensor<8x?x4xf32, ["h", "x", "d"]>
}

// -----

// Declined: an open number of heads, which may be few.
// CHECK-LABEL: func.func @heads
// CHECK-COUNT-2: "diag.stream"
func.func @heads(%Q: tensor<?x?x4xf32, ["h", "q", "d"]>, %K: tensor<?x?x4xf32, ["h", "x", "d"]>) -> (tensor<?x?x4xf32, ["h", "q", "d"]>, tensor<?x?x4xf32, ["h", "x", "d"]>) attributes {diag.gradient} {
  %S = "diag.contract"(%Q, %K) {over = ["d"]} : (tensor<?x?x4xf32, ["h", "q", "d"]>, tensor<?x?x4xf32, ["h", "x", "d"]>) -> tensor<?x?x?xf32, ["h", "q", "x"]>
  %dQ = "diag.contract"(%S, %K) {over = ["x"]} : (tensor<?x?x?xf32, ["h", "q", "x"]>, tensor<?x?x4xf32, ["h", "x", "d"]>) -> tensor<?x?x4xf32, ["h", "q", "d"]>
  %dK = "diag.contract"(%S, %Q) {over = ["q"]} : (tensor<?x?x?xf32, ["h", "q", "x"]>, tensor<?x?x4xf32, ["h", "q", "d"]>) -> tensor<?x?x4xf32, ["h", "x", "d"]>
  return %dQ, %dK : tensor<?x?x4xf32, ["h", "q", "d"]>, tensor<?x?x4xf32, ["h", "x", "d"]>
}

// -----

// Declined: an axis that is too short to lie along lanes.
// CHECK-LABEL: func.func @short
// CHECK-COUNT-2: "diag.stream"
func.func @short(%Q: tensor<8x16x4xf32, ["h", "q", "d"]>, %K: tensor<8x16x4xf32, ["h", "x", "d"]>) -> (tensor<8x16x4xf32, ["h", "q", "d"]>, tensor<8x16x4xf32, ["h", "x", "d"]>) attributes {diag.gradient} {
  %S = "diag.contract"(%Q, %K) {over = ["d"]} : (tensor<8x16x4xf32, ["h", "q", "d"]>, tensor<8x16x4xf32, ["h", "x", "d"]>) -> tensor<8x16x16xf32, ["h", "q", "x"]>
  %dQ = "diag.contract"(%S, %K) {over = ["x"]} : (tensor<8x16x16xf32, ["h", "q", "x"]>, tensor<8x16x4xf32, ["h", "x", "d"]>) -> tensor<8x16x4xf32, ["h", "q", "d"]>
  %dK = "diag.contract"(%S, %Q) {over = ["q"]} : (tensor<8x16x16xf32, ["h", "q", "x"]>, tensor<8x16x4xf32, ["h", "q", "d"]>) -> tensor<8x16x4xf32, ["h", "x", "d"]>
  return %dQ, %dK : tensor<8x16x4xf32, ["h", "q", "d"]>, tensor<8x16x4xf32, ["h", "x", "d"]>
}

// -----

// Declined: results in bf16, to which parts would be rounded one by one.
// CHECK-LABEL: func.func @narrow
// CHECK-COUNT-2: "diag.stream"
func.func @narrow(%Q: tensor<8x40x4xbf16, ["h", "q", "d"]>, %K: tensor<8x40x4xbf16, ["h", "x", "d"]>) -> (tensor<8x40x4xbf16, ["h", "q", "d"]>, tensor<8x40x4xbf16, ["h", "x", "d"]>) attributes {diag.gradient} {
  %S = "diag.contract"(%Q, %K) {over = ["d"]} : (tensor<8x40x4xbf16, ["h", "q", "d"]>, tensor<8x40x4xbf16, ["h", "x", "d"]>) -> tensor<8x40x40xbf16, ["h", "q", "x"]>
  %dQ = "diag.contract"(%S, %K) {over = ["x"]} : (tensor<8x40x40xbf16, ["h", "q", "x"]>, tensor<8x40x4xbf16, ["h", "x", "d"]>) -> tensor<8x40x4xbf16, ["h", "q", "d"]>
  %dK = "diag.contract"(%S, %Q) {over = ["q"]} : (tensor<8x40x40xbf16, ["h", "q", "x"]>, tensor<8x40x4xbf16, ["h", "q", "d"]>) -> tensor<8x40x4xbf16, ["h", "x", "d"]>
  return %dQ, %dK : tensor<8x40x4xbf16, ["h", "q", "d"]>, tensor<8x40x4xbf16, ["h", "x", "d"]>
}

// -----

// Declined: a sum over "x" that the stream over "q" needs, through Z, and one over "q" of what needs the complete sum Z over "x".
// CHECK-LABEL: func.func @needed
// CHECK: }) {axis = "x"{{.*}} -> tensor<8x40xf32, ["h", "q"]>
// CHECK: }) {axis = "q"{{.*}} -> tensor<8x40x4xf32, ["h", "x", "d"]>
func.func @needed(%Q: tensor<8x40x4xf32, ["h", "q", "d"]>, %K: tensor<8x40x4xf32, ["h", "x", "d"]>, %W: tensor<8x40xf32, ["h", "x"]>) -> tensor<8x40x4xf32, ["h", "x", "d"]> attributes {diag.gradient} {
  %S = "diag.contract"(%Q, %K) {over = ["d"]} : (tensor<8x40x4xf32, ["h", "q", "d"]>, tensor<8x40x4xf32, ["h", "x", "d"]>) -> tensor<8x40x40xf32, ["h", "q", "x"]>
  %Z = "diag.contract"(%S, %W) {over = ["x"]} : (tensor<8x40x40xf32, ["h", "q", "x"]>, tensor<8x40xf32, ["h", "x"]>) -> tensor<8x40xf32, ["h", "q"]>
  %D = "diag.map"() ({
    %0 = "diag.element"(%S) : (tensor<8x40x40xf32, ["h", "q", "x"]>) -> f32
    %1 = "diag.element"(%Z) : (tensor<8x40xf32, ["h", "q"]>) -> f32
    %2 = arith.mulf %0, %1 : f32
    "diag.yield"(%2) : (f32) -> ()
  }) : () -> tensor<8x40x40xf32, ["h", "q", "x"]>
  %dK = "diag.contract"(%D, %Q) {over = ["q"]} : (tensor<8x40x40xf32, ["h", "q", "x"]>, tensor<8x40x4xf32, ["h", "q", "d"]>) -> tensor<8x40x4xf32, ["h", "x", "d"]>
  return %dK : tensor<8x40x4xf32, ["h", "x", "d"]>
}
