// wgmma: asynchronous products of a warpgroup, 64 rows of which each warp has 16.
//
// Sums are known at once, but the kernel gets tags in their place, NaNs that name them, until a wait
// that covers the product is tied to them. Shared memory that a product reads is locked until then.
// Warps of a group are not held together: what one warp has waited for, others may still read.
// Products are added in f32. Hardware aligns those of e4m3 to the largest and keeps about 14 bits.
#include <algorithm>

#include "machine.h"
#include "numbers.h"

namespace sim {

namespace {

constexpr int kRows = 16, kDepth = 32;  // of f8; numbers of 16 bits go half as deep
constexpr int kIndexBits = 7;  // of a tag; the rest is the number of the product
constexpr uint32_t kNumberMask = (~kTagMask) >> kIndexBits;
constexpr int64_t kChunk = 16;  // bytes that no swizzle cuts
constexpr int64_t kAtomLine = 128;
constexpr size_t kKept = 16;  // products whose tags are known, most of them over

enum How : uint32_t { kAdds = 1, kRegisters = 2, kTransposedA = 4, kTransposedB = 8, kBf16 = 16, kE4m3 = 32 };

enum Fault : int64_t { kSwizzle = 2, kBaseOffset, kPattern };  // after those of bulk_copy.cpp

struct Product {
  const uint64_t *operands;
  uint32_t n, how, site;
  float *result;
};

struct Operand {  // a matrix in shared memory, as the PTX ISA's "matrix descriptor" says
  int64_t start, leading, stride, line;
  bool transposed;
};

struct Matrices {
  float a[kRows][kDepth], b[kDepth][256];
};

// A step along k begins further on in the first line of a pattern, not in another one.
bool begins_pattern(const Operand &matrix) { return (matrix.start >> 7 & (matrix.line / kChunk - 1)) == 0; }

Operand decode(Worker &worker, const Thread &thread, uint64_t descriptor, bool transposed, uint32_t site) {
  const auto field = [&](int first) { return static_cast<int64_t>(descriptor >> first & 0x3FFF) << 4; };
  const uint64_t swizzle = descriptor >> 62;
  if (swizzle == 0)
    report(worker, Kind::Descriptor, thread, site, kRead, kNowhere, kSwizzle, 0);
  if (descriptor >> 49 & 7)
    report(worker, Kind::Descriptor, thread, site, kRead, kNowhere, kBaseOffset, 0);
  const auto high = static_cast<int64_t>(kSharedBase & ~uint64_t{0x3FFFF});
  const int64_t line = swizzle ? 2 * kAtomLine >> swizzle : kAtomLine;
  const Operand found{high + field(0), field(16), field(32), line, transposed};
  if (!begins_pattern(found))
    report(worker, Kind::Descriptor, thread, site, kRead, kNowhere, kPattern, 0);
  return found;
}

// The bytes that stand together: chunk number `chunk` of line `major`. Lines are rows with
// elements along k, or, transposed, positions of k with elements along the rows.
int64_t chunk_address(const Operand &matrix, int major, int chunk) {
  const int64_t chunks = matrix.line / kChunk;
  int64_t address = matrix.start + major % 8 * matrix.line + major / 8 * matrix.stride + chunk % chunks * kChunk;
  if (matrix.transposed) address += chunk / chunks * matrix.leading;
  return address ^ ((address >> 7 & (chunks - 1)) << 4);
}

void read_chunk(Worker &worker, Warp &warp, int64_t address, uint32_t site, uint8_t *elements) {
  Thread &thread = thread_of(warp, 0);
  Place place;
  memset(elements, 0xff, kChunk);
  if (!locate(worker, address, kChunk, place)) {
    report(worker, Kind::OutOfBounds, thread, site, kRead, place.buffer, place.offset, kChunk);
    return;
  }
  if (worker.machine->launch->checking) {
    lock_async_read(worker, thread, place.offset, kChunk, site);
    warp.product_reads.push_back({warp.product_groups, place.offset, static_cast<int32_t>(kChunk)});
  }
  memcpy(elements, place.data, kChunk);
}

int bytes(uint32_t how) { return how & kE4m3 ? 1 : 2; }

int depth(uint32_t how) { return kDepth / bytes(how); }

// Element number `i` of those that begin at `data`.
float number(const void *data, int i, uint32_t how) {
  if (how & kE4m3) return e4m3_to_float(static_cast<const uint8_t *>(data)[i]);
  const uint16_t bits = static_cast<const uint16_t *>(data)[i];
  return how & kBf16 ? bfloat_to_float(bits) : half_to_float(bits);
}

// `action(row, k, value)` for `rows` rows from `first` on.
template <class F>
void each_element(Worker &worker, Warp &warp, const Operand &matrix, int first, int rows,
                  const Product &product, F action) {
  alignas(16) uint8_t elements[kChunk];
  const int count = kChunk / bytes(product.how), deep = depth(product.how);
  const int lines = matrix.transposed ? deep : rows, chunks = (matrix.transposed ? rows : deep) / count;
  for (int line = 0; line < lines; line++)
    for (int chunk = 0; chunk < chunks; chunk++) {
      const int major = matrix.transposed ? line : first + line;
      const int at = matrix.transposed ? first / count + chunk : chunk;
      read_chunk(worker, warp, chunk_address(matrix, major, at), product.site, elements);
      for (int i = 0; i < count; i++) {
        const int inner = count * chunk + i;
        const float value = number(elements, i, product.how);
        matrix.transposed ? action(inner, line, value) : action(line, inner, value);
      }
    }
}

uint32_t accumulator_count(const Product &product) { return product.how & kAdds ? product.n / 2 : 0; }

// PTX ISA, "Register fragments for wgmma.mma_async.m64nNk16", and k32: A as in mma.m16n8k16 and k32,
// whose words hold neighbours along k, and stand for rows g and g + 8, then half of k further on.
void gather_rows(Matrices &m, const Product &product, int lane) {
  const uint64_t *words = product.operands + accumulator_count(product);
  const int g = lane / 4, t = lane % 4;
  const int count = 4 / bytes(product.how);
  for (int r = 0; r < 4; r++) {
    const auto word = static_cast<uint32_t>(words[r]);
    for (int h = 0; h < count; h++)
      m.a[g + 8 * (r & 1)][count * t + h + 4 * count * (r >> 1)] = number(&word, h, product.how);
  }
}

void gather(Worker &worker, Warp &warp, Matrices &m, void **arguments) {
  const auto &first = *static_cast<Product *>(arguments[0]);
  const Thread &thread = thread_of(warp, 0);
  const uint64_t *rest = first.operands + accumulator_count(first);
  const bool registers = first.how & kRegisters;
  if (registers) {
    each_lane(~0u, [&](int lane) { gather_rows(m, *static_cast<Product *>(arguments[lane]), lane); });
  } else {
    const Operand a = decode(worker, thread, rest[0], first.how & kTransposedA, first.site);
    each_element(worker, warp, a, kRows * (warp.index % 4), kRows, first,
                 [&](int row, int k, float value) { m.a[row][k] = value; });
  }
  const Operand b = decode(worker, thread, rest[registers ? 4 : 1], first.how & kTransposedB, first.site);
  each_element(worker, warp, b, 0, static_cast<int>(first.n), first,
               [&](int column, int k, float value) { m.b[k][column] = value; });
}

uint32_t bits_of(uint64_t slot) { return static_cast<uint32_t>(slot); }

Accumulators *find_accumulators(Thread &thread, uint32_t bits) {
  if ((bits & kTagMask) != kTag) return nullptr;
  for (auto &found : thread.accumulators)
    if (found.number == (bits >> kIndexBits & kNumberMask)) return &found;
  return nullptr;
}

float value_of(const Accumulators &sums, uint32_t bits) {
  return sums.values[bits & ((1 << kIndexBits) - 1)];
}

// Sums of a lane: what it hands in, itself or by tag, and the product.
void add(Thread &thread, const Product &product, const float (*sums)[256]) {
  const int g = thread.lane / 4, t = thread.lane % 4;
  std::vector<float> values(product.n / 2);
  std::vector<uint32_t> used;
  for (uint32_t i = 0; i < product.n / 2; i++) {
    values[i] = sums[g + 8 * (i >> 1 & 1)][8 * (i >> 2) + 2 * t + (i & 1)];
    if (!(product.how & kAdds)) continue;
    const uint32_t bits = bits_of(product.operands[i]);
    const Accumulators *before = find_accumulators(thread, bits);
    values[i] += before ? value_of(*before, bits) : bits_to_float(bits);
    if (before && before->over && used.empty())
      report(*self, Kind::Accumulator, thread, product.site, kRead, kNowhere, 0, 0);
    if (before && (used.empty() || used.back() != before->number)) used.push_back(before->number);
  }
  auto &kept = thread.accumulators;
  kept.erase(std::remove_if(kept.begin(), kept.end(),
                            [&](const Accumulators &a) {
                              return std::find(used.begin(), used.end(), a.number) != used.end();
                            }),
             kept.end());
  const uint32_t mine = thread.product_count++ & kNumberMask;
  for (uint32_t i = 0; i < product.n / 2; i++)
    product.result[i] = bits_to_float(kTag | mine << kIndexBits | i);
  kept.push_back({mine, thread.warp->product_groups, false, std::move(values)});
  if (kept.size() > kKept) kept.erase(kept.begin());
}

uint32_t execute_product(Worker &worker, Warp &warp, uint32_t mask, void **arguments) {
  Matrices m;
  float sums[kRows][256];
  const auto &first = *static_cast<Product *>(arguments[0]);
  if (!warp.product_fence)
    report(worker, Kind::Fence, thread_of(warp, 0), first.site, kSync, kNowhere, 0, 0);
  gather(worker, warp, m, arguments);
  for (int row = 0; row < kRows; row++) {
    std::fill_n(sums[row], first.n, 0.0f);
    for (int k = 0; k < depth(first.how); k++)
      for (uint32_t column = 0; column < first.n; column++)
        sums[row][column] += m.a[row][k] * m.b[k][column];
  }
  each_lane(mask, [&](int lane) {
    add(thread_of(warp, lane), *static_cast<Product *>(arguments[lane]), sums);
  });
  warp.products++;
  return mask;
}

struct Wait {
  const uint64_t *operands;
  uint32_t count, allowed;
  float *result;
};

void release_reads(Worker &worker, Warp &warp, uint32_t allowed) {
  auto &reads = warp.product_reads;
  const auto due = [&](const ProductRead &read) {
    if (read.group + allowed >= warp.product_groups) return false;
    release_product_read(worker, warp.index, read.offset, static_cast<uint32_t>(read.bytes));
    return true;
  };
  reads.erase(std::remove_if(reads.begin(), reads.end(), due), reads.end());
}

// Tags of products that are over become values.
void resolve(Thread &thread, const Wait &wait) {
  for (uint32_t i = 0; i < wait.count; i++) {
    const uint32_t bits = bits_of(wait.operands[i]);
    Accumulators *found = find_accumulators(thread, bits);
    const bool due = found && found->group + wait.allowed < thread.warp->product_groups;
    wait.result[i] = due ? value_of(*found, bits) : bits_to_float(bits);
    if (due) found->over = true;
  }
}

uint32_t execute_wait(Worker &worker, Warp &warp, uint32_t mask, void **arguments) {
  const auto &first = *static_cast<Wait *>(arguments[0]);
  release_reads(worker, warp, first.allowed);
  warp.product_fence = false;
  each_lane(mask, [&](int lane) { resolve(thread_of(warp, lane), *static_cast<Wait *>(arguments[lane])); });
  return mask;
}

uint32_t execute_fence(Worker &, Warp &warp, uint32_t mask, void **) {
  warp.product_fence = true;
  return mask;
}

uint32_t execute_commit(Worker &, Warp &warp, uint32_t mask, void **) {
  warp.product_groups++;
  return mask;
}

}  // namespace
}  // namespace sim

// `slots` of 8 bytes hold the accumulators (if `how` says so), A as four words or a descriptor, and
// the descriptor of B; the sums replace them, packed.
SIM_EXPORT void diagc_sim_product(uint64_t *slots, uint32_t n, uint32_t how, uint32_t site) {
  using namespace sim;
  float result[128];
  Product product{slots, n, how, site, result};
  whole_warp(site, &product, execute_product);
  memcpy(slots, result, n / 2 * sizeof(float));
}

// `count` words in slots of 8 bytes; replaced by what they stand for, packed.
SIM_EXPORT void diagc_sim_product_wait(uint64_t *slots, uint32_t count, uint32_t allowed, uint32_t site) {
  using namespace sim;
  float result[256];
  Wait wait{slots, count, allowed, result};
  whole_warp(site, &wait, execute_wait);
  memcpy(slots, result, count * sizeof(float));
}

SIM_EXPORT void diagc_sim_product_fence(uint32_t site) {
  sim::whole_warp(site, nullptr, sim::execute_fence);
}

SIM_EXPORT void diagc_sim_product_commit(uint32_t site) {
  sim::whole_warp(site, nullptr, sim::execute_commit);
}

// Before an instruction that is none of wgmma: a value that may be a tag.
SIM_EXPORT void diagc_sim_accumulator(float value, uint32_t site) {
  using namespace sim;
  const uint32_t bits = float_to_bits(value);
  Thread &thread = *self->current;
  if ((bits & kTagMask) == kTag && find_accumulators(thread, bits))
    report(*self, Kind::Accumulator, thread, site, kRead, kNowhere, 0, 0);
}
