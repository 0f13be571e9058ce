// A kernel of a diagram as groups of threads: the gpu.module, and what becomes of it in PTX.

// RUN: diagc opt %s --split-input-file --lower-kernel-to-gpu | filecheck %s
// RUN: diagc opt %s --split-input-file --lower-kernel-to-gpu=arch=sm_90 --lower-gpu-to-nvvm --emit=ptx | filecheck %s --check-prefix=PTX

// Sixteen threads share a row: its 64 numbers are one vector of each. Blocks have eight rows. The
// test whether vectors are aligned is one for all threads.

// CHECK:      gpu.module @kernels [#nvvm.target<chip = "sm_80"
// CHECK:      llvm.mlir.global external @shared()
// CHECK:      gpu.func @kernel_dot(%{{.*}}: !llvm.ptr<1>, %{{.*}}: !llvm.ptr<1>, %{{.*}}: !llvm.ptr<1>, %{{.*}}: i32, %{{.*}}: i64) kernel
// CHECK-SAME: known_block_size = array<i32: 128, 1, 1>
// CHECK:      arith.remui %{{.*}}, %c16_i32
// CHECK:      arith.divui %{{.*}}, %c16_i32
// CHECK:      llvm.ptrtoint
// CHECK:      scf.if
// CHECK:      llvm.load %{{.*}} {alignment = 16 : i64} : !llvm.ptr<1> -> vector<4xf32>
// CHECK:      llvm.load %{{.*}} {alignment = 16 : i64} : !llvm.ptr<1> -> vector<4xf32>
// CHECK-COUNT-4: nvvm.shfl.sync bfly
// CHECK:      } else {
// CHECK-NOT:  vector<
// CHECK:      gpu.return

// PTX:        .target sm_90
// PTX-LABEL:  .visible .entry kernel_dot(
// PTX:        .maxntid 128, 1, 1
// PTX:        ld.global.v4.b32
// PTX:        ld.global.v4.b32
// PTX:        shfl.sync.bfly.b32 %{{.*}}, %{{.*}}, 8, 31, -1
// PTX:        shfl.sync.bfly.b32 %{{.*}}, %{{.*}}, 1, 31, -1
// PTX:        ld.global.b32
// PTX:        st.global.b32

func.func private @dot(%X: tensor<?x64xf32, ["g0", "d.64"]>, %W: tensor<64xf32, ["d.64"]>) -> tensor<?xf32, ["g0"]> attributes {diag.kernel} {
  %p = "diag.map"() ({
    %x = "diag.element"(%X) : (tensor<?x64xf32, ["g0", "d.64"]>) -> f32
    %w = "diag.element"(%W) : (tensor<64xf32, ["d.64"]>) -> f32
    %0 = arith.mulf %x, %w : f32
    "diag.yield"(%0) : (f32) -> ()
  }) : () -> tensor<?x64xf32, ["g0", "d.64"]>
  %s = "diag.reduce"(%p) {kind = "add", over = ["d.64"]} : (tensor<?x64xf32, ["g0", "d.64"]>) -> tensor<?xf32, ["g0"]>
  return %s : tensor<?xf32, ["g0"]>
}

// -----

// A map of bf16: eight numbers an access, two accesses a thread, pairs rounded by one instruction.

// CHECK:      gpu.func @kernel_exp
// CHECK:      scf.if
// CHECK-COUNT-2: llvm.load %{{.*}} {alignment = 16 : i64} : !llvm.ptr<1> -> vector<8xbf16>
// CHECK:      arith.truncf %{{.*}} : vector<2xf32> to vector<2xbf16>
// CHECK:      llvm.store %{{.*}} {alignment = 16 : i64} : vector<8xbf16>, !llvm.ptr<1>

// PTX-LABEL:  .visible .entry kernel_exp(
// PTX-DAG:    ld.global.v4.b32
// PTX-DAG:    cvt.rn.bf16x2.f32
// PTX-DAG:    ex2.approx.ftz.f32
// PTX:        st.global.v4.b32

func.func private @exp(%X: tensor<?x?xbf16, ["g0", "l"]>) -> tensor<?x?xbf16, ["g0", "l"]> attributes {diag.kernel} {
  %y = "diag.map"() ({
    %x = "diag.element"(%X) : (tensor<?x?xbf16, ["g0", "l"]>) -> bf16
    %0 = arith.extf %x : bf16 to f32
    %1 = math.exp %0 {diag.nonpositive} : f32
    %2 = arith.truncf %1 : f32 to bf16
    "diag.yield"(%2) : (bf16) -> ()
  }) : () -> tensor<?x?xbf16, ["g0", "l"]>
  return %y : tensor<?x?xbf16, ["g0", "l"]>
}

// -----

// A stream: its chunks are a loop that carries the states of each thread, and the threads of a block
// meet in shared memory.

// CHECK:      gpu.func @kernel_sum
// CHECK:      scf.for %{{.*}} = %{{.*}} to %{{.*}} step %{{.*}} iter_args(
// CHECK:      nvvm.shfl.sync bfly
// CHECK:      nvvm.barrier
// CHECK:      llvm.store %{{.*}} : f32, !llvm.ptr<3>
// CHECK:      nvvm.barrier
// CHECK:      llvm.load %{{.*}} : !llvm.ptr<3> -> f32
// CHECK:      scf.yield

// PTX-LABEL:  .visible .entry kernel_sum(
// PTX:        bar.sync 0
// PTX:        st.shared.b32
// PTX:        bar.sync 0
// PTX:        ld.shared

func.func private @sum(%X: tensor<?x?xf32, ["g0", "s"]>) -> tensor<?xf32, ["g0"]> attributes {diag.kernel} {
  %r = "diag.stream"() ({
    %z0 = "diag.map"() ({
      %zero = arith.constant 0.0 : f32
      "diag.yield"(%zero) : (f32) -> ()
    }) : () -> tensor<?xf32, ["g0"]>
    "diag.yield"(%z0) : (tensor<?xf32, ["g0"]>) -> ()
  }, {
  ^bb0(%z: tensor<?xf32, ["g0"]>):
    %c = "diag.chunk"(%X) : (tensor<?x?xf32, ["g0", "s"]>) -> tensor<?x?xf32, ["g0", "s"]>
    %s = "diag.reduce"(%c) {kind = "add", over = ["s"]} : (tensor<?x?xf32, ["g0", "s"]>) -> tensor<?xf32, ["g0"]>
    %n = "diag.map"() ({
      %a = "diag.element"(%z) : (tensor<?xf32, ["g0"]>) -> f32
      %b = "diag.element"(%s) : (tensor<?xf32, ["g0"]>) -> f32
      %1 = arith.addf %a, %b : f32
      "diag.yield"(%1) : (f32) -> ()
    }) : () -> tensor<?xf32, ["g0"]>
    "diag.yield"(%n) : (tensor<?xf32, ["g0"]>) -> ()
  }, {
  }, {
  ^bb0(%z: tensor<?xf32, ["g0"]>):
    "diag.yield"(%z) : (tensor<?xf32, ["g0"]>) -> ()
  }) {axis = "s", law = ["z"], resultSegmentSizes = array<i32: 1, 0, 0, 0, 0, 0, 0, 0>} : () -> tensor<?xf32, ["g0"]>
  return %r : tensor<?xf32, ["g0"]>
}
