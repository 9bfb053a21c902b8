// Products of four pairs of codes.
#pragma once

#include "../arithmetic.h"

namespace tadp::cuda {

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
