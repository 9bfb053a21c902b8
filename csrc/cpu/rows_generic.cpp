#include <algorithm>
#include <bit>
#include <cstring>

#include "../arithmetic.h"
#include "isa.h"
#include "rows.h"

namespace tadp {
namespace {

constexpr uint32_t kInfinityBits = 0x7F800000U;

[[gnu::always_inline]] inline int32_t round_half_even(float value) {
  return static_cast<int32_t>(bits_of(value + kRound) - bits_of(kRound));
}

template <int Width, typename T>
[[gnu::always_inline]] inline void dequantize_codes(const Planes& planes, int64_t row, const RowScale& scale,
                                                    int64_t columns, uint8_t* codes, T* out) {
  unpack_row<Width>(planes, row, codes);
  constexpr float zero = Decode<Width>::kZero + Decode<Width>::kHalf;
  const int64_t length = columns / scale.runs();
  for (int64_t run = 0; run < scale.runs(); ++run) {
    const float factor = scale.of_run(run);
    for (int64_t k = run * length; k < (run + 1) * length; ++k) {
      out[k] = static_cast<T>((static_cast<float>(codes[k] << Decode<Width>::kShift) - zero) * factor);
    }
  }
}

template <typename T>
[[gnu::always_inline]] inline TokenScale quantize_row(const T* x, int64_t columns, int8_t* codes) {
  // With the sign gone, floats order like their bits, and NaN and infinity stand above all numbers.
  uint32_t peak_bits = 0;
  for (int64_t k = 0; k < columns; ++k) {
    peak_bits = std::max(peak_bits, std::bit_cast<uint32_t>(static_cast<float>(x[k])) & 0x7FFFFFFFU);
  }
  const float peak = std::bit_cast<float>(peak_bits);
  const bool poisoned = peak_bits >= kInfinityBits;
  if (poisoned || peak < kSmallestPeak) {
    std::memset(codes, 0, static_cast<size_t>(columns));
    return {poisoned ? std::numeric_limits<float>::quiet_NaN() : 1.0F, 0};
  }
  const float inverse = 127.0F / peak;
  int32_t sum = 0;
  for (int64_t k = 0; k < columns; ++k) {
    const int32_t code = round_half_even(static_cast<float>(x[k]) * inverse);
    codes[k] = static_cast<int8_t>(code);
    sum += code;
  }
  return {peak / 127.0F, sum};
}

template <typename T>
[[gnu::always_inline]] inline void dequantize_row(const Planes& planes, int64_t row, const RowScale& scale,
                                                  int64_t columns, uint8_t* codes, T* out) {
  if (planes.width == 8) return dequantize_codes<8>(planes, row, scale, columns, codes, out);
  if (planes.width == 6) return dequantize_codes<6>(planes, row, scale, columns, codes, out);
  dequantize_codes<4>(planes, row, scale, columns, codes, out);
}

}  // namespace

template <typename T>
TokenScale quantize_row_portable(const T* x, int64_t columns, int8_t* codes) {
  return quantize_row(x, columns, codes);
}

template <typename T>
void dequantize_row_portable(const Planes& planes, int64_t row, const RowScale& scale, int64_t columns, uint8_t* codes,
                             T* out) {
  dequantize_row(planes, row, scale, columns, codes, out);
}

#if defined(__x86_64__)
template <typename T>
TokenScale quantize_row_avx2(const T* x, int64_t columns, int8_t* codes) {
  return quantize_row(x, columns, codes);
}

template <typename T>
void dequantize_row_avx2(const Planes& planes, int64_t row, const RowScale& scale, int64_t columns, uint8_t* codes,
                         T* out) {
  dequantize_row(planes, row, scale, columns, codes, out);
}
#endif

#define TADP_INSTANTIATE(T, SET)                                         \
  template TokenScale quantize_row_##SET<T>(const T*, int64_t, int8_t*); \
  template void dequantize_row_##SET<T>(const Planes&, int64_t, const RowScale&, int64_t, uint8_t*, T*);
TADP_INSTANTIATE(float, portable)
TADP_INSTANTIATE(BFloat16, portable)
TADP_INSTANTIATE(Half, portable)
#if defined(__x86_64__)
TADP_INSTANTIATE(float, avx2)
TADP_INSTANTIATE(BFloat16, avx2)
TADP_INSTANTIATE(Half, avx2)
#endif
#undef TADP_INSTANTIATE

}  // namespace tadp
