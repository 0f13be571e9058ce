// A kernel written by hand, through every stage down to PTX; each stage runs alone.

// RUN: diagc opt %s --lower-gpu-to-nvvm | filecheck %s --check-prefix=NVVM
// RUN: diagc opt %s --lower-gpu-to-nvvm --emit=llvmir | filecheck %s --check-prefix=LLVM
// RUN: diagc opt %s --lower-gpu-to-nvvm --emit=ptx | filecheck %s --check-prefix=PTX
// RUN: diagc opt %s --lower-gpu-to-nvvm | diagc opt - --emit=ptx | filecheck %s --check-prefix=PTX
// RUN: diagc opt %s --pass-pipeline="builtin.module(gpu.module(convert-scf-to-cf,convert-vector-to-llvm))" | filecheck %s --check-prefix=UPSTREAM

// NVVM:      llvm.func @scale(%{{.*}}: !llvm.ptr<1>, %{{.*}}: !llvm.ptr<1>, %{{.*}}: i32)
// NVVM-SAME: nvvm.kernel
// NVVM-SAME: nvvm.maxntid = array<i32: 128, 1, 1>
// NVVM-NOT:  {{arith|scf|vector}}.
// NVVM:      llvm.cond_br
// NVVM:      llvm.load %{{.*}} : !llvm.ptr<1> -> vector<4xf32>
// NVVM:      nvvm.barrier

// Literals are spelled as LLVM 22 wants them, assembly is convergent.
// LLVM:     @shared = external addrspace(3) global [0 x i8], align 1024
// LLVM:     define ptx_kernel void @scale(ptr addrspace(1)
// LLVM-DAG: fmul <4 x float> %{{.*}}, splat (float 0x3FB99999A0000000)
// LLVM-DAG: call float @llvm.nvvm.ex2.approx.ftz.f32
// LLVM-DAG: asm sideeffect "pmevent $0;", "n"(i32 1) convergent nounwind

// PTX:      .target sm_90
// PTX:      .extern .shared .align 1024 .b8 shared[];
// PTX:      .visible .entry scale(
// PTX:      .maxntid 128, 1, 1
// PTX:      ld.global.v4.b32
// PTX:      mul.rn.f32 %{{.*}}, 0f3DCCCCCD
// PTX-DAG:  st.shared.b32 [shared]
// PTX-DAG:  ex2.approx.ftz.f32
// PTX:      st.global.v4.b32
// PTX:      bar.sync 0
// PTX-LABEL: .visible .entry product(
// PTX:      ldmatrix.sync.aligned.m8n8.x4.shared.b16
// PTX:      mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32
// PTX:      cp.async.cg.shared.global
// PTX:      cp.async.wait_group 0

// UPSTREAM:     gpu.func @scale
// UPSTREAM-NOT: scf.if
// UPSTREAM:     cf.cond_br

module {
  gpu.module @kernels [#nvvm.target<chip = "sm_90", features = "+ptx78">] {
    llvm.mlir.global external @shared() {addr_space = 3 : i32, alignment = 1024 : i64} : !llvm.array<0 x i8>

    gpu.func @scale(%src: !llvm.ptr<1>, %dst: !llvm.ptr<1>, %n: i32) kernel
        attributes {known_block_size = array<i32: 128, 1, 1>} {
      %thread = nvvm.read.ptx.sreg.tid.x : i32
      %block = nvvm.read.ptx.sreg.ctaid.x : i32
      %threads = arith.constant 128 : i32
      %first = arith.muli %block, %threads : i32
      %i = arith.addi %first, %thread : i32
      %inside = arith.cmpi ult, %i, %n : i32
      scf.if %inside {
        %from = llvm.getelementptr %src[%i] : (!llvm.ptr<1>, i32) -> !llvm.ptr<1>, vector<4xf32>
        %to = llvm.getelementptr %dst[%i] : (!llvm.ptr<1>, i32) -> !llvm.ptr<1>, vector<4xf32>
        %v = llvm.load %from : !llvm.ptr<1> -> vector<4xf32>
        %factor = arith.constant dense<1.000000e-01> : vector<4xf32>
        %scaled = arith.mulf %v, %factor : vector<4xf32>
        %shared = llvm.mlir.addressof @shared : !llvm.ptr<3>
        %e = vector.extract %scaled[0] : f32 from vector<4xf32>
        llvm.store %e, %shared : f32, !llvm.ptr<3>
        %power = nvvm.ex2 %e {ftz = true} : f32
        %one = llvm.mlir.constant(1 : i32) : i32
        llvm.inline_asm has_side_effects "pmevent $0;", "n" %one : (i32) -> ()
        %result = vector.insert %power, %scaled[1] : f32 into vector<4xf32>
        llvm.store %result, %to : vector<4xf32>, !llvm.ptr<1>
      }
      gpu.barrier
      gpu.return
    }

    gpu.func @product(%src: !llvm.ptr<1>, %dst: !llvm.ptr<1>) kernel {
      %shared = llvm.mlir.addressof @shared : !llvm.ptr<3>
      %m = nvvm.ldmatrix %shared {num = 4 : i32, layout = #nvvm.mma_layout<row>,
        shape = #nvvm.ld_st_matrix_shape<m = 8, n = 8>, eltType = #nvvm.ld_st_matrix_elt_type<b16>}
        : (!llvm.ptr<3>) -> !llvm.struct<(i32, i32, i32, i32)>
      %a = llvm.extractvalue %m[0] : !llvm.struct<(i32, i32, i32, i32)>
      %b = llvm.extractvalue %m[1] : !llvm.struct<(i32, i32, i32, i32)>
      %z = arith.constant 0.0 : f32
      %d = nvvm.mma.sync A[%a, %a, %a, %a] B[%b, %b] C[%z, %z, %z, %z]
        {layoutA = #nvvm.mma_layout<row>, layoutB = #nvvm.mma_layout<col>,
         multiplicandAPtxType = #nvvm.mma_type<bf16>, multiplicandBPtxType = #nvvm.mma_type<bf16>,
         shape = #nvvm.shape<m = 16, n = 8, k = 16>}
        : (i32, i32, f32) -> !llvm.struct<(f32, f32, f32, f32)>
      %x = llvm.extractvalue %d[0] : !llvm.struct<(f32, f32, f32, f32)>
      llvm.store %x, %dst : f32, !llvm.ptr<1>
      nvvm.cp.async.shared.global %shared, %src, 16, cache = cg : !llvm.ptr<3>, !llvm.ptr<1>
      nvvm.cp.async.commit.group
      nvvm.cp.async.wait.group 0
      gpu.return
    }
  }
}
