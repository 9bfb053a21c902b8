// Work on single rows, in portable C++, the same compiled for AVX2, and for AVX-512: quantizing a token, restoring a
// row of weights. T is float, BFloat16 or Half.
#pragma once

#include <torch/headeronly/util/BFloat16.h>
#include <torch/headeronly/util/Half.h>

#include <cstdint>

#include "isa.h"
#include "planes.h"

namespace tadp {

using BFloat16 = c10::BFloat16;
using Half = c10::Half;

struct TokenScale {
  float scale;
  int32_t sum;  // of the codes
};

// codes = round-half-even(x * (127 / amax)), scale = amax / 127, all in float32. The codes of a row that holds NaN or
// an infinity are zero and its scale is NaN.
template <typename T>
TokenScale quantize_row_portable(const T* x, int64_t columns, int8_t* codes);
template <typename T>
TADP_AVX2 TokenScale quantize_row_avx2(const T* x, int64_t columns, int8_t* codes);
template <typename T>
TADP_AVX512 TokenScale quantize_row_avx512(const T* x, int64_t columns, int8_t* codes);

// The scales of one weight row: one, or one for each group, `stride` apart.
struct RowScale {
  const float* first;
  int64_t stride;
  int64_t groups;  // 0: one

  // Runs of neighbouring columns that share a scale: the whole row, or one of each group in each quarter.
  int64_t runs() const { return groups == 0 ? 1 : 4 * groups; }
  float of_run(int64_t run) const { return groups == 0 ? *first : first[run % groups * stride]; }
};

// out = scale * (2^(8-b) * u_b - z_b) in float32, then rounded to T. `codes` is scratch of planes.padded bytes.
template <typename T>
void dequantize_row_portable(const Planes& planes, int64_t row, const RowScale& scale, int64_t columns, uint8_t* codes,
                             T* out);
template <typename T>
TADP_AVX2 void dequantize_row_avx2(const Planes& planes, int64_t row, const RowScale& scale, int64_t columns,
                                   uint8_t* codes, T* out);
template <typename T>
TADP_AVX512 void dequantize_row_avx512(const Planes& planes, int64_t row, const RowScale& scale, int64_t columns,
                                       uint8_t* codes, T* out);

}  // namespace tadp
