// RUN: not diagc-opt %s --select-schedule="vector-bytes=8" 2>&1 | filecheck %s

// CHECK: no device with such vectors is described, expected 64, 32 or 16, found 8
func.func private @copy(%x: tensor<4xf32, ["q"]>) -> tensor<4xf32, ["q"]> attributes {diag.kernel} {
  return %x : tensor<4xf32, ["q"]>
}
