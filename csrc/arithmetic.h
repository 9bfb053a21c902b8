// Single floating steps, the same on CPUs and GPUs.
//
// They are written as calls where instruction sets agree to the bit, because a compiler may contract a * b + c into one
// rounding: on GPUs the calls forbid it, on CPUs -ffp-contract=off does.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__CUDACC__)
#define TADP_HOST_DEVICE __host__ __device__ __forceinline__
#else
#define TADP_HOST_DEVICE [[gnu::always_inline]] inline  // so that each caller vectorizes for its own instruction set
#endif

namespace tadp {

TADP_HOST_DEVICE float multiply(float a, float b) {
#if defined(__CUDA_ARCH__)
  return __fmul_rn(a, b);
#else
  return a * b;
#endif
}

TADP_HOST_DEVICE float add(float a, float b) {
#if defined(__CUDA_ARCH__)
  return __fadd_rn(a, b);
#else
  return a + b;
#endif
}

// a * b + c, rounded once.
TADP_HOST_DEVICE float fused(float a, float b, float c) {
#if defined(__CUDA_ARCH__)
  return __fmaf_rn(a, b, c);
#else
  return __builtin_fmaf(a, b, c);
#endif
}

TADP_HOST_DEVICE float subtract(float a, float b) { return add(a, -b); }

TADP_HOST_DEVICE float divide(float a, float b) {
#if defined(__CUDA_ARCH__)
  return __fdiv_rn(a, b);
#else
  return a / b;
#endif
}

TADP_HOST_DEVICE uint32_t bits_of(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof(bits));
  return bits;
}

TADP_HOST_DEVICE float float_of(uint32_t bits) {
  float value;
  memcpy(&value, &bits, sizeof(value));
  return value;
}

// Adding 1.5 * 2^23 leaves the nearest integer, ties to even, in the low bits of the sum: a rounding that any vector
// unit can do, and on GPUs at eight times the rate of the conversion instruction.
inline constexpr float kRound = 12582912.0F;

}  // namespace tadp
