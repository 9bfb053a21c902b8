// Loads, stores, sums and a transposition for the kernels in registers of 256 bits.
#pragma once

#if defined(__x86_64__)
#include <immintrin.h>

#include <cstdint>
#include <cstring>

#include "rows.h"

#define TADP_AVX2_INLINE [[gnu::always_inline]] TADP_AVX2 inline

namespace tadp {

TADP_AVX2_INLINE __m256i load32(const void* from) { return _mm256_load_si256(static_cast<const __m256i*>(from)); }
TADP_AVX2_INLINE void store32(void* to, __m256i value) { _mm256_store_si256(static_cast<__m256i*>(to), value); }

// Four bytes to all lanes of 32 bits.
TADP_AVX2_INLINE __m256i broadcast4(const void* from) {
  int32_t four;
  std::memcpy(&four, from, sizeof(four));
  return _mm256_set1_epi32(four);
}

// sum += product in lanes of 32 and of 16 bits. In assembly, because GCC 12 otherwise moves the sums through a second
// register, which costs a twentieth of the speed.
TADP_AVX2_INLINE void add32(__m256i& sum, __m256i product) { asm("vpaddd %1, %0, %0" : "+x"(sum) : "x"(product)); }
TADP_AVX2_INLINE void add16(__m256i& sum, __m256i product) { asm("vpaddw %1, %0, %0" : "+x"(sum) : "x"(product)); }

// sum += u * a over the four bytes of each lane of 32 bits, of processors with AVX-VNNI. In assembly for the same
// reason; it also leaves the compiler's target at AVX2, so that both sets share the functions around it.
TADP_AVX2_INLINE void add_products_of_bytes(__m256i& sum, __m256i unsigned_codes, __m256i signed_codes) {
  asm("%{vex%} vpdpbusd %2, %1, %0" : "+x"(sum) : "x"(unsigned_codes), "x"(signed_codes));
}

// Stores eight values, rounded half to even; not a number becomes the one that has no sign and no payload.
TADP_AVX2_INLINE void store8(float* to, __m256 value) { _mm256_storeu_ps(to, value); }
TADP_AVX2_INLINE void store8(BFloat16* to, __m256 value) {
  const __m256i bits = _mm256_castps_si256(value);
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
  const __m256i rounded = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7FFF)));
  const __m256i is_nan = _mm256_castps_si256(_mm256_cmp_ps(value, value, _CMP_UNORD_Q));
  const __m256i upper = _mm256_blendv_epi8(_mm256_srli_epi32(rounded, 16), _mm256_set1_epi32(0x7FC0), is_nan);
  const __m128i packed = _mm_packus_epi32(_mm256_castsi256_si128(upper), _mm256_extracti128_si256(upper, 1));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(to), packed);
}
TADP_AVX2_INLINE void store8(Half* to, __m256 value) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(to),
                   _mm256_cvtps_ph(value, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}

// Transposes 8 x 8 numbers of 32 bits.
TADP_AVX2_INLINE void transpose(__m256i (&rows)[8]) {
  __m256i pairs[8], fours[8];
#pragma GCC unroll 4
  for (int i = 0; i < 8; i += 2) {
    pairs[i] = _mm256_unpacklo_epi32(rows[i], rows[i + 1]);
    pairs[i + 1] = _mm256_unpackhi_epi32(rows[i], rows[i + 1]);
  }
#pragma GCC unroll 2
  for (int i = 0; i < 8; i += 4) {
    fours[i] = _mm256_unpacklo_epi64(pairs[i], pairs[i + 2]);
    fours[i + 1] = _mm256_unpackhi_epi64(pairs[i], pairs[i + 2]);
    fours[i + 2] = _mm256_unpacklo_epi64(pairs[i + 1], pairs[i + 3]);
    fours[i + 3] = _mm256_unpackhi_epi64(pairs[i + 1], pairs[i + 3]);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    rows[i] = _mm256_permute2x128_si256(fours[i], fours[4 + i], 0x20);
    rows[4 + i] = _mm256_permute2x128_si256(fours[i], fours[4 + i], 0x31);
  }
}

}  // namespace tadp
#endif
