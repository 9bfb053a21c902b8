// The integer product with vpdpbusd: four unsigned weight codes times four signed activation codes, summed into 32
// bits.
//
// A tile of 64 weight rows is unpacked once into [columns / 4][64][4] bytes, so that one register holds four columns of
// 16 weight rows. The register tile is 6 tokens by 64 weight rows: 24 sums, 4 weights and one broadcast activation fit
// the 32 registers, and each loaded weight register is used six times.
//
// For few tokens the transposition of a tile would take longer than its products. There four unpacked rows at a time
// are multiplied along their columns, with 16 partial sums each, which are added up at the end.
#include "avx512.h"

#if defined(__x86_64__)
#include <algorithm>
#include <array>
#include <cstring>

#include "linear_kernels.h"
#include "product_avx512.h"
#include "row_product_avx512.h"
#include "unpack_avx512.h"

namespace tadp {
namespace {

constexpr int kTokens = 6;
constexpr int64_t kFewTokens = 16;
static_assert(kFewTokens <= kTileTokens, "few tokens are one block, so that a task is a tile of columns");

// Unpacks weight rows [first, first + count), each to `stride` bytes, arranged where there are groups; rows behind the
// last one are zero. `natural` is scratch of planes.padded bytes.
template <int Width>
TADP_AVX512 void unpack_rows(const LinearProblem& problem, int64_t first, int64_t count, int64_t stride,
                             uint8_t* natural, uint8_t* to) {
  const Planes& planes = problem.planes;
  for (int64_t row = first; row < first + count; ++row, to += stride) {
    if (row >= planes.rows) {
      std::memset(to, 0, static_cast<size_t>(planes.padded));
    } else if (Width == 8 && problem.widths != nullptr && problem.widths[row] == 6) {
      unpack_row_avx512<6, 8>(planes, row, to);
    } else if (Width == 8 && problem.widths != nullptr && problem.widths[row] == 4) {
      unpack_row_avx512<4, 8>(planes, row, to);
    } else if (problem.groups == 0) {
      unpack_row_avx512<Width>(planes, row, to);
    } else {
      unpack_row_avx512<Width>(planes, row, natural);
      arrange(natural, planes.padded, problem.groups, to);
    }
  }
}

// Where a thread keeps unpacked weights: a tile for many tokens, `stride` bytes for each of a few rows on their way
// there or multiplied as they are, one row before it is arranged, and the scales of a tile by group.
struct Scratch {
  uint8_t* tile;
  uint8_t* rows;
  uint8_t* natural;
  float* scales;
  int64_t stride;
};

Scratch scratch_for(const Planes& planes, int64_t tile_rows, int64_t rows, int64_t groups = 0) {
  const int64_t stride = round_up(planes.padded, kLane), tile_bytes = round_up(tile_rows * planes.padded, kLane);
  const int64_t scale_bytes = groups * tile_rows * static_cast<int64_t>(sizeof(float));
  uint8_t* tile = aligned_scratch(tile_bytes + (rows + 1) * stride + scale_bytes);
  uint8_t* first = tile + tile_bytes;
  uint8_t* natural = first + rows * stride;
  auto* scales = reinterpret_cast<float*>(natural + stride);
  return {.tile = tile, .rows = first, .natural = natural, .scales = scales, .stride = stride};
}

// Unpacks weight rows [first, first + lanes * 16) into [padded / 4][lanes][16][4].
template <int Width>
TADP_AVX512 void unpack_tile(const LinearProblem& problem, int64_t first, int64_t lanes, const Scratch& scratch) {
  const int64_t fours = problem.planes.padded / 4;
  for (int64_t lane = 0; lane < lanes; ++lane) {
    unpack_rows<Width>(problem, first + lane * 16, 16, scratch.stride, scratch.natural, scratch.rows);
    for (int64_t four = 0; four < fours; four += 16) {
      __m512i block[16];
#pragma GCC unroll 16
      for (int r = 0; r < 16; ++r) block[r] = _mm512_load_si512(scratch.rows + r * scratch.stride + four * 4);
      transpose(block);
      uint8_t* to = scratch.tile + (four * lanes + lane) * kLane;
      if (fours - four >= 16) {
#pragma GCC unroll 16
        for (int i = 0; i < 16; ++i) _mm512_store_si512(to + i * lanes * kLane, block[i]);
      } else {
        for (int64_t i = 0; i < fours - four; ++i) _mm512_store_si512(to + i * lanes * kLane, block[i]);
      }
    }
  }
}

// These sums to `out`, as [token][lane][16].
template <int Tokens, int Lanes>
TADP_AVX512 void multiply(const int8_t* codes, int64_t padded, const uint8_t* tile, int32_t* out) {
  __m512i sums[Tokens][Lanes];
  multiply_tile<Tokens, Lanes>(codes, padded, padded, tile, sums);
#pragma GCC unroll 6
  for (int t = 0; t < Tokens; ++t) {
#pragma GCC unroll 4
    for (int lane = 0; lane < Lanes; ++lane) _mm512_store_si512(out + (t * Lanes + lane) * 16, sums[t][lane]);
  }
}

// add_group() of 16 sums.
TADP_AVX512_INLINE void add_group16(__m512i product, float zero_sum, __m512 weight_scale, float* total) {
  const __m512 value = _mm512_sub_ps(_mm512_cvtepi32_ps(product), _mm512_set1_ps(zero_sum));
  _mm512_store_ps(total, _mm512_add_ps(_mm512_load_ps(total), _mm512_mul_ps(value, weight_scale)));
}

// The sums of one group, scaled and added to totals, [token][lane][16]. The zero sums of tokens lie `groups` apart.
template <int Tokens, int Lanes>
TADP_AVX512 void multiply_group(const int8_t* codes, int64_t padded, int64_t columns, const uint8_t* tile,
                                const float* zero_sums, int64_t groups, const float* weight_scale, float* totals) {
  __m512i sums[Tokens][Lanes];
  multiply_tile<Tokens, Lanes>(codes, padded, columns, tile, sums);
#pragma GCC unroll 4
  for (int lane = 0; lane < Lanes; ++lane) {
    const __m512 scale = _mm512_load_ps(weight_scale + lane * 16);
#pragma GCC unroll 6
    for (int t = 0; t < Tokens; ++t) {
      add_group16(sums[t][lane], zero_sums[t * groups], scale, totals + (t * Lanes + lane) * 16);
    }
  }
}

// centred() of 16 sums.
template <int Width>
TADP_AVX512_INLINE __m512 centred16(__m512i product, int32_t sum) {
  const __m512i whole = _mm512_sub_epi32(_mm512_slli_epi32(product, Decode<Width>::kShift),
                                         _mm512_set1_epi32(Decode<Width>::kZero * sum));
  const __m512 value = _mm512_cvtepi32_ps(whole);
  if constexpr (Decode<Width>::kHalf == 0.0F) return value;
  return _mm512_sub_ps(value, _mm512_set1_ps(Decode<Width>::kHalf * static_cast<float>(sum)));
}

// Zero points of 16 rows that have widths of their own, as in Decode.
struct Zeros16 {
  __m512i zero;
  __m512 half;
};

TADP_AVX512_INLINE Zeros16 zeros16(const uint8_t* widths, __mmask16 present) {
  const __m512i width = _mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(present, widths));
  const __mmask16 eight = _mm512_cmpeq_epi32_mask(width, _mm512_set1_epi32(8));
  const __mmask16 six = _mm512_cmpeq_epi32_mask(width, _mm512_set1_epi32(6));
  const __m512i narrow = _mm512_mask_set1_epi32(_mm512_set1_epi32(Decode<4>::kZero), six, Decode<6>::kZero);
  static_assert(Decode<8>::kHalf == 0.0F && Decode<6>::kHalf == Decode<4>::kHalf);
  return {.zero = _mm512_mask_set1_epi32(narrow, eight, Decode<8>::kZero),
          .half = _mm512_maskz_mov_ps(_knot_mask16(eight), _mm512_set1_ps(Decode<4>::kHalf))};
}

// centred() of 16 sums of such rows.
TADP_AVX512_INLINE __m512 centred16(__m512i product, int32_t sum, const Zeros16& of) {
  const __m512i whole = _mm512_sub_epi32(product, _mm512_mullo_epi32(of.zero, _mm512_set1_epi32(sum)));
  return _mm512_sub_ps(_mm512_cvtepi32_ps(whole), _mm512_mul_ps(of.half, _mm512_set1_ps(static_cast<float>(sum))));
}

// A block of `tokens` tokens by `columns` output columns in `lanes` registers of 16, whose numbers stand as
// [token][lane][16].
struct Block {
  int64_t token, tokens, first, columns, lanes;
};

// store_token() of a block, whose values stand as [token][lane][16]. A nonlinearity is applied to all of them in one
// loop: 16 by themselves would wait for each of their steps.
template <typename T>
TADP_AVX512 void store(const LinearProblem& problem, const Block& block, float* values) {
  for (int64_t lane = 0; lane < block.lanes && problem.output.bias != nullptr; ++lane) {
    const int64_t column = block.first + lane * 16;
    const __m512 bias = _mm512_maskz_loadu_ps(first_lanes(block.columns - lane * 16), problem.output.bias + column);
    for (int64_t t = 0; t < block.tokens; ++t) {
      float* value = values + (t * block.lanes + lane) * 16;
      _mm512_store_ps(value, _mm512_add_ps(_mm512_load_ps(value), bias));
    }
  }
  apply(problem.output.nonlinearity, values, block.tokens * block.lanes * 16);
  auto* out = static_cast<T*>(problem.output.out) + block.token * problem.planes.rows + block.first;
  for (int64_t t = 0; t < block.tokens; ++t, out += problem.planes.rows) {
    for (int64_t lane = 0; lane < block.lanes; ++lane) {
      store16(out + lane * 16, first_lanes(block.columns - lane * 16),
              _mm512_load_ps(values + (t * block.lanes + lane) * 16));
    }
  }
}

// finish_token() of a block whose rows have widths of their own.
template <typename T>
TADP_AVX512 void finish_by_row(const LinearProblem& problem, const Block& block, const int32_t* sums, float* values) {
  for (int64_t lane = 0; lane < block.lanes; ++lane) {
    const __mmask16 present = first_lanes(block.columns - lane * 16);
    const int64_t row = block.first + lane * 16;
    const __m512 weight_scale = _mm512_maskz_loadu_ps(present, problem.weight_scale + row);
    const Zeros16 zeros = zeros16(problem.widths + row, present);
    for (int64_t t = 0; t < block.tokens; ++t) {
      const int64_t place = (t * block.lanes + lane) * 16;
      const __m512 value = centred16(_mm512_load_si512(sums + place), problem.sum[block.token + t], zeros);
      const __m512 scale = _mm512_set1_ps(problem.scale[block.token + t]);
      _mm512_store_ps(values + place, _mm512_mul_ps(_mm512_mul_ps(value, scale), weight_scale));
    }
  }
  store<T>(problem, block, values);
}

// finish_token() of a block. The same steps in the same order, so that results agree to the bit. `values` is scratch.
template <int Width, typename T>
TADP_AVX512 void finish(const LinearProblem& problem, const Block& block, const int32_t* sums, float* values) {
  if (Width == 8 && problem.widths != nullptr) return finish_by_row<T>(problem, block, sums, values);
  for (int64_t lane = 0; lane < block.lanes; ++lane) {
    const __mmask16 present = first_lanes(block.columns - lane * 16);
    const __m512 weight_scale = _mm512_maskz_loadu_ps(present, problem.weight_scale + block.first + lane * 16);
    for (int64_t t = 0; t < block.tokens; ++t) {
      const int64_t place = (t * block.lanes + lane) * 16;
      const __m512 value = centred16<Width>(_mm512_load_si512(sums + place), problem.sum[block.token + t]);
      const __m512 scale = _mm512_set1_ps(problem.scale[block.token + t]);
      _mm512_store_ps(values + place, _mm512_mul_ps(_mm512_mul_ps(value, scale), weight_scale));
    }
  }
  store<T>(problem, block, values);
}

// add_group() of a block.
TADP_AVX512 void add_block_group(const LinearProblem& problem, const Block& block, int64_t group, const int32_t* sums,
                                 float* totals) {
  const float* scales = problem.weight_scale + group * problem.planes.rows + block.first;
  for (int64_t lane = 0; lane < block.lanes; ++lane) {
    const __m512 weight_scale = _mm512_maskz_loadu_ps(first_lanes(block.columns - lane * 16), scales + lane * 16);
    for (int64_t t = 0; t < block.tokens; ++t) {
      const int64_t place = (t * block.lanes + lane) * 16;
      const float zero_sum = problem.zero_sums[(block.token + t) * problem.groups + group];
      add_group16(_mm512_load_si512(sums + place), zero_sum, weight_scale, totals + place);
    }
  }
}

// finish_groups() of a block.
template <int Width, typename T>
TADP_AVX512 void finish_block_groups(const LinearProblem& problem, const Block& block, float* totals) {
  const __m512 unit = _mm512_set1_ps(1 << Decode<Width>::kShift);
  for (int64_t t = 0; t < block.tokens; ++t) {
    const __m512 scale = _mm512_set1_ps(problem.scale[block.token + t]);
    for (int64_t lane = 0; lane < block.lanes; ++lane) {
      float* total = totals + (t * block.lanes + lane) * 16;
      _mm512_store_ps(total, _mm512_mul_ps(_mm512_mul_ps(_mm512_load_ps(total), unit), scale));
    }
  }
  store<T>(problem, block, totals);
}

// The functions of a kernel for all sizes of a register tile, by lanes - 1, then by tokens - 1.
template <typename Kernel, int Lanes>
constexpr std::array kByTokens = {Kernel::template of<1, Lanes>, Kernel::template of<2, Lanes>,
                                  Kernel::template of<3, Lanes>, Kernel::template of<4, Lanes>,
                                  Kernel::template of<5, Lanes>, Kernel::template of<6, Lanes>};
template <typename Kernel>
constexpr std::array kBySize = {kByTokens<Kernel, 1>, kByTokens<Kernel, 2>, kByTokens<Kernel, 3>, kByTokens<Kernel, 4>};
static_assert(kTokens == 6 && kTileColumns == 4 * 16);

struct Multiply {
  template <int Tokens, int Lanes>
  static constexpr auto of = multiply<Tokens, Lanes>;
};
struct MultiplyGroup {
  template <int Tokens, int Lanes>
  static constexpr auto of = multiply_group<Tokens, Lanes>;
};

template <typename Next>
using MultiplyRows = void (*)(const int8_t*, int64_t, int64_t, const uint8_t*, int64_t, const Next&, int32_t*, int64_t);

template <typename Next>
constexpr std::array<MultiplyRows<Next>, kTokens + 1> kMultiplyRows = {nullptr,
                                                                       multiply_rows<Next, 1>,
                                                                       multiply_rows<Next, 2>,
                                                                       multiply_rows<Next, 3>,
                                                                       multiply_rows<Next, 4>,
                                                                       multiply_rows<Next, 5>,
                                                                       multiply_rows<Next, 6>};

template <int Width, typename T, typename Next>
void run_few_tokens(const LinearProblem& problem, int64_t begin, int64_t end) {
  const Planes& planes = problem.planes;
  const Scratch scratch = scratch_for(planes, 0, kRows);
  alignas(kLane) int32_t sums[kFewTokens * kTileColumns];
  alignas(kLane) float values[kFewTokens * kTileColumns];
  for (int64_t task = begin; task < end; ++task) {
    const int64_t first = task * kTileColumns;
    const int64_t columns = std::min(kTileColumns, planes.rows - first);
    const Block block{
        .token = 0, .tokens = problem.tokens, .first = first, .columns = columns, .lanes = (columns + 15) / 16};
    for (int64_t row = 0; row < block.lanes * 16; row += kRows) {
      unpack_rows<Width>(problem, first + row, kRows, scratch.stride, scratch.natural, scratch.rows);
      for (int64_t token = 0; token < problem.tokens; token += kTokens) {
        const int64_t tokens = std::min<int64_t>(kTokens, problem.tokens - token);
        const Next ahead = token == 0 ? Next::template of<Width>(problem, first + row + kRows) : Next{};
        const auto run_rows = kMultiplyRows<Next>[static_cast<size_t>(tokens)];
        run_rows(problem.codes + token * planes.padded, planes.padded, planes.padded, scratch.rows, scratch.stride,
                 ahead, sums + token * block.lanes * 16 + row, block.lanes * 16);
      }
    }
    finish<Width, T>(problem, block, sums, values);
  }
}

// With groups the sums of every token and row are added up for each group, which pays for fewer tokens: as many as fit
// the registers.
template <int Width, typename T>
void run_few_tokens_in_groups(const LinearProblem& problem, int64_t begin, int64_t end) {
  const Planes& planes = problem.planes;
  const Scratch scratch = scratch_for(planes, 0, kTileColumns);
  const int64_t group_columns = planes.padded / problem.groups;
  const auto run_rows = kMultiplyRows<Ahead>[static_cast<size_t>(problem.tokens)];
  alignas(kLane) int32_t sums[kTokens * kTileColumns];
  alignas(kLane) float totals[kTokens * kTileColumns];
  for (int64_t task = begin; task < end; ++task) {
    const int64_t first = task * kTileColumns;
    const int64_t columns = std::min(kTileColumns, planes.rows - first);
    const int64_t lanes = (columns + 15) / 16;
    const Block block{.token = 0, .tokens = problem.tokens, .first = first, .columns = columns, .lanes = lanes};
    std::fill_n(totals, kTokens * kTileColumns, kNothing);
    unpack_rows<Width>(problem, first, lanes * 16, scratch.stride, scratch.natural, scratch.rows);
    for (int64_t group = 0; group < problem.groups; ++group) {
      const int64_t k = group * group_columns;
      for (int64_t row = 0; row < lanes * 16; row += kRows) {
        run_rows(problem.codes + k, planes.padded, group_columns, scratch.rows + row * scratch.stride + k,
                 scratch.stride, Ahead{}, sums + row, lanes * 16);
      }
      add_block_group(problem, block, group, sums, totals);
    }
    finish_block_groups<Width, T>(problem, block, totals);
  }
}

// A block of a tile whose rows have a scale for each group, [group][lane * 16].
template <int Width, typename T>
void run_block_in_groups(const LinearProblem& problem, const Block& block, const Scratch& scratch) {
  const int64_t padded = problem.planes.padded, columns = padded / problem.groups;
  alignas(kLane) float totals[kTokens * kTileColumns];
  std::fill_n(totals, kTokens * kTileColumns, kNothing);
  for (int64_t group = 0; group < problem.groups; ++group) {
    const int64_t k = group * columns;
    kBySize<MultiplyGroup>[block.lanes - 1][block.tokens - 1](
        problem.codes + block.token* padded + k, padded, columns, scratch.tile + k* block.lanes* 16,
        problem.zero_sums + block.token* problem.groups + group, problem.groups, scratch.scales + group* kTileColumns,
        totals);
  }
  finish_block_groups<Width, T>(problem, block, totals);
}

template <int Width, typename T>
void run(const LinearProblem& problem, int64_t begin, int64_t end) {
  if (problem.groups == 0 && problem.tokens <= kFewTokens) {
    if (Width == 8 && problem.widths != nullptr) return run_few_tokens<8, T, AheadByRow>(problem, begin, end);
    return run_few_tokens<Width, T, Ahead>(problem, begin, end);
  }
  if (problem.groups != 0 && problem.tokens <= kTokens) return run_few_tokens_in_groups<Width, T>(problem, begin, end);
  const Planes& planes = problem.planes;
  const int64_t blocks = token_blocks(problem);
  const Scratch scratch = scratch_for(planes, kTileColumns, 16, problem.groups);
  alignas(kLane) int32_t sums[kTokens * kTileColumns];
  alignas(kLane) float values[kTokens * kTileColumns];
  int64_t unpacked_tile = -1;
  for (int64_t task = begin; task < end; ++task) {
    const int64_t index = task / blocks, first = index * kTileColumns;
    const int64_t columns = std::min(kTileColumns, planes.rows - first);
    const int64_t lanes = (columns + 15) / 16;
    if (index != unpacked_tile) {
      unpack_tile<Width>(problem, first, lanes, scratch);
      for (int64_t group = 0; group < problem.groups; ++group) {
        std::copy_n(problem.weight_scale + group * planes.rows + first, columns, scratch.scales + group * kTileColumns);
      }
      unpacked_tile = index;
    }
    const int64_t begin_token = task % blocks * kTileTokens;
    const int64_t end_token = std::min(problem.tokens, begin_token + kTileTokens);
    for (int64_t token = begin_token; token < end_token; token += kTokens) {
      const int64_t tokens = std::min<int64_t>(kTokens, end_token - token);
      const Block block{.token = token, .tokens = tokens, .first = first, .columns = columns, .lanes = lanes};
      if (problem.groups != 0) {
        run_block_in_groups<Width, T>(problem, block, scratch);
      } else {
        kBySize<Multiply>[lanes - 1][tokens - 1](problem.codes + token* planes.padded, planes.padded, scratch.tile,
                                                 sums);
        finish<Width, T>(problem, block, sums, values);
      }
    }
  }
}

}  // namespace

void linear_tasks_avx512vnni(const LinearProblem& problem, int64_t begin, int64_t end) {
  for_width_and_type(problem.planes.width, problem.output.type,
                     [&]<int Width, typename T>() { run<Width, T>(problem, begin, end); });
}

}  // namespace tadp
#endif
