// What `diagc opt` itself does, on upstream dialects only.

// RUN: diagc-opt %s --cse | filecheck %s
// RUN: diagc opt %s --pass-pipeline="builtin.module(func.func(cse),canonicalize)" | filecheck %s
// RUN: diagc-opt %s --cse --print-ir-before=cse --print-ir-after=all 2>&1 | filecheck %s --check-prefix=DUMP
// RUN: diagc-opt %s --cse --timing 2>&1 | filecheck %s --check-prefix=TIME
// RUN: diagc-opt %s --print-op-generic | filecheck %s --check-prefix=GENERIC
// RUN: diagc-opt %s -o %t && filecheck %s --check-prefix=SAME --input-file=%t

// CHECK-LABEL: func.func @equal_ops_merge
// CHECK:         %[[SUM:[a-z0-9]+]] = arith.addi
// CHECK-NOT:     arith.addi
// CHECK:         arith.muli %[[SUM]], %[[SUM]]

// DUMP: IR Dump Before cse
// DUMP-COUNT-2: arith.addi
// DUMP: IR Dump After cse
// DUMP-COUNT-1: arith.addi
// DUMP-NOT: arith.addi
// DUMP: return

// TIME: run ms
// TIME: cse
// TIME: ms in all

// GENERIC-COUNT-2: "arith.addi"

// SAME-COUNT-2: arith.addi

func.func @equal_ops_merge(%a: i32) -> i32 {
  %0 = arith.addi %a, %a : i32
  %1 = arith.addi %a, %a : i32
  %2 = arith.muli %0, %1 : i32
  return %2 : i32
}
