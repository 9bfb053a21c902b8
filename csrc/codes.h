// What the integer codes of weights and activations stand for, alike on every device.
#pragma once

#include <cstdint>
#include <limits>

#include "arithmetic.h"

namespace tadp {

inline constexpr int64_t kMaxColumns = 65536;  // 65536 * 255 * 127 still fits in 32 bits with a sign

// A token whose scale would not be a normal float32 number counts as all zero.
inline constexpr float kSmallestPeak = 127.0F * std::numeric_limits<float>::min();

// The real value of code u at width b is scale * (2^(8-b) * (u >> (8-b)) - zero point). With z_8 = 134 the range is
// [-134, 121], zero lies well inside a cell of every width, and the centres of the 6- and 4-bit cells lie half a step
// off a whole number; that half is added in floating point. See tadp/kernels/planes.py for why 134.
template <int Width>
struct Decode;
template <>
struct Decode<8> {
  static constexpr int32_t kShift = 0, kZero = 134;
  static constexpr float kHalf = 0.0F;
};
template <>
struct Decode<6> {
  static constexpr int32_t kShift = 2, kZero = 132;
  static constexpr float kHalf = 0.5F;
};
template <>
struct Decode<4> {
  static constexpr int32_t kShift = 4, kZero = 126;
  static constexpr float kHalf = 0.5F;
};

// 2^(8-b) * sum(u_b * a) - z_b * sum(a), of `product` and `sum`: the sum of products in units of the scales, rounded to
// float before the half of z_b is taken off. Integer steps may wrap around, their result fits.
template <int Width>
TADP_HOST_DEVICE float centred(int32_t product, int32_t sum) {
  const uint32_t scaled = static_cast<uint32_t>(product) << Decode<Width>::kShift;
  const uint32_t zero = static_cast<uint32_t>(Decode<Width>::kZero) * static_cast<uint32_t>(sum);
  float value = static_cast<float>(static_cast<int32_t>(scaled - zero));
  if constexpr (Decode<Width>::kHalf != 0.0F) {
    value = subtract(value, multiply(Decode<Width>::kHalf, static_cast<float>(sum)));
  }
  return value;
}

// The same at a width that is known at run time only, of codes that stand where they do in codes of 8 bits, so that
// `product` is 2^(8-b) * sum(u_b * a) already.
TADP_HOST_DEVICE float centred(int32_t product, int32_t sum, int width) {
  const int32_t zero = width == 8 ? Decode<8>::kZero : width == 6 ? Decode<6>::kZero : Decode<4>::kZero;
  const float half = width == 8 ? Decode<8>::kHalf : width == 6 ? Decode<6>::kHalf : Decode<4>::kHalf;
  const uint32_t whole = static_cast<uint32_t>(product) - static_cast<uint32_t>(zero) * static_cast<uint32_t>(sum);
  return subtract(static_cast<float>(static_cast<int32_t>(whole)), multiply(half, static_cast<float>(sum)));
}

}  // namespace tadp
