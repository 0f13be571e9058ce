// RUN: diagc-opt %s --split-input-file --block-streams | filecheck %s
// RUN: diagc-opt %s --split-input-file --block-streams="library=none" | filecheck %s --check-prefix=NONE

// NONE-NOT: diag.blocks

// The logits of 2048 tokens and 32768 classes, 512 deep, are the library's, a block of classes at a
// time; what a block adds to the states is a stream of the block again, followed by maps.
// CHECK-LABEL: func.func @log_sum_exp
// CHECK-SAME: op = "diag.stream", text = "axis \22c\22 goes by in blocks: the library multiplies each block (1 product deep enough
// CHECK: arith.constant 0xFF800000 : f32
// CHECK: %[[OPEN:.*]] = builtin.unrealized_conversion_cast %arg1 : tensor<32768x512xf32, ["c", "d"]> to tensor<?x512xf32, ["c", "d"]>
// CHECK: call @blocks_c({{.*}}, {{.*}}, %[[OPEN]], %arg0)
// CHECK: math.log
// CHECK: return
// CHECK: func.func private @blocks_c(%[[M:.*]]: tensor<2048xf32, ["t"]>, %{{.*}}: tensor<2048xf32, ["t"]>, %[[W:.*]]: tensor<?x512xf32, ["c", "d"]>, %[[X:.*]]: tensor<2048x512xf32, ["t", "d"]>)
// CHECK-SAME: attributes {diag.blocks = {axis = "c", states = 2 : i64}
// CHECK: %[[S:.*]] = "diag.contract"(%[[X]], %[[W]]) {diag.library, over = ["d"]}
// CHECK: "diag.stream"()
// CHECK: "diag.chunk"(%[[S]])
// CHECK-NOT: "diag.contract"
// CHECK: "diag.element"(%[[M]])
// CHECK: return
// NONE-LABEL: func.func @log_sum_exp
// NONE: "diag.stream"

!x = tensor<2048x512xf32, ["t", "d"]>
!w = tensor<32768x512xf32, ["c", "d"]>
!b = tensor<?x512xf32, ["c", "d"]>
!s = tensor<2048x?xf32, ["t", "c"]>
!r = tensor<2048xf32, ["t"]>

func.func @log_sum_exp(%x: !x, %w: !w) -> !r {
  %y = "diag.stream"() ({
    %m = "diag.map"() ({
      %n = arith.constant 0xFF800000 : f32
      "diag.yield"(%n) : (f32) -> ()
    }) : () -> !r
    %z = "diag.map"() ({
      %n = arith.constant 0.0 : f32
      "diag.yield"(%n) : (f32) -> ()
    }) : () -> !r
    "diag.yield"(%m) : (!r) -> ()
    "diag.yield"(%z) : (!r) -> ()
  }, {
  ^bb0(%m: !r, %z: !r):
    %k = "diag.chunk"(%w) : (!w) -> !b
    %s = "diag.contract"(%x, %k) {over = ["d"]} : (!x, !b) -> !s
    %h = "diag.reduce"(%s) {kind = "max", over = ["c"]} : (!s) -> !r
    %n = "diag.map"() ({
      %0 = "diag.element"(%m) : (!r) -> f32
      %1 = "diag.element"(%h) : (!r) -> f32
      %2 = arith.maximumf %0, %1 : f32
      "diag.yield"(%2) : (f32) -> ()
    }) : () -> !r
    %e = "diag.map"() ({
      %0 = "diag.element"(%s) : (!s) -> f32
      %1 = "diag.element"(%n) : (!r) -> f32
      %2 = arith.subf %0, %1 : f32
      %3 = math.exp %2 : f32
      "diag.yield"(%3) : (f32) -> ()
    }) : () -> !s
    %a = "diag.reduce"(%e) {kind = "add", over = ["c"]} : (!s) -> !r
    %v = "diag.map"() ({
      %0 = "diag.element"(%z) : (!r) -> f32
      %1 = "diag.element"(%m) : (!r) -> f32
      %2 = "diag.element"(%n) : (!r) -> f32
      %3 = "diag.element"(%a) : (!r) -> f32
      %4 = arith.subf %1, %2 : f32
      %5 = math.exp %4 : f32
      %6 = arith.mulf %0, %5 : f32
      %7 = arith.addf %6, %3 : f32
      "diag.yield"(%7) : (f32) -> ()
    }) : () -> !r
    "diag.yield"(%n) : (!r) -> ()
    "diag.yield"(%v) : (!r) -> ()
  }, {
  }, {
  ^bb0(%m: !r, %z: !r):
    %l = "diag.map"() ({
      %0 = "diag.element"(%m) : (!r) -> f32
      %1 = "diag.element"(%z) : (!r) -> f32
      %2 = math.log %1 : f32
      %3 = arith.addf %0, %2 : f32
      "diag.yield"(%3) : (f32) -> ()
    }) : () -> !r
    "diag.yield"(%l) : (!r) -> ()
  }) {axis = "c", resultSegmentSizes = array<i32: 1, 0, 0, 0, 0, 0, 0, 0>} : () -> !r
  return %y : !r
}

// -----

// A product of 64 numbers is as fast in a kernel, where it is never stored.
// CHECK-LABEL: func.func @shallow
// CHECK-NOT: diag.blocks
// CHECK: "diag.stream"

!x = tensor<2048x64xf32, ["t", "d"]>
!w = tensor<32768x64xf32, ["c", "d"]>
!b = tensor<?x64xf32, ["c", "d"]>
!s = tensor<2048x?xf32, ["t", "c"]>
!r = tensor<2048xf32, ["t"]>

func.func @shallow(%x: !x, %w: !w) -> !r {
  %y = "diag.stream"() ({
    %z = "diag.map"() ({
      %n = arith.constant 0.0 : f32
      "diag.yield"(%n) : (f32) -> ()
    }) : () -> !r
    "diag.yield"(%z) : (!r) -> ()
  }, {
  ^bb0(%z: !r):
    %c = "diag.chunk"(%w) : (!w) -> !b
    %s = "diag.contract"(%x, %c) {over = ["d"]} : (!x, !b) -> !s
    %e = "diag.map"() ({
      %0 = "diag.element"(%s) : (!s) -> f32
      %1 = math.absf %0 : f32
      "diag.yield"(%1) : (f32) -> ()
    }) : () -> !s
    %a = "diag.reduce"(%e) {kind = "add", over = ["c"]} : (!s) -> !r
    %v = "diag.map"() ({
      %0 = "diag.element"(%z) : (!r) -> f32
      %1 = "diag.element"(%a) : (!r) -> f32
      %2 = arith.addf %0, %1 : f32
      "diag.yield"(%2) : (f32) -> ()
    }) : () -> !r
    "diag.yield"(%v) : (!r) -> ()
  }, {
  }, {
  ^bb0(%z: !r):
    "diag.yield"(%z) : (!r) -> ()
  }) {axis = "c", resultSegmentSizes = array<i32: 1, 0, 0, 0, 0, 0, 0, 0>} : () -> !r
  return %y : !r
}

// -----

// Eight rows are no matrix product.
// CHECK-LABEL: func.func @few_rows
// CHECK-NOT: diag.blocks
// CHECK: "diag.stream"

!x = tensor<8x512xf32, ["t", "d"]>
!w = tensor<32768x512xf32, ["c", "d"]>
!b = tensor<?x512xf32, ["c", "d"]>
!s = tensor<8x?xf32, ["t", "c"]>
!r = tensor<8xf32, ["t"]>

func.func @few_rows(%x: !x, %w: !w) -> !r {
  %y = "diag.stream"() ({
    %z = "diag.map"() ({
      %n = arith.constant 0.0 : f32
      "diag.yield"(%n) : (f32) -> ()
    }) : () -> !r
    "diag.yield"(%z) : (!r) -> ()
  }, {
  ^bb0(%z: !r):
    %c = "diag.chunk"(%w) : (!w) -> !b
    %s = "diag.contract"(%x, %c) {over = ["d"]} : (!x, !b) -> !s
    %e = "diag.map"() ({
      %0 = "diag.element"(%s) : (!s) -> f32
      %1 = math.absf %0 : f32
      "diag.yield"(%1) : (f32) -> ()
    }) : () -> !s
    %a = "diag.reduce"(%e) {kind = "add", over = ["c"]} : (!s) -> !r
    %v = "diag.map"() ({
      %0 = "diag.element"(%z) : (!r) -> f32
      %1 = "diag.element"(%a) : (!r) -> f32
      %2 = arith.addf %0, %1 : f32
      "diag.yield"(%2) : (f32) -> ()
    }) : () -> !r
    "diag.yield"(%v) : (!r) -> ()
  }, {
  }, {
  ^bb0(%z: !r):
    "diag.yield"(%z) : (!r) -> ()
  }) {axis = "c", resultSegmentSizes = array<i32: 1, 0, 0, 0, 0, 0, 0, 0>} : () -> !r
  return %y : !r
}

// -----

// A tenth of a GFLOP is over before launches pay.
// CHECK-LABEL: func.func @small
// CHECK-NOT: diag.blocks
// CHECK: "diag.stream"

!x = tensor<256x512xf32, ["t", "d"]>
!w = tensor<384x512xf32, ["c", "d"]>
!b = tensor<?x512xf32, ["c", "d"]>
!s = tensor<256x?xf32, ["t", "c"]>
!r = tensor<256xf32, ["t"]>

func.func @small(%x: !x, %w: !w) -> !r {
  %y = "diag.stream"() ({
    %z = "diag.map"() ({
      %n = arith.constant 0.0 : f32
      "diag.yield"(%n) : (f32) -> ()
    }) : () -> !r
    "diag.yield"(%z) : (!r) -> ()
  }, {
  ^bb0(%z: !r):
    %c = "diag.chunk"(%w) : (!w) -> !b
    %s = "diag.contract"(%x, %c) {over = ["d"]} : (!x, !b) -> !s
    %e = "diag.map"() ({
      %0 = "diag.element"(%s) : (!s) -> f32
      %1 = math.absf %0 : f32
      "diag.yield"(%1) : (f32) -> ()
    }) : () -> !s
    %a = "diag.reduce"(%e) {kind = "add", over = ["c"]} : (!s) -> !r
    %v = "diag.map"() ({
      %0 = "diag.element"(%z) : (!r) -> f32
      %1 = "diag.element"(%a) : (!r) -> f32
      %2 = arith.addf %0, %1 : f32
      "diag.yield"(%2) : (f32) -> ()
    }) : () -> !r
    "diag.yield"(%v) : (!r) -> ()
  }, {
  }, {
  ^bb0(%z: !r):
    "diag.yield"(%z) : (!r) -> ()
  }) {axis = "c", resultSegmentSizes = array<i32: 1, 0, 0, 0, 0, 0, 0, 0>} : () -> !r
  return %y : !r
}

// -----

// A batch of products, one for each head, is the kernel's.
// CHECK-LABEL: func.func @batched
// CHECK-NOT: diag.blocks
// CHECK: "diag.stream"

!x = tensor<8x2048x512xf32, ["h", "t", "d"]>
!w = tensor<8x32768x512xf32, ["h", "c", "d"]>
!b = tensor<8x?x512xf32, ["h", "c", "d"]>
!s = tensor<8x2048x?xf32, ["h", "t", "c"]>
!r = tensor<8x2048xf32, ["h", "t"]>

func.func @batched(%x: !x, %w: !w) -> !r {
  %y = "diag.stream"() ({
    %z = "diag.map"() ({
      %n = arith.constant 0.0 : f32
      "diag.yield"(%n) : (f32) -> ()
    }) : () -> !r
    "diag.yield"(%z) : (!r) -> ()
  }, {
  ^bb0(%z: !r):
    %c = "diag.chunk"(%w) : (!w) -> !b
    %s = "diag.contract"(%x, %c) {over = ["d"]} : (!x, !b) -> !s
    %e = "diag.map"() ({
      %0 = "diag.element"(%s) : (!s) -> f32
      %1 = math.absf %0 : f32
      "diag.yield"(%1) : (f32) -> ()
    }) : () -> !s
    %a = "diag.reduce"(%e) {kind = "add", over = ["c"]} : (!s) -> !r
    %v = "diag.map"() ({
      %0 = "diag.element"(%z) : (!r) -> f32
      %1 = "diag.element"(%a) : (!r) -> f32
      %2 = arith.addf %0, %1 : f32
      "diag.yield"(%2) : (f32) -> ()
    }) : () -> !r
    "diag.yield"(%v) : (!r) -> ()
  }, {
  }, {
  ^bb0(%z: !r):
    "diag.yield"(%z) : (!r) -> ()
  }) {axis = "c", resultSegmentSizes = array<i32: 1, 0, 0, 0, 0, 0, 0, 0>} : () -> !r
  return %y : !r
}

// -----

// A stream that rarely runs is a kernel.
// CHECK-LABEL: func.func @only_where_wanted
// CHECK-NOT: diag.blocks
// CHECK: "diag.stream"

!x = tensor<2048x512xf32, ["t", "d"]>
!w = tensor<32768x512xf32, ["c", "d"]>
!b = tensor<?x512xf32, ["c", "d"]>
!s = tensor<2048x?xf32, ["t", "c"]>
!r = tensor<2048xf32, ["t"]>

func.func @only_where_wanted(%x: !x, %w: !w, %k: tensor<2048xi1, ["t"]>) -> !r {
  %y = "diag.stream"(%k) ({
    %z = "diag.map"() ({
      %n = arith.constant 0.0 : f32
      "diag.yield"(%n) : (f32) -> ()
    }) : () -> !r
    "diag.yield"(%z) : (!r) -> ()
  }, {
  ^bb0(%z: !r):
    %c = "diag.chunk"(%w) : (!w) -> !b
    %s = "diag.contract"(%x, %c) {over = ["d"]} : (!x, !b) -> !s
    %e = "diag.map"() ({
      %0 = "diag.element"(%s) : (!s) -> f32
      %1 = math.absf %0 : f32
      "diag.yield"(%1) : (f32) -> ()
    }) : () -> !s
    %a = "diag.reduce"(%e) {kind = "add", over = ["c"]} : (!s) -> !r
    %v = "diag.map"() ({
      %0 = "diag.element"(%z) : (!r) -> f32
      %1 = "diag.element"(%a) : (!r) -> f32
      %2 = arith.addf %0, %1 : f32
      "diag.yield"(%2) : (f32) -> ()
    }) : () -> !r
    "diag.yield"(%v) : (!r) -> ()
  }, {
  }, {
  ^bb0(%z: !r):
    "diag.yield"(%z) : (!r) -> ()
  }) {axis = "c", resultSegmentSizes = array<i32: 1, 0, 0, 0, 0, 0, 0, 0>} : (tensor<2048xi1, ["t"]>) -> !r
  return %y : !r
}
