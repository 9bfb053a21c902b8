#include "avx512.h"

#if defined(__x86_64__)
#include <cstring>

namespace tadp {
namespace {

template <int Width, typename T>
TADP_AVX512_INLINE void restore(const uint8_t* codes, int64_t begin, int64_t end, float scale, T* out) {
  const __m512 zero = _mm512_set1_ps(Decode<Width>::kZero + Decode<Width>::kHalf);
  const __m512 factor = _mm512_set1_ps(scale);
  for (int64_t k = begin; k < end; k += 16) {
    const __mmask16 lanes = first_lanes(end - k);
    const __m512i code = _mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(lanes, codes + k));
    const __m512 level = _mm512_cvtepi32_ps(_mm512_slli_epi32(code, Decode<Width>::kShift));
    store16(out + k, lanes, _mm512_mul_ps(_mm512_sub_ps(level, zero), factor));
  }
}

template <int Width, typename T>
TADP_AVX512 void dequantize_codes(const Planes& planes, int64_t row, const RowScale& scale, int64_t columns,
                                  uint8_t* codes, T* out) {
  unpack_row<Width>(planes, row, codes);
  const int64_t length = columns / scale.runs();
  for (int64_t run = 0; run < scale.runs(); ++run) {
    restore<Width>(codes, run * length, (run + 1) * length, scale.of_run(run), out);
  }
}

}  // namespace

template <typename T>
TokenScale quantize_row_avx512(const T* x, int64_t columns, int8_t* codes) {
  const __m512i magnitude = _mm512_set1_epi32(0x7FFFFFFF);
  __m512i peaks = _mm512_setzero_si512();
  for (int64_t k = 0; k < columns; k += 16) {
    const __m512i bits = _mm512_castps_si512(load16(x + k, first_lanes(columns - k)));
    peaks = _mm512_max_epi32(peaks, _mm512_and_si512(bits, magnitude));
  }
  const int32_t peak_bits = _mm512_reduce_max_epi32(peaks);
  float peak;
  std::memcpy(&peak, &peak_bits, sizeof(peak));
  const bool poisoned = peak_bits >= 0x7F800000;
  if (poisoned || peak < kSmallestPeak) {
    std::memset(codes, 0, static_cast<size_t>(columns));
    return {poisoned ? std::numeric_limits<float>::quiet_NaN() : 1.0F, 0};
  }
  const __m512 inverse = _mm512_set1_ps(127.0F / peak);
  __m512i sums = _mm512_setzero_si512();
  for (int64_t k = 0; k < columns; k += 16) {
    const __mmask16 lanes = first_lanes(columns - k);
    const __m512 scaled = _mm512_mul_ps(load16(x + k, lanes), inverse);
    const __m512i code = _mm512_cvt_roundps_epi32(scaled, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    sums = _mm512_add_epi32(sums, code);
    _mm_mask_storeu_epi8(codes + k, lanes, _mm512_cvtepi32_epi8(code));
  }
  return {peak / 127.0F, _mm512_reduce_add_epi32(sums)};
}

template <typename T>
void dequantize_row_avx512(const Planes& planes, int64_t row, const RowScale& scale, int64_t columns, uint8_t* codes,
                           T* out) {
  if (planes.width == 8) return dequantize_codes<8>(planes, row, scale, columns, codes, out);
  if (planes.width == 6) return dequantize_codes<6>(planes, row, scale, columns, codes, out);
  dequantize_codes<4>(planes, row, scale, columns, codes, out);
}

#define TADP_INSTANTIATE(T)                                               \
  template TokenScale quantize_row_avx512<T>(const T*, int64_t, int8_t*); \
  template void dequantize_row_avx512<T>(const Planes&, int64_t, const RowScale&, int64_t, uint8_t*, T*);
TADP_INSTANTIATE(float)
TADP_INSTANTIATE(BFloat16)
TADP_INSTANTIATE(Half)
#undef TADP_INSTANTIATE

}  // namespace tadp
#endif
