// The product of int8 activation codes with bit-plane codes, as the instruction-set variants see it.
#pragma once

#include <cstdint>

#include "checks.h"
#include "planes.h"

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
void linear_tasks_avx512vnni(const LinearProblem& problem, int64_t begin, int64_t end);

// 2^(8-b) * sum(u_b * a) - z_b * sum(a), up to the half that z_b may hold. Steps may wrap around, the result fits.
template <int Width>
inline int32_t centre(int32_t product, int32_t sum) {
  const uint32_t scaled = static_cast<uint32_t>(product) << Decode<Width>::kShift;
  return static_cast<int32_t>(scaled - static_cast<uint32_t>(Decode<Width>::kZero) * static_cast<uint32_t>(sum));
}

}  // namespace tadp
