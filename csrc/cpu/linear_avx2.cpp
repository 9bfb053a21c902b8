// The integer product in registers of 256 bits: with vpdpbusd where there is AVX-VNNI, and with products of 8 or 16
// bits where there is only AVX2.
//
// Unpacked weight rows, four at a time, are multiplied with a few tokens along their columns, with eight partial sums
// for each pair, which are added up at the end. The rows of a tile stay unpacked for all blocks of tokens.
#include "isa.h"

#if defined(__x86_64__)
#include <immintrin.h>

#include <algorithm>
#include <array>
#include <type_traits>

#include "linear_kernels.h"

#define TADP_AVX2_INLINE [[gnu::always_inline]] TADP_AVX2 inline

namespace tadp {
namespace {

constexpr int kRows = 4;
static_assert(kTileColumns % kRows == 0);

// Ones in the first `bytes` bytes. Rows are a whole number of four bytes long, and fewer than none count as none.
TADP_AVX2_INLINE __m256i first_bytes(int64_t bytes) {
  alignas(32) static constexpr int32_t kOnesThenZeros[16] = {-1, -1, -1, -1, -1, -1, -1, -1};
  const int64_t lanes = std::clamp<int64_t>(bytes / 4, 0, 8);
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(kOnesThenZeros + 8 - lanes));
}

// Loads 32 activations, or the first `bytes` of them with zeros behind, without reading what lies beyond.
template <bool Whole>
TADP_AVX2_INLINE __m256i load_codes(const int8_t* from, int64_t bytes) {
  if constexpr (Whole) return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
  return _mm256_maskload_epi32(reinterpret_cast<const int*>(from), first_bytes(bytes));
}

TADP_AVX2_INLINE __m256i load_weights(const void* from) { return _mm256_load_si256(static_cast<const __m256i*>(from)); }

// sum += product in 32-bit lanes. In assembly, because GCC 12 otherwise moves the sums through a second register, which
// costs a twentieth of the speed at 4 and 6 bits.
TADP_AVX2_INLINE void add(__m256i& sum, __m256i product) { asm("vpaddd %1, %0, %0" : "+x"(sum) : "x"(product)); }

// How kColumns weights of a row are multiplied with as many activations and added to the eight partial sums of a pair;
// with kTokens tokens by kRows rows, sums and operands fit the 16 registers.

// AVX-VNNI: as in linear_avx512vnni.cpp, and in assembly for the same reason. It also leaves the compiler's target at
// AVX2, so that both sets share the functions below.
struct ByVnni {
  using Weight = uint8_t;
  static constexpr int64_t kColumns = 32;
  static constexpr int kTokens = 3;
  using Block = __m256i;

  TADP_AVX2_INLINE static Block weights(const uint8_t* from) { return load_weights(from); }
  template <bool Whole>
  TADP_AVX2_INLINE static Block activations(const int8_t* from, int64_t bytes) {
    return load_codes<Whole>(from, bytes);
  }
  TADP_AVX2_INLINE static void multiply_add(__m256i& sum, Block weights, Block activations) {
    asm("%{vex%} vpdpbusd %2, %1, %0" : "+x"(sum) : "x"(weights), "x"(activations));
  }
};

// Any codes: both factors widened to 16 bits, whose products vpmaddwd adds in 32; vpmaddubsw would saturate. Weights
// are widened as they are unpacked, which for 512 tokens saves a sixth of the time; an activation is widened as it is
// loaded, once for kRows products.
struct BySixteenBits {
  using Weight = int16_t;
  static constexpr int64_t kColumns = 16;
  static constexpr int kTokens = 2;
  using Block = __m256i;

  TADP_AVX2_INLINE static Block weights(const int16_t* from) { return load_weights(from); }
  template <bool Whole>
  TADP_AVX2_INLINE static Block activations(const int8_t* from, int64_t bytes) {
    if constexpr (Whole) return _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
    const __m128i mask = _mm256_castsi256_si128(first_bytes(bytes));
    return _mm256_cvtepi8_epi16(_mm_maskload_epi32(reinterpret_cast<const int*>(from), mask));
  }
  TADP_AVX2_INLINE static void multiply_add(__m256i& sum, Block weights, Block activations) {
    add(sum, _mm256_madd_epi16(weights, activations));
  }
};

// Codes below 64, which is 4 and 6 bits: four products, each of at most 63 * 128, fit 16 bits, so the results of two
// vpmaddubsw are added before they are widened. It takes 0.6 of the time of BySixteenBits.
struct ByEightBits {
  using Weight = uint8_t;
  static constexpr int64_t kColumns = 64;
  static constexpr int kTokens = 2;
  struct Block {
    __m256i left, right;
  };

  TADP_AVX2_INLINE static Block weights(const uint8_t* from) { return {load_weights(from), load_weights(from + 32)}; }
  template <bool Whole>
  TADP_AVX2_INLINE static Block activations(const int8_t* from, int64_t bytes) {
    return {load_codes<Whole>(from, bytes), load_codes<Whole>(from + 32, bytes - 32)};
  }
  TADP_AVX2_INLINE static void multiply_add(__m256i& sum, const Block& weights, const Block& activations) {
    const __m256i pairs = _mm256_add_epi16(_mm256_maddubs_epi16(weights.left, activations.left),
                                           _mm256_maddubs_epi16(weights.right, activations.right));
    add(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
  }
};

template <typename By, bool Whole, int Tokens>
TADP_AVX2_INLINE void multiply_columns(const int8_t* codes, int64_t padded, const typename By::Weight* rows,
                                       int64_t stride, int64_t bytes, __m256i (&sums)[Tokens][kRows]) {
  typename By::Block activations[Tokens];
#pragma GCC unroll 4
  for (int t = 0; t < Tokens; ++t) activations[t] = By::template activations<Whole>(codes + t * padded, bytes);
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r) {
    const typename By::Block weights = By::weights(rows + r * stride);
#pragma GCC unroll 4
    for (int t = 0; t < Tokens; ++t) By::multiply_add(sums[t][r], weights, activations[t]);
  }
}

// The integer sums of Tokens tokens with kRows unpacked weight rows over `columns` columns, to
// out[token * kTileColumns + row].
template <typename By, int Tokens>
TADP_AVX2 void multiply(const int8_t* codes, int64_t padded, int64_t columns, const typename By::Weight* rows,
                        int64_t stride, int32_t* out) {
  __m256i sums[Tokens][kRows];
#pragma GCC unroll 4
  for (int t = 0; t < Tokens; ++t) {
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) sums[t][r] = _mm256_setzero_si256();
  }
  int64_t k = 0;
  for (; k + By::kColumns <= columns; k += By::kColumns) {
    multiply_columns<By, true>(codes + k, padded, rows + k, stride, By::kColumns, sums);
  }
  // Activations behind the end read as zero, so it does not matter what the scratch holds there.
  if (k < columns) multiply_columns<By, false>(codes + k, padded, rows + k, stride, columns - k, sums);
#pragma GCC unroll 4
  for (int t = 0; t < Tokens; ++t) {
    const __m256i halves =
        _mm256_hadd_epi32(_mm256_hadd_epi32(sums[t][0], sums[t][1]), _mm256_hadd_epi32(sums[t][2], sums[t][3]));
    _mm_store_si128(reinterpret_cast<__m128i*>(out + t * kTileColumns),
                    _mm_add_epi32(_mm256_castsi256_si128(halves), _mm256_extracti128_si256(halves, 1)));
  }
}

// Unpacks one row into weights of either type; `natural` is scratch of planes.padded bytes, `codes` of another.
template <int Width>
TADP_AVX2 void unpack(const LinearProblem& problem, int64_t row, uint8_t* natural, uint8_t*, uint8_t* to) {
  unpack_weights<Width>(problem, row, natural, to);
}
template <int Width>
TADP_AVX2 void unpack(const LinearProblem& problem, int64_t row, uint8_t* natural, uint8_t* codes, int16_t* to) {
  unpack_weights<Width>(problem, row, natural, codes);
  for (int64_t k = 0; k < problem.planes.padded; ++k) to[k] = codes[k];
}

template <typename By>
constexpr std::array kMultiply = {multiply<By, 1>, multiply<By, 2>, multiply<By, 3>};  // by tokens - 1

template <typename By, int Width, typename T>
TADP_AVX2 void run(const LinearProblem& problem, int64_t begin, int64_t end) {
  const Planes& planes = problem.planes;
  const int64_t blocks = token_blocks(problem), padded = planes.padded;
  const int64_t stride = round_up(padded, kScratchAlignment);
  const int64_t parts = problem.groups == 0 ? 1 : problem.groups, part_columns = padded / parts;
  using Weight = typename By::Weight;
  constexpr int64_t bytes = sizeof(Weight);
  auto* tile = reinterpret_cast<Weight*>(aligned_scratch(kTileColumns * stride * bytes + 2 * stride));
  auto* natural = reinterpret_cast<uint8_t*>(tile + kTileColumns * stride);
  uint8_t* codes = natural + stride;
  alignas(32) int32_t sums[kTileTokens * kTileColumns];
  float totals[kTileTokens * kTileColumns];
  int64_t unpacked_tile = -1;
  for (int64_t task = begin; task < end; ++task) {
    const int64_t index = task / blocks, first = index * kTileColumns;
    const int64_t columns = std::min(kTileColumns, planes.rows - first);
    const int64_t block = task % blocks * kTileTokens, end_token = std::min(problem.tokens, block + kTileTokens);
    if (problem.groups != 0) std::fill_n(totals, kTileTokens * kTileColumns, kNothing);
    for (int64_t part = 0; part < parts; ++part) {
      const int64_t k = part * part_columns;
      for (int64_t row = 0; row < columns; row += kRows) {
        if (index != unpacked_tile && part == 0) {
          // Rows behind the last one keep what the scratch held: their sums are never read.
          for (int64_t r = row; r < std::min(row + kRows, columns); ++r) {
            unpack<Width>(problem, first + r, natural, codes, tile + r * stride);
          }
        }
        for (int64_t token = block; token < end_token; token += By::kTokens) {
          const auto tokens = static_cast<size_t>(std::min<int64_t>(By::kTokens, end_token - token));
          kMultiply<By>[tokens - 1](problem.codes + token* padded + k, padded, part_columns, tile + row* stride + k,
                                    stride, sums + (token - block)* kTileColumns + row);
        }
      }
      unpacked_tile = index;
      for (int64_t token = block; token < end_token; ++token) {
        const int64_t place = (token - block) * kTileColumns;
        if (problem.groups == 0) {
          finish_token<Width, T>(problem, token, first, columns, sums + place);
        } else {
          add_group(problem, token, part, first, columns, sums + place, totals + place);
          if (part == parts - 1) finish_groups<Width, T>(problem, token, first, columns, totals + place);
        }
      }
    }
  }
}

}  // namespace

void linear_tasks_avx2(const LinearProblem& problem, int64_t begin, int64_t end) {
  for_width_and_type(problem.planes.width, problem.output.type, [&]<int Width, typename T>() {
    run<std::conditional_t<Width == 8, BySixteenBits, ByEightBits>, Width, T>(problem, begin, end);
  });
}

void linear_tasks_avxvnni(const LinearProblem& problem, int64_t begin, int64_t end) {
  for_width_and_type(problem.planes.width, problem.output.type,
                     [&]<int Width, typename T>() { run<ByVnni, Width, T>(problem, begin, end); });
}

}  // namespace tadp
#endif
