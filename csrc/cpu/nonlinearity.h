// What a linear's result may be passed through before it is rounded: GELU, its tanh form, SiLU, on float32.
//
// All are built on one exponential of plain multiplications, additions and integer steps, without a library call, so
// that loops over them vectorize for any instruction set. Results are off by at most kNonlinearityError * |x|: seven
// terms of erfc's polynomial, whose sizes add up to less than 5, with the 10 roundings of Horner's rule each, the
// approximation's own 1.5e-7 (halved, as GELU is x * erfc / 2), and a few roundings of the exponential.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <string_view>

#include "checks.h"

namespace tadp {

enum class Nonlinearity { kNone, kGelu, kGeluTanh, kSilu };

inline Nonlinearity read_nonlinearity(std::string_view name) {
  if (name == "none") return Nonlinearity::kNone;
  if (name == "gelu") return Nonlinearity::kGelu;
  if (name == "gelu_tanh") return Nonlinearity::kGeluTanh;
  TADP_CHECK(name == "silu", "unknown nonlinearity '", name, "'; there are none, gelu, gelu_tanh and silu");
  return Nonlinearity::kSilu;
}

// e^x for |x| < 87, at its ends beyond; of NaN it is NaN. x = n ln 2 + r with |r| <= ln(2)/2, and e^r by its Taylor
// series up to r^7, whose rest is below 2^-27.
[[gnu::always_inline]] inline float exponential(float x) {
  constexpr float kLimit = 87.0F, kLog2e = 1.44269504F;
  constexpr float kLn2High = 0.693359375F, kLn2Low = -2.12194440e-4F;  // their sum; n * kLn2High is exact
  constexpr float kRound = 12582912.0F;  // adding 1.5 * 2^23 leaves the nearest integer in the low bits
  x = x > kLimit ? kLimit : x;
  x = x < -kLimit ? -kLimit : x;
  const float shifted = x * kLog2e + kRound;
  const float n = shifted - kRound;
  const float r = (x - n * kLn2High) - n * kLn2Low;
  float series = 1.0F / 5040;
  series = series * r + 1.0F / 720;
  series = series * r + 1.0F / 120;
  series = series * r + 1.0F / 24;
  series = series * r + 1.0F / 6;
  series = series * r + 0.5F;
  series = series * r + 1.0F;
  series = series * r + 1.0F;
  const uint32_t power = (std::bit_cast<uint32_t>(shifted) - std::bit_cast<uint32_t>(kRound) + 127U) << 23;
  return series * std::bit_cast<float>(power);
}

[[gnu::always_inline]] inline float silu(float x) { return x / (1.0F + exponential(-x)); }

// x * (1 + tanh(u)) / 2 = x / (1 + e^(-2u)) with u = sqrt(2/pi) (x + 0.044715 x^3).
[[gnu::always_inline]] inline float gelu_tanh(float x) {
  constexpr float kTwiceRoot = 1.595769122F;
  return x / (1.0F + exponential(-kTwiceRoot * (x + 0.044715F * x * x * x)));
}

// max(x, 0) - |x| erfc(|x| / sqrt 2) / 2, with erfc after Abramowitz and Stegun, Handbook of Mathematical Functions,
// formula 7.1.26.
[[gnu::always_inline]] inline float gelu(float x) {
  const float size = std::fabs(x), z = size * 0.707106781F;
  const float t = 1.0F / (1.0F + 0.3275911F * z);
  float series = 1.061405429F;
  series = series * t - 1.453152027F;
  series = series * t + 1.421413741F;
  series = series * t - 0.284496736F;
  series = series * t + 0.254829592F;
  const float tail = 0.5F * size * (series * t) * exponential(-z * z);
  return (x > 0.0F ? x : x - x) - tail;  // x - x: NaN stays NaN
}

[[gnu::always_inline]] inline void apply(Nonlinearity which, float* __restrict__ values, int64_t count) {
  switch (which) {
    case Nonlinearity::kNone:
      return;
    case Nonlinearity::kGelu:
      for (int64_t i = 0; i < count; ++i) values[i] = gelu(values[i]);
      return;
    case Nonlinearity::kGeluTanh:
      for (int64_t i = 0; i < count; ++i) values[i] = gelu_tanh(values[i]);
      return;
    case Nonlinearity::kSilu:
      for (int64_t i = 0; i < count; ++i) values[i] = silu(values[i]);
  }
}

}  // namespace tadp
