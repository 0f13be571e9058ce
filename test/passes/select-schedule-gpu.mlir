// RUN: diagc-opt %s --split-input-file --select-schedule="device=a100-80" | filecheck %s
// RUN: diagc-opt %s --split-input-file --select-schedule="device=cpu-avx2 vector-bytes=32" | filecheck %s --check-prefix=CPU

// Tiles for a GPU, the best first; the note says what was compared.
// CHECK-LABEL: func.func private @full(
// CHECK-SAME: diag.ranking = [{bound = "{{[a-z0-9]+}}", seconds = {{[0-9.E+-]+}} : f64, text = "{{[0-9]+}} rows by
// CHECK-SAME: diag.tiles = [{
// CHECK-SAME: producers = 0 : i64, row_blocks = {{[0-9]+}} : i64, split = 0 : i64, stages = {{[0-9]+}} : i64, stays = 0 : i64, turns = 0 : i64, warps = {{[0-9]+}} : i64}
// CPU-LABEL: func.func private @full(
// CPU-SAME: diag.ranking = [{bound = "fma", seconds = {{[0-9.E+-]+}} : f64, text = "{{[0-9]+}} lanes of q, chunks x = 64"}
// CPU-NOT: diag.tiles
func.func private @full(%q: tensor<2x4x4096x64xf32, ["b", "h", "q", "d"]>, %k: tensor<2x4x4096x64xf32, ["b", "h", "x", "d"]>, %v: tensor<2x4x4096x64xf32, ["b", "h", "x", "e"]>) -> tensor<2x4x4096x64xf32, ["b", "h", "q", "e"]> attributes {diag.kernel} {
  %o = "diag.stream"() ({
    %zero = "diag.map"() ({
      %0 = arith.constant 0.0 : f32
      "diag.yield"(%0) : (f32) -> ()
    }) : () -> tensor<2x4x4096x64xf32, ["b", "h", "q", "e"]>
    "diag.yield"(%zero) : (tensor<2x4x4096x64xf32, ["b", "h", "q", "e"]>) -> ()
  }, {
  ^bb0(%a: tensor<2x4x4096x64xf32, ["b", "h", "q", "e"]>):
    %kc = "diag.chunk"(%k) : (tensor<2x4x4096x64xf32, ["b", "h", "x", "d"]>) -> tensor<2x4x?x64xf32, ["b", "h", "x", "d"]>
    %vc = "diag.chunk"(%v) : (tensor<2x4x4096x64xf32, ["b", "h", "x", "e"]>) -> tensor<2x4x?x64xf32, ["b", "h", "x", "e"]>
    %s = "diag.contract"(%q, %kc) {over = ["d"]} : (tensor<2x4x4096x64xf32, ["b", "h", "q", "d"]>, tensor<2x4x?x64xf32, ["b", "h", "x", "d"]>) -> tensor<2x4x4096x?xf32, ["b", "h", "q", "x"]>
    %u = "diag.contract"(%s, %vc) {over = ["x"]} : (tensor<2x4x4096x?xf32, ["b", "h", "q", "x"]>, tensor<2x4x?x64xf32, ["b", "h", "x", "e"]>) -> tensor<2x4x4096x64xf32, ["b", "h", "q", "e"]>
    %n = "diag.map"() ({
      %0 = "diag.element"(%a) : (tensor<2x4x4096x64xf32, ["b", "h", "q", "e"]>) -> f32
      %1 = "diag.element"(%u) : (tensor<2x4x4096x64xf32, ["b", "h", "q", "e"]>) -> f32
      %2 = arith.addf %0, %1 : f32
      "diag.yield"(%2) : (f32) -> ()
    }) : () -> tensor<2x4x4096x64xf32, ["b", "h", "q", "e"]>
    "diag.yield"(%n) : (tensor<2x4x4096x64xf32, ["b", "h", "q", "e"]>) -> ()
  }, {
  }, {
  ^bb0(%a: tensor<2x4x4096x64xf32, ["b", "h", "q", "e"]>):
    "diag.yield"(%a) : (tensor<2x4x4096x64xf32, ["b", "h", "q", "e"]>) -> ()
  }) {axis = "x", resultSegmentSizes = array<i32: 1, 0, 0, 0, 0, 0, 0, 0>} : () -> tensor<2x4x4096x64xf32, ["b", "h", "q", "e"]>
  return %o : tensor<2x4x4096x64xf32, ["b", "h", "q", "e"]>
}

// -----

// 8 blocks would leave a hundred multiprocessors idle, so that they share their stream.
// CHECK-LABEL: func.func private @few(
// CHECK-SAME: diag.tiles = [{{{[a-z_0-9=:, ]*}}split = {{[1-9][0-9]*}} : i64
func.func private @few(%q: tensor<2x4x128x64xf32, ["b", "h", "q", "d"]>, %k: tensor<2x4x32768x64xf32, ["b", "h", "x", "d"]>, %v: tensor<2x4x32768x64xf32, ["b", "h", "x", "e"]>) -> tensor<2x4x128x64xf32, ["b", "h", "q", "e"]> attributes {diag.kernel} {
  %o = "diag.stream"() ({
    %zero = "diag.map"() ({
      %0 = arith.constant 0.0 : f32
      "diag.yield"(%0) : (f32) -> ()
    }) : () -> tensor<2x4x128x64xf32, ["b", "h", "q", "e"]>
    "diag.yield"(%zero) : (tensor<2x4x128x64xf32, ["b", "h", "q", "e"]>) -> ()
  }, {
  ^bb0(%a: tensor<2x4x128x64xf32, ["b", "h", "q", "e"]>):
    %kc = "diag.chunk"(%k) : (tensor<2x4x32768x64xf32, ["b", "h", "x", "d"]>) -> tensor<2x4x?x64xf32, ["b", "h", "x", "d"]>
    %vc = "diag.chunk"(%v) : (tensor<2x4x32768x64xf32, ["b", "h", "x", "e"]>) -> tensor<2x4x?x64xf32, ["b", "h", "x", "e"]>
    %s = "diag.contract"(%q, %kc) {over = ["d"]} : (tensor<2x4x128x64xf32, ["b", "h", "q", "d"]>, tensor<2x4x?x64xf32, ["b", "h", "x", "d"]>) -> tensor<2x4x128x?xf32, ["b", "h", "q", "x"]>
    %u = "diag.contract"(%s, %vc) {over = ["x"]} : (tensor<2x4x128x?xf32, ["b", "h", "q", "x"]>, tensor<2x4x?x64xf32, ["b", "h", "x", "e"]>) -> tensor<2x4x128x64xf32, ["b", "h", "q", "e"]>
    %n = "diag.map"() ({
      %0 = "diag.element"(%a) : (tensor<2x4x128x64xf32, ["b", "h", "q", "e"]>) -> f32
      %1 = "diag.element"(%u) : (tensor<2x4x128x64xf32, ["b", "h", "q", "e"]>) -> f32
      %2 = arith.addf %0, %1 : f32
      "diag.yield"(%2) : (f32) -> ()
    }) : () -> tensor<2x4x128x64xf32, ["b", "h", "q", "e"]>
    "diag.yield"(%n) : (tensor<2x4x128x64xf32, ["b", "h", "q", "e"]>) -> ()
  }, {
  ^bb0(%a: tensor<2x4x128x64xf32, ["b", "h", "q", "e"]>, %b: tensor<2x4x128x64xf32, ["b", "h", "q", "e"]>):
    %n = "diag.map"() ({
      %0 = "diag.element"(%a) : (tensor<2x4x128x64xf32, ["b", "h", "q", "e"]>) -> f32
      %1 = "diag.element"(%b) : (tensor<2x4x128x64xf32, ["b", "h", "q", "e"]>) -> f32
      %2 = arith.addf %0, %1 : f32
      "diag.yield"(%2) : (f32) -> ()
    }) : () -> tensor<2x4x128x64xf32, ["b", "h", "q", "e"]>
    "diag.yield"(%n) : (tensor<2x4x128x64xf32, ["b", "h", "q", "e"]>) -> ()
  }, {
  ^bb0(%a: tensor<2x4x128x64xf32, ["b", "h", "q", "e"]>):
    "diag.yield"(%a) : (tensor<2x4x128x64xf32, ["b", "h", "q", "e"]>) -> ()
  }) {axis = "x", resultSegmentSizes = array<i32: 1, 0, 0, 0, 0, 0, 0, 0>} : () -> tensor<2x4x128x64xf32, ["b", "h", "q", "e"]>
  return %o : tensor<2x4x128x64xf32, ["b", "h", "q", "e"]>
}
