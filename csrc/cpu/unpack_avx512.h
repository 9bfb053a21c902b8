// Unpacking rows of a weight and transposing tiles of them with AVX-512.
#pragma once

#include "avx512.h"

#if defined(__x86_64__)
#include "scratch.h"

namespace tadp {

inline constexpr int64_t kLane = kScratchAlignment;  // bytes of a register
inline constexpr int64_t kLongQuarter = 512;

// Transposes 16 x 16 numbers of 32 bits.
TADP_AVX512_INLINE void transpose(__m512i (&rows)[16]) {
  __m512i pairs[16], fours[16];
#pragma GCC unroll 8
  for (int i = 0; i < 16; i += 2) {
    pairs[i] = _mm512_unpacklo_epi32(rows[i], rows[i + 1]);
    pairs[i + 1] = _mm512_unpackhi_epi32(rows[i], rows[i + 1]);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 16; i += 4) {
    fours[i] = _mm512_unpacklo_epi64(pairs[i], pairs[i + 2]);
    fours[i + 1] = _mm512_unpackhi_epi64(pairs[i], pairs[i + 2]);
    fours[i + 2] = _mm512_unpacklo_epi64(pairs[i + 1], pairs[i + 3]);
    fours[i + 3] = _mm512_unpackhi_epi64(pairs[i + 1], pairs[i + 3]);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    const __m512i even_left = _mm512_shuffle_i32x4(fours[i], fours[4 + i], 0x88);
    const __m512i even_right = _mm512_shuffle_i32x4(fours[8 + i], fours[12 + i], 0x88);
    const __m512i odd_left = _mm512_shuffle_i32x4(fours[i], fours[4 + i], 0xDD);
    const __m512i odd_right = _mm512_shuffle_i32x4(fours[8 + i], fours[12 + i], 0xDD);
    rows[i] = _mm512_shuffle_i32x4(even_left, even_right, 0x88);
    rows[8 + i] = _mm512_shuffle_i32x4(even_left, even_right, 0xDD);
    rows[4 + i] = _mm512_shuffle_i32x4(odd_left, odd_right, 0x88);
    rows[12 + i] = _mm512_shuffle_i32x4(odd_left, odd_right, 0xDD);
  }
}

// Codes of columns j .. j + 63 of all four quarters of a row, of which `present` are there, in a frame as for
// unpack_row.
template <int Width, int Frame>
TADP_AVX512_INLINE void unpack_lane(const Planes& planes, int64_t row, int64_t j, __mmask64 present, uint8_t* codes) {
  const int64_t quarter = planes.padded / 4;
  const uint8_t* high = planes.high + row * 2 * quarter + j;
  const __m512i nibble = _mm512_set1_epi8(15), pair = _mm512_set1_epi8(3);
  const __m512i halves[2] = {_mm512_maskz_loadu_epi8(present, high), _mm512_maskz_loadu_epi8(present, high + quarter)};
  __m512i mid = _mm512_setzero_si512(), low = mid;
  if constexpr (Decode<Width>::kReadsMid) mid = _mm512_maskz_loadu_epi8(present, planes.mid + row * quarter + j);
  if constexpr (Decode<Width>::kReadsLow) low = _mm512_maskz_loadu_epi8(present, planes.low + row * quarter + j);
#pragma GCC unroll 4
  for (int q = 0; q < 4; ++q) {
    // Shifts are of 16 bits: what crosses into a neighbouring byte is masked off, or is zero.
    __m512i code = _mm512_and_si512(q < 2 ? halves[q] : _mm512_srli_epi16(halves[q - 2], 4), nibble);
    if constexpr (Decode<Width>::kReadsMid) {
      code = _mm512_or_si512(_mm512_slli_epi16(code, 2), _mm512_and_si512(_mm512_srli_epi16(mid, 2 * q), pair));
    }
    if constexpr (Decode<Width>::kReadsLow) {
      code = _mm512_or_si512(_mm512_slli_epi16(code, 2), _mm512_and_si512(_mm512_srli_epi16(low, 2 * q), pair));
    }
    if constexpr (Frame != Width) code = _mm512_slli_epi16(code, Frame - Width);
    _mm512_mask_storeu_epi8(codes + q * quarter + j, present, code);
  }
}

// The same as unpack_row. The compiler's own vectorization of that one does the end of every quarter byte by byte,
// which for quarters of 48 columns takes five times as long; of long rows it is a tenth faster than this.
template <int Width, int Frame = Width>
TADP_AVX512 void unpack_row_avx512(const Planes& planes, int64_t row, uint8_t* codes) {
  const int64_t quarter = planes.padded / 4;
  if (quarter >= kLongQuarter) return unpack_row<Width, Frame>(planes, row, codes);
  int64_t j = 0;
  for (; j + kLane <= quarter; j += kLane) unpack_lane<Width, Frame>(planes, row, j, ~__mmask64{0}, codes);
  if (j < quarter) unpack_lane<Width, Frame>(planes, row, j, (__mmask64{1} << (quarter - j)) - 1, codes);
}

}  // namespace tadp
#endif
