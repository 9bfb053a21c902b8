// What a linear's result may be passed through before it is rounded: GELU, its tanh form, SiLU, on float32.
//
// All are built on one exponential of fused multiplications and integer steps, without a library's approximation, so
// that integer products of C++ and CUDA give the same bits, and loops vectorize for any instruction set that has these.
// Results are off by at most 30 * 2^-24 times |x|: erfc's polynomial has five terms whose sizes add up to less than 5,
// with 10 roundings of Horner's rule; its own 1.5e-7 is halved, as GELU is x * erfc / 2; the exponential and the last
// steps round a few times. Of -infinity SiLU and GELU's tanh form make -infinity, where PyTorch has NaN.
#pragma once

#include <cmath>

#include "arithmetic.h"

namespace tadp {

enum class Nonlinearity : int32_t { kNone, kGelu, kGeluTanh, kSilu };

// A polynomial by Horner's rule, coefficients from the highest power down.
template <typename... Coefficients>
TADP_HOST_DEVICE float polynomial(float x, float first, Coefficients... rest) {
  float value = first;
  ((value = fused(value, x, rest)), ...);
  return value;
}

// e^x for |x| < 80, at its ends beyond, so that no subnormal number comes of it, which CPUs are slow at; of NaN it is
// NaN. x = n ln 2 + r with |r| <= ln(2) / 2, and e^r by its Taylor
// series up to r^7, whose rest is below 2^-27.
TADP_HOST_DEVICE float exponential(float x) {
  constexpr float kLimit = 80.0F, kLog2e = 1.44269504F;
  constexpr float kLn2High = 0.693359375F, kLn2Low = -2.12194440e-4F;  // their sum; n * kLn2High is exact
  x = x > kLimit ? kLimit : x;
  x = x < -kLimit ? -kLimit : x;
  const float shifted = fused(x, kLog2e, kRound);
  const float n = subtract(shifted, kRound);
  const float r = fused(n, -kLn2Low, fused(n, -kLn2High, x));
  const float series = polynomial(r, 1.0F / 5040, 1.0F / 720, 1.0F / 120, 1.0F / 24, 1.0F / 6, 0.5F, 1.0F, 1.0F);
  const uint32_t power = (bits_of(shifted) - bits_of(kRound) + 127U) << 23;
  return multiply(series, float_of(power));
}

TADP_HOST_DEVICE float silu(float x) { return divide(x, add(1.0F, exponential(-x))); }

// x * (1 + tanh(u)) / 2 = x / (1 + e^(-2u)) with u = sqrt(2 / pi) (x + 0.044715 x^3).
TADP_HOST_DEVICE float gelu_tanh(float x) {
  const float u = multiply(x, fused(multiply(0.044715F, x), x, 1.0F));
  return divide(x, add(1.0F, exponential(multiply(-1.595769122F, u))));
}

// max(x, 0) - |x| erfc(|x| / sqrt 2) / 2, with erfc after Abramowitz and Stegun, Handbook of Mathematical Functions,
// formula 7.1.26.
TADP_HOST_DEVICE float gelu(float x) {
  const float size = fabsf(x), z = multiply(size, 0.707106781F);
  const float t = divide(1.0F, fused(0.3275911F, z, 1.0F));
  const float series =
      multiply(polynomial(t, 1.061405429F, -1.453152027F, 1.421413741F, -0.284496736F, 0.254829592F), t);
  constexpr float kNoTail = 15.0F;  // beyond, it is below 1e-48; and infinity times zero is not a number
  const float tail =
      size > kNoTail ? 0.0F : multiply(multiply(multiply(0.5F, size), series), exponential(multiply(-z, z)));
  return subtract(x > 0.0F ? x : subtract(x, x), tail);  // x - x: NaN stays NaN
}

}  // namespace tadp
