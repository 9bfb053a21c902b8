// The product of int8 activation codes with bit-plane codes, as the instruction-set variants see it.
#pragma once

#include <cstdint>

#include "checks.h"
#include "planes.h"
#include "rows.h"

namespace tadp {

struct LinearProblem {
  const int8_t* codes;  // (tokens, planes.padded)
  const float* scale;   // (tokens)
  const int32_t* sum;   // (tokens)
  int64_t tokens;
  Planes planes;
  const float* weight_scale;  // (planes.rows)
  const float* bias;          // (planes.rows) or null
  void* out;                  // (tokens, planes.rows) of out_type
  ScalarType out_type;
};

// The output is cut into tiles of 64 columns by 48 tokens; task t is tile column t / token_blocks, token block
// t % token_blocks. Consecutive tasks share a tile column, whose planes a thread therefore unpacks once.
inline constexpr int64_t kTileColumns = 64;
inline constexpr int64_t kTileTokens = 48;  // a multiple of the six tokens that the register tile holds

inline int64_t token_blocks(const LinearProblem& problem) { return (problem.tokens + kTileTokens - 1) / kTileTokens; }

void linear_tasks_portable(const LinearProblem& problem, int64_t begin, int64_t end);
void linear_tasks_avx2(const LinearProblem& problem, int64_t begin, int64_t end);
void linear_tasks_avxvnni(const LinearProblem& problem, int64_t begin, int64_t end);
void linear_tasks_avx512vnni(const LinearProblem& problem, int64_t begin, int64_t end);

// 2^(8-b) * sum(u_b * a) - z_b * sum(a), up to the half that z_b may hold. Steps may wrap around, the result fits.
template <int Width>
inline int32_t centre(int32_t product, int32_t sum) {
  const uint32_t scaled = static_cast<uint32_t>(product) << Decode<Width>::kShift;
  return static_cast<int32_t>(scaled - static_cast<uint32_t>(Decode<Width>::kZero) * static_cast<uint32_t>(sum));
}

// Scales the integer sums of one token with weight rows [first, first + columns), adds the bias, and stores them as T.
// Variants that agree to the bit take these steps in this order. Forced inline, so that each caller vectorizes it for
// its own instruction set.
template <int Width, typename T>
[[gnu::always_inline]] inline void finish_token(const LinearProblem& problem, int64_t token, int64_t first,
                                                int64_t columns, const int32_t* __restrict__ products) {
  const int32_t sum = problem.sum[token];
  const float scale = problem.scale[token];
  const float* __restrict__ weight_scale = problem.weight_scale + first;
  const float* __restrict__ bias = problem.bias == nullptr ? nullptr : problem.bias + first;
  auto* __restrict__ out = static_cast<T*>(problem.out) + token * problem.planes.rows + first;
  for (int64_t c = 0; c < columns; ++c) {
    float value = static_cast<float>(centre<Width>(products[c], sum));
    if constexpr (Decode<Width>::kHalf != 0.0F) value -= Decode<Width>::kHalf * static_cast<float>(sum);
    value = value * scale * weight_scale[c];
    if (bias != nullptr) value += bias[c];
    out[c] = static_cast<T>(value);
  }
}

// Calls run.operator()<Width, T>() for the width of the weight and the type of the result.
template <typename Run>
void for_width_and_type(const LinearProblem& problem, const Run& run) {
  const auto with_type = [&]<typename T>() {
    if (problem.planes.width == 8) return run.template operator()<8, T>();
    if (problem.planes.width == 6) return run.template operator()<6, T>();
    run.template operator()<4, T>();
  };
  if (problem.out_type == ScalarType::Float) return with_type.template operator()<float>();
  if (problem.out_type == ScalarType::BFloat16) return with_type.template operator()<BFloat16>();
  with_type.template operator()<Half>();
}

// Scratch of a thread, kept from call to call: fresh pages would cost as much as unpacking into them.
inline constexpr int64_t kScratchAlignment = 64;
inline uint8_t* aligned_scratch(int64_t bytes) {
  thread_local std::vector<uint8_t> scratch;
  const int64_t size = bytes + kScratchAlignment;
  if (static_cast<int64_t>(scratch.size()) < size) scratch.resize(static_cast<size_t>(size));
  const auto address = reinterpret_cast<uintptr_t>(scratch.data());
  return reinterpret_cast<uint8_t*>((address + kScratchAlignment - 1) / kScratchAlignment * kScratchAlignment);
}

}  // namespace tadp
