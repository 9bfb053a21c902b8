// Weights of few rows of activations are read once and multiplied as floats: four rows are unpacked at a time, a code
// less its zero point is exact in float32, and so is its power of two, which waits for the scale at the end.
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
static_assert(kWeightOnlyRows % kRows == 0);

template <int Lanes>
struct Vector {
  typedef float Floats __attribute__((vector_size(Lanes * 4)));
  typedef int32_t Ints __attribute__((vector_size(Lanes * 4)));
  typedef uint8_t Bytes __attribute__((vector_size(Lanes)));
};

// The sums of Tokens tokens with kRows unpacked rows over `columns` columns, a multiple of Lanes, in units of
// 2^(8-b): to out[token * kWeightOnlyRows + row].
template <int Width, int Lanes, int Tokens>
[[gnu::always_inline]] inline void multiply(const float* x, int64_t x_stride, int64_t columns, const uint8_t* rows,
                                            int64_t stride, float* out) {
  using Floats = typename Vector<Lanes>::Floats;
  using Ints = typename Vector<Lanes>::Ints;
  using Bytes = typename Vector<Lanes>::Bytes;
  constexpr float zero = (Decode<Width>::kZero + Decode<Width>::kHalf) / (1 << Decode<Width>::kShift);
  Floats sums[Tokens][kRows] = {};
  for (int64_t k = 0; k < columns; k += Lanes) {
    Floats weights[kRows];
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) {
      Bytes codes;
      std::memcpy(&codes, rows + r * stride + k, sizeof(codes));
      weights[r] = __builtin_convertvector(__builtin_convertvector(codes, Ints), Floats) - zero;
    }
#pragma GCC unroll 8
    for (int t = 0; t < Tokens; ++t) {
      Floats activations;
      std::memcpy(&activations, x + t * x_stride + k, sizeof(activations));
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r) sums[t][r] += weights[r] * activations;
    }
  }
  for (int t = 0; t < Tokens; ++t) {
    for (int r = 0; r < kRows; ++r) {
      float total = 0.0F;
      for (int lane = 0; lane < Lanes; ++lane) total += sums[t][r][lane];
      out[t * kWeightOnlyRows + r] = total;
    }
  }
}

// As many tokens at a time as sums fit the registers, then what is left over.
template <int Width, int Lanes, int Tokens>
[[gnu::always_inline]] inline void multiply_all(const float* x, int64_t x_stride, int64_t tokens, int64_t columns,
                                                const uint8_t* rows, int64_t stride, float* out) {
  int64_t token = 0;
  for (; token + Tokens <= tokens; token += Tokens) {
    multiply<Width, Lanes, Tokens>(x + token * x_stride, x_stride, columns, rows, stride,
                                   out + token * kWeightOnlyRows);
  }
  if constexpr (Tokens > 1) {
    multiply_all<Width, Lanes, Tokens / 2>(x + token * x_stride, x_stride, tokens - token, columns, rows, stride,
                                           out + token * kWeightOnlyRows);
  }
}

template <int Width, int Lanes, int Tokens, typename T>
[[gnu::always_inline]] inline void run(const WeightOnlyProblem& problem, int64_t begin, int64_t end) {
  static_assert(kWeightOnlyLanes % Lanes == 0);
  const Planes& planes = problem.planes;
  const int64_t stride = round_up(planes.padded, kScratchAlignment);
  uint8_t* rows = aligned_scratch((kRows + 1) * stride);
  uint8_t* natural = rows + kRows * stride;
  const int64_t parts = std::max<int64_t>(1, problem.groups);
  const int64_t part_columns = problem.groups == 0 ? problem.stride : planes.padded / parts;
  constexpr float unit = 1 << Decode<Width>::kShift;
  alignas(64) float part_sums[kWeightOnlyTokens * kWeightOnlyRows], totals[kWeightOnlyTokens * kWeightOnlyRows];
  for (int64_t task = begin; task < end; ++task) {
    const int64_t first = task * kWeightOnlyRows;
    const int64_t columns = std::min(kWeightOnlyRows, planes.rows - first);
    for (int64_t row = 0; row < columns; row += kRows) {
      const int64_t present = std::min<int64_t>(kRows, columns - row);
      for (int64_t r = 0; r < present; ++r) {
        unpack_arranged<Width>(planes, first + row + r, problem.groups, natural, rows + r * stride);
      }
      for (int64_t part = 0; part < parts; ++part) {
        multiply_all<Width, Lanes, Tokens>(problem.x + part * part_columns, problem.stride, problem.tokens,
                                           part_columns, rows + part * part_columns, stride, part_sums + row);
        for (int64_t r = row; r < row + present; ++r) {
          const float scale = problem.weight_scale[part * planes.rows + first + r] * unit;
          for (int64_t t = 0; t < problem.tokens; ++t) {
            const float value = part_sums[t * kWeightOnlyRows + r] * scale;
            float& total = totals[t * kWeightOnlyRows + r];
            total = part == 0 ? value : total + value;
          }
        }
      }
    }
    for (int64_t t = 0; t < problem.tokens; ++t) {
      store_token<T>(problem.output, t, first, columns, totals + t * kWeightOnlyRows);
    }
  }
}

// The sums of Tokens tokens take kRows registers each, of 32 and of 16.
template <int Width, typename T>
TADP_AVX512 void run_avx512(const WeightOnlyProblem& problem, int64_t begin, int64_t end) {
  run<Width, 16, 4, T>(problem, begin, end);
}
template <int Width, typename T>
TADP_AVX2_FMA void run_avx2(const WeightOnlyProblem& problem, int64_t begin, int64_t end) {
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
