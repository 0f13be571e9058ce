// Causal softmax attention on bf16 with d = 64, written by hand for nvcc: the algorithm, the tiles and
// the instructions of the kernel that diagc makes for the same function (128 rows a block, 64 keys a
// chunk, two stages, cp.async into swizzled shared memory, ldmatrix, mma.sync, f32 statistics; copies
// and stores one by one where arrays are unaligned). It shows what a person's kernel costs in
// instructions and registers; nothing runs it.

#include <cstdint>
#include <cuda_bf16.h>
#include <type_traits>

namespace {

using Element = __nv_bfloat16;

constexpr int kDepth = 64, kKeys = 64, kThreads = 128, kBlocks = 2, kWarpRows = 16 * kBlocks;
constexpr int kRows = kWarpRows * kThreads / 32, kPitch = 2 * kDepth, kStage = 2 * kKeys * kPitch;
constexpr float kLog2E = 1.44269504f;

struct Matrix {
  const Element *data;
  int64_t stride;
  int lines;
};

__device__ uint32_t swizzled(int line, int chunk) {
  return line * kPitch + ((chunk ^ (line & 7)) << 4);
}

__device__ bool aligned(const void *data, int64_t stride) {
  return ((reinterpret_cast<uint64_t>(data) | stride * sizeof(Element)) & 15) == 0;
}

__device__ void commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }

template <int kPending> __device__ void wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

template <int kLines>
__device__ void copy_chunks(uint32_t target, const Matrix &source, int first) {
  const int line = threadIdx.x / 8, chunk = threadIdx.x % 8;
  const Element *from = source.data + (first + line) * source.stride + chunk * 8;
#pragma unroll
  for (int further = 0; further < kLines; further += kThreads / 8) {
    const int bytes = first + line + further < source.lines ? 16 : 0;
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(
                     target + swizzled(line + further, chunk)),
                 "l"(from), "r"(bytes)
                 : "memory");
    from += source.stride * (kThreads / 8);
  }
}

template <int kLines>
__device__ void copy_elements(uint32_t target, const Matrix &source, int first) {
  constexpr int kTogether = 8;
  const auto *data = reinterpret_cast<const uint16_t *>(source.data);
#pragma unroll 1
  for (unsigned at = threadIdx.x; at < kLines * kDepth; at += kTogether * kThreads) {
    uint16_t value[kTogether];
#pragma unroll
    for (int i = 0; i < kTogether; i++) {
      const unsigned line = (at + i * kThreads) / kDepth, column = (at + i * kThreads) % kDepth;
      const bool exists = first + int(line) < source.lines;
      value[i] = data[exists ? (first + int(line)) * source.stride + column : 0];
      value[i] = exists ? value[i] : uint16_t(0);
    }
#pragma unroll
    for (int i = 0; i < kTogether; i++) {
      const unsigned line = (at + i * kThreads) / kDepth, column = (at + i * kThreads) % kDepth;
      const uint32_t place = target + swizzled(line, column / 8) + 2 * (column % 8);
      asm volatile("st.shared.b16 [%0], %1;" ::"r"(place), "h"(value[i]) : "memory");
    }
  }
}

template <int kLines> __device__ void copy(uint32_t target, const Matrix &source, int first) {
  if (aligned(source.data, source.stride))
    copy_chunks<kLines>(target, source, first);
  else
    copy_elements<kLines>(target, source, first);
}

__device__ void load(uint32_t (&words)[4], uint32_t from) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(words[0]), "=r"(words[1]), "=r"(words[2]), "=r"(words[3])
               : "r"(from)
               : "memory");
}

__device__ void load_transposed(uint32_t (&words)[4], uint32_t from) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(words[0]), "=r"(words[1]), "=r"(words[2]), "=r"(words[3])
               : "r"(from)
               : "memory");
}

__device__ void multiply(float (&sums)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
               "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
               : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

__device__ float exp2_approx(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

__device__ float max_nan(float a, float b) {
  float c;
  asm("max.NaN.f32 %0, %1, %2;" : "=f"(c) : "f"(a), "f"(b));
  return c;
}

__device__ float exchanged(float x, int lanes) { return __shfl_xor_sync(~0u, x, lanes); }

__device__ uint32_t packed(float low, float high) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  return *reinterpret_cast<const uint32_t *>(&pair);
}

// What a thread holds: rows g, g + 8 of each block of 16, columns 8 n + 2 t, 8 n + 2 t + 1.
struct States {
  float largest[kBlocks][2], total[kBlocks][2], sums[kBlocks][kDepth / 8][4];
};

// Tiles begin at multiples of 128 bytes, so that steps along a line change bits 5 and 6 only.
__device__ uint32_t along(uint32_t place, int step) { return place ^ step << 5; }

__device__ uint32_t row_address(uint32_t tile, int lane, int row) {
  return tile + swizzled(row + lane % 16, lane / 16);
}

__device__ void scale_rows(uint32_t tile, int lane, int warp_row) {
  uint32_t words[kBlocks][kDepth / 16][4];
#pragma unroll
  for (int block = 0; block < kBlocks; block++)
#pragma unroll
    for (int step = 0; step < kDepth / 16; step++)
      load(words[block][step], along(row_address(tile, lane, warp_row + 16 * block), step));
  __syncwarp();
#pragma unroll
  for (int block = 0; block < kBlocks; block++)
#pragma unroll
    for (int step = 0; step < kDepth / 16; step++)
#pragma unroll
      for (int i = 0; i < 4; i++) {
        const uint32_t word = words[block][step][i];
        const float low = __uint_as_float(word << 16), high = __uint_as_float(word & 0xffff0000);
        const int row = warp_row + 16 * block + 8 * (i % 2) + lane / 4;
        const uint32_t place = along(tile + swizzled(row, i / 2) + 4 * (lane % 4), step);
        asm volatile("st.shared.b32 [%0], %1;" ::"r"(place), "r"(packed(low * .125f, high * .125f))
                     : "memory");
      }
  __syncwarp();
}

template <bool kMasked>
__device__ void visit(States &states, uint32_t rows, uint32_t keys, int lane, int warp_row,
                      int row_base, int first, int size) {
  float scores[kBlocks][kKeys / 8][4] = {};
#pragma unroll
  for (int step = 0; step < kDepth / 16; step++) {
    uint32_t a[kBlocks][4];
#pragma unroll
    for (int block = 0; block < kBlocks; block++)
      load(a[block], along(row_address(rows, lane, warp_row + 16 * block), step));
#pragma unroll
    for (int n = 0; n < kKeys / 16; n++) {
      uint32_t b[4];
      const int key = lane % 8 + 8 * (lane / 16);
      load(b, along(keys + swizzled(key, lane / 8 % 2), step) + 16 * n * kPitch);
#pragma unroll
      for (int block = 0; block < kBlocks; block++) {
        multiply(scores[block][2 * n], a[block], b[0], b[1]);
        multiply(scores[block][2 * n + 1], a[block], b[2], b[3]);
      }
    }
  }
  uint32_t weights[kBlocks][kKeys / 16][4];
#pragma unroll
  for (int block = 0; block < kBlocks; block++) {
    float correction[2];
#pragma unroll
    for (int half = 0; half < 2; half++) {
      const int row = row_base + warp_row + 16 * block + 8 * half + lane / 4;
      float largest = -INFINITY;
#pragma unroll
      for (int n = 0; n < kKeys / 8; n++)
#pragma unroll
        for (int pair = 0; pair < 2; pair++) {
          float &score = scores[block][n][2 * half + pair];
          const int key = first + 8 * n + 2 * (lane % 4) + pair;
          if (kMasked && !(row >= key && key < size))
            score = -INFINITY;
          largest = max_nan(largest, score);
        }
      largest = max_nan(largest, exchanged(largest, 1));
      largest = max_nan(largest, exchanged(largest, 2));
      const float before = states.largest[block][half];
      const float after = max_nan(before, largest);
      const float shift = (after == -INFINITY ? 0.f : after) * kLog2E;
      correction[half] = exp2_approx(fmaf(before, kLog2E, -shift));
      float total = 0;
#pragma unroll
      for (int n = 0; n < kKeys / 8; n++)
#pragma unroll
        for (int pair = 0; pair < 2; pair++) {
          float &score = scores[block][n][2 * half + pair];
          score = exp2_approx(fmaf(score, kLog2E, -shift));
          total += score;
        }
      total += exchanged(total, 1);
      total += exchanged(total, 2);
      states.total[block][half] = fmaf(states.total[block][half], correction[half], total);
      states.largest[block][half] = after;
    }
#pragma unroll
    for (int n = 0; n < kDepth / 8; n++)
#pragma unroll
      for (int i = 0; i < 4; i++)
        states.sums[block][n][i] *= correction[i / 2];
#pragma unroll
    for (int step = 0; step < kKeys / 16; step++)
#pragma unroll
      for (int i = 0; i < 4; i++) {
        const float(&pair)[4] = scores[block][2 * step + i / 2];
        weights[block][step][i] = packed(pair[2 * (i % 2)], pair[2 * (i % 2) + 1]);
      }
  }
  const uint32_t values = keys + kKeys * kPitch;
#pragma unroll
  for (int step = 0; step < kKeys / 16; step++)
#pragma unroll
    for (int n = 0; n < kDepth / 16; n++) {
      uint32_t b[4];
      load_transposed(b, along(row_address(values, lane, 0), n) + 16 * step * kPitch);
#pragma unroll
      for (int block = 0; block < kBlocks; block++) {
        multiply(states.sums[block][2 * n], weights[block][step], b[0], b[1]);
        multiply(states.sums[block][2 * n + 1], weights[block][step], b[2], b[3]);
      }
    }
}

// A quad transposes four groups of eight columns, so that each lane stores 16 bytes.
__device__ void exchange(uint32_t (&words)[4], int lane) {
#pragma unroll
  for (int distance = 1; distance <= 2; distance *= 2) {
    const uint32_t high = lane & distance ? ~0u : 0u;
#pragma unroll
    for (int i = 0; i < 4; i++)
      if (!(i & distance)) {
        uint32_t &a = words[i], &b = words[i | distance];
        const uint32_t got = __shfl_xor_sync(~0u, (a & high) | (b & ~high), distance);
        a = (got & high) | (a & ~high);
        b = (b & high) | (got & ~high);
      }
  }
}

__device__ void store(const States &states, Element *out, int64_t stride, int first, int size,
                      int lane) {
#pragma unroll
  for (int block = 0; block < kBlocks; block++)
#pragma unroll
    for (int half = 0; half < 2; half++) {
      const float total = states.total[block][half];
      const float inverse = total == 0 ? 0.f : __frcp_rn(total);
      uint32_t words[kDepth / 8], chunks[kDepth / 32][4];
#pragma unroll
      for (int n = 0; n < kDepth / 8; n++) {
        const float(&pair)[4] = states.sums[block][n];
        words[n] = packed(pair[2 * half] * inverse, pair[2 * half + 1] * inverse);
        chunks[n / 4][n % 4] = words[n];
      }
#pragma unroll
      for (int part = 0; part < kDepth / 32; part++)
        exchange(chunks[part], lane);
      const int row = first + 16 * block + 8 * half + lane / 4;
      if (row >= size)
        continue;
      Element *to = out + row * stride;
      if (aligned(out, stride)) {
#pragma unroll
        for (int part = 0; part < kDepth / 32; part++)
          *reinterpret_cast<uint4 *>(to + 32 * part + 8 * (lane % 4)) =
              make_uint4(chunks[part][0], chunks[part][1], chunks[part][2], chunks[part][3]);
        continue;
      }
#pragma unroll
      for (int n = 0; n < kDepth / 8; n++) {
        auto *pair = reinterpret_cast<uint16_t *>(to + 8 * n + 2 * (lane % 4));
        pair[0] = uint16_t(words[n]);
        pair[1] = uint16_t(words[n] >> 16);
      }
    }
}

} // namespace

// Axes: head, row (or key), depth; strides in elements, the last axis is contiguous.
extern "C" __global__ __launch_bounds__(kThreads, 2) void attention(
    const Element *q, const Element *k, const Element *v, Element *out, int heads, int rows, int keys,
    int64_t q_head, int64_t q_row, int64_t k_head, int64_t k_row, int64_t v_head, int64_t v_row,
    int64_t out_head, int64_t out_row) {
  extern __shared__ __align__(128) uint8_t shared[];
  const uint32_t row_tile = static_cast<uint32_t>(__cvta_generic_to_shared(shared));
  const uint32_t stages = row_tile + kRows * kPitch;
  const uint32_t tiles = static_cast<uint32_t>(rows + kRows - 1) / kRows;
  const int64_t head = blockIdx.x / tiles % static_cast<uint32_t>(heads);
  const int row_base = (tiles - 1 - blockIdx.x % tiles) * kRows;
  const int lane = threadIdx.x % 32, warp_row = threadIdx.x / 32 * kWarpRows;
  const Matrix queries{q + head * q_head, q_row, rows};
  const Matrix key_lines{k + head * k_head, k_row, keys}, value_lines{v + head * v_head, v_row, keys};

  const auto start = [&](int chunk, int last, uint32_t stage) {
    if (chunk < last) {
      copy<kKeys>(stages + stage, key_lines, chunk * kKeys);
      copy<kKeys>(stages + stage + kKeys * kPitch, value_lines, chunk * kKeys);
    }
    commit();
  };
  copy<kRows>(row_tile, queries, row_base);
  commit();
  const int high = max(min(keys, min(row_base + kRows, rows)), 0);
  const int last = (high + kKeys - 1) / kKeys;
  const int full = min(max(min(high, row_base + 1), 0) / kKeys, last);
  start(0, last, 0);
  wait<1>();
  __syncthreads();
  scale_rows(row_tile, lane, warp_row);

  States states;
#pragma unroll
  for (int block = 0; block < kBlocks; block++) {
#pragma unroll
    for (int half = 0; half < 2; half++)
      states.largest[block][half] = -INFINITY, states.total[block][half] = 0;
#pragma unroll
    for (int n = 0; n < kDepth / 8; n++)
#pragma unroll
      for (int i = 0; i < 4; i++)
        states.sums[block][n][i] = 0;
  }
  uint32_t stage = 0;
  const auto step = [&](int chunk, auto masked) {
    wait<0>();
    __syncthreads();
    start(chunk + 1, last, kStage - stage);
    visit<decltype(masked)::value>(states, row_tile, stages + stage, lane, warp_row, row_base,
                                   chunk * kKeys, keys);
    stage = kStage - stage;
  };
#pragma unroll 1
  for (int chunk = 0; chunk < full; chunk++)
    step(chunk, std::false_type{});
#pragma unroll 1
  for (int chunk = full; chunk < last; chunk++)
    step(chunk, std::true_type{});
  store(states, out + head * out_head, out_row, row_base + warp_row, rows, lane);
}
