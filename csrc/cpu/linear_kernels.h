// The product of int8 activation codes with bit-plane codes, as the code for each instruction set sees it.
#pragma once

#include <cstdint>

#include "epilogue.h"
#include "scratch.h"

namespace tadp {

struct LinearProblem {
  const int8_t* codes;  // (tokens, planes.padded), arranged
  const float* scale;   // (tokens)
  const int32_t* sum;   // (tokens), or (tokens, groups)
  int64_t tokens;
  Planes planes;
  const float* weight_scale;  // (planes.rows), or (groups, planes.rows)
  int64_t groups;             // 0: a row has one scale
  const float* zero_sums;     // (tokens, groups): z_b / 2^(8-b) times the sum of a group's codes; null without groups
  // Where rows have widths of their own; null where all have planes.width. That is 8 then, there are no groups, and
  // codes of fewer bits stand where they do in codes of 8, which gives the sums of all rows one unit.
  const uint8_t* widths;  // (planes.rows)
  Output output;
  const int8_t* packed;  // the codes as a Packing leaves them, where there is one
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

// An order of the codes of many tokens that AVX2 and AVX-VNNI take instead of theirs. It is made once for all tasks:
// each would spend a thirtieth of its time on it.
struct Packing {
  int64_t tokens, bytes;  // of a pack; 0 where tasks take the codes as they are
  void (*pack)(const LinearProblem& problem, int64_t begin, int64_t end, int8_t* to);  // packs [begin, end)
};
Packing packing_avx2(const LinearProblem& problem);
Packing packing_avxvnni(const LinearProblem& problem);

// Unpacks one row, arranged where there are groups, reading no plane beyond its own width; `natural` is scratch of
// planes.padded bytes.
template <int Width>
[[gnu::always_inline]] inline void unpack_weights(const LinearProblem& problem, int64_t row, uint8_t* natural,
                                                  uint8_t* to) {
  const Planes& planes = problem.planes;
  const bool narrow = Width == 8 && problem.widths != nullptr && problem.widths[row] != 8;
  if (!narrow) return unpack_arranged<Width>(planes, row, problem.groups, natural, to);
  if (problem.widths[row] == 6) return unpack_row<6, 8>(planes, row, to);
  unpack_row<4, 8>(planes, row, to);
}

// What follows turns the integer sums of one token with weight rows [first, first + columns) into results. Instruction
// sets that agree to the bit take these steps in this order. Forced inline, so that each caller vectorizes them for its
// own instruction set.

// Without groups: scales the sums and stores.
template <int Width, typename T>
[[gnu::always_inline]] inline void finish_token(const LinearProblem& problem, int64_t token, int64_t first,
                                                int64_t columns, const int32_t* __restrict__ products) {
  const int32_t sum = problem.sum[token];
  const float scale = problem.scale[token];
  const float* __restrict__ weight_scale = problem.weight_scale + first;
  float values[kTileColumns];
  if (Width == 8 && problem.widths != nullptr) {
    const uint8_t* __restrict__ widths = problem.widths + first;
    for (int64_t c = 0; c < columns; ++c) {
      values[c] = centred(products[c], sum, widths[c]) * scale * weight_scale[c];
    }
  } else {
    for (int64_t c = 0; c < columns; ++c) values[c] = centred<Width>(products[c], sum) * scale * weight_scale[c];
  }
  store_token<T>(problem.output, token, first, columns, values);
}

// With groups: adds the scaled sums of one group to totals. Less its zero point, in units of 2^(8-b), a sum of 128
// columns or fewer is exact in float32, so that only the product with the scale and the addition round.
[[gnu::always_inline]] inline void add_group(const LinearProblem& problem, int64_t token, int64_t group, int64_t first,
                                             int64_t columns, const int32_t* __restrict__ products,
                                             float* __restrict__ totals) {
  const float zero_sum = problem.zero_sums[token * problem.groups + group];
  const float* __restrict__ weight_scale = problem.weight_scale + group * problem.planes.rows + first;
  for (int64_t c = 0; c < columns; ++c) {
    totals[c] += (static_cast<float>(products[c]) - zero_sum) * weight_scale[c];
  }
}

// What totals start from: the one number to which adding any other gives that other.
inline constexpr float kNothing = -0.0F;

// At the end they are scaled and stored. Multiplying by 2^(8-b) is exact.
template <int Width, typename T>
[[gnu::always_inline]] inline void finish_groups(const LinearProblem& problem, int64_t token, int64_t first,
                                                 int64_t columns, float* __restrict__ totals) {
  constexpr float unit = 1 << Decode<Width>::kShift;
  const float scale = problem.scale[token];
  for (int64_t c = 0; c < columns; ++c) totals[c] = totals[c] * unit * scale;
  store_token<T>(problem.output, token, first, columns, totals);
}

}  // namespace tadp
