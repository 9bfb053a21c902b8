// The codes of attention's weights with AVX2, in integers of 16 bits; the same steps as weight_parts() and weigh() in
// attention_steps.h.
#pragma once

#include "attention_steps.h"

#if defined(__x86_64__)
#include "product_avx2.h"

namespace tadp {

// parts >> -n of 16 lanes for n from -16 to 0, where only kPower0 has n = 0. AVX2 shifts no 16-bit lanes by numbers of
// their own, so the parts are multiplied by 2^(16 + n), of which the upper half is taken.
TADP_AVX2_INLINE __m256i shift_down(__m256i parts, __m256i x) {
  // 2^m for m = 16 + n, which is bits 11 to 14 of x, by bytes; 2^0 is left out, as its upper half is nothing.
  const __m256i low = _mm256_broadcastsi128_si256(
      _mm_setr_epi8(0, 2, 4, 8, 16, 32, 64, static_cast<char>(128), 0, 0, 0, 0, 0, 0, 0, 0));
  const __m256i high = _mm256_broadcastsi128_si256(
      _mm_setr_epi8(0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 4, 8, 16, 32, 64, static_cast<char>(128)));
  const __m256i m = _mm256_srli_epi16(x, 11);  // a byte, of which the lookup reads four bits, below one of zero
  const __m256i power =
      _mm256_or_si256(_mm256_shuffle_epi8(low, m), _mm256_slli_epi16(_mm256_shuffle_epi8(high, m), 8));
  const __m256i whole = _mm256_and_si256(_mm256_cmpeq_epi16(x, _mm256_setzero_si256()), _mm256_set1_epi16(kPower0));
  return _mm256_or_si256(_mm256_mulhi_epu16(parts, power), whole);
}

// weight_parts() of 16 rounded differences.
TADP_AVX2_INLINE __m256i weight_parts(__m256i x) {
  const __m256i f = _mm256_slli_epi16(x, 5);
  __m256i power = _mm256_add_epi16(_mm256_mulhi_epu16(f, _mm256_set1_epi16(kPower3)), _mm256_set1_epi16(kPower2));
  power = _mm256_add_epi16(_mm256_mulhi_epu16(f, power), _mm256_set1_epi16(kPower1));
  power = _mm256_add_epi16(_mm256_mulhi_epu16(f, power), _mm256_set1_epi16(kPower0));
  return shift_down(power, x);
}

// The codes of the weights of 16 queries for one key, of their scores and peaks, in the order of lanes that packing
// gives: 0 to 3, 8 to 11, 4 to 7, 12 to 15. What was lost before is added, and replaced by what is lost now.
TADP_AVX2_INLINE __m256i weight_codes(const float* scores, const __m256 (&peak)[2], __m256i& lost) {
  // Where a difference is below all integers, or not a number, the conversion gives the least.
  const __m256i left = _mm256_cvtps_epi32(_mm256_sub_ps(_mm256_load_ps(scores), peak[0]));
  const __m256i right = _mm256_cvtps_epi32(_mm256_sub_ps(_mm256_load_ps(scores + 8), peak[1]));
  const __m256i wanted = _mm256_add_epi16(weight_parts(_mm256_packs_epi32(left, right)), lost);
  static_assert(kPartsOfCode == 1 << 7);
  lost = _mm256_and_si256(wanted, _mm256_set1_epi16(kPartsOfCode - 1));
  return _mm256_srli_epi16(wanted, 7);
}

// Stores codes of two keys, interleaved, for 16 lanes of a step. Interleaving brings packed lanes into their order.
TADP_AVX2_INLINE void store_pairs(__m256i first, __m256i second, uint8_t* to) {
  store32(to, _mm256_unpacklo_epi16(first, second));
  store32(to + 32, _mm256_unpackhi_epi16(first, second));
}

// A panel of the codes of weights. `scores`, whose keys are kTileQueries apart, and `peak` are those of its first lane;
// scores behind the last key are minus infinity up to a multiple of four.
template <typename Steps>
TADP_AVX2 void weigh_panel(int64_t keys, const float* scores, const float* peaks, uint8_t* to) {
  const __m256 peak[2] = {_mm256_load_ps(peaks), _mm256_load_ps(peaks + 8)};
  __m256i lost_even = _mm256_set1_epi16(kPartsOfCode / 2), lost_odd = lost_even;
  for (int64_t key = 0; key < keys; key += 4, scores += 4 * kTileQueries, to += Steps::kStepsOfFour * kStepBytes) {
    const __m256i first = weight_codes(scores, peak, lost_even);
    const __m256i second = weight_codes(scores + kTileQueries, peak, lost_odd);
    const __m256i third = weight_codes(scores + 2 * kTileQueries, peak, lost_even);
    const __m256i fourth = weight_codes(scores + 3 * kTileQueries, peak, lost_odd);
    if constexpr (Steps::kStepsOfFour == 2) {
      store_pairs(first, third, to);
      store_pairs(second, fourth, to + kStepBytes);
    } else {
      store_pairs(_mm256_or_si256(first, _mm256_slli_epi16(second, 8)),
                  _mm256_or_si256(third, _mm256_slli_epi16(fourth, 8)), to);
    }
  }
}

}  // namespace tadp
#endif
