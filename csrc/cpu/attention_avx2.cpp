// Products of attention in registers of 256 bits, with vpdpbusd where there is AVX-VNNI; all else is the plain steps,
// compiled for AVX2.
//
// A register tile is 2 rows of codes by 32 queries: eight sums, and what is loaded, fit the 16 registers.
#include "attention_steps.h"

#if defined(__x86_64__)
#include <immintrin.h>

#define TADP_AVX2_INLINE [[gnu::always_inline]] TADP_AVX2 inline

namespace tadp {
namespace {

constexpr int kRows = 2;
constexpr int kRegisters = 4;  // of eight queries

// Four unsigned codes of each of eight queries times four signed ones, and how they are added to the queries' sums.

struct ByVnni {
  using Codes = __m256i;

  TADP_AVX2_INLINE static Codes codes(int32_t four) { return _mm256_set1_epi32(four); }
  TADP_AVX2_INLINE static void multiply_add(__m256i& sum, __m256i queries, Codes codes) {
    asm("%{vex%} vpdpbusd %2, %1, %0" : "+x"(sum) : "x"(queries), "x"(codes));
  }
};

// Even and odd codes as numbers of 16 bits, as vpmaddubsw would saturate.
struct BySixteenBits {
  struct Codes {
    __m256i even, odd;
  };

  TADP_AVX2_INLINE static Codes codes(int32_t four) {
    const __m256i all = _mm256_set1_epi32(four);
    return {_mm256_srai_epi16(_mm256_slli_epi16(all, 8), 8), _mm256_srai_epi16(all, 8)};
  }
  TADP_AVX2_INLINE static void multiply_add(__m256i& sum, __m256i queries, const Codes& codes) {
    const __m256i even = _mm256_and_si256(queries, _mm256_set1_epi16(0xFF)), odd = _mm256_srli_epi16(queries, 8);
    const __m256i products = _mm256_add_epi32(_mm256_madd_epi16(even, codes.even), _mm256_madd_epi16(odd, codes.odd));
    sum = _mm256_add_epi32(sum, products);
  }
};

template <typename By, int Rows>
TADP_AVX2 void multiply_tile(const int8_t* codes, int64_t pitch, int64_t depth, const uint8_t* tile, int32_t* sums) {
  __m256i totals[Rows][kRegisters];
#pragma GCC unroll 2
  for (int r = 0; r < Rows; ++r) {
#pragma GCC unroll 4
    for (int i = 0; i < kRegisters; ++i) totals[r][i] = _mm256_setzero_si256();
  }
  for (int64_t k = 0; k < depth; k += 4, tile += kTileQueries * 4) {
    typename By::Codes rows[Rows];
#pragma GCC unroll 2
    for (int r = 0; r < Rows; ++r) {
      int32_t four;
      std::memcpy(&four, codes + r * pitch + k, sizeof(four));
      rows[r] = By::codes(four);
    }
#pragma GCC unroll 4
    for (int i = 0; i < kRegisters; ++i) {
      const __m256i queries = _mm256_load_si256(reinterpret_cast<const __m256i*>(tile + i * 32));
#pragma GCC unroll 2
      for (int r = 0; r < Rows; ++r) By::multiply_add(totals[r][i], queries, rows[r]);
    }
  }
#pragma GCC unroll 2
  for (int r = 0; r < Rows; ++r) {
#pragma GCC unroll 4
    for (int i = 0; i < kRegisters; ++i) {
      _mm256_store_si256(reinterpret_cast<__m256i*>(sums + r * kTileQueries + i * 8), totals[r][i]);
    }
  }
}

template <typename By>
struct Avx2 : PlainSteps<Avx2<By>> {
  static TokenScale quantize(const float* values, int64_t columns, int8_t* codes) {
    return quantize_row_avx2(values, columns, codes);
  }

  TADP_AVX2 static void multiply(const int8_t* codes, int64_t pitch, int64_t rows, int64_t depth, const uint8_t* tile,
                                 int32_t* sums) {
    for (int64_t half = 0; half < kTileQueries; half += 8 * kRegisters) {
      int64_t r = 0;
      for (; r + kRows <= rows; r += kRows) {
        multiply_tile<By, kRows>(codes + r * pitch, pitch, depth, tile + half * 4, sums + r * kTileQueries + half);
      }
      if (r < rows) {
        multiply_tile<By, 1>(codes + r * pitch, pitch, depth, tile + half * 4, sums + r * kTileQueries + half);
      }
    }
  }
};

template <typename By, typename T>
TADP_AVX2 void average(const AttentionProblem& problem, int64_t begin, int64_t end) {
  average_pairs<By, T>(problem, begin, end);
}
template <typename By, typename T>
TADP_AVX2 void encode(const AttentionProblem& problem, int64_t begin, int64_t end) {
  encode_blocks<By, T>(problem, begin, end);
}
template <typename By, typename T>
TADP_AVX2 void attend(const AttentionProblem& problem, int64_t begin, int64_t end) {
  attend_tiles<By, T>(problem, begin, end);
}

}  // namespace

template <typename T>
AttentionPhases attention_avx2() {
  return {average<Avx2<BySixteenBits>, T>, encode<Avx2<BySixteenBits>, T>, attend<Avx2<BySixteenBits>, T>};
}
template <typename T>
AttentionPhases attention_avxvnni() {
  return {average<Avx2<ByVnni>, T>, encode<Avx2<ByVnni>, T>, attend<Avx2<ByVnni>, T>};
}

#define TADP_INSTANTIATE(T)                     \
  template AttentionPhases attention_avx2<T>(); \
  template AttentionPhases attention_avxvnni<T>();
TADP_INSTANTIATE(float)
TADP_INSTANTIATE(BFloat16)
TADP_INSTANTIATE(Half)
#undef TADP_INSTANTIATE

}  // namespace tadp
#endif
