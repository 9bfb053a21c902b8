// Products of few tokens with unpacked weight rows along their columns, and what is fetched for the next rows
// meanwhile.
#pragma once

#include "avx512.h"

#if defined(__x86_64__)
#include "linear_kernels.h"
#include "product_avx512.h"
#include "unpack_avx512.h"

namespace tadp {

inline constexpr int kRows = 4;  // weight rows that are multiplied at a time

// The sums over all lanes of four registers.
TADP_AVX512_INLINE __m128i add_lanes(const __m512i (&sums)[kRows]) {
  __m256i halves[kRows];
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r) {
    halves[r] = _mm256_add_epi32(_mm512_castsi512_si256(sums[r]), _mm512_extracti64x4_epi64(sums[r], 1));
  }
  const __m256i quarters =
      _mm256_hadd_epi32(_mm256_hadd_epi32(halves[0], halves[1]), _mm256_hadd_epi32(halves[2], halves[3]));
  return _mm_add_epi32(_mm256_castsi256_si128(quarters), _mm256_extracti128_si256(quarters, 1));
}

// Where the planes of the next kRows weight rows stand, null where there is nothing to fetch. Multiplying leaves the
// memory idle and unpacking waits for it, so the bytes of the next unpacking are asked for while multiplying.
struct Ahead {
  const uint8_t* high = nullptr;
  const uint8_t* mid = nullptr;
  const uint8_t* low = nullptr;

  template <int Width>
  static Ahead of(const LinearProblem& problem, int64_t row) {
    const Planes& planes = problem.planes;
    const int64_t quarter = planes.padded / 4;
    Ahead ahead;
    if (row + kRows > planes.rows) return ahead;
    ahead.high = planes.high + row * 2 * quarter;
    if constexpr (Decode<Width>::kReadsMid) ahead.mid = planes.mid + row * quarter;
    if constexpr (Decode<Width>::kReadsLow) ahead.low = planes.low + row * quarter;
    return ahead;
  }
};

// Of kRows rows there are 2 * padded bytes in high and padded in mid and low: so much for each k that all are asked for
// in one run over the columns.
TADP_AVX512_INLINE void fetch(const Ahead& ahead, int64_t k) {
  if (ahead.high == nullptr) return;
  _mm_prefetch(ahead.high + 2 * k, _MM_HINT_T1);
  _mm_prefetch(ahead.high + 2 * k + kLane, _MM_HINT_T1);
  if (ahead.mid != nullptr) _mm_prefetch(ahead.mid + k, _MM_HINT_T1);
  if (ahead.low != nullptr) _mm_prefetch(ahead.low + k, _MM_HINT_T1);
}

// The same where rows have widths of their own: of mid and low each row asks for what it reads. In place of what it
// does not read, bytes of high are asked for a second time, which needs no branch.
struct AheadByRow {
  const uint8_t* high = nullptr;
  const uint8_t* mid[kRows] = {};
  const uint8_t* low[kRows] = {};

  template <int Width>
  static AheadByRow of(const LinearProblem& problem, int64_t row) {
    const Planes& planes = problem.planes;
    const int64_t quarter = planes.padded / 4;
    AheadByRow ahead;
    if (row + kRows > planes.rows) return ahead;
    ahead.high = planes.high + row * 2 * quarter;
    for (int64_t r = 0; r < kRows; ++r) {
      const uint8_t width = problem.widths[row + r];
      const uint8_t* high = ahead.high + r * 2 * quarter;
      ahead.mid[r] = width >= 6 ? planes.mid + (row + r) * quarter : high;
      ahead.low[r] = width == 8 ? planes.low + (row + r) * quarter : high;
    }
    return ahead;
  }
};

// Of mid and low, a step asks for bytes of one row only, and every fourth step for the next ones of the same row.
TADP_AVX512_INLINE void fetch(const AheadByRow& ahead, int64_t k) {
  if (ahead.high == nullptr) return;
  _mm_prefetch(ahead.high + 2 * k, _MM_HINT_T1);
  _mm_prefetch(ahead.high + 2 * k + kLane, _MM_HINT_T1);
  const int64_t row = k / kLane % kRows, place = k / (kRows * kLane) * kLane;
  _mm_prefetch(ahead.mid[row] + place, _MM_HINT_T1);
  _mm_prefetch(ahead.low[row] + place, _MM_HINT_T1);
}

// The integer sums of Tokens tokens with kRows unpacked weight rows over `columns` columns, to
// out[token * pitch + row].
template <typename Next, int Tokens>
TADP_AVX512 void multiply_rows(const int8_t* codes, int64_t padded, int64_t columns, const uint8_t* rows,
                               int64_t stride, const Next& ahead, int32_t* out, int64_t pitch) {
  __m512i sums[Tokens][kRows];
#pragma GCC unroll 6
  for (int t = 0; t < Tokens; ++t) {
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) sums[t][r] = _mm512_setzero_si512();
  }
  for (int64_t k = 0; k < columns; k += kLane) {
    // Activations behind the end read as zero, so it does not matter what the scratch holds there.
    const __mmask64 present = columns - k >= kLane ? ~__mmask64{0} : (__mmask64{1} << (columns - k)) - 1;
    fetch(ahead, k);
    __m512i weights[kRows];
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) weights[r] = _mm512_load_si512(rows + r * stride + k);
#pragma GCC unroll 6
    for (int t = 0; t < Tokens; ++t) {
      const __m512i activation = _mm512_maskz_loadu_epi8(present, codes + t * padded + k);
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r) multiply_add(sums[t][r], weights[r], activation);
    }
  }
#pragma GCC unroll 6
  for (int t = 0; t < Tokens; ++t) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out + t * pitch), add_lanes(sums[t]));
  }
}

}  // namespace tadp
#endif
