// Bits of narrow floating-point formats.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

namespace sim {

inline uint32_t float_to_bits(float x) {
  uint32_t bits;
  memcpy(&bits, &x, 4);
  return bits;
}

inline float bits_to_float(uint32_t bits) {
  float x;
  memcpy(&x, &bits, 4);
  return x;
}

inline float bfloat_to_float(uint16_t bits) { return bits_to_float(uint32_t{bits} << 16); }

inline uint16_t float_to_bfloat(float x) {  // to nearest even
  if (std::isnan(x)) return 0x7FFF;
  const uint32_t bits = float_to_bits(x);
  return static_cast<uint16_t>((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

inline float half_to_float(uint16_t bits) {
  _Float16 x;
  memcpy(&x, &bits, 2);
  return static_cast<float>(x);
}

inline uint16_t float_to_half(float x) {
  const auto narrow = static_cast<_Float16>(x);
  uint16_t bits;
  memcpy(&bits, &narrow, 2);
  return bits;
}

}  // namespace sim
