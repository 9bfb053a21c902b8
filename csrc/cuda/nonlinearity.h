// GELU, its tanh form and SiLU in float32, in the steps of csrc/cpu/nonlinearity.h, so that both give the same bits: no
// library's exponential would.
#pragma once

#include <cmath>

#include "arithmetic.h"

namespace tadp::cuda {

// A polynomial by Horner's rule, coefficients from the highest power down.
template <int Count>
TADP_HOST_DEVICE float polynomial(const float (&coefficients)[Count], float x) {
  float value = coefficients[0];
#pragma unroll
  for (int i = 1; i < Count; ++i) value = add(multiply(value, x), coefficients[i]);
  return value;
}

// e^x for |x| < 87, at its ends beyond; of NaN it is NaN. x = n ln 2 + r with |r| <= ln(2) / 2, and e^r by its Taylor
// series up to r^7, whose rest is below 2^-27.
TADP_HOST_DEVICE float exponential(float x) {
  constexpr float kLimit = 87.0F, kLog2e = 1.44269504F;
  constexpr float kLn2High = 0.693359375F, kLn2Low = -2.12194440e-4F;  // their sum; n * kLn2High is exact
  constexpr float kSeries[] = {1.0F / 5040, 1.0F / 720, 1.0F / 120, 1.0F / 24, 1.0F / 6, 0.5F, 1.0F, 1.0F};
  x = x > kLimit ? kLimit : x;
  x = x < -kLimit ? -kLimit : x;
  const float shifted = add(multiply(x, kLog2e), kRound);
  const float n = subtract(shifted, kRound);
  const float r = subtract(subtract(x, multiply(n, kLn2High)), multiply(n, kLn2Low));
  const uint32_t power = (bits_of(shifted) - bits_of(kRound) + 127U) << 23;
  return multiply(polynomial(kSeries, r), float_of(power));
}

TADP_HOST_DEVICE float silu(float x) { return divide(x, add(1.0F, exponential(-x))); }

// x * (1 + tanh(u)) / 2 = x / (1 + e^(-2u)) with u = sqrt(2 / pi) (x + 0.044715 x^3).
TADP_HOST_DEVICE float gelu_tanh(float x) {
  const float cube = multiply(multiply(multiply(0.044715F, x), x), x);
  return divide(x, add(1.0F, exponential(multiply(-1.595769122F, add(x, cube)))));
}

// max(x, 0) - |x| erfc(|x| / sqrt 2) / 2, with erfc after Abramowitz and Stegun, Handbook of Mathematical Functions,
// formula 7.1.26.
TADP_HOST_DEVICE float gelu(float x) {
  constexpr float kSeries[] = {1.061405429F, -1.453152027F, 1.421413741F, -0.284496736F, 0.254829592F};
  const float size = fabsf(x), z = multiply(size, 0.707106781F);
  const float t = divide(1.0F, add(1.0F, multiply(0.3275911F, z)));
  const float series = multiply(polynomial(kSeries, t), t);
  const float tail = multiply(multiply(multiply(0.5F, size), series), exponential(multiply(-z, z)));
  return subtract(x > 0.0F ? x : subtract(x, x), tail);  // x - x: NaN stays NaN
}

}  // namespace tadp::cuda
