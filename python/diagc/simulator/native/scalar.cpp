// Arithmetic of one thread. The hardware's approximations are modelled by correctly rounded results,
// with subnormal numbers flushed where the instruction says .ftz.
#include <cmath>

#include "machine.h"
#include "numbers.h"

namespace sim {

namespace {

float flush(float x) { return std::fpclassify(x) == FP_SUBNORMAL ? std::copysign(0.0f, x) : x; }

float approximate(uint32_t function, float x) {
  switch (function) {
    case 0: return std::exp2(x);
    case 1: return std::log2(x);
    case 2: return 1.0f / x;
    case 3: return 1.0f / std::sqrt(x);
    case 4: return std::sqrt(x);
    case 5: return std::sin(x);
    case 6: return std::cos(x);
    default: return std::tanh(x);
  }
}

}  // namespace
}  // namespace sim

SIM_EXPORT float diagc_sim_approximate(float x, uint32_t function, uint32_t ftz) {
  using namespace sim;
  return ftz ? flush(approximate(function, flush(x))) : approximate(function, x);
}

SIM_EXPORT float diagc_sim_flush(float x) { return sim::flush(x); }

// Round to nearest, ties away from zero, 10 bits of mantissa.
SIM_EXPORT uint32_t diagc_sim_tf32_rna(float x) {
  const uint32_t bits = sim::float_to_bits(x);
  return std::isfinite(x) ? (bits + 0x1000) & ~0x1FFFu : bits;
}

SIM_EXPORT uint32_t diagc_sim_tf32_rn(float x) {
  const uint32_t bits = sim::float_to_bits(x);
  return std::isfinite(x) ? (bits + 0xFFF + (bits >> 13 & 1)) & ~0x1FFFu : bits;
}

// The first operand of cvt.rn.*x2 goes to the upper half.
SIM_EXPORT uint32_t diagc_sim_bf16x2(float high, float low, uint32_t relu) {
  if (relu) high = high < 0 ? 0 : high, low = low < 0 ? 0 : low;
  return uint32_t{sim::float_to_bfloat(high)} << 16 | sim::float_to_bfloat(low);
}

SIM_EXPORT uint32_t diagc_sim_f16x2(float high, float low, uint32_t relu) {
  if (relu) high = high < 0 ? 0 : high, low = low < 0 ? 0 : low;
  return uint32_t{sim::float_to_half(high)} << 16 | sim::float_to_half(low);
}

SIM_EXPORT uint32_t diagc_sim_e4m3x2(float high, float low) {
  return uint32_t{sim::float_to_e4m3(high)} << 8 | sim::float_to_e4m3(low);
}

SIM_EXPORT uint32_t diagc_sim_byte_permute(uint32_t a, uint32_t b, uint32_t selector) {
  const uint64_t bytes = uint64_t{b} << 32 | a;
  uint32_t result = 0;
  for (int i = 0; i < 4; i++) {
    const uint32_t choice = selector >> 4 * i & 15;
    uint32_t byte = bytes >> 8 * (choice & 7) & 0xFF;
    if (choice & 8) byte = byte & 0x80 ? 0xFF : 0;
    result |= byte << 8 * i;
  }
  return result;
}

// A divisor that the host can divide by; integer division by zero has no meaning on a GPU either.
SIM_EXPORT int64_t diagc_sim_divisor(int64_t dividend, int64_t divisor, int64_t lowest, uint32_t site) {
  using namespace sim;
  if (divisor == 0) report(*self, Kind::DivisionByZero, *self->current, site, kSync, kNowhere, 0, 0);
  return divisor == 0 || (divisor == -1 && dividend == lowest) ? 1 : divisor;
}

// LLVM calls these for conversions that the processor of the host lacks.
// A bfloat comes back in the lower bits of a vector register, as a float does.
SIM_EXPORT float diagc_sim_truncsfbf2(float x) { return sim::bits_to_float(sim::float_to_bfloat(x)); }
