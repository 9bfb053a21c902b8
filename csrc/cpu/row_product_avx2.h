// Products of few tokens with unpacked weight rows along their columns, in registers of 256 bits.
//
// Four rows at a time are multiplied with a few tokens, with eight partial sums for each pair, which are added up at
// the end. A panel of product_avx2.h would take longer to arrange than its products.
#pragma once

#include "avx2.h"

#if defined(__x86_64__)
#include <algorithm>
#include <array>

#include "linear_kernels.h"

namespace tadp {

inline constexpr int kDotRows = 4;
static_assert(kTileColumns % kDotRows == 0);

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

// How kColumns weights of a row are multiplied with as many activations and added to the eight partial sums of a pair;
// with kTokens tokens by kDotRows rows, sums and operands fit the 16 registers.

struct DotsByVnni {
  using Weight = uint8_t;
  static constexpr int64_t kColumns = 32;
  static constexpr int kTokens = 3;
  using Block = __m256i;

  TADP_AVX2_INLINE static Block weights(const uint8_t* from) { return load32(from); }
  template <bool Whole>
  TADP_AVX2_INLINE static Block activations(const int8_t* from, int64_t bytes) {
    return load_codes<Whole>(from, bytes);
  }
  TADP_AVX2_INLINE static void multiply_add(__m256i& sum, Block weights, Block activations) {
    add_products_of_bytes(sum, weights, activations);
  }
};

// Any codes: both factors widened to 16 bits, whose products vpmaddwd adds in 32; vpmaddubsw would saturate. Weights
// are widened as they are unpacked, which for 512 tokens saves a sixth of the time; an activation is widened as it is
// loaded, once for kDotRows products.
struct DotsOfSixteenBits {
  using Weight = int16_t;
  static constexpr int64_t kColumns = 16;
  static constexpr int kTokens = 2;
  using Block = __m256i;

  TADP_AVX2_INLINE static Block weights(const int16_t* from) { return load32(from); }
  template <bool Whole>
  TADP_AVX2_INLINE static Block activations(const int8_t* from, int64_t bytes) {
    if constexpr (Whole) return _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
    const __m128i mask = _mm256_castsi256_si128(first_bytes(bytes));
    return _mm256_cvtepi8_epi16(_mm_maskload_epi32(reinterpret_cast<const int*>(from), mask));
  }
  TADP_AVX2_INLINE static void multiply_add(__m256i& sum, Block weights, Block activations) {
    add32(sum, _mm256_madd_epi16(weights, activations));
  }
};

// Codes below 64, which is 4 and 6 bits: four products, each of at most 63 * 128, fit 16 bits, so the results of two
// vpmaddubsw are added before they are widened. It takes 0.6 of the time of DotsOfSixteenBits.
struct DotsOfEightBits {
  using Weight = uint8_t;
  static constexpr int64_t kColumns = 64;
  static constexpr int kTokens = 2;
  struct Block {
    __m256i left, right;
  };

  TADP_AVX2_INLINE static Block weights(const uint8_t* from) { return {load32(from), load32(from + 32)}; }
  template <bool Whole>
  TADP_AVX2_INLINE static Block activations(const int8_t* from, int64_t bytes) {
    return {load_codes<Whole>(from, bytes), load_codes<Whole>(from + 32, bytes - 32)};
  }
  TADP_AVX2_INLINE static void multiply_add(__m256i& sum, const Block& weights, const Block& activations) {
    const __m256i pairs = _mm256_add_epi16(_mm256_maddubs_epi16(weights.left, activations.left),
                                           _mm256_maddubs_epi16(weights.right, activations.right));
    add32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
  }
};

template <typename Dots, bool Whole, int Tokens>
TADP_AVX2_INLINE void multiply_columns(const int8_t* codes, int64_t padded, const typename Dots::Weight* rows,
                                       int64_t stride, int64_t bytes, __m256i (&sums)[Tokens][kDotRows]) {
  typename Dots::Block activations[Tokens];
#pragma GCC unroll 4
  for (int t = 0; t < Tokens; ++t) activations[t] = Dots::template activations<Whole>(codes + t * padded, bytes);
#pragma GCC unroll 4
  for (int r = 0; r < kDotRows; ++r) {
    const typename Dots::Block weights = Dots::weights(rows + r * stride);
#pragma GCC unroll 4
    for (int t = 0; t < Tokens; ++t) Dots::multiply_add(sums[t][r], weights, activations[t]);
  }
}

// The integer sums of Tokens tokens with kDotRows unpacked weight rows over `columns` columns, to
// out[token * kTileColumns + row].
template <typename Dots, int Tokens>
TADP_AVX2 void multiply_dots(const int8_t* codes, int64_t padded, int64_t columns, const typename Dots::Weight* rows,
                             int64_t stride, int32_t* out) {
  __m256i sums[Tokens][kDotRows];
#pragma GCC unroll 4
  for (int t = 0; t < Tokens; ++t) {
#pragma GCC unroll 4
    for (int r = 0; r < kDotRows; ++r) sums[t][r] = _mm256_setzero_si256();
  }
  int64_t k = 0;
  for (; k + Dots::kColumns <= columns; k += Dots::kColumns) {
    multiply_columns<Dots, true>(codes + k, padded, rows + k, stride, Dots::kColumns, sums);
  }
  // Activations behind the end read as zero, so it does not matter what the scratch holds there.
  if (k < columns) multiply_columns<Dots, false>(codes + k, padded, rows + k, stride, columns - k, sums);
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

template <typename Dots>
constexpr std::array kMultiplyDots = {multiply_dots<Dots, 1>, multiply_dots<Dots, 2>,
                                      multiply_dots<Dots, 3>};  // by tokens - 1

}  // namespace tadp
#endif
