// Integer products with vpdpbusd: four unsigned codes times four signed ones, summed into 32 bits.
#pragma once

#include "avx512.h"

#if defined(__x86_64__)
#include <cstring>

namespace tadp {

// sum += u * a over the four bytes of each 32-bit lane. The intrinsic would do, but GCC 12 then moves every sum through
// a second register, which costs half of the speed.
TADP_AVX512_INLINE void multiply_add(__m512i& sum, __m512i unsigned_codes, __m512i signed_codes) {
  asm("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(unsigned_codes), "v"(signed_codes));
}

// Adds to the sums of Rows rows of signed codes, `pitch` apart, with the Lanes * 16 columns of an unsigned tile
// [depth / 4][Lanes][16][4]. With 6 rows and 4 lanes, 24 sums, 4 registers of the tile and one broadcast of codes fit
// the 32 registers, and each register of the tile is used six times.
template <int Rows, int Lanes>
TADP_AVX512_INLINE void add_products(const int8_t* codes, int64_t pitch, int64_t depth, const uint8_t* tile,
                                     __m512i (&sums)[Rows][Lanes]) {
  constexpr int64_t kBytes = sizeof(__m512i);
  for (int64_t k = 0; k < depth; k += 4, tile += Lanes * kBytes) {
    __m512i columns[Lanes];
#pragma GCC unroll 4
    for (int lane = 0; lane < Lanes; ++lane) columns[lane] = _mm512_load_si512(tile + lane * kBytes);
#pragma GCC unroll 6
    for (int r = 0; r < Rows; ++r) {
      int32_t four;
      std::memcpy(&four, codes + r * pitch + k, sizeof(four));
      const __m512i row = _mm512_set1_epi32(four);
#pragma GCC unroll 4
      for (int lane = 0; lane < Lanes; ++lane) multiply_add(sums[r][lane], columns[lane], row);
    }
  }
}

// The same, from zero.
template <int Rows, int Lanes>
TADP_AVX512_INLINE void multiply_tile(const int8_t* codes, int64_t pitch, int64_t depth, const uint8_t* tile,
                                      __m512i (&sums)[Rows][Lanes]) {
#pragma GCC unroll 6
  for (int r = 0; r < Rows; ++r) {
#pragma GCC unroll 4
    for (int lane = 0; lane < Lanes; ++lane) sums[r][lane] = _mm512_setzero_si512();
  }
  add_products(codes, pitch, depth, tile, sums);
}

}  // namespace tadp
#endif
