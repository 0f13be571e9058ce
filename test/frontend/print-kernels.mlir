// Streams, kernels, calls and foreign ops in the text form, for reading; wires keep their names.

// RUN: diagc opt %s --emit=diag | filecheck %s

// CHECK-LABEL: axis h = 8, q, x, e = 64
// CHECK-NEXT:  kernel l2_stream(S: h q x, V: h x e bf16, wanted: h q i1) {
// CHECK-NEXT:    // schedule: {chunk = {x = 64 : i64}, grid = ["h"], lanes = "q", mode = "lanes"}
// CHECK-NEXT:    O: h q e, O_1: h q = stream x where wanted monoid commutative {
// CHECK-NEXT:      // law: l2
// CHECK-NEXT:      init {
// CHECK-NEXT:        z0: h q = 0.0
// CHECK-NEXT:        o0: h q e = 0.0
// CHECK-NEXT:        yield z0, o0
// CHECK-NEXT:      }
// CHECK-NEXT:      body(z: h q, o: h q e) {
// CHECK-NEXT:        s: h q x = chunk(S)
// CHECK-NEXT:        v: h x e bf16 = chunk(V)
// CHECK-NEXT:        at: x index = chunk(x)
// CHECK-NEXT:        near: h q x = where(at < 100, s, 0.0)
// CHECK-NEXT:        zz: h q = near . near over x
// CHECK-NEXT:        oo: h q e f32 = near . v over x
// CHECK-NEXT:        z1: h q = z + zz
// CHECK-NEXT:        o1: h q e = o + oo
// CHECK-NEXT:        yield z1, o1
// CHECK-NEXT:      }
// CHECK-NEXT:      combine(za: h q, oa: h q e, zb: h q, ob: h q e) {
// CHECK-NEXT:        zc: h q = za + zb
// CHECK-NEXT:        oc: h q e = oa + ob
// CHECK-NEXT:        yield zc, oc
// CHECK-NEXT:      }
// CHECK-NEXT:      tail(z_1: h q, o_1: h q e) {
// CHECK-NEXT:        r: h q e = o_1 * rsqrt(z_1)
// CHECK-NEXT:        yield r, z_1
// CHECK-NEXT:      }
// CHECK-NEXT:    }
// CHECK-NEXT:    return O, O_1
// CHECK-NEXT:  }
func.func private @l2_stream(
    %S: tensor<8x?x?xf32, ["h", "q", "x"]> loc("S"), %V: tensor<8x?x64xbf16, ["h", "x", "e"]> loc("V"),
    %wanted: tensor<8x?xi1, ["h", "q"]> loc("wanted"))
    -> (tensor<8x?x64xf32, ["h", "q", "e"]>, tensor<8x?xf32, ["h", "q"]>)
    attributes {diag.kernel, diag.schedule = {mode = "lanes", grid = ["h"], lanes = "q", chunk = {x = 64}}} {
  %i = "diag.index"() {axis = "x"} : () -> tensor<?xindex, ["x"]>
  %O, %Z = "diag.stream"(%wanted) ({
    %z0 = "diag.map"() ({
      %c = arith.constant 0.0 : f32
      "diag.yield"(%c) : (f32) -> ()
    }) : () -> tensor<8x?xf32, ["h", "q"]> loc("z0")
    %o0 = "diag.map"() ({
      %c = arith.constant 0.0 : f32
      "diag.yield"(%c) : (f32) -> ()
    }) : () -> tensor<8x?x64xf32, ["h", "q", "e"]> loc("o0")
    "diag.yield"(%z0) : (tensor<8x?xf32, ["h", "q"]>) -> ()
    "diag.yield"(%o0) : (tensor<8x?x64xf32, ["h", "q", "e"]>) -> ()
  }, {
  ^bb0(%z: tensor<8x?xf32, ["h", "q"]> loc("z"), %o: tensor<8x?x64xf32, ["h", "q", "e"]> loc("o")):
    %s = "diag.chunk"(%S) : (tensor<8x?x?xf32, ["h", "q", "x"]>) -> tensor<8x?x?xf32, ["h", "q", "x"]> loc("s")
    %v = "diag.chunk"(%V) : (tensor<8x?x64xbf16, ["h", "x", "e"]>) -> tensor<8x?x64xbf16, ["h", "x", "e"]> loc("v")
    %at = "diag.chunk"(%i) : (tensor<?xindex, ["x"]>) -> tensor<?xindex, ["x"]> loc("at")
    %near = "diag.map"() ({
      %a = "diag.element"(%at) : (tensor<?xindex, ["x"]>) -> index
      %b = "diag.element"(%s) : (tensor<8x?x?xf32, ["h", "q", "x"]>) -> f32
      %hundred = arith.constant 100 : index
      %zero = arith.constant 0.0 : f32
      %c = arith.cmpi slt, %a, %hundred : index
      %d = arith.select %c, %b, %zero : f32
      "diag.yield"(%d) : (f32) -> ()
    }) : () -> tensor<8x?x?xf32, ["h", "q", "x"]> loc("near")
    %zz = "diag.contract"(%near, %near) {over = ["x"]} : (tensor<8x?x?xf32, ["h", "q", "x"]>, tensor<8x?x?xf32, ["h", "q", "x"]>) -> tensor<8x?xf32, ["h", "q"]> loc("zz")
    %oo = "diag.contract"(%near, %v) {over = ["x"]} : (tensor<8x?x?xf32, ["h", "q", "x"]>, tensor<8x?x64xbf16, ["h", "x", "e"]>) -> tensor<8x?x64xf32, ["h", "q", "e"]> loc("oo")
    %z1 = "diag.map"() ({
      %a = "diag.element"(%z) : (tensor<8x?xf32, ["h", "q"]>) -> f32
      %b = "diag.element"(%zz) : (tensor<8x?xf32, ["h", "q"]>) -> f32
      %c = arith.addf %a, %b : f32
      "diag.yield"(%c) : (f32) -> ()
    }) : () -> tensor<8x?xf32, ["h", "q"]> loc("z1")
    %o1 = "diag.map"() ({
      %a = "diag.element"(%o) : (tensor<8x?x64xf32, ["h", "q", "e"]>) -> f32
      %b = "diag.element"(%oo) : (tensor<8x?x64xf32, ["h", "q", "e"]>) -> f32
      %c = arith.addf %a, %b : f32
      "diag.yield"(%c) : (f32) -> ()
    }) : () -> tensor<8x?x64xf32, ["h", "q", "e"]> loc("o1")
    "diag.yield"(%z1) : (tensor<8x?xf32, ["h", "q"]>) -> ()
    "diag.yield"(%o1) : (tensor<8x?x64xf32, ["h", "q", "e"]>) -> ()
  }, {
  ^bb0(%za: tensor<8x?xf32, ["h", "q"]> loc("za"), %oa: tensor<8x?x64xf32, ["h", "q", "e"]> loc("oa"), %zb: tensor<8x?xf32, ["h", "q"]> loc("zb"), %ob: tensor<8x?x64xf32, ["h", "q", "e"]> loc("ob")):
    %zc = "diag.map"() ({
      %a = "diag.element"(%za) : (tensor<8x?xf32, ["h", "q"]>) -> f32
      %b = "diag.element"(%zb) : (tensor<8x?xf32, ["h", "q"]>) -> f32
      %c = arith.addf %a, %b : f32
      "diag.yield"(%c) : (f32) -> ()
    }) : () -> tensor<8x?xf32, ["h", "q"]> loc("zc")
    %oc = "diag.map"() ({
      %a = "diag.element"(%oa) : (tensor<8x?x64xf32, ["h", "q", "e"]>) -> f32
      %b = "diag.element"(%ob) : (tensor<8x?x64xf32, ["h", "q", "e"]>) -> f32
      %c = arith.addf %a, %b : f32
      "diag.yield"(%c) : (f32) -> ()
    }) : () -> tensor<8x?x64xf32, ["h", "q", "e"]> loc("oc")
    "diag.yield"(%zc) : (tensor<8x?xf32, ["h", "q"]>) -> ()
    "diag.yield"(%oc) : (tensor<8x?x64xf32, ["h", "q", "e"]>) -> ()
  }, {
  ^bb0(%zt: tensor<8x?xf32, ["h", "q"]> loc("z"), %ot: tensor<8x?x64xf32, ["h", "q", "e"]> loc("o")):
    %r = "diag.map"() ({
      %a = "diag.element"(%ot) : (tensor<8x?x64xf32, ["h", "q", "e"]>) -> f32
      %b = "diag.element"(%zt) : (tensor<8x?xf32, ["h", "q"]>) -> f32
      %c = math.rsqrt %b : f32
      %d = arith.mulf %a, %c : f32
      "diag.yield"(%d) : (f32) -> ()
    }) : () -> tensor<8x?x64xf32, ["h", "q", "e"]> loc("r")
    "diag.yield"(%r) : (tensor<8x?x64xf32, ["h", "q", "e"]>) -> ()
    "diag.yield"(%zt) : (tensor<8x?xf32, ["h", "q"]>) -> ()
  }) {axis = "x", law = ["l2"], properties = ["monoid", "commutative"], resultSegmentSizes = array<i32: 1, 1, 0, 0, 0, 0, 0, 0>}
    : (tensor<8x?xi1, ["h", "q"]>) -> (tensor<8x?x64xf32, ["h", "q", "e"]>, tensor<8x?xf32, ["h", "q"]>)
    loc(fused["O", "x.py":3:4])
  return %O, %Z : tensor<8x?x64xf32, ["h", "q", "e"]>, tensor<8x?xf32, ["h", "q"]>
}

// CHECK-LABEL: extern extern_0(n i64) -> n e = "aten.embedding.default"
func.func private @extern_0(tensor<?xi64, ["n"]>) -> tensor<?x64xf32, ["n", "e"]>
    attributes {diag.extern = "aten.embedding.default"}

// A label that has another size in this function is declared anew.

// CHECK-LABEL: axis n, h = 2
// CHECK-NEXT:  diagram main(tokens: n i64) {
// CHECK-NEXT:    // axes: {n = {divisor = 8 : i64}}
// CHECK-NEXT:    rows: n e = call extern_0(tokens)
// CHECK-NEXT:    odd: n e = math.cbrt(rows)
// CHECK-NEXT:    h_1: n h = 1.0
// CHECK-NEXT:    cast: n e = "tensor.cast"(odd)
// CHECK-NEXT:    return cast
func.func @main(%tokens: tensor<?xi64, ["n"]> loc("tokens")) -> tensor<?x64xf32, ["n", "e"]>
    attributes {diag.axes = {n = {divisor = 8}}} {
  %rows = func.call @extern_0(%tokens) : (tensor<?xi64, ["n"]>) -> tensor<?x64xf32, ["n", "e"]> loc("rows")
  %odd = "diag.map"() ({
    %a = "diag.element"(%rows) : (tensor<?x64xf32, ["n", "e"]>) -> f32
    %b = math.cbrt %a : f32
    "diag.yield"(%b) : (f32) -> ()
  }) : () -> tensor<?x64xf32, ["n", "e"]> loc("odd")
  %h = "diag.map"() ({
    %a = arith.constant 1.0 : f32
    "diag.yield"(%a) : (f32) -> ()
  }) : () -> tensor<?x2xf32, ["n", "h"]> loc("h")
  %cast = tensor.cast %odd : tensor<?x64xf32, ["n", "e"]> to tensor<?x64xf32, ["n", "e"]>
  return %cast : tensor<?x64xf32, ["n", "e"]>
}
