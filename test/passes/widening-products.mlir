// RUN: diagc-opt %s --split-input-file --derive-streams --form-kernels | filecheck %s
// RUN: diagc-opt %s --split-input-file --derive-streams --form-kernels --validate | filecheck %s

// K^T V in f32 from bf16, and what applies it: the library would write copies in f32 of K, V and Q.
// The sum over a long axis is a stream, so that tasks can share it.

// CHECK-LABEL: func.func @linear
// CHECK-NEXT: call @stream_
// CHECK-NEXT: call @contract_
// CHECK-NEXT: return
// CHECK: axis = "x", law = ["o: sum of a * b"]
func.func @linear(%Q: tensor<512x32xbf16, ["q", "d"]>, %K: tensor<4096x32xbf16, ["x", "d"]>,
                  %V: tensor<4096x64xbf16, ["x", "e"]>) -> tensor<512x64xbf16, ["q", "e"]> {
  %g = "diag.contract"(%K, %V) {over = ["x"]}
      : (tensor<4096x32xbf16, ["x", "d"]>, tensor<4096x64xbf16, ["x", "e"]>)
      -> tensor<32x64xf32, ["d", "e"]>
  %o = "diag.contract"(%Q, %g) {over = ["d"]}
      : (tensor<512x32xbf16, ["q", "d"]>, tensor<32x64xf32, ["d", "e"]>)
      -> tensor<512x64xf32, ["q", "e"]>
  %r = "diag.map"() ({
    %a = "diag.element"(%o) : (tensor<512x64xf32, ["q", "e"]>) -> f32
    %0 = arith.truncf %a : f32 to bf16
    "diag.yield"(%0) : (bf16) -> ()
  }) : () -> tensor<512x64xbf16, ["q", "e"]>
  return %r : tensor<512x64xbf16, ["q", "e"]>
}

// -----

// Of one type, both are the library's.

// CHECK-LABEL: func.func @one_type
// CHECK-NOT: call
// CHECK: return
func.func @one_type(%Q: tensor<512x32xf32, ["q", "d"]>, %K: tensor<4096x32xf32, ["x", "d"]>,
                    %V: tensor<4096x64xf32, ["x", "e"]>) -> tensor<512x64xf32, ["q", "e"]> {
  %g = "diag.contract"(%K, %V) {over = ["x"]}
      : (tensor<4096x32xf32, ["x", "d"]>, tensor<4096x64xf32, ["x", "e"]>)
      -> tensor<32x64xf32, ["d", "e"]>
  %o = "diag.contract"(%Q, %g) {over = ["d"]}
      : (tensor<512x32xf32, ["q", "d"]>, tensor<32x64xf32, ["d", "e"]>)
      -> tensor<512x64xf32, ["q", "e"]>
  return %o : tensor<512x64xf32, ["q", "e"]>
}

// -----

// A result that is not small against what it is made of stays the library's, in whatever type.

// CHECK-LABEL: func.func @large
// CHECK-NOT: call
// CHECK: return
func.func @large(%K: tensor<128x128xbf16, ["x", "d"]>, %V: tensor<128x128xbf16, ["x", "e"]>)
    -> tensor<128x128xf32, ["d", "e"]> {
  %g = "diag.contract"(%K, %V) {over = ["x"]}
      : (tensor<128x128xbf16, ["x", "d"]>, tensor<128x128xbf16, ["x", "e"]>)
      -> tensor<128x128xf32, ["d", "e"]>
  return %g : tensor<128x128xf32, ["d", "e"]>
}
