// RUN: diagc-opt %s --split-input-file --select-schedule | filecheck %s
// RUN: diagc-opt %s --split-input-file --select-schedule="vector-bytes=32" | filecheck %s --check-prefix=NARROW

// Queries are lanes: the keys lack them, so that these are broadcast from where they lie.
// CHECK-LABEL: func.func private @attention(
// CHECK-SAME: diag.schedule = {chunk = {x = 64 : i64}, grid = ["b", "h"], lane_tile = 64 : i64, lanes = "q", mode = "lanes"}
// NARROW-LABEL: func.func private @attention(
// NARROW-SAME: lane_tile = 96 : i64
func.func private @attention(%q: tensor<2x4x?x64xf32, ["b", "h", "q", "d"]>, %k: tensor<2x4x?x64xf32, ["b", "h", "x", "d"]>, %v: tensor<2x4x?x64xf32, ["b", "h", "x", "e"]>) -> tensor<2x4x?x64xf32, ["b", "h", "q", "e"]> attributes {diag.kernel} {
  %o = "diag.stream"() ({
    %zero = "diag.map"() ({
      %0 = arith.constant 0.0 : f32
      "diag.yield"(%0) : (f32) -> ()
    }) : () -> tensor<2x4x?x64xf32, ["b", "h", "q", "e"]>
    "diag.yield"(%zero) : (tensor<2x4x?x64xf32, ["b", "h", "q", "e"]>) -> ()
  }, {
  ^bb0(%a: tensor<2x4x?x64xf32, ["b", "h", "q", "e"]>):
    %kc = "diag.chunk"(%k) : (tensor<2x4x?x64xf32, ["b", "h", "x", "d"]>) -> tensor<2x4x?x64xf32, ["b", "h", "x", "d"]>
    %vc = "diag.chunk"(%v) : (tensor<2x4x?x64xf32, ["b", "h", "x", "e"]>) -> tensor<2x4x?x64xf32, ["b", "h", "x", "e"]>
    %s = "diag.contract"(%q, %kc) {over = ["d"]} : (tensor<2x4x?x64xf32, ["b", "h", "q", "d"]>, tensor<2x4x?x64xf32, ["b", "h", "x", "d"]>) -> tensor<2x4x?x?xf32, ["b", "h", "q", "x"]>
    %u = "diag.contract"(%s, %vc) {over = ["x"]} : (tensor<2x4x?x?xf32, ["b", "h", "q", "x"]>, tensor<2x4x?x64xf32, ["b", "h", "x", "e"]>) -> tensor<2x4x?x64xf32, ["b", "h", "q", "e"]>
    %n = "diag.map"() ({
      %0 = "diag.element"(%a) : (tensor<2x4x?x64xf32, ["b", "h", "q", "e"]>) -> f32
      %1 = "diag.element"(%u) : (tensor<2x4x?x64xf32, ["b", "h", "q", "e"]>) -> f32
      %2 = arith.addf %0, %1 : f32
      "diag.yield"(%2) : (f32) -> ()
    }) : () -> tensor<2x4x?x64xf32, ["b", "h", "q", "e"]>
    "diag.yield"(%n) : (tensor<2x4x?x64xf32, ["b", "h", "q", "e"]>) -> ()
  }, {
  }, {
  ^bb0(%a: tensor<2x4x?x64xf32, ["b", "h", "q", "e"]>):
    "diag.yield"(%a) : (tensor<2x4x?x64xf32, ["b", "h", "q", "e"]>) -> ()
  }) {axis = "x", resultSegmentSizes = array<i32: 1, 0, 0, 0, 0, 0, 0, 0>} : () -> tensor<2x4x?x64xf32, ["b", "h", "q", "e"]>
  return %o : tensor<2x4x?x64xf32, ["b", "h", "q", "e"]>
}

// -----

// Few lanes of the last tile are empty: 197 queries are 7 tiles of 32, 40 are one of 48.
// CHECK-LABEL: func.func private @tail_197
// CHECK-SAME: lane_tile = 32
// CHECK-LABEL: func.func private @tail_40
// CHECK-SAME: lane_tile = 48
func.func private @tail_197(%q: tensor<2x197x64xf32, ["b", "q", "d"]>, %k: tensor<2x?x64xf32, ["b", "x", "d"]>, %v: tensor<2x?x64xf32, ["b", "x", "e"]>) -> tensor<2x197x64xf32, ["b", "q", "e"]> attributes {diag.kernel} {
  %o = "diag.stream"() ({
    %zero = "diag.map"() ({
      %0 = arith.constant 0.0 : f32
      "diag.yield"(%0) : (f32) -> ()
    }) : () -> tensor<2x197x64xf32, ["b", "q", "e"]>
    "diag.yield"(%zero) : (tensor<2x197x64xf32, ["b", "q", "e"]>) -> ()
  }, {
  ^bb0(%a: tensor<2x197x64xf32, ["b", "q", "e"]>):
    %kc = "diag.chunk"(%k) : (tensor<2x?x64xf32, ["b", "x", "d"]>) -> tensor<2x?x64xf32, ["b", "x", "d"]>
    %vc = "diag.chunk"(%v) : (tensor<2x?x64xf32, ["b", "x", "e"]>) -> tensor<2x?x64xf32, ["b", "x", "e"]>
    %s = "diag.contract"(%q, %kc) {over = ["d"]} : (tensor<2x197x64xf32, ["b", "q", "d"]>, tensor<2x?x64xf32, ["b", "x", "d"]>) -> tensor<2x197x?xf32, ["b", "q", "x"]>
    %u = "diag.contract"(%s, %vc) {over = ["x"]} : (tensor<2x197x?xf32, ["b", "q", "x"]>, tensor<2x?x64xf32, ["b", "x", "e"]>) -> tensor<2x197x64xf32, ["b", "q", "e"]>
    %n = "diag.map"() ({
      %0 = "diag.element"(%a) : (tensor<2x197x64xf32, ["b", "q", "e"]>) -> f32
      %1 = "diag.element"(%u) : (tensor<2x197x64xf32, ["b", "q", "e"]>) -> f32
      %2 = arith.addf %0, %1 : f32
      "diag.yield"(%2) : (f32) -> ()
    }) : () -> tensor<2x197x64xf32, ["b", "q", "e"]>
    "diag.yield"(%n) : (tensor<2x197x64xf32, ["b", "q", "e"]>) -> ()
  }, {
  }, {
  ^bb0(%a: tensor<2x197x64xf32, ["b", "q", "e"]>):
    "diag.yield"(%a) : (tensor<2x197x64xf32, ["b", "q", "e"]>) -> ()
  }) {axis = "x", resultSegmentSizes = array<i32: 1, 0, 0, 0, 0, 0, 0, 0>} : () -> tensor<2x197x64xf32, ["b", "q", "e"]>
  return %o : tensor<2x197x64xf32, ["b", "q", "e"]>
}
func.func private @tail_40(%q: tensor<2x40x64xf32, ["b", "q", "d"]>, %k: tensor<2x?x64xf32, ["b", "x", "d"]>, %v: tensor<2x?x64xf32, ["b", "x", "e"]>) -> tensor<2x40x64xf32, ["b", "q", "e"]> attributes {diag.kernel} {
  %o = "diag.stream"() ({
    %zero = "diag.map"() ({
      %0 = arith.constant 0.0 : f32
      "diag.yield"(%0) : (f32) -> ()
    }) : () -> tensor<2x40x64xf32, ["b", "q", "e"]>
    "diag.yield"(%zero) : (tensor<2x40x64xf32, ["b", "q", "e"]>) -> ()
  }, {
  ^bb0(%a: tensor<2x40x64xf32, ["b", "q", "e"]>):
    %kc = "diag.chunk"(%k) : (tensor<2x?x64xf32, ["b", "x", "d"]>) -> tensor<2x?x64xf32, ["b", "x", "d"]>
    %vc = "diag.chunk"(%v) : (tensor<2x?x64xf32, ["b", "x", "e"]>) -> tensor<2x?x64xf32, ["b", "x", "e"]>
    %s = "diag.contract"(%q, %kc) {over = ["d"]} : (tensor<2x40x64xf32, ["b", "q", "d"]>, tensor<2x?x64xf32, ["b", "x", "d"]>) -> tensor<2x40x?xf32, ["b", "q", "x"]>
    %u = "diag.contract"(%s, %vc) {over = ["x"]} : (tensor<2x40x?xf32, ["b", "q", "x"]>, tensor<2x?x64xf32, ["b", "x", "e"]>) -> tensor<2x40x64xf32, ["b", "q", "e"]>
    %n = "diag.map"() ({
      %0 = "diag.element"(%a) : (tensor<2x40x64xf32, ["b", "q", "e"]>) -> f32
      %1 = "diag.element"(%u) : (tensor<2x40x64xf32, ["b", "q", "e"]>) -> f32
      %2 = arith.addf %0, %1 : f32
      "diag.yield"(%2) : (f32) -> ()
    }) : () -> tensor<2x40x64xf32, ["b", "q", "e"]>
    "diag.yield"(%n) : (tensor<2x40x64xf32, ["b", "q", "e"]>) -> ()
  }, {
  }, {
  ^bb0(%a: tensor<2x40x64xf32, ["b", "q", "e"]>):
    "diag.yield"(%a) : (tensor<2x40x64xf32, ["b", "q", "e"]>) -> ()
  }) {axis = "x", resultSegmentSizes = array<i32: 1, 0, 0, 0, 0, 0, 0, 0>} : () -> tensor<2x40x64xf32, ["b", "q", "e"]>
  return %o : tensor<2x40x64xf32, ["b", "q", "e"]>
}

// -----

// Decoding: heads that share keys are rows of one task, with vectors along features.
// CHECK-LABEL: func.func private @decode
// CHECK-SAME: diag.schedule = {chunk = {x = 64 : i64}, grid = ["b", "g", "q"], mode = "features", rows = ["r"]}
// NARROW-LABEL: func.func private @decode(
// NARROW-SAME: chunk = {x = 48 : i64}
func.func private @decode(%q: tensor<?x8x4x1x128xf32, ["b", "g", "r", "q", "d"]>, %k: tensor<?x8x?x128xf32, ["b", "g", "x", "d"]>, %v: tensor<?x8x?x128xf32, ["b", "g", "x", "e"]>) -> tensor<?x8x4x1x128xf32, ["b", "g", "r", "q", "e"]> attributes {diag.kernel} {
  %o = "diag.stream"() ({
    %zero = "diag.map"() ({
      %0 = arith.constant 0.0 : f32
      "diag.yield"(%0) : (f32) -> ()
    }) : () -> tensor<?x8x4x1x128xf32, ["b", "g", "r", "q", "e"]>
    "diag.yield"(%zero) : (tensor<?x8x4x1x128xf32, ["b", "g", "r", "q", "e"]>) -> ()
  }, {
  ^bb0(%a: tensor<?x8x4x1x128xf32, ["b", "g", "r", "q", "e"]>):
    %kc = "diag.chunk"(%k) : (tensor<?x8x?x128xf32, ["b", "g", "x", "d"]>) -> tensor<?x8x?x128xf32, ["b", "g", "x", "d"]>
    %vc = "diag.chunk"(%v) : (tensor<?x8x?x128xf32, ["b", "g", "x", "e"]>) -> tensor<?x8x?x128xf32, ["b", "g", "x", "e"]>
    %s = "diag.contract"(%q, %kc) {over = ["d"]} : (tensor<?x8x4x1x128xf32, ["b", "g", "r", "q", "d"]>, tensor<?x8x?x128xf32, ["b", "g", "x", "d"]>) -> tensor<?x8x4x1x?xf32, ["b", "g", "r", "q", "x"]>
    %u = "diag.contract"(%s, %vc) {over = ["x"]} : (tensor<?x8x4x1x?xf32, ["b", "g", "r", "q", "x"]>, tensor<?x8x?x128xf32, ["b", "g", "x", "e"]>) -> tensor<?x8x4x1x128xf32, ["b", "g", "r", "q", "e"]>
    %n = "diag.map"() ({
      %0 = "diag.element"(%a) : (tensor<?x8x4x1x128xf32, ["b", "g", "r", "q", "e"]>) -> f32
      %1 = "diag.element"(%u) : (tensor<?x8x4x1x128xf32, ["b", "g", "r", "q", "e"]>) -> f32
      %2 = arith.addf %0, %1 : f32
      "diag.yield"(%2) : (f32) -> ()
    }) : () -> tensor<?x8x4x1x128xf32, ["b", "g", "r", "q", "e"]>
    "diag.yield"(%n) : (tensor<?x8x4x1x128xf32, ["b", "g", "r", "q", "e"]>) -> ()
  }, {
  }, {
  ^bb0(%a: tensor<?x8x4x1x128xf32, ["b", "g", "r", "q", "e"]>):
    "diag.yield"(%a) : (tensor<?x8x4x1x128xf32, ["b", "g", "r", "q", "e"]>) -> ()
  }) {axis = "x", resultSegmentSizes = array<i32: 1, 0, 0, 0, 0, 0, 0, 0>} : () -> tensor<?x8x4x1x128xf32, ["b", "g", "r", "q", "e"]>
  return %o : tensor<?x8x4x1x128xf32, ["b", "g", "r", "q", "e"]>
}

// -----

// A mask that grows with the position bounds the stream, and is all true before the bound.
// CHECK: #[[CAUSAL:map[0-9]*]] = affine_map<(d0) -> (d0 + 1)>
// CHECK-LABEL: func.func private @causal
// CHECK: arith.cmpi sge
// CHECK: }) {diag.keep} : () -> tensor<?x?xi1
// CHECK: diag.bound_axes = ["q"], diag.upper = #[[CAUSAL]]
func.func private @causal(%q: tensor<2x?x64xf32, ["b", "q", "d"]>, %k: tensor<2x?x64xf32, ["b", "x", "d"]>, %v: tensor<2x?x64xf32, ["b", "x", "e"]>) -> tensor<2x?x64xf32, ["b", "q", "e"]> attributes {diag.kernel} {
  %iq = "diag.index"() {axis = "q"} : () -> tensor<?xindex, ["q"]>
  %ix = "diag.index"() {axis = "x"} : () -> tensor<?xindex, ["x"]>
  %o = "diag.stream"() ({
    %zero = "diag.map"() ({
      %0 = arith.constant 0.0 : f32
      "diag.yield"(%0) : (f32) -> ()
    }) : () -> tensor<2x?x64xf32, ["b", "q", "e"]>
    "diag.yield"(%zero) : (tensor<2x?x64xf32, ["b", "q", "e"]>) -> ()
  }, {
  ^bb0(%a: tensor<2x?x64xf32, ["b", "q", "e"]>):
    %kc = "diag.chunk"(%k) : (tensor<2x?x64xf32, ["b", "x", "d"]>) -> tensor<2x?x64xf32, ["b", "x", "d"]>
    %vc = "diag.chunk"(%v) : (tensor<2x?x64xf32, ["b", "x", "e"]>) -> tensor<2x?x64xf32, ["b", "x", "e"]>
    %s = "diag.contract"(%q, %kc) {over = ["d"]} : (tensor<2x?x64xf32, ["b", "q", "d"]>, tensor<2x?x64xf32, ["b", "x", "d"]>) -> tensor<2x?x?xf32, ["b", "q", "x"]>
    %ic = "diag.chunk"(%ix) : (tensor<?xindex, ["x"]>) -> tensor<?xindex, ["x"]>
    %keep = "diag.map"() ({
      %i = "diag.element"(%iq) : (tensor<?xindex, ["q"]>) -> index
      %j = "diag.element"(%ic) : (tensor<?xindex, ["x"]>) -> index
      %c = arith.cmpi sge, %i, %j : index
      "diag.yield"(%c) : (i1) -> ()
    }) : () -> tensor<?x?xi1, ["q", "x"]>
    %m = "diag.map"() ({
      %0 = "diag.element"(%s) : (tensor<2x?x?xf32, ["b", "q", "x"]>) -> f32
      %1 = "diag.element"(%keep) : (tensor<?x?xi1, ["q", "x"]>) -> i1
      %none = arith.constant 0.0 : f32
      %2 = arith.select %1, %0, %none : f32
      "diag.yield"(%2) : (f32) -> ()
    }) : () -> tensor<2x?x?xf32, ["b", "q", "x"]>
    %u = "diag.contract"(%m, %vc) {over = ["x"]} : (tensor<2x?x?xf32, ["b", "q", "x"]>, tensor<2x?x64xf32, ["b", "x", "e"]>) -> tensor<2x?x64xf32, ["b", "q", "e"]>
    %n = "diag.map"() ({
      %0 = "diag.element"(%a) : (tensor<2x?x64xf32, ["b", "q", "e"]>) -> f32
      %1 = "diag.element"(%u) : (tensor<2x?x64xf32, ["b", "q", "e"]>) -> f32
      %2 = arith.addf %0, %1 : f32
      "diag.yield"(%2) : (f32) -> ()
    }) : () -> tensor<2x?x64xf32, ["b", "q", "e"]>
    "diag.yield"(%n) : (tensor<2x?x64xf32, ["b", "q", "e"]>) -> ()
  }, {
  }, {
  ^bb0(%a: tensor<2x?x64xf32, ["b", "q", "e"]>):
    "diag.yield"(%a) : (tensor<2x?x64xf32, ["b", "q", "e"]>) -> ()
  }) {axis = "x", resultSegmentSizes = array<i32: 1, 0, 0, 0, 0, 0, 0, 0>} : () -> tensor<2x?x64xf32, ["b", "q", "e"]>
  return %o : tensor<2x?x64xf32, ["b", "q", "e"]>
}

// -----

// The last query sees the last key.
// CHECK: #[[LAST:map[0-9]*]] = affine_map<(d0) -> (d0 + 13)>
// CHECK-LABEL: func.func private @bottom_right
// CHECK: diag.bound_axes = ["q"], diag.upper = #[[LAST]]
func.func private @bottom_right(%q: tensor<2x20x64xf32, ["b", "q", "d"]>, %k: tensor<2x32x64xf32, ["b", "x", "d"]>, %v: tensor<2x32x64xf32, ["b", "x", "e"]>) -> tensor<2x20x64xf32, ["b", "q", "e"]> attributes {diag.kernel} {
  %iq = "diag.index"() {axis = "q"} : () -> tensor<20xindex, ["q"]>
  %ix = "diag.index"() {axis = "x"} : () -> tensor<32xindex, ["x"]>
  %o = "diag.stream"() ({
    %zero = "diag.map"() ({
      %0 = arith.constant 0.0 : f32
      "diag.yield"(%0) : (f32) -> ()
    }) : () -> tensor<2x20x64xf32, ["b", "q", "e"]>
    "diag.yield"(%zero) : (tensor<2x20x64xf32, ["b", "q", "e"]>) -> ()
  }, {
  ^bb0(%a: tensor<2x20x64xf32, ["b", "q", "e"]>):
    %kc = "diag.chunk"(%k) : (tensor<2x32x64xf32, ["b", "x", "d"]>) -> tensor<2x?x64xf32, ["b", "x", "d"]>
    %vc = "diag.chunk"(%v) : (tensor<2x32x64xf32, ["b", "x", "e"]>) -> tensor<2x?x64xf32, ["b", "x", "e"]>
    %s = "diag.contract"(%q, %kc) {over = ["d"]} : (tensor<2x20x64xf32, ["b", "q", "d"]>, tensor<2x?x64xf32, ["b", "x", "d"]>) -> tensor<2x20x?xf32, ["b", "q", "x"]>
    %ic = "diag.chunk"(%ix) : (tensor<32xindex, ["x"]>) -> tensor<?xindex, ["x"]>
    %keep = "diag.map"() ({
      %i = "diag.element"(%iq) : (tensor<20xindex, ["q"]>) -> index
      %j = "diag.element"(%ic) : (tensor<?xindex, ["x"]>) -> index
      %off = arith.constant 12 : index
      %e = arith.addi %i, %off : index
      %c = arith.cmpi sle, %j, %e : index
      "diag.yield"(%c) : (i1) -> ()
    }) : () -> tensor<20x?xi1, ["q", "x"]>
    %m = "diag.map"() ({
      %0 = "diag.element"(%s) : (tensor<2x20x?xf32, ["b", "q", "x"]>) -> f32
      %1 = "diag.element"(%keep) : (tensor<20x?xi1, ["q", "x"]>) -> i1
      %none = arith.constant 0.0 : f32
      %2 = arith.select %1, %0, %none : f32
      "diag.yield"(%2) : (f32) -> ()
    }) : () -> tensor<2x20x?xf32, ["b", "q", "x"]>
    %u = "diag.contract"(%m, %vc) {over = ["x"]} : (tensor<2x20x?xf32, ["b", "q", "x"]>, tensor<2x?x64xf32, ["b", "x", "e"]>) -> tensor<2x20x64xf32, ["b", "q", "e"]>
    %n = "diag.map"() ({
      %0 = "diag.element"(%a) : (tensor<2x20x64xf32, ["b", "q", "e"]>) -> f32
      %1 = "diag.element"(%u) : (tensor<2x20x64xf32, ["b", "q", "e"]>) -> f32
      %2 = arith.addf %0, %1 : f32
      "diag.yield"(%2) : (f32) -> ()
    }) : () -> tensor<2x20x64xf32, ["b", "q", "e"]>
    "diag.yield"(%n) : (tensor<2x20x64xf32, ["b", "q", "e"]>) -> ()
  }, {
  }, {
  ^bb0(%a: tensor<2x20x64xf32, ["b", "q", "e"]>):
    "diag.yield"(%a) : (tensor<2x20x64xf32, ["b", "q", "e"]>) -> ()
  }) {axis = "x", resultSegmentSizes = array<i32: 1, 0, 0, 0, 0, 0, 0, 0>} : () -> tensor<2x20x64xf32, ["b", "q", "e"]>
  return %o : tensor<2x20x64xf32, ["b", "q", "e"]>
}

// -----

// A window has two ends, and is not all true below the upper one.
// CHECK-DAG: #[[LOW:map[0-9]*]] = affine_map<(d0) -> (d0 - 15)>
// CHECK-DAG: #[[HIGH:map[0-9]*]] = affine_map<(d0) -> (d0 + 1)>
// CHECK-LABEL: func.func private @window
// CHECK-NOT: diag.keep
// CHECK: diag.bound_axes = ["q"], diag.lower = #[[LOW]], diag.upper = #[[HIGH]]
func.func private @window(%q: tensor<2x?x64xf32, ["b", "q", "d"]>, %k: tensor<2x?x64xf32, ["b", "x", "d"]>, %v: tensor<2x?x64xf32, ["b", "x", "e"]>) -> tensor<2x?x64xf32, ["b", "q", "e"]> attributes {diag.kernel} {
  %iq = "diag.index"() {axis = "q"} : () -> tensor<?xindex, ["q"]>
  %ix = "diag.index"() {axis = "x"} : () -> tensor<?xindex, ["x"]>
  %o = "diag.stream"() ({
    %zero = "diag.map"() ({
      %0 = arith.constant 0.0 : f32
      "diag.yield"(%0) : (f32) -> ()
    }) : () -> tensor<2x?x64xf32, ["b", "q", "e"]>
    "diag.yield"(%zero) : (tensor<2x?x64xf32, ["b", "q", "e"]>) -> ()
  }, {
  ^bb0(%a: tensor<2x?x64xf32, ["b", "q", "e"]>):
    %kc = "diag.chunk"(%k) : (tensor<2x?x64xf32, ["b", "x", "d"]>) -> tensor<2x?x64xf32, ["b", "x", "d"]>
    %vc = "diag.chunk"(%v) : (tensor<2x?x64xf32, ["b", "x", "e"]>) -> tensor<2x?x64xf32, ["b", "x", "e"]>
    %s = "diag.contract"(%q, %kc) {over = ["d"]} : (tensor<2x?x64xf32, ["b", "q", "d"]>, tensor<2x?x64xf32, ["b", "x", "d"]>) -> tensor<2x?x?xf32, ["b", "q", "x"]>
    %ic = "diag.chunk"(%ix) : (tensor<?xindex, ["x"]>) -> tensor<?xindex, ["x"]>
    %keep = "diag.map"() ({
      %i = "diag.element"(%iq) : (tensor<?xindex, ["q"]>) -> index
      %j = "diag.element"(%ic) : (tensor<?xindex, ["x"]>) -> index
      %w = arith.constant 16 : index
      %0 = arith.cmpi sge, %i, %j : index
      %1 = arith.subi %i, %j : index
      %2 = arith.cmpi slt, %1, %w : index
      %c = arith.andi %0, %2 : i1
      "diag.yield"(%c) : (i1) -> ()
    }) : () -> tensor<?x?xi1, ["q", "x"]>
    %m = "diag.map"() ({
      %0 = "diag.element"(%s) : (tensor<2x?x?xf32, ["b", "q", "x"]>) -> f32
      %1 = "diag.element"(%keep) : (tensor<?x?xi1, ["q", "x"]>) -> i1
      %none = arith.constant 0.0 : f32
      %2 = arith.select %1, %0, %none : f32
      "diag.yield"(%2) : (f32) -> ()
    }) : () -> tensor<2x?x?xf32, ["b", "q", "x"]>
    %u = "diag.contract"(%m, %vc) {over = ["x"]} : (tensor<2x?x?xf32, ["b", "q", "x"]>, tensor<2x?x64xf32, ["b", "x", "e"]>) -> tensor<2x?x64xf32, ["b", "q", "e"]>
    %n = "diag.map"() ({
      %0 = "diag.element"(%a) : (tensor<2x?x64xf32, ["b", "q", "e"]>) -> f32
      %1 = "diag.element"(%u) : (tensor<2x?x64xf32, ["b", "q", "e"]>) -> f32
      %2 = arith.addf %0, %1 : f32
      "diag.yield"(%2) : (f32) -> ()
    }) : () -> tensor<2x?x64xf32, ["b", "q", "e"]>
    "diag.yield"(%n) : (tensor<2x?x64xf32, ["b", "q", "e"]>) -> ()
  }, {
  }, {
  ^bb0(%a: tensor<2x?x64xf32, ["b", "q", "e"]>):
    "diag.yield"(%a) : (tensor<2x?x64xf32, ["b", "q", "e"]>) -> ()
  }) {axis = "x", resultSegmentSizes = array<i32: 1, 0, 0, 0, 0, 0, 0, 0>} : () -> tensor<2x?x64xf32, ["b", "q", "e"]>
  return %o : tensor<2x?x64xf32, ["b", "q", "e"]>
}

// -----

// Integers of the row bound the stream where the mask reads them; those along the stream do not.
// CHECK-LABEL: func.func private @read
// CHECK: "diag.element"(%{{[a-z0-9]+}}) {diag.lower = 0 : i64} : (tensor<?xi32, ["q"]>) -> i32
// CHECK: "diag.element"(%{{[a-z0-9]+}}) {diag.upper = 1 : i64} : (tensor<?xi32, ["q"]>) -> i32
// CHECK: "diag.element"(%{{[a-z0-9]+}}) : (tensor<?xi32, ["x"]>) -> i32
// CHECK: {axis = "x", resultSegmentSizes
func.func private @read(%k: tensor<?x?xf32, ["q", "x"]>, %first: tensor<?xi32, ["q"]>, %last: tensor<?xi32, ["q"]>, %other: tensor<?xi32, ["x"]>) -> tensor<?xf32, ["q"]> attributes {diag.kernel} {
  %iq = "diag.index"() {axis = "q"} : () -> tensor<?xindex, ["q"]>
  %ix = "diag.index"() {axis = "x"} : () -> tensor<?xindex, ["x"]>
  %o = "diag.stream"() ({
    %zero = "diag.map"() ({
      %0 = arith.constant 0.0 : f32
      "diag.yield"(%0) : (f32) -> ()
    }) : () -> tensor<?xf32, ["q"]>
    "diag.yield"(%zero) : (tensor<?xf32, ["q"]>) -> ()
  }, {
  ^bb0(%a: tensor<?xf32, ["q"]>):
    %kc = "diag.chunk"(%k) : (tensor<?x?xf32, ["q", "x"]>) -> tensor<?x?xf32, ["q", "x"]>
    %ic = "diag.chunk"(%ix) : (tensor<?xindex, ["x"]>) -> tensor<?xindex, ["x"]>
    %oc = "diag.chunk"(%other) : (tensor<?xi32, ["x"]>) -> tensor<?xi32, ["x"]>
    %keep = "diag.map"() ({
      %x = "diag.element"(%ic) : (tensor<?xindex, ["x"]>) -> index
      %low = "diag.element"(%first) : (tensor<?xi32, ["q"]>) -> i32
      %high = "diag.element"(%last) : (tensor<?xi32, ["q"]>) -> i32
      %0 = arith.index_cast %low : i32 to index
      %1 = arith.cmpi sle, %0, %x : index
      %2 = arith.index_cast %high : i32 to index
      %3 = arith.cmpi sge, %2, %x : index
      %4 = arith.andi %1, %3 : i1
      %5 = "diag.element"(%oc) : (tensor<?xi32, ["x"]>) -> i32
      %6 = "diag.element"(%iq) : (tensor<?xindex, ["q"]>) -> index
      %7 = arith.index_cast %5 : i32 to index
      %8 = arith.cmpi sle, %7, %6 : index
      %c = arith.andi %4, %8 : i1
      "diag.yield"(%c) : (i1) -> ()
    }) : () -> tensor<?x?xi1, ["q", "x"]>
    %m = "diag.map"() ({
      %0 = "diag.element"(%kc) : (tensor<?x?xf32, ["q", "x"]>) -> f32
      %1 = "diag.element"(%keep) : (tensor<?x?xi1, ["q", "x"]>) -> i1
      %none = arith.constant 0.0 : f32
      %2 = arith.select %1, %0, %none : f32
      "diag.yield"(%2) : (f32) -> ()
    }) : () -> tensor<?x?xf32, ["q", "x"]>
    %u = "diag.reduce"(%m) {kind = "add", over = ["x"]} : (tensor<?x?xf32, ["q", "x"]>) -> tensor<?xf32, ["q"]>
    %n = "diag.map"() ({
      %0 = "diag.element"(%a) : (tensor<?xf32, ["q"]>) -> f32
      %1 = "diag.element"(%u) : (tensor<?xf32, ["q"]>) -> f32
      %2 = arith.addf %0, %1 : f32
      "diag.yield"(%2) : (f32) -> ()
    }) : () -> tensor<?xf32, ["q"]>
    "diag.yield"(%n) : (tensor<?xf32, ["q"]>) -> ()
  }, {
  }, {
  ^bb0(%a: tensor<?xf32, ["q"]>):
    "diag.yield"(%a) : (tensor<?xf32, ["q"]>) -> ()
  }) {axis = "x", resultSegmentSizes = array<i32: 1, 0, 0, 0, 0, 0, 0, 0>} : () -> tensor<?xf32, ["q"]>
  return %o : tensor<?xf32, ["q"]>
}

// -----

// No bound: a mask that is not linear, and one whose end falls with the position.
// CHECK-LABEL: func.func private @every_other
// CHECK-NOT: diag.upper
// CHECK-LABEL: func.func private @falling
// CHECK-NOT: diag.upper
func.func private @every_other(%q: tensor<2x?x64xf32, ["b", "q", "d"]>, %k: tensor<2x?x64xf32, ["b", "x", "d"]>, %v: tensor<2x?x64xf32, ["b", "x", "e"]>) -> tensor<2x?x64xf32, ["b", "q", "e"]> attributes {diag.kernel} {
  %iq = "diag.index"() {axis = "q"} : () -> tensor<?xindex, ["q"]>
  %ix = "diag.index"() {axis = "x"} : () -> tensor<?xindex, ["x"]>
  %o = "diag.stream"() ({
    %zero = "diag.map"() ({
      %0 = arith.constant 0.0 : f32
      "diag.yield"(%0) : (f32) -> ()
    }) : () -> tensor<2x?x64xf32, ["b", "q", "e"]>
    "diag.yield"(%zero) : (tensor<2x?x64xf32, ["b", "q", "e"]>) -> ()
  }, {
  ^bb0(%a: tensor<2x?x64xf32, ["b", "q", "e"]>):
    %kc = "diag.chunk"(%k) : (tensor<2x?x64xf32, ["b", "x", "d"]>) -> tensor<2x?x64xf32, ["b", "x", "d"]>
    %vc = "diag.chunk"(%v) : (tensor<2x?x64xf32, ["b", "x", "e"]>) -> tensor<2x?x64xf32, ["b", "x", "e"]>
    %s = "diag.contract"(%q, %kc) {over = ["d"]} : (tensor<2x?x64xf32, ["b", "q", "d"]>, tensor<2x?x64xf32, ["b", "x", "d"]>) -> tensor<2x?x?xf32, ["b", "q", "x"]>
    %ic = "diag.chunk"(%ix) : (tensor<?xindex, ["x"]>) -> tensor<?xindex, ["x"]>
    %keep = "diag.map"() ({
      %i = "diag.element"(%iq) : (tensor<?xindex, ["q"]>) -> index
      %j = "diag.element"(%ic) : (tensor<?xindex, ["x"]>) -> index
      %two = arith.constant 2 : index
      %0 = arith.remui %j, %two : index
      %zero = arith.constant 0 : index
      %c = arith.cmpi eq, %0, %zero : index
      "diag.yield"(%c) : (i1) -> ()
    }) : () -> tensor<?x?xi1, ["q", "x"]>
    %m = "diag.map"() ({
      %0 = "diag.element"(%s) : (tensor<2x?x?xf32, ["b", "q", "x"]>) -> f32
      %1 = "diag.element"(%keep) : (tensor<?x?xi1, ["q", "x"]>) -> i1
      %none = arith.constant 0.0 : f32
      %2 = arith.select %1, %0, %none : f32
      "diag.yield"(%2) : (f32) -> ()
    }) : () -> tensor<2x?x?xf32, ["b", "q", "x"]>
    %u = "diag.contract"(%m, %vc) {over = ["x"]} : (tensor<2x?x?xf32, ["b", "q", "x"]>, tensor<2x?x64xf32, ["b", "x", "e"]>) -> tensor<2x?x64xf32, ["b", "q", "e"]>
    %n = "diag.map"() ({
      %0 = "diag.element"(%a) : (tensor<2x?x64xf32, ["b", "q", "e"]>) -> f32
      %1 = "diag.element"(%u) : (tensor<2x?x64xf32, ["b", "q", "e"]>) -> f32
      %2 = arith.addf %0, %1 : f32
      "diag.yield"(%2) : (f32) -> ()
    }) : () -> tensor<2x?x64xf32, ["b", "q", "e"]>
    "diag.yield"(%n) : (tensor<2x?x64xf32, ["b", "q", "e"]>) -> ()
  }, {
  }, {
  ^bb0(%a: tensor<2x?x64xf32, ["b", "q", "e"]>):
    "diag.yield"(%a) : (tensor<2x?x64xf32, ["b", "q", "e"]>) -> ()
  }) {axis = "x", resultSegmentSizes = array<i32: 1, 0, 0, 0, 0, 0, 0, 0>} : () -> tensor<2x?x64xf32, ["b", "q", "e"]>
  return %o : tensor<2x?x64xf32, ["b", "q", "e"]>
}
func.func private @falling(%q: tensor<2x20x64xf32, ["b", "q", "d"]>, %k: tensor<2x?x64xf32, ["b", "x", "d"]>, %v: tensor<2x?x64xf32, ["b", "x", "e"]>) -> tensor<2x20x64xf32, ["b", "q", "e"]> attributes {diag.kernel} {
  %iq = "diag.index"() {axis = "q"} : () -> tensor<20xindex, ["q"]>
  %ix = "diag.index"() {axis = "x"} : () -> tensor<?xindex, ["x"]>
  %o = "diag.stream"() ({
    %zero = "diag.map"() ({
      %0 = arith.constant 0.0 : f32
      "diag.yield"(%0) : (f32) -> ()
    }) : () -> tensor<2x20x64xf32, ["b", "q", "e"]>
    "diag.yield"(%zero) : (tensor<2x20x64xf32, ["b", "q", "e"]>) -> ()
  }, {
  ^bb0(%a: tensor<2x20x64xf32, ["b", "q", "e"]>):
    %kc = "diag.chunk"(%k) : (tensor<2x?x64xf32, ["b", "x", "d"]>) -> tensor<2x?x64xf32, ["b", "x", "d"]>
    %vc = "diag.chunk"(%v) : (tensor<2x?x64xf32, ["b", "x", "e"]>) -> tensor<2x?x64xf32, ["b", "x", "e"]>
    %s = "diag.contract"(%q, %kc) {over = ["d"]} : (tensor<2x20x64xf32, ["b", "q", "d"]>, tensor<2x?x64xf32, ["b", "x", "d"]>) -> tensor<2x20x?xf32, ["b", "q", "x"]>
    %ic = "diag.chunk"(%ix) : (tensor<?xindex, ["x"]>) -> tensor<?xindex, ["x"]>
    %keep = "diag.map"() ({
      %i = "diag.element"(%iq) : (tensor<20xindex, ["q"]>) -> index
      %j = "diag.element"(%ic) : (tensor<?xindex, ["x"]>) -> index
      %n = arith.constant 40 : index
      %e = arith.subi %n, %i : index
      %c = arith.cmpi sle, %j, %e : index
      "diag.yield"(%c) : (i1) -> ()
    }) : () -> tensor<20x?xi1, ["q", "x"]>
    %m = "diag.map"() ({
      %0 = "diag.element"(%s) : (tensor<2x20x?xf32, ["b", "q", "x"]>) -> f32
      %1 = "diag.element"(%keep) : (tensor<20x?xi1, ["q", "x"]>) -> i1
      %none = arith.constant 0.0 : f32
      %2 = arith.select %1, %0, %none : f32
      "diag.yield"(%2) : (f32) -> ()
    }) : () -> tensor<2x20x?xf32, ["b", "q", "x"]>
    %u = "diag.contract"(%m, %vc) {over = ["x"]} : (tensor<2x20x?xf32, ["b", "q", "x"]>, tensor<2x?x64xf32, ["b", "x", "e"]>) -> tensor<2x20x64xf32, ["b", "q", "e"]>
    %n = "diag.map"() ({
      %0 = "diag.element"(%a) : (tensor<2x20x64xf32, ["b", "q", "e"]>) -> f32
      %1 = "diag.element"(%u) : (tensor<2x20x64xf32, ["b", "q", "e"]>) -> f32
      %2 = arith.addf %0, %1 : f32
      "diag.yield"(%2) : (f32) -> ()
    }) : () -> tensor<2x20x64xf32, ["b", "q", "e"]>
    "diag.yield"(%n) : (tensor<2x20x64xf32, ["b", "q", "e"]>) -> ()
  }, {
  }, {
  ^bb0(%a: tensor<2x20x64xf32, ["b", "q", "e"]>):
    "diag.yield"(%a) : (tensor<2x20x64xf32, ["b", "q", "e"]>) -> ()
  }) {axis = "x", resultSegmentSizes = array<i32: 1, 0, 0, 0, 0, 0, 0, 0>} : () -> tensor<2x20x64xf32, ["b", "q", "e"]>
  return %o : tensor<2x20x64xf32, ["b", "q", "e"]>
}

// -----

// The upper triangle is bounded from below.
// CHECK: #[[FIRST:map[0-9]*]] = affine_map<(d0) -> (d0)>
// CHECK-LABEL: func.func private @upper_triangle
// CHECK-NOT: diag.keep
// CHECK: diag.lower = #[[FIRST]]
func.func private @upper_triangle(%q: tensor<2x?x64xf32, ["b", "q", "d"]>, %k: tensor<2x?x64xf32, ["b", "x", "d"]>, %v: tensor<2x?x64xf32, ["b", "x", "e"]>) -> tensor<2x?x64xf32, ["b", "q", "e"]> attributes {diag.kernel} {
  %iq = "diag.index"() {axis = "q"} : () -> tensor<?xindex, ["q"]>
  %ix = "diag.index"() {axis = "x"} : () -> tensor<?xindex, ["x"]>
  %o = "diag.stream"() ({
    %zero = "diag.map"() ({
      %0 = arith.constant 0.0 : f32
      "diag.yield"(%0) : (f32) -> ()
    }) : () -> tensor<2x?x64xf32, ["b", "q", "e"]>
    "diag.yield"(%zero) : (tensor<2x?x64xf32, ["b", "q", "e"]>) -> ()
  }, {
  ^bb0(%a: tensor<2x?x64xf32, ["b", "q", "e"]>):
    %kc = "diag.chunk"(%k) : (tensor<2x?x64xf32, ["b", "x", "d"]>) -> tensor<2x?x64xf32, ["b", "x", "d"]>
    %vc = "diag.chunk"(%v) : (tensor<2x?x64xf32, ["b", "x", "e"]>) -> tensor<2x?x64xf32, ["b", "x", "e"]>
    %s = "diag.contract"(%q, %kc) {over = ["d"]} : (tensor<2x?x64xf32, ["b", "q", "d"]>, tensor<2x?x64xf32, ["b", "x", "d"]>) -> tensor<2x?x?xf32, ["b", "q", "x"]>
    %ic = "diag.chunk"(%ix) : (tensor<?xindex, ["x"]>) -> tensor<?xindex, ["x"]>
    %keep = "diag.map"() ({
      %i = "diag.element"(%iq) : (tensor<?xindex, ["q"]>) -> index
      %j = "diag.element"(%ic) : (tensor<?xindex, ["x"]>) -> index
      %c = arith.cmpi sle, %i, %j : index
      "diag.yield"(%c) : (i1) -> ()
    }) : () -> tensor<?x?xi1, ["q", "x"]>
    %m = "diag.map"() ({
      %0 = "diag.element"(%s) : (tensor<2x?x?xf32, ["b", "q", "x"]>) -> f32
      %1 = "diag.element"(%keep) : (tensor<?x?xi1, ["q", "x"]>) -> i1
      %none = arith.constant 0.0 : f32
      %2 = arith.select %1, %0, %none : f32
      "diag.yield"(%2) : (f32) -> ()
    }) : () -> tensor<2x?x?xf32, ["b", "q", "x"]>
    %u = "diag.contract"(%m, %vc) {over = ["x"]} : (tensor<2x?x?xf32, ["b", "q", "x"]>, tensor<2x?x64xf32, ["b", "x", "e"]>) -> tensor<2x?x64xf32, ["b", "q", "e"]>
    %n = "diag.map"() ({
      %0 = "diag.element"(%a) : (tensor<2x?x64xf32, ["b", "q", "e"]>) -> f32
      %1 = "diag.element"(%u) : (tensor<2x?x64xf32, ["b", "q", "e"]>) -> f32
      %2 = arith.addf %0, %1 : f32
      "diag.yield"(%2) : (f32) -> ()
    }) : () -> tensor<2x?x64xf32, ["b", "q", "e"]>
    "diag.yield"(%n) : (tensor<2x?x64xf32, ["b", "q", "e"]>) -> ()
  }, {
  }, {
  ^bb0(%a: tensor<2x?x64xf32, ["b", "q", "e"]>):
    "diag.yield"(%a) : (tensor<2x?x64xf32, ["b", "q", "e"]>) -> ()
  }) {axis = "x", resultSegmentSizes = array<i32: 1, 0, 0, 0, 0, 0, 0, 0>} : () -> tensor<2x?x64xf32, ["b", "q", "e"]>
  return %o : tensor<2x?x64xf32, ["b", "q", "e"]>
}

// -----

// No bound: excluded positions still add a penalty's worth.
// CHECK-LABEL: func.func private @penalty
// CHECK-NOT: diag.upper
// CHECK-NOT: diag.keep
func.func private @penalty(%q: tensor<2x?x64xf32, ["b", "q", "d"]>, %k: tensor<2x?x64xf32, ["b", "x", "d"]>, %v: tensor<2x?x64xf32, ["b", "x", "e"]>) -> tensor<2x?x64xf32, ["b", "q", "e"]> attributes {diag.kernel} {
  %iq = "diag.index"() {axis = "q"} : () -> tensor<?xindex, ["q"]>
  %ix = "diag.index"() {axis = "x"} : () -> tensor<?xindex, ["x"]>
  %o = "diag.stream"() ({
    %zero = "diag.map"() ({
      %0 = arith.constant 0.0 : f32
      "diag.yield"(%0) : (f32) -> ()
    }) : () -> tensor<2x?x64xf32, ["b", "q", "e"]>
    "diag.yield"(%zero) : (tensor<2x?x64xf32, ["b", "q", "e"]>) -> ()
  }, {
  ^bb0(%a: tensor<2x?x64xf32, ["b", "q", "e"]>):
    %kc = "diag.chunk"(%k) : (tensor<2x?x64xf32, ["b", "x", "d"]>) -> tensor<2x?x64xf32, ["b", "x", "d"]>
    %vc = "diag.chunk"(%v) : (tensor<2x?x64xf32, ["b", "x", "e"]>) -> tensor<2x?x64xf32, ["b", "x", "e"]>
    %s = "diag.contract"(%q, %kc) {over = ["d"]} : (tensor<2x?x64xf32, ["b", "q", "d"]>, tensor<2x?x64xf32, ["b", "x", "d"]>) -> tensor<2x?x?xf32, ["b", "q", "x"]>
    %ic = "diag.chunk"(%ix) : (tensor<?xindex, ["x"]>) -> tensor<?xindex, ["x"]>
    %keep = "diag.map"() ({
      %i = "diag.element"(%iq) : (tensor<?xindex, ["q"]>) -> index
      %j = "diag.element"(%ic) : (tensor<?xindex, ["x"]>) -> index
      %c = arith.cmpi sge, %i, %j : index
      "diag.yield"(%c) : (i1) -> ()
    }) : () -> tensor<?x?xi1, ["q", "x"]>
    %m = "diag.map"() ({
      %0 = "diag.element"(%s) : (tensor<2x?x?xf32, ["b", "q", "x"]>) -> f32
      %1 = "diag.element"(%keep) : (tensor<?x?xi1, ["q", "x"]>) -> i1
      %none = arith.constant -1.0 : f32
      %2 = arith.select %1, %0, %none : f32
      "diag.yield"(%2) : (f32) -> ()
    }) : () -> tensor<2x?x?xf32, ["b", "q", "x"]>
    %u = "diag.contract"(%m, %vc) {over = ["x"]} : (tensor<2x?x?xf32, ["b", "q", "x"]>, tensor<2x?x64xf32, ["b", "x", "e"]>) -> tensor<2x?x64xf32, ["b", "q", "e"]>
    %n = "diag.map"() ({
      %0 = "diag.element"(%a) : (tensor<2x?x64xf32, ["b", "q", "e"]>) -> f32
      %1 = "diag.element"(%u) : (tensor<2x?x64xf32, ["b", "q", "e"]>) -> f32
      %2 = arith.addf %0, %1 : f32
      "diag.yield"(%2) : (f32) -> ()
    }) : () -> tensor<2x?x64xf32, ["b", "q", "e"]>
    "diag.yield"(%n) : (tensor<2x?x64xf32, ["b", "q", "e"]>) -> ()
  }, {
  }, {
  ^bb0(%a: tensor<2x?x64xf32, ["b", "q", "e"]>):
    "diag.yield"(%a) : (tensor<2x?x64xf32, ["b", "q", "e"]>) -> ()
  }) {axis = "x", resultSegmentSizes = array<i32: 1, 0, 0, 0, 0, 0, 0, 0>} : () -> tensor<2x?x64xf32, ["b", "q", "e"]>
  return %o : tensor<2x?x64xf32, ["b", "q", "e"]>
}

// -----

// Rows are reduced along their own axis, one task a row. Maps over one set of axes are cut along the
// last, so that a target may join all axes; with other axes as well, rows stay inside the task.
// CHECK-LABEL: func.func private @rows
// CHECK-SAME: diag.schedule = {grid = ["b", "n"], mode = "features"}
func.func private @rows(%x: tensor<2x?x64xf32, ["b", "n", "c"]>) -> tensor<2x?xf32, ["b", "n"]> attributes {diag.kernel} {
  %s = "diag.reduce"(%x) {kind = "add", over = ["c"]} : (tensor<2x?x64xf32, ["b", "n", "c"]>) -> tensor<2x?xf32, ["b", "n"]>
  return %s : tensor<2x?xf32, ["b", "n"]>
}
// CHECK-LABEL: func.func private @map
// CHECK-SAME: diag.schedule = {grid = ["n"], lane_tile = 256 : i64, lanes = "c", mode = "lanes"}
func.func private @map(%x: tensor<?x64xf32, ["n", "c"]>) -> tensor<?x64xf32, ["n", "c"]> attributes {diag.kernel} {
  %y = "diag.map"() ({
    %0 = "diag.element"(%x) : (tensor<?x64xf32, ["n", "c"]>) -> f32
    %1 = math.exp %0 : f32
    "diag.yield"(%1) : (f32) -> ()
  }) : () -> tensor<?x64xf32, ["n", "c"]>
  return %y : tensor<?x64xf32, ["n", "c"]>
}
// CHECK-LABEL: func.func private @bias
// CHECK-SAME: diag.schedule = {grid = ["n"], mode = "features"}
func.func private @bias(%x: tensor<?x64xf32, ["n", "c"]>, %b: tensor<64xf32, ["c"]>) -> tensor<?x64xf32, ["n", "c"]> attributes {diag.kernel} {
  %y = "diag.map"() ({
    %0 = "diag.element"(%x) : (tensor<?x64xf32, ["n", "c"]>) -> f32
    %1 = "diag.element"(%b) : (tensor<64xf32, ["c"]>) -> f32
    %2 = arith.addf %0, %1 : f32
    "diag.yield"(%2) : (f32) -> ()
  }) : () -> tensor<?x64xf32, ["n", "c"]>
  return %y : tensor<?x64xf32, ["n", "c"]>
}

// -----

// An open or long contiguous axis is cut, also where another axis is reduced.
// CHECK-LABEL: func.func private @open_map
// CHECK-SAME: diag.schedule = {grid = [], lane_tile = 256 : i64, lanes = "n", mode = "lanes"}
func.func private @open_map(%x: tensor<?xf32, ["n"]>) -> tensor<?xf32, ["n"]> attributes {diag.kernel} {
  %y = "diag.map"() ({
    %0 = "diag.element"(%x) : (tensor<?xf32, ["n"]>) -> f32
    %1 = math.exp %0 : f32
    "diag.yield"(%1) : (f32) -> ()
  }) : () -> tensor<?xf32, ["n"]>
  return %y : tensor<?xf32, ["n"]>
}
// CHECK-LABEL: func.func private @columns
// CHECK-SAME: diag.schedule = {grid = ["b"], lane_tile = 64 : i64, lanes = "c", mode = "lanes"}
func.func private @columns(%x: tensor<2x16x256xf32, ["b", "n", "c"]>) -> tensor<2x256xf32, ["b", "c"]> attributes {diag.kernel} {
  %s = "diag.reduce"(%x) {kind = "max", over = ["n"]} : (tensor<2x16x256xf32, ["b", "n", "c"]>) -> tensor<2x256xf32, ["b", "c"]>
  return %s : tensor<2x256xf32, ["b", "c"]>
}

// -----

// A Gram matrix: both of its axes are features of what is streamed, and stay inside the task.
// CHECK-LABEL: func.func private @gram
// CHECK-SAME: diag.schedule = {chunk = {x = 64 : i64}, grid = ["b"], mode = "features"}
func.func private @gram(%k: tensor<2x?x64xf32, ["b", "x", "d"]>, %v: tensor<2x?x32xf32, ["b", "x", "e"]>) -> tensor<2x64x32xf32, ["b", "d", "e"]> attributes {diag.kernel} {
  %m = "diag.stream"() ({
    %zero = "diag.map"() ({
      %0 = arith.constant 0.0 : f32
      "diag.yield"(%0) : (f32) -> ()
    }) : () -> tensor<2x64x32xf32, ["b", "d", "e"]>
    "diag.yield"(%zero) : (tensor<2x64x32xf32, ["b", "d", "e"]>) -> ()
  }, {
  ^bb0(%a: tensor<2x64x32xf32, ["b", "d", "e"]>):
    %kc = "diag.chunk"(%k) : (tensor<2x?x64xf32, ["b", "x", "d"]>) -> tensor<2x?x64xf32, ["b", "x", "d"]>
    %vc = "diag.chunk"(%v) : (tensor<2x?x32xf32, ["b", "x", "e"]>) -> tensor<2x?x32xf32, ["b", "x", "e"]>
    %u = "diag.contract"(%kc, %vc) {over = ["x"]} : (tensor<2x?x64xf32, ["b", "x", "d"]>, tensor<2x?x32xf32, ["b", "x", "e"]>) -> tensor<2x64x32xf32, ["b", "d", "e"]>
    %n = "diag.map"() ({
      %0 = "diag.element"(%a) : (tensor<2x64x32xf32, ["b", "d", "e"]>) -> f32
      %1 = "diag.element"(%u) : (tensor<2x64x32xf32, ["b", "d", "e"]>) -> f32
      %2 = arith.addf %0, %1 : f32
      "diag.yield"(%2) : (f32) -> ()
    }) : () -> tensor<2x64x32xf32, ["b", "d", "e"]>
    "diag.yield"(%n) : (tensor<2x64x32xf32, ["b", "d", "e"]>) -> ()
  }, {
  }, {
  ^bb0(%a: tensor<2x64x32xf32, ["b", "d", "e"]>):
    "diag.yield"(%a) : (tensor<2x64x32xf32, ["b", "d", "e"]>) -> ()
  }) {axis = "x", resultSegmentSizes = array<i32: 1, 0, 0, 0, 0, 0, 0, 0>} : () -> tensor<2x64x32xf32, ["b", "d", "e"]>
  return %m : tensor<2x64x32xf32, ["b", "d", "e"]>
}

// -----

// A kernel that has a schedule keeps it; what is no kernel gets none.
// CHECK-LABEL: func.func private @scheduled
// CHECK-SAME: diag.schedule = {grid = [], mode = "features"}
func.func private @scheduled(%x: tensor<?x64xf32, ["n", "c"]>) -> tensor<?xf32, ["n"]> attributes {diag.kernel, diag.schedule = {grid = [], mode = "features"}} {
  %s = "diag.reduce"(%x) {kind = "add", over = ["c"]} : (tensor<?x64xf32, ["n", "c"]>) -> tensor<?xf32, ["n"]>
  return %s : tensor<?xf32, ["n"]>
}
// CHECK-LABEL: func.func @entry
// CHECK-NOT: diag.schedule
func.func @entry(%x: tensor<?x64xf32, ["n", "c"]>) -> tensor<?x64xf32, ["n", "c"]> {
  return %x : tensor<?x64xf32, ["n", "c"]>
}

// -----

// The stream reads positions alone: the size of its axis is that of an argument which nobody reads.
// CHECK-LABEL: func.func private @counted_positions(
// CHECK-SAME: diag.schedule
func.func private @counted_positions(%arg0: tensor<?xindex, ["t"]>, %arg1: tensor<?xindex, ["q"]>) -> tensor<?xi1, ["q"]> attributes {diag.kernel} {
  %0 = "diag.index"() {axis = "t"} : () -> tensor<?xindex, ["t"]>
  %1 = "diag.index"() {axis = "q"} : () -> tensor<?xindex, ["q"]>
  %2 = "diag.stream"() ({
    %3 = "diag.map"() ({
      %false = arith.constant false
      "diag.yield"(%false) : (i1) -> ()
    }) : () -> tensor<?xi1, ["q"]>
    "diag.yield"(%3) : (tensor<?xi1, ["q"]>) -> ()
  }, {
  ^bb0(%arg2: tensor<?xi1, ["q"]>):
    %3 = "diag.chunk"(%0) : (tensor<?xindex, ["t"]>) -> tensor<?xindex, ["t"]>
    %4 = "diag.map"() ({
      %c4 = arith.constant 4 : index
      %7 = "diag.element"(%3) : (tensor<?xindex, ["t"]>) -> index
      %8 = "diag.element"(%1) : (tensor<?xindex, ["q"]>) -> index
      %9 = arith.cmpi sge, %7, %8 : index
      %10 = arith.addi %8, %c4 : index
      %11 = arith.cmpi slt, %7, %10 : index
      %12 = arith.andi %9, %11 : i1
      "diag.yield"(%12) : (i1) -> ()
    }) : () -> tensor<?x?xi1, ["t", "q"]>
    %5 = "diag.reduce"(%4) {kind = "or", over = ["t"]} : (tensor<?x?xi1, ["t", "q"]>) -> tensor<?xi1, ["q"]>
    %6 = "diag.map"() ({
      %7 = "diag.element"(%arg2) : (tensor<?xi1, ["q"]>) -> i1
      %8 = "diag.element"(%5) : (tensor<?xi1, ["q"]>) -> i1
      %9 = arith.ori %7, %8 : i1
      "diag.yield"(%9) : (i1) -> ()
    }) : () -> tensor<?xi1, ["q"]>
    "diag.yield"(%6) : (tensor<?xi1, ["q"]>) -> ()
  }, {
  ^bb0(%arg2: tensor<?xi1, ["q"]>, %arg3: tensor<?xi1, ["q"]>):
    %3 = "diag.map"() ({
      %4 = "diag.element"(%arg2) : (tensor<?xi1, ["q"]>) -> i1
      %5 = "diag.element"(%arg3) : (tensor<?xi1, ["q"]>) -> i1
      %6 = arith.ori %4, %5 : i1
      "diag.yield"(%6) : (i1) -> ()
    }) : () -> tensor<?xi1, ["q"]>
    "diag.yield"(%3) : (tensor<?xi1, ["q"]>) -> ()
  }, {
  ^bb0(%arg2: tensor<?xi1, ["q"]>):
    "diag.yield"(%arg2) : (tensor<?xi1, ["q"]>) -> ()
  }) {axis = "t", properties = ["monoid", "commutative"], resultSegmentSizes = array<i32: 1, 0, 0, 0, 0, 0, 0, 0>} : () -> tensor<?xi1, ["q"]>
  return %2 : tensor<?xi1, ["q"]>
}
