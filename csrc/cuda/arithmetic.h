// Single steps of what a thread computes. They compile for the host as well, where tests hold them against the
// reference on machines without a GPU.
//
// Floating steps are written as calls because a compiler may contract a * b + c into one rounding, which would set the
// bits of a result apart from the CPU's. On the host -ffp-contract=off does the same.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__CUDACC__)
#define TADP_HOST_DEVICE __host__ __device__ __forceinline__
#else
#define TADP_HOST_DEVICE inline
#endif

namespace tadp::cuda {

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

// Adding 1.5 * 2^23 leaves the nearest integer, ties to even, in the low bits of the sum. The conversion instruction
// would do so at an eighth of the rate.
inline constexpr float kRound = 12582912.0F;

// sum + the products of four unsigned weight codes with four signed activation codes.
TADP_HOST_DEVICE int32_t dot4(uint32_t weights, uint32_t activations, int32_t sum) {
#if defined(__CUDA_ARCH__)
  // The intrinsic __dp4a has no form for factors of unlike signs; the instruction does.
  int32_t result;
  asm("dp4a.u32.s32 %0, %1, %2, %3;" : "=r"(result) : "r"(weights), "r"(activations), "r"(sum));
  return result;
#else
  for (int i = 0; i < 4; ++i) {
    sum += static_cast<uint8_t>(weights >> (8 * i)) * static_cast<int8_t>(activations >> (8 * i));
  }
  return sum;
#endif
}

}  // namespace tadp::cuda
