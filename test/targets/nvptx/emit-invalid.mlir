// Only the llvm and nvvm dialects become LLVM IR. MLIR's translation ends the process over others.

// RUN: not diagc opt %s --emit=llvmir 2>&1 | filecheck %s
// RUN: not diagc opt %s --emit=ptx 2>&1 | filecheck %s
// RUN: diagc opt %s --lower-gpu-to-nvvm --emit=ptx | filecheck %s --check-prefix=PTX

// CHECK: emit-invalid.mlir:14:7: error: this operation has no translation to LLVM IR, expected llvm or nvvm, found gpu.barrier; run lower-gpu-to-nvvm first

// PTX: .visible .entry kernel(

module {
  gpu.module @kernels [#nvvm.target<chip = "sm_80", features = "+ptx78">] {
    llvm.func @kernel(%a: !llvm.ptr<1>) attributes {nvvm.kernel} {
      gpu.barrier
      %one = arith.constant 1.0 : f32
      llvm.store %one, %a : f32, !llvm.ptr<1>
      llvm.return
    }
  }
}
