// Floating activations of few tokens: four weight rows are unpacked at a time and become floats a few hundred columns
// at a time, which serve all tokens. A code less its zero point is exact in float32.
//
// One source for all instruction sets, in vectors of the compiler, which each caller below lowers to its own. This file
// may fuse multiplications with additions (CMakeLists.txt), so results of the sets differ by roundings.
#include "weight_only.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "epilogue.h"
#include "isa.h"
#include "scratch.h"

namespace tadp {
namespace {

constexpr int kRows = 4;
constexpr int64_t kPart = 512;  // columns that are multiplied at a time: kRows rows of floats and a few tokens fit L1
static_assert(kWeightOnlyRows % kRows == 0);

// Sums of kRows rows with up to kWeightOnlyTokens tokens, [token][row][lane]: lanes are added up at the end only.
template <int Lanes>
using Sums = float[kWeightOnlyTokens][kRows][Lanes];

// Adds scale[row] times the products of Tokens tokens with kRows rows over `columns` columns, a multiple of Lanes.
template <int Lanes, int Tokens>
[[gnu::always_inline]] inline void multiply(const float* x, int64_t x_stride, int64_t columns, const float* rows,
                                            const float* scale, float (*totals)[kRows][Lanes]) {
  typedef float Floats __attribute__((vector_size(Lanes * sizeof(float))));
  Floats sums[Tokens][kRows] = {};
  for (int64_t k = 0; k < columns; k += Lanes) {
    Floats weights[kRows];
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) std::memcpy(&weights[r], rows + r * kPart + k, sizeof(Floats));
#pragma GCC unroll 8
    for (int t = 0; t < Tokens; ++t) {
      Floats activations;
      std::memcpy(&activations, x + t * x_stride + k, sizeof(Floats));
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r) sums[t][r] += weights[r] * activations;
    }
  }
#pragma GCC unroll 8
  for (int t = 0; t < Tokens; ++t) {
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) {
      Floats total;
      std::memcpy(&total, totals[t][r], sizeof(Floats));
      total += sums[t][r] * scale[r];
      std::memcpy(totals[t][r], &total, sizeof(Floats));
    }
  }
}

// As many tokens at a time as sums fit the registers, then what is left over.
template <int Lanes, int Tokens>
[[gnu::always_inline]] inline void multiply_all(const float* x, int64_t x_stride, int64_t tokens, int64_t columns,
                                                const float* rows, const float* scale, float (*totals)[kRows][Lanes]) {
  int64_t token = 0;
  for (; token + Tokens <= tokens; token += Tokens) {
    multiply<Lanes, Tokens>(x + token * x_stride, x_stride, columns, rows, scale, totals + token);
  }
  if constexpr (Tokens > 1) {
    multiply_all<Lanes, Tokens / 2>(x + token * x_stride, x_stride, tokens - token, columns, rows, scale,
                                    totals + token);
  }
}

// Codes less their zero point, both in units of 2^(8-b).
template <int Width>
[[gnu::always_inline]] inline void widen(const uint8_t* __restrict__ codes, int64_t count, float* __restrict__ to) {
  constexpr float zero = (Decode<Width>::kZero + Decode<Width>::kHalf) / (1 << Decode<Width>::kShift);
  for (int64_t k = 0; k < count; ++k) to[k] = static_cast<float>(codes[k]) - zero;
}

template <int Lanes>
[[gnu::always_inline]] inline float add_lanes(float* lanes) {
#pragma GCC unroll 8
  for (int half = Lanes / 2; half > 0; half /= 2) {
#pragma GCC unroll 8
    for (int lane = 0; lane < half; ++lane) lanes[lane] += lanes[lane + half];
  }
  return lanes[0];
}

template <int Width, int Lanes, int Tokens, typename T>
[[gnu::always_inline]] inline void run(const WeightOnlyProblem& problem, int64_t begin, int64_t end) {
  static_assert(kWeightOnlyLanes % Lanes == 0);
  const Planes& planes = problem.planes;
  const int64_t stride = round_up(planes.padded, kScratchAlignment);
  uint8_t* codes = aligned_scratch((kRows + 1) * stride);
  uint8_t* natural = codes + kRows * stride;
  const int64_t part_columns = problem.groups == 0 ? kPart : planes.padded / problem.groups;
  constexpr float unit = 1 << Decode<Width>::kShift;
  alignas(64) float rows[kRows * kPart], values[kWeightOnlyTokens * kWeightOnlyRows];
  alignas(64) Sums<Lanes> sums;
  for (int64_t task = begin; task < end; ++task) {
    const int64_t first = task * kWeightOnlyRows;
    const int64_t columns = std::min(kWeightOnlyRows, planes.rows - first);
    for (int64_t row = 0; row < columns; row += kRows) {
      // Rows behind the last one keep what the scratch held: their sums are never read.
      const int64_t present = std::min<int64_t>(kRows, columns - row);
      for (int64_t r = 0; r < present; ++r) {
        unpack_arranged<Width>(planes, first + row + r, problem.groups, natural, codes + r * stride);
      }
      std::fill_n(&sums[0][0][0], problem.tokens * kRows * Lanes, 0.0F);
      for (int64_t k = 0; k < problem.stride; k += part_columns) {
        const int64_t count = std::min(part_columns, problem.stride - k);
        const int64_t group = problem.groups == 0 ? 0 : k / part_columns;
        float scale[kRows] = {};
        for (int64_t r = 0; r < present; ++r) {
          scale[r] = problem.weight_scale[group * planes.rows + first + row + r] * unit;
          widen<Width>(codes + r * stride + k, count, rows + r * kPart);
        }
        multiply_all<Lanes, Tokens>(problem.x + k, problem.stride, problem.tokens, count, rows, scale, sums);
      }
      for (int64_t t = 0; t < problem.tokens; ++t) {
        for (int64_t r = 0; r < present; ++r) values[t * kWeightOnlyRows + row + r] = add_lanes<Lanes>(sums[t][r]);
      }
    }
    for (int64_t t = 0; t < problem.tokens; ++t) {
      store_token<T>(problem.output, t, first, columns, values + t * kWeightOnlyRows);
    }
  }
}

// The sums of Tokens tokens take kRows registers each, of 32 and of 16.
template <int Width, typename T>
TADP_AVX512 void run_avx512(const WeightOnlyProblem& problem, int64_t begin, int64_t end) {
  run<Width, 16, 4, T>(problem, begin, end);
}
template <int Width, typename T>
TADP_AVX2 void run_avx2(const WeightOnlyProblem& problem, int64_t begin, int64_t end) {
  run<Width, 8, 2, T>(problem, begin, end);
}

}  // namespace

void weight_only_tasks_portable(const WeightOnlyProblem& problem, int64_t begin, int64_t end) {
  for_width_and_type(problem.planes.width, problem.output.type,
                     [&]<int Width, typename T>() { run<Width, 4, 2, T>(problem, begin, end); });
}

void weight_only_tasks_avx2(const WeightOnlyProblem& problem, int64_t begin, int64_t end) {
  for_width_and_type(problem.planes.width, problem.output.type,
                     [&]<int Width, typename T>() { run_avx2<Width, T>(problem, begin, end); });
}

void weight_only_tasks_avx512(const WeightOnlyProblem& problem, int64_t begin, int64_t end) {
  for_width_and_type(problem.planes.width, problem.output.type,
                     [&]<int Width, typename T>() { run_avx512<Width, T>(problem, begin, end); });
}

}  // namespace tadp
