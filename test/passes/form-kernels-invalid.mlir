// RUN: not diagc-opt %s --form-kernels="library=perhaps" 2>&1 | filecheck %s

// CHECK: unknown value 'perhaps' of option 'library', expected one of auto, none
func.func @nothing() {
  return
}
