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

// E4M3 without infinities: bias 7, 0x7F is NaN.
inline float e4m3_to_float(uint8_t bits) {
  const int size = bits & 0x7F, exponent = size >> 3, mantissa = size & 7;
  const float value = size == 0x7F ? NAN
                      : exponent   ? std::ldexp(8.0f + mantissa, exponent - 10)
                                   : std::ldexp(static_cast<float>(mantissa), -9);
  return bits & 0x80 ? -value : value;
}

inline uint8_t float_to_e4m3(float x) {  // to nearest even; beyond the range the largest number
  const uint8_t sign = std::signbit(x) ? 0x80 : 0;
  if (std::isnan(x)) return 0x7F;
  uint8_t low = 0, high = 0x7E;  // the numbers are in the order of their bits
  const float size = std::fabs(x);
  if (size >= e4m3_to_float(high)) return sign | high;
  while (high - low > 1) {
    const uint8_t middle = (low + high) / 2;
    (e4m3_to_float(middle) <= size ? low : high) = middle;
  }
  const float below = size - e4m3_to_float(low), above = e4m3_to_float(high) - size;
  const bool up = above < below || (above == below && low & 1);
  return sign | (up ? high : low);
}

}  // namespace sim
