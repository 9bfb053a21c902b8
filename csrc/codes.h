// What the integer codes of weights and activations stand for, alike on every device.
#pragma once

#include <cstdint>
#include <limits>

#include "arithmetic.h"
#include "formats.h"

namespace tadp {

// A token whose scale would not be a normal float32 number counts as all zero.
inline constexpr float kSmallestPeak = 127.0F * std::numeric_limits<float>::min();

// What a width means to code that knows it when it is compiled.
template <int Width>
struct Decode {
  static_assert(format_of(Width).width == Width, "there is no such width");
  static constexpr bool kReadsMid = format_of(Width).planes >= 2, kReadsLow = format_of(Width).planes >= 3;
  static constexpr int32_t kShift = format_of(Width).shift, kZero = format_of(Width).zero;
  static constexpr float kHalf = format_of(Width).half;
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
