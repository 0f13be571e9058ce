// An error that nobody expects fails, and so does an expectation that is not met.

// RUN: not diagc-opt %s --split-input-file --verify-diagnostics 2>&1 | filecheck %s

// CHECK: fails.mlir:[[# @LINE + 2]]: error: unexpected error: custom op 'nonsense' is unknown
func.func @unexpected() {
  nonsense
}

// -----

// CHECK: fails.mlir:[[# @LINE + 1]]: error: expected error "never comes" was not produced
// expected-error@+1 {{never comes}}
func.func @missing() {
  return
}
