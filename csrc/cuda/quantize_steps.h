// What quantizing one token takes, value by value. csrc/cpu/rows.h says what is computed.
#pragma once

#include "../codes.h"
#include "dot4.h"

namespace tadp::cuda {

struct TokenStep {
  float inverse;  // 127 / amax; 0 where all codes are zero
  float scale;
  bool empty;  // the codes are zero, whatever the values
};

// With the sign gone, floats order like their bits, and NaN and infinity stand above all numbers.
TADP_HOST_DEVICE uint32_t magnitude_bits(float value) { return bits_of(value) & 0x7FFFFFFFU; }

TADP_HOST_DEVICE TokenStep step_of(uint32_t peak_bits) {
  constexpr uint32_t kInfinity = 0x7F800000U, kNan = 0x7FC00000U;
  const float peak = float_of(peak_bits);
  if (peak_bits >= kInfinity) return {0.0F, float_of(kNan), true};
  if (peak < kSmallestPeak) return {0.0F, 1.0F, true};
  return {divide(127.0F, peak), divide(peak, 127.0F), false};
}

// Four codes in the bytes of a word, from the lowest byte on.
TADP_HOST_DEVICE uint32_t quantize4(const float (&values)[4], const TokenStep& step) {
  uint32_t codes = 0;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const uint32_t code = bits_of(add(multiply(values[i], step.inverse), kRound)) & 0xFFU;
    codes |= code << (8 * i);
  }
  return step.empty ? 0 : codes;
}

// sum + four signed codes.
TADP_HOST_DEVICE int32_t add_codes(uint32_t codes, int32_t sum) { return dot4(0x01010101U, codes, sum); }

}  // namespace tadp::cuda
