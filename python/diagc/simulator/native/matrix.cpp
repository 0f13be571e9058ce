// mma.sync, ldmatrix, stmatrix, movmatrix with the fragment layouts of the PTX ISA, section "Matrix
// fragments". Lane l stands for group g = l / 4 and position t = l % 4.
#include <cstdint>

#include "machine.h"
#include "numbers.h"

namespace sim {

namespace {

enum Element : uint32_t { kHalf, kBfloat, kTf32 };

struct Mma {
  uint32_t k, element, half_accumulator;
  uint32_t words[12];  // A, then B, then C, as the instruction takes them
  uint32_t result[4];
};

struct Tile {
  float a[16][16], b[16][8];
};

float element_of(uint32_t word, int half, uint32_t element) {
  const auto bits = static_cast<uint16_t>(half ? word >> 16 : word);
  return element == kHalf ? half_to_float(bits) : bfloat_to_float(bits);
}

// 16-bit elements, two a register: register r of A holds row g + 8 (r % 2), columns 2t + 8 (r / 2) and
// the next; register r of B holds rows 2t + 8 r and the next of column g.
void gather_16(Tile &tile, const Mma &m, int g, int t) {
  const int a_words = static_cast<int>(m.k) / 4, b_words = static_cast<int>(m.k) / 8;
  for (int r = 0; r < a_words; r++)
    for (int h = 0; h < 2; h++)
      tile.a[g + 8 * (r & 1)][2 * t + h + 8 * (r >> 1)] = element_of(m.words[r], h, m.element);
  for (int r = 0; r < b_words; r++)
    for (int h = 0; h < 2; h++)
      tile.b[2 * t + h + 8 * r][g] = element_of(m.words[a_words + r], h, m.element);
}

// tf32, one a register: register r of A holds row g + 8 (r % 2), column t + 4 (r / 2); register r of B
// row t + 4 r of column g. The lower 13 bits do not count.
void gather_tf32(Tile &tile, const Mma &m, int g, int t) {
  const int a_words = static_cast<int>(m.k) / 2, b_words = static_cast<int>(m.k) / 4;
  for (int r = 0; r < a_words; r++)
    tile.a[g + 8 * (r & 1)][t + 4 * (r >> 1)] = bits_to_float(m.words[r] & ~0x1FFFu);
  for (int r = 0; r < b_words; r++)
    tile.b[t + 4 * r][g] = bits_to_float(m.words[a_words + r] & ~0x1FFFu);
}

int accumulator_start(const Mma &m) {
  return static_cast<int>(m.element == kTf32 ? m.k / 2 + m.k / 4 : m.k / 4 + m.k / 8);
}

// c[2i], c[2i + 1] are row g + 8 i, columns 2t and 2t + 1.
void scatter(const float (&product)[16][8], Mma &m, int g, int t) {
  const uint32_t *c = m.words + accumulator_start(m);
  for (int i = 0; i < 4; i++) {
    const float sum = product[g + 8 * (i >> 1)][2 * t + (i & 1)];
    if (!m.half_accumulator) {
      m.result[i] = float_to_bits(bits_to_float(c[i]) + sum);
      continue;
    }
    const float old = half_to_float(static_cast<uint16_t>(c[i >> 1] >> 16 * (i & 1)));
    const uint32_t bits = float_to_half(old + sum);
    m.result[i >> 1] = i & 1 ? m.result[i >> 1] | bits << 16 : bits;
  }
}

uint32_t execute_mma(Worker &, Warp &, uint32_t mask, void **arguments) {
  Tile tile;
  const Mma &first = *static_cast<Mma *>(arguments[0]);
  each_lane(mask, [&](int lane) {
    const Mma &m = *static_cast<Mma *>(arguments[lane]);
    (m.element == kTf32 ? gather_tf32 : gather_16)(tile, m, lane / 4, lane % 4);
  });
  float product[16][8] = {};
  for (int row = 0; row < 16; row++)
    for (uint32_t k = 0; k < first.k; k++)
      for (int column = 0; column < 8; column++)
        product[row][column] += tile.a[row][k] * tile.b[k][column];
  each_lane(mask, [&](int lane) {
    scatter(product, *static_cast<Mma *>(arguments[lane]), lane / 4, lane % 4);
  });
  return mask;
}

constexpr uint32_t kRowBytes = 16;

struct MatrixMove {
  uint64_t address;
  uint32_t matrices, transposed, site;
  uint32_t words[4];
};

uint8_t *row_of(Worker &worker, Warp &warp, void **arguments, int lane, Access kind) {
  auto &move = *static_cast<MatrixMove *>(arguments[lane]);
  return access(worker, thread_of(warp, lane), move.address, kRowBytes, kRowBytes, kind, move.site);
}

// Position in an 8 x 8 matrix of half `h` of a lane's register.
void position(int lane, int h, uint32_t transposed, int &row, int &column) {
  row = lane / 4, column = 2 * (lane % 4) + h;
  if (transposed) std::swap(row, column);
}

void move_elements(uint8_t (*rows)[kRowBytes], MatrixMove &move, int matrix, int lane, bool load) {
  auto *half = reinterpret_cast<uint8_t *>(&move.words[matrix]);
  for (int h = 0; h < 2; h++) {
    int row, column;
    position(lane, h, move.transposed, row, column);
    uint8_t *element = rows[8 * matrix + row] + 2 * column;
    if (load)
      memcpy(half + 2 * h, element, 2);
    else
      memcpy(element, half + 2 * h, 2);
  }
}

uint32_t execute_load(Worker &worker, Warp &warp, uint32_t mask, void **arguments) {
  const int count = static_cast<int>(static_cast<MatrixMove *>(arguments[0])->matrices);
  uint8_t rows[32][kRowBytes];
  for (int i = 0; i < 8 * count; i++)  // lane i gives the address of row i % 8 of matrix i / 8
    memcpy(rows[i], row_of(worker, warp, arguments, i, kRead), kRowBytes);
  each_lane(mask, [&](int lane) {
    for (int m = 0; m < count; m++)
      move_elements(rows, *static_cast<MatrixMove *>(arguments[lane]), m, lane, true);
  });
  return mask;
}

uint32_t execute_store(Worker &worker, Warp &warp, uint32_t mask, void **arguments) {
  const int count = static_cast<int>(static_cast<MatrixMove *>(arguments[0])->matrices);
  uint8_t rows[32][kRowBytes];
  each_lane(mask, [&](int lane) {
    for (int m = 0; m < count; m++)
      move_elements(rows, *static_cast<MatrixMove *>(arguments[lane]), m, lane, false);
  });
  for (int i = 0; i < 8 * count; i++)
    memcpy(row_of(worker, warp, arguments, i, kWrite), rows[i], kRowBytes);
  return mask;
}

uint32_t execute_transpose(Worker &, Warp &, uint32_t mask, void **arguments) {
  uint8_t rows[32][kRowBytes];
  each_lane(mask, [&](int lane) {
    auto &move = *static_cast<MatrixMove *>(arguments[lane]);
    move.transposed = 0;
    move_elements(rows, move, 0, lane, false);
  });
  each_lane(mask, [&](int lane) {
    auto &move = *static_cast<MatrixMove *>(arguments[lane]);
    move.transposed = 1;
    move_elements(rows, move, 0, lane, true);
  });
  return mask;
}

}  // namespace

// A .aligned instruction: all lanes of a warp of 32.
void whole_warp(uint32_t site, void *argument, Execute execute) {
  Thread &thread = *self->current;
  if (thread.warp->exists != ~0u) {
    report(*self, Kind::InactiveLane, thread, site, kSync, kNowhere,
           __builtin_ctz(~thread.warp->exists), 0);
    abort_block();
  }
  collective(~0u, site, argument, execute);
}

}  // namespace sim

// `words` holds the operands A, B, C in slots of 8 bytes; the result replaces them, packed.
SIM_EXPORT void diagc_sim_mma(uint32_t *words, uint32_t k, uint32_t element, uint32_t half_accumulator,
                              uint32_t site) {
  using namespace sim;
  Mma m{k, element, half_accumulator, {}, {}};
  const int count = accumulator_start(m) + (half_accumulator ? 2 : 4);
  for (int i = 0; i < count; i++) m.words[i] = words[2 * i];
  whole_warp(site, &m, execute_mma);
  memcpy(words, m.result, sizeof m.result);
}

SIM_EXPORT void diagc_sim_ldmatrix(uint32_t *out, uint64_t address, uint32_t matrices,
                                   uint32_t transposed, uint32_t site) {
  using namespace sim;
  MatrixMove move{address, matrices, transposed, site, {}};
  whole_warp(site, &move, execute_load);
  memcpy(out, move.words, 4 * matrices);
}

// `words` holds the registers in slots of 8 bytes.
SIM_EXPORT void diagc_sim_stmatrix(const uint32_t *words, uint64_t address, uint32_t matrices,
                                   uint32_t transposed, uint32_t site) {
  using namespace sim;
  MatrixMove move{address, matrices, transposed, site, {}};
  for (uint32_t i = 0; i < matrices; i++) move.words[i] = words[2 * i];
  whole_warp(site, &move, execute_store);
}

SIM_EXPORT uint32_t diagc_sim_movmatrix(uint32_t word, uint32_t site) {
  using namespace sim;
  MatrixMove move{0, 1, 0, site, {word}};
  whole_warp(site, &move, execute_transpose);
  return move.words[0];
}
