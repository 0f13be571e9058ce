// RUN: diagc-opt %s --split-input-file --generalize-kernels | filecheck %s

// Two kernels that differ in labels, open sizes and name are one; the third has longer rows.
// CHECK-LABEL: func.func @main
// CHECK-SAME: (%[[X:[a-z0-9]+]]: tensor<4x64xf32, ["n", "c"]>, %[[Y:[a-z0-9]+]]: tensor<8x64xf32, ["m", "e"]>, %[[Z:[a-z0-9]+]]:
// CHECK: %[[XG:[0-9]+]] = builtin.unrealized_conversion_cast %[[X]] : tensor<4x64xf32, ["n", "c"]> to tensor<?x64xf32, ["g0", "d.64"]>
// CHECK: %[[R:[0-9]+]] = call @reduce_d64_f32(%[[XG]]) : (tensor<?x64xf32, ["g0", "d.64"]>) -> tensor<?xf32, ["g0"]>
// CHECK: builtin.unrealized_conversion_cast %[[R]] : tensor<?xf32, ["g0"]> to tensor<4xf32, ["n"]>
// CHECK: builtin.unrealized_conversion_cast %[[Y]]
// CHECK: call @reduce_d64_f32(
// CHECK: builtin.unrealized_conversion_cast %[[Z]]
// CHECK: call @reduce_d32_f32(
// CHECK: func.func private @reduce_d64_f32(%{{.*}}: tensor<?x64xf32, ["g0", "d.64"]>) -> tensor<?xf32, ["g0"]>
// CHECK-SAME: diag.origin = ["first", "second"], diag.schedule = {grid = ["g0"], mode = "features"}
// CHECK-NEXT: "diag.reduce"({{.*}}) {kind = "add", over = ["d.64"]}
// CHECK: func.func private @reduce_d32_f32
// CHECK-NOT: func.func
func.func @main(%x: tensor<4x64xf32, ["n", "c"]>, %y: tensor<8x64xf32, ["m", "e"]>, %z: tensor<8x32xf32, ["m", "h"]>) -> (tensor<4xf32, ["n"]>, tensor<8xf32, ["m"]>, tensor<8xf32, ["m"]>) {
  %a = call @one(%x) : (tensor<4x64xf32, ["n", "c"]>) -> tensor<4xf32, ["n"]>
  %b = call @two(%y) : (tensor<8x64xf32, ["m", "e"]>) -> tensor<8xf32, ["m"]>
  %c = call @three(%z) : (tensor<8x32xf32, ["m", "h"]>) -> tensor<8xf32, ["m"]>
  return %a, %b, %c : tensor<4xf32, ["n"]>, tensor<8xf32, ["m"]>, tensor<8xf32, ["m"]>
}
func.func private @one(%x: tensor<4x64xf32, ["n", "c"]>) -> tensor<4xf32, ["n"]> attributes {diag.kernel, diag.origin = ["first"], diag.schedule = {grid = ["n"], mode = "features"}} {
  %s = "diag.reduce"(%x) {kind = "add", over = ["c"]} : (tensor<4x64xf32, ["n", "c"]>) -> tensor<4xf32, ["n"]>
  return %s : tensor<4xf32, ["n"]>
}
func.func private @two(%x: tensor<8x64xf32, ["m", "e"]>) -> tensor<8xf32, ["m"]> attributes {diag.axes = {m = {divisor = 8 : i64}}, diag.kernel, diag.origin = ["second"], diag.schedule = {grid = ["m"], mode = "features"}} {
  %s = "diag.reduce"(%x) {kind = "add", over = ["e"]} : (tensor<8x64xf32, ["m", "e"]>) -> tensor<8xf32, ["m"]>
  return %s : tensor<8xf32, ["m"]>
}
func.func private @three(%x: tensor<8x32xf32, ["m", "h"]>) -> tensor<8xf32, ["m"]> attributes {diag.kernel, diag.schedule = {grid = ["m"], mode = "features"}} {
  %s = "diag.reduce"(%x) {kind = "add", over = ["h"]} : (tensor<8x32xf32, ["m", "h"]>) -> tensor<8xf32, ["m"]>
  return %s : tensor<8xf32, ["m"]>
}

// -----

// Lanes are called l, streamed axes s, two local axes of one size are told apart; chunks, positions
// and bounds follow.
// CHECK: #[[UPPER:map[0-9]*]] = affine_map<(d0) -> (d0 + 1)>
// CHECK: func.func private @stream_max_d32_f32_bounded(
// CHECK-SAME: tensor<?x?x32xf32, ["g0", "l", "d.32"]>, %{{[a-z0-9]+}}: tensor<?x?x32xf32, ["g0", "s", "d.32"]>) -> tensor<?x?xf32, ["g0", "l"]>
// CHECK-SAME: diag.schedule = {chunk = {s = 64 : i64}, grid = ["g0"], lane_tile = 64 : i64, lanes = "l", mode = "lanes"}
// CHECK: "diag.chunk"({{.*}}) : (tensor<?x?x32xf32, ["g0", "s", "d.32"]>) -> tensor<?x?x32xf32, ["g0", "s", "d.32"]>
// CHECK: "diag.relabel"({{.*}}) {from = ["d.32"], to = ["d.32.1"]}
// CHECK: over = ["d.32.1"]
// CHECK: axis = "s", diag.bound_axes = ["l"], diag.upper = #[[UPPER]]
func.func private @causal(%q: tensor<2x128x32xf32, ["b", "q", "d"]>, %k: tensor<2x256x32xf32, ["b", "x", "d"]>) -> tensor<2x128xf32, ["b", "q"]> attributes {diag.kernel, diag.schedule = {chunk = {x = 64 : i64}, grid = ["b"], lane_tile = 64 : i64, lanes = "q", mode = "lanes"}} {
  %r = "diag.relabel"(%q) {from = ["d"], to = ["f"]} : (tensor<2x128x32xf32, ["b", "q", "d"]>) -> tensor<2x128x32xf32, ["b", "q", "f"]>
  %o = "diag.stream"() ({
    %zero = "diag.map"() ({
      %0 = arith.constant 0.0 : f32
      "diag.yield"(%0) : (f32) -> ()
    }) : () -> tensor<2x128xf32, ["b", "q"]>
    "diag.yield"(%zero) : (tensor<2x128xf32, ["b", "q"]>) -> ()
  }, {
  ^bb0(%a: tensor<2x128xf32, ["b", "q"]>):
    %kc = "diag.chunk"(%k) : (tensor<2x256x32xf32, ["b", "x", "d"]>) -> tensor<2x?x32xf32, ["b", "x", "d"]>
    %kf = "diag.relabel"(%kc) {from = ["d"], to = ["f"]} : (tensor<2x?x32xf32, ["b", "x", "d"]>) -> tensor<2x?x32xf32, ["b", "x", "f"]>
    %p = "diag.contract"(%r, %kf) {over = ["f"]} : (tensor<2x128x32xf32, ["b", "q", "f"]>, tensor<2x?x32xf32, ["b", "x", "f"]>) -> tensor<2x128x?xf32, ["b", "q", "x"]>
    %u = "diag.reduce"(%p) {kind = "max", over = ["x"]} : (tensor<2x128x?xf32, ["b", "q", "x"]>) -> tensor<2x128xf32, ["b", "q"]>
    "diag.yield"(%u) : (tensor<2x128xf32, ["b", "q"]>) -> ()
  }, {
  }, {
  ^bb0(%a: tensor<2x128xf32, ["b", "q"]>):
    "diag.yield"(%a) : (tensor<2x128xf32, ["b", "q"]>) -> ()
  }) {axis = "x", diag.bound_axes = ["q"], diag.upper = affine_map<(d0) -> (d0 + 1)>, resultSegmentSizes = array<i32: 1, 0, 0, 0, 0, 0, 0, 0>} : () -> tensor<2x128xf32, ["b", "q"]>
  return %o : tensor<2x128xf32, ["b", "q"]>
}

// -----

// An axis that no argument tells keeps its size; a kernel without a schedule is left alone.
// CHECK-LABEL: func.func private @map_f32(%{{.*}}: tensor<?xf32, ["g0"]>) -> tensor<8x?xf32, ["d.8", "g0"]>
// CHECK-SAME: grid = ["d.8", "g0"]
// CHECK-LABEL: func.func private @unscheduled(%{{.*}}: tensor<4xf32, ["q"]>)
func.func private @spread(%x: tensor<4xf32, ["q"]>) -> tensor<8x4xf32, ["n", "q"]> attributes {diag.kernel, diag.schedule = {grid = ["n", "q"], mode = "features"}} {
  %y = "diag.map"() ({
    %0 = "diag.element"(%x) : (tensor<4xf32, ["q"]>) -> f32
    %1 = arith.addf %0, %0 : f32
    "diag.yield"(%1) : (f32) -> ()
  }) : () -> tensor<8x4xf32, ["n", "q"]>
  return %y : tensor<8x4xf32, ["n", "q"]>
}
func.func private @unscheduled(%x: tensor<4xf32, ["q"]>) -> tensor<4xf32, ["q"]> attributes {diag.kernel} {
  return %x : tensor<4xf32, ["q"]>
}

// -----

// Two names of one axis are opened together or not at all: `h` is no axis of the grid, so `y` stays.
// CHECK: func.func private @map_
// CHECK-SAME: (%{{[a-z0-9]+}}: tensor<1x?xf32, ["d.1", "g0"]>, %{{[a-z0-9]+}}: tensor<1x?xf32, ["d.1.1", "g0"]>)
// CHECK: "diag.relabel"({{.*}}) {from = ["d.1"], to = ["d.1.1"]} : (tensor<1x?xf32, ["d.1", "g0"]>) -> tensor<1x?xf32, ["d.1.1", "g0"]>
func.func private @named_twice(%x: tensor<1x8xf32, ["h", "g"]>, %z: tensor<1x8xf32, ["y", "g"]>) -> tensor<1x8xf32, ["y", "g"]> attributes {diag.kernel, diag.schedule = {grid = ["y", "g"], mode = "features"}} {
  %r = "diag.relabel"(%x) {from = ["h"], to = ["y"]} : (tensor<1x8xf32, ["h", "g"]>) -> tensor<1x8xf32, ["y", "g"]>
  %o = "diag.map"() ({
    %0 = "diag.element"(%r) : (tensor<1x8xf32, ["y", "g"]>) -> f32
    %1 = "diag.element"(%z) : (tensor<1x8xf32, ["y", "g"]>) -> f32
    %2 = arith.addf %0, %1 : f32
    "diag.yield"(%2) : (f32) -> ()
  }) : () -> tensor<1x8xf32, ["y", "g"]>
  return %o : tensor<1x8xf32, ["y", "g"]>
}
