// Loads and stores of 16 values for the AVX-512 kernels, with conversion to and from float32.
#pragma once

#if defined(__x86_64__)
#include <immintrin.h>

#include "rows.h"

#define TADP_AVX512_INLINE [[gnu::always_inline]] TADP_AVX512 inline

namespace tadp {

TADP_AVX512_INLINE __mmask16 first_lanes(int64_t count) {
  return count >= 16 ? static_cast<__mmask16>(0xFFFF) : static_cast<__mmask16>((1U << count) - 1U);
}

TADP_AVX512_INLINE __m512 load16(const float* from, __mmask16 lanes) { return _mm512_maskz_loadu_ps(lanes, from); }
TADP_AVX512_INLINE __m512 load16(const BFloat16* from, __mmask16 lanes) {
  const __m256i bits = _mm256_maskz_loadu_epi16(lanes, from);
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
}
TADP_AVX512_INLINE __m512 load16(const Half* from, __mmask16 lanes) {
  return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(lanes, from));
}

TADP_AVX512_INLINE void store16(float* to, __mmask16 lanes, __m512 value) { _mm512_mask_storeu_ps(to, lanes, value); }
TADP_AVX512_INLINE void store16(BFloat16* to, __mmask16 lanes, __m512 value) {
  // Round half to even by hand: vcvtneps2bf16 would flush subnormals, and is not part of every VNNI processor.
  const __m512i bits = _mm512_castps_si512(value);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  __m512i rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7FFF)));
  rounded = _mm512_srli_epi32(rounded, 16);
  const __mmask16 is_nan = _mm512_cmp_ps_mask(value, value, _CMP_UNORD_Q);
  rounded = _mm512_mask_mov_epi32(rounded, is_nan, _mm512_set1_epi32(0x7FC0));
  _mm256_mask_storeu_epi16(to, lanes, _mm512_cvtepi32_epi16(rounded));
}
TADP_AVX512_INLINE void store16(Half* to, __mmask16 lanes, __m512 value) {
  _mm256_mask_storeu_epi16(to, lanes, _mm512_cvtps_ph(value, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}

}  // namespace tadp
#endif
