// RUN: diagc-opt %s --split-input-file --form-kernels | filecheck %s
// RUN: diagc-opt %s --split-input-file --form-kernels="library=none" | filecheck %s --check-prefix=NONE
// RUN: diagc-opt %s --split-input-file --form-kernels="single=true" | filecheck %s --check-prefix=SINGLE

// A stream takes the maps of its rows before it and behind it along; the product with a matrix of
// weights is the library's.
// CHECK-LABEL: func.func @attention
// CHECK-NEXT: %[[O:[0-9]+]] = call @stream_exp_d64_f32(
// CHECK-NEXT: %[[R:[0-9]+]] = "diag.contract"(%[[O]], {{.*}}) {over = ["e"]}
// CHECK-NEXT: return %[[R]]
// CHECK: func.func private @stream_exp_d64_f32
// CHECK-SAME: attributes {diag.kernel, diag.origin = ["map at -:{{.*}}", "stream at -:{{.*}}", "map at -:{{.*}}"]}
// CHECK: "diag.map"
// CHECK: "diag.stream"
// CHECK: math.exp
// CHECK: return
// NONE-LABEL: func.func @attention
// NONE: call @stream_exp_d64_f32(
// NONE: call @contract_d{{.*}}_f32(
// NONE-NOT: "diag.contract"
// NONE: func.func private @stream_exp_d64_f32
// SINGLE-LABEL: func.func @attention
// SINGLE-COUNT-3: call @
func.func @attention(%q: tensor<2x?x64xf32, ["b", "q", "d"]>, %k: tensor<2x?x64xf32, ["b", "x", "d"]>, %v: tensor<2x?x64xf32, ["b", "x", "e"]>, %w: tensor<64x768xf32, ["e", "c"]>) -> tensor<2x?x768xf32, ["b", "q", "c"]> {
  %s = "diag.map"() ({
    %0 = "diag.element"(%q) : (tensor<2x?x64xf32, ["b", "q", "d"]>) -> f32
    %c = arith.constant 0.125 : f32
    %1 = arith.mulf %0, %c : f32
    "diag.yield"(%1) : (f32) -> ()
  }) : () -> tensor<2x?x64xf32, ["b", "q", "d"]>
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
    %p = "diag.contract"(%s, %kc) {over = ["d"]} : (tensor<2x?x64xf32, ["b", "q", "d"]>, tensor<2x?x64xf32, ["b", "x", "d"]>) -> tensor<2x?x?xf32, ["b", "q", "x"]>
    %u = "diag.contract"(%p, %vc) {over = ["x"]} : (tensor<2x?x?xf32, ["b", "q", "x"]>, tensor<2x?x64xf32, ["b", "x", "e"]>) -> tensor<2x?x64xf32, ["b", "q", "e"]>
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
  %g = "diag.map"() ({
    %0 = "diag.element"(%o) : (tensor<2x?x64xf32, ["b", "q", "e"]>) -> f32
    %1 = math.exp %0 : f32
    %2 = arith.addf %1, %0 : f32
    "diag.yield"(%2) : (f32) -> ()
  }) : () -> tensor<2x?x64xf32, ["b", "q", "e"]>
  %r = "diag.contract"(%g, %w) {over = ["e"]} : (tensor<2x?x64xf32, ["b", "q", "e"]>, tensor<64x768xf32, ["e", "c"]>) -> tensor<2x?x768xf32, ["b", "q", "c"]>
  return %r : tensor<2x?x768xf32, ["b", "q", "c"]>
}

// -----

// A map of the streamed operand would be computed again for every tile of rows: it stays apart.
// CHECK-LABEL: func.func @keys_are_made_first
// CHECK-NEXT: %[[K:[0-9]+]] = call @map_exp_f32(
// CHECK-NEXT: call @stream_max_d64_f32(%[[K]],
func.func @keys_are_made_first(%q: tensor<?x64xf32, ["q", "d"]>, %k: tensor<?x64xf32, ["x", "d"]>) -> tensor<?xf32, ["q"]> {
  %e = "diag.map"() ({
    %0 = "diag.element"(%k) : (tensor<?x64xf32, ["x", "d"]>) -> f32
    %1 = math.exp %0 : f32
    %2 = arith.addf %1, %0 : f32
    "diag.yield"(%2) : (f32) -> ()
  }) : () -> tensor<?x64xf32, ["x", "d"]>
  %o = "diag.stream"() ({
    %zero = "diag.map"() ({
      %0 = arith.constant 0.0 : f32
      "diag.yield"(%0) : (f32) -> ()
    }) : () -> tensor<?xf32, ["q"]>
    "diag.yield"(%zero) : (tensor<?xf32, ["q"]>) -> ()
  }, {
  ^bb0(%a: tensor<?xf32, ["q"]>):
    %kc = "diag.chunk"(%e) : (tensor<?x64xf32, ["x", "d"]>) -> tensor<?x64xf32, ["x", "d"]>
    %p = "diag.contract"(%q, %kc) {over = ["d"]} : (tensor<?x64xf32, ["q", "d"]>, tensor<?x64xf32, ["x", "d"]>) -> tensor<?x?xf32, ["q", "x"]>
    %u = "diag.reduce"(%p) {kind = "max", over = ["x"]} : (tensor<?x?xf32, ["q", "x"]>) -> tensor<?xf32, ["q"]>
    %n = "diag.map"() ({
      %0 = "diag.element"(%a) : (tensor<?xf32, ["q"]>) -> f32
      %1 = "diag.element"(%u) : (tensor<?xf32, ["q"]>) -> f32
      %2 = arith.maximumf %0, %1 : f32
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

// A row that fits a task: sum, mean and what follows are one kernel with two results.
// CHECK-LABEL: func.func @rows
// CHECK-NEXT: %[[R:[0-9]+]]:2 = call @reduce_d64_f32(
// CHECK-NEXT: return %[[R]]#0, %[[R]]#1
func.func @rows(%x: tensor<?x64xf32, ["n", "c"]>) -> (tensor<?xf32, ["n"]>, tensor<?x64xf32, ["n", "c"]>) {
  %s = "diag.reduce"(%x) {kind = "add", over = ["c"]} : (tensor<?x64xf32, ["n", "c"]>) -> tensor<?xf32, ["n"]>
  %y = "diag.map"() ({
    %0 = "diag.element"(%x) : (tensor<?x64xf32, ["n", "c"]>) -> f32
    %1 = "diag.element"(%s) : (tensor<?xf32, ["n"]>) -> f32
    %2 = arith.subf %0, %1 : f32
    %3 = arith.mulf %2, %1 : f32
    "diag.yield"(%3) : (f32) -> ()
  }) : () -> tensor<?x64xf32, ["n", "c"]>
  return %s, %y : tensor<?xf32, ["n"]>, tensor<?x64xf32, ["n", "c"]>
}

// -----

// A row of open length does not fit a task.
// CHECK-LABEL: func.func @open_rows
// CHECK-NEXT: %[[S:[0-9]+]] = call @reduce_f32(
// CHECK-NEXT: call @map_f32({{.*}}%[[S]]
func.func @open_rows(%x: tensor<?x?xf32, ["n", "c"]>) -> tensor<?x?xf32, ["n", "c"]> {
  %s = "diag.reduce"(%x) {kind = "add", over = ["c"]} : (tensor<?x?xf32, ["n", "c"]>) -> tensor<?xf32, ["n"]>
  %y = "diag.map"() ({
    %0 = "diag.element"(%x) : (tensor<?x?xf32, ["n", "c"]>) -> f32
    %1 = "diag.element"(%s) : (tensor<?xf32, ["n"]>) -> f32
    %2 = arith.subf %0, %1 : f32
    %3 = arith.mulf %2, %1 : f32
    "diag.yield"(%3) : (f32) -> ()
  }) : () -> tensor<?x?xf32, ["n", "c"]>
  return %y : tensor<?x?xf32, ["n", "c"]>
}

// -----

// A value for the outer axis is not computed once for every inner row.
// CHECK-LABEL: func.func @outer_axis_is_missing
// CHECK-COUNT-2: call @
func.func @outer_axis_is_missing(%g: tensor<65536xf32, ["c"]>, %x: tensor<8x65536xf32, ["n", "c"]>) -> tensor<8x65536xf32, ["n", "c"]> {
  %e = "diag.map"() ({
    %0 = "diag.element"(%g) : (tensor<65536xf32, ["c"]>) -> f32
    %1 = math.exp %0 : f32
    %2 = arith.addf %1, %0 : f32
    "diag.yield"(%2) : (f32) -> ()
  }) : () -> tensor<65536xf32, ["c"]>
  %y = "diag.map"() ({
    %0 = "diag.element"(%x) : (tensor<8x65536xf32, ["n", "c"]>) -> f32
    %1 = "diag.element"(%e) : (tensor<65536xf32, ["c"]>) -> f32
    %2 = arith.mulf %0, %1 : f32
    %3 = arith.addf %2, %1 : f32
    "diag.yield"(%3) : (f32) -> ()
  }) : () -> tensor<8x65536xf32, ["n", "c"]>
  return %y : tensor<8x65536xf32, ["n", "c"]>
}

// -----

// A diamond around the library: fusing both ends would need the product before it is there.
// CHECK-LABEL: func.func @convex
// CHECK-NEXT: %[[E:[0-9]+]] = call @map_exp_f32(
// CHECK-NEXT: %[[P:[0-9]+]] = "diag.contract"(%[[E]],
// CHECK: call @map_f32(%[[E]],
func.func @convex(%x: tensor<?x64xf32, ["n", "c"]>, %w: tensor<64x64xf32, ["c", "f"]>) -> tensor<?x64xf32, ["n", "c"]> {
  %e = "diag.map"() ({
    %0 = "diag.element"(%x) : (tensor<?x64xf32, ["n", "c"]>) -> f32
    %1 = math.exp %0 : f32
    %2 = arith.addf %1, %0 : f32
    "diag.yield"(%2) : (f32) -> ()
  }) : () -> tensor<?x64xf32, ["n", "c"]>
  %p = "diag.contract"(%e, %w) {over = ["c"]} : (tensor<?x64xf32, ["n", "c"]>, tensor<64x64xf32, ["c", "f"]>) -> tensor<?x64xf32, ["n", "f"]>
  %r = "diag.relabel"(%p) {from = ["f"], to = ["c"]} : (tensor<?x64xf32, ["n", "f"]>) -> tensor<?x64xf32, ["n", "c"]>
  %y = "diag.map"() ({
    %0 = "diag.element"(%e) : (tensor<?x64xf32, ["n", "c"]>) -> f32
    %1 = "diag.element"(%r) : (tensor<?x64xf32, ["n", "c"]>) -> f32
    %2 = arith.addf %0, %1 : f32
    %3 = arith.mulf %2, %1 : f32
    "diag.yield"(%3) : (f32) -> ()
  }) : () -> tensor<?x64xf32, ["n", "c"]>
  return %y : tensor<?x64xf32, ["n", "c"]>
}

// -----

// A cheap map that two kernels read is computed in both and stored nowhere.
// CHECK-LABEL: func.func @cheap_maps_are_recomputed
// CHECK-NEXT: %[[W:[0-9]+]] = "diag.contract"
// CHECK-NEXT: call @map_exp_f32(
// CHECK-NEXT: call @map_log_f32(
// CHECK-NEXT: return
// CHECK: func.func private @map_exp_f32
// CHECK: arith.mulf
// CHECK: math.exp
// CHECK: func.func private @map_log_f32
// CHECK: arith.mulf
// CHECK: math.log
func.func @cheap_maps_are_recomputed(%x: tensor<?x64xf32, ["n", "c"]>, %w: tensor<64x64xf32, ["c", "f"]>) -> (tensor<?x64xf32, ["n", "c"]>, tensor<?x64xf32, ["n", "f"]>) {
  %p = "diag.contract"(%x, %w) {over = ["c"]} : (tensor<?x64xf32, ["n", "c"]>, tensor<64x64xf32, ["c", "f"]>) -> tensor<?x64xf32, ["n", "f"]>
  %n = "diag.index"() {axis = "n"} : () -> tensor<?xindex, ["n"]>
  %s = "diag.map"() ({
    %0 = "diag.element"(%n) : (tensor<?xindex, ["n"]>) -> index
    %1 = arith.index_cast %0 : index to i32
    %2 = arith.sitofp %1 : i32 to f32
    %3 = arith.mulf %2, %2 : f32
    "diag.yield"(%3) : (f32) -> ()
  }) : () -> tensor<?xf32, ["n"]>
  %a = "diag.map"() ({
    %0 = "diag.element"(%x) : (tensor<?x64xf32, ["n", "c"]>) -> f32
    %1 = "diag.element"(%s) : (tensor<?xf32, ["n"]>) -> f32
    %2 = arith.addf %0, %1 : f32
    %3 = math.exp %2 : f32
    "diag.yield"(%3) : (f32) -> ()
  }) : () -> tensor<?x64xf32, ["n", "c"]>
  %b = "diag.map"() ({
    %0 = "diag.element"(%p) : (tensor<?x64xf32, ["n", "f"]>) -> f32
    %1 = "diag.element"(%s) : (tensor<?xf32, ["n"]>) -> f32
    %2 = arith.addf %0, %1 : f32
    %3 = math.log %2 : f32
    "diag.yield"(%3) : (f32) -> ()
  }) : () -> tensor<?x64xf32, ["n", "f"]>
  return %a, %b : tensor<?x64xf32, ["n", "c"]>, tensor<?x64xf32, ["n", "f"]>
}

// -----

// Branches that share nothing are kernels of their own; those that read one wire are one.
// CHECK-LABEL: func.func @branches
// CHECK-SAME: (%[[X:[a-z0-9]+]]: tensor<?x64xf32, ["n", "c"]>, %[[Y:[a-z0-9]+]]:
// CHECK-NEXT: %[[R:[0-9]+]]:2 = call @map_exp_sqrt_f32(%[[X]])
// CHECK-NEXT: call @map_log_f32(%[[Y]])
func.func @branches(%x: tensor<?x64xf32, ["n", "c"]>, %y: tensor<?x64xf32, ["m", "c"]>) -> (tensor<?x64xf32, ["n", "c"]>, tensor<?x64xf32, ["n", "c"]>, tensor<?x64xf32, ["m", "c"]>) {
  %a = "diag.map"() ({
    %0 = "diag.element"(%x) : (tensor<?x64xf32, ["n", "c"]>) -> f32
    %1 = math.exp %0 : f32
    %2 = arith.addf %1, %0 : f32
    "diag.yield"(%2) : (f32) -> ()
  }) : () -> tensor<?x64xf32, ["n", "c"]>
  %b = "diag.map"() ({
    %0 = "diag.element"(%x) : (tensor<?x64xf32, ["n", "c"]>) -> f32
    %1 = math.sqrt %0 : f32
    %2 = arith.addf %1, %0 : f32
    "diag.yield"(%2) : (f32) -> ()
  }) : () -> tensor<?x64xf32, ["n", "c"]>
  %c = "diag.map"() ({
    %0 = "diag.element"(%y) : (tensor<?x64xf32, ["m", "c"]>) -> f32
    %1 = math.log %0 : f32
    %2 = arith.addf %1, %0 : f32
    "diag.yield"(%2) : (f32) -> ()
  }) : () -> tensor<?x64xf32, ["m", "c"]>
  return %a, %b, %c : tensor<?x64xf32, ["n", "c"]>, tensor<?x64xf32, ["n", "c"]>, tensor<?x64xf32, ["m", "c"]>
}

// -----

// An open size that no wire of the kernel brings comes with the positions along the axis.
// CHECK-LABEL: func.func @size_of_a_new_axis
// CHECK-SAME: (%[[X:[a-z0-9]+]]: {{.*}}, %[[Y:[a-z0-9]+]]:
// CHECK: %[[N:[0-9]+]] = "diag.index"() {axis = "n"}
// CHECK: call @map_f32(%[[X]], %[[N]])
// CHECK: func.func private @map_f32(%{{[a-z0-9]+}}: tensor<4xf32, ["c"]>, %{{[a-z0-9]+}}: tensor<?xindex, ["n"]>)
func.func @size_of_a_new_axis(%x: tensor<4xf32, ["c"]>, %y: tensor<?xf32, ["n"]>) -> (tensor<?x4xf32, ["n", "c"]>, tensor<?xf32, ["n"]>) {
  %a = "diag.map"() ({
    %0 = "diag.element"(%x) : (tensor<4xf32, ["c"]>) -> f32
    %1 = arith.addf %0, %0 : f32
    %2 = arith.mulf %1, %0 : f32
    "diag.yield"(%2) : (f32) -> ()
  }) : () -> tensor<?x4xf32, ["n", "c"]>
  return %a, %y : tensor<?x4xf32, ["n", "c"]>, tensor<?xf32, ["n"]>
}

// -----

// Externs, views and joins stay; facts about axes go along with them.
// CHECK-LABEL: func.func @host_ops
// CHECK: call @extern_0
// CHECK: "diag.concat"
// CHECK: call @map_exp_f32
// CHECK: func.func private @map_exp_f32({{.*}} attributes {diag.axes = {n = {divisor = 8 : i64}}, diag.kernel,
func.func private @extern_0(tensor<?xf32, ["m"]>) -> tensor<?xf32, ["m"]> attributes {diag.extern = "aten.sort.default"}
func.func @host_ops(%x: tensor<?xf32, ["m"]>, %y: tensor<?xf32, ["k"]>) -> tensor<?xf32, ["n"]> attributes {diag.axes = {m = {divisor = 2 : i64}, n = {divisor = 8 : i64}}} {
  %s = call @extern_0(%x) : (tensor<?xf32, ["m"]>) -> tensor<?xf32, ["m"]>
  %j = "diag.concat"(%s, %y) {axes = ["m", "k"], to = "n"} : (tensor<?xf32, ["m"]>, tensor<?xf32, ["k"]>) -> tensor<?xf32, ["n"]>
  %e = "diag.map"() ({
    %0 = "diag.element"(%j) : (tensor<?xf32, ["n"]>) -> f32
    %1 = math.exp %0 : f32
    %2 = arith.addf %1, %0 : f32
    "diag.yield"(%2) : (f32) -> ()
  }) : () -> tensor<?xf32, ["n"]>
  return %e : tensor<?xf32, ["n"]>
}

// -----

// Rows under two names of the axis that they are summed over are one argument; keys that are the
// queries under the name of the streamed axis are not, for they are read chunk by chunk.
// CHECK-LABEL: func.func @two_names
// CHECK-NEXT: call @contract_d64_f32(%arg0, %arg1) : (tensor<2x?x64xf32, ["b", "q", "d"]>, tensor<2x64x64xf32, ["b", "d'", "d"]>)
// CHECK-LABEL: func.func @self_attention
// CHECK-NEXT: %[[K:[0-9]+]] = "diag.relabel"(%arg0)
// CHECK-NEXT: call @stream_d64_f32(%[[K]], %arg0)
// CHECK: func.func private @contract_d64_f32
// CHECK: "diag.relabel"
func.func @two_names(%q: tensor<2x?x64xf32, ["b", "q", "d"]>, %g: tensor<2x64x64xf32, ["b", "d'", "d"]>) -> tensor<2x?xf32, ["b", "q"]> {
  %r = "diag.relabel"(%q) {from = ["d"], to = ["d'"]} : (tensor<2x?x64xf32, ["b", "q", "d"]>) -> tensor<2x?x64xf32, ["b", "q", "d'"]>
  %t = "diag.contract"(%r, %g) {over = ["d'"]} : (tensor<2x?x64xf32, ["b", "q", "d'"]>, tensor<2x64x64xf32, ["b", "d'", "d"]>) -> tensor<2x?x64xf32, ["b", "q", "d"]>
  %z = "diag.contract"(%q, %t) {over = ["d"]} : (tensor<2x?x64xf32, ["b", "q", "d"]>, tensor<2x?x64xf32, ["b", "q", "d"]>) -> tensor<2x?xf32, ["b", "q"]>
  return %z : tensor<2x?xf32, ["b", "q"]>
}
func.func @self_attention(%q: tensor<2x?x64xf32, ["b", "q", "d"]>) -> tensor<2x?x64xf32, ["b", "q", "d"]> {
  %k = "diag.relabel"(%q) {from = ["q"], to = ["x"]} : (tensor<2x?x64xf32, ["b", "q", "d"]>) -> tensor<2x?x64xf32, ["b", "x", "d"]>
  %o = "diag.stream"() ({
    %zero = "diag.map"() ({
      %0 = arith.constant 0.0 : f32
      "diag.yield"(%0) : (f32) -> ()
    }) : () -> tensor<2x?x64xf32, ["b", "q", "d"]>
    "diag.yield"(%zero) : (tensor<2x?x64xf32, ["b", "q", "d"]>) -> ()
  }, {
  ^bb0(%a: tensor<2x?x64xf32, ["b", "q", "d"]>):
    %kc = "diag.chunk"(%k) : (tensor<2x?x64xf32, ["b", "x", "d"]>) -> tensor<2x?x64xf32, ["b", "x", "d"]>
    %p = "diag.contract"(%q, %kc) {over = ["d"]} : (tensor<2x?x64xf32, ["b", "q", "d"]>, tensor<2x?x64xf32, ["b", "x", "d"]>) -> tensor<2x?x?xf32, ["b", "q", "x"]>
    %u = "diag.contract"(%p, %kc) {over = ["x"]} : (tensor<2x?x?xf32, ["b", "q", "x"]>, tensor<2x?x64xf32, ["b", "x", "d"]>) -> tensor<2x?x64xf32, ["b", "q", "d"]>
    %n = "diag.map"() ({
      %0 = "diag.element"(%a) : (tensor<2x?x64xf32, ["b", "q", "d"]>) -> f32
      %1 = "diag.element"(%u) : (tensor<2x?x64xf32, ["b", "q", "d"]>) -> f32
      %2 = arith.addf %0, %1 : f32
      "diag.yield"(%2) : (f32) -> ()
    }) : () -> tensor<2x?x64xf32, ["b", "q", "d"]>
    "diag.yield"(%n) : (tensor<2x?x64xf32, ["b", "q", "d"]>) -> ()
  }, {
  }, {
  ^bb0(%a: tensor<2x?x64xf32, ["b", "q", "d"]>):
    "diag.yield"(%a) : (tensor<2x?x64xf32, ["b", "q", "d"]>) -> ()
  }) {axis = "x", resultSegmentSizes = array<i32: 1, 0, 0, 0, 0, 0, 0, 0>} : () -> tensor<2x?x64xf32, ["b", "q", "d"]>
  return %o : tensor<2x?x64xf32, ["b", "q", "d"]>
}

// -----

// CHECK-LABEL: func.func @nothing_to_do
// CHECK-NEXT: return
// CHECK-LABEL: func.func @argument_is_result
// CHECK-NEXT: return
// CHECK-NOT: diag.kernel
func.func @nothing_to_do() {
  return
}
func.func @argument_is_result(%x: tensor<4xf32, ["q"]>) -> tensor<4xf32, ["q"]> {
  return %x : tensor<4xf32, ["q"]>
}
