// RUN: diagc opt %s --split-input-file --lower-kernel-to-gpu --verify-diagnostics

// expected-error@+1 {{a module of one kernel is wanted, expected 1, found 0}}
module {
  func.func @main(%X: tensor<4xf32, ["n"]>) -> tensor<4xf32, ["n"]> {
    return %X : tensor<4xf32, ["n"]>
  }
}

// -----

module {
  func.func private @sine(%X: tensor<?xf64, ["l"]>) -> tensor<?xf64, ["l"]> attributes {diag.kernel} {
    %y = "diag.map"() ({
      %x = "diag.element"(%X) : (tensor<?xf64, ["l"]>) -> f64
      // expected-error@+1 {{'math.sincos' is not supported yet: it has no rule}}
      %0, %1 = math.sincos %x : f64
      "diag.yield"(%0) : (f64) -> ()
    }) : () -> tensor<?xf64, ["l"]>
    return %y : tensor<?xf64, ["l"]>
  }
}
