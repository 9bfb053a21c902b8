// A run is multiplied by the 4 by 4 base matrix along each of its base-four digits. All orders of the digits and all
// instruction sets give the same bits: each element becomes (a + c) + (b + d) minus twice another one, and only these
// additions round.
#include "rotation.h"

#include <torch/csrc/stable/ops.h>
#include <torch/headeronly/util/BFloat16.h>
#include <torch/headeronly/util/Half.h>

#include <algorithm>
#include <cmath>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "operators.h"
#include "scratch.h"

namespace tadp {
namespace {

using BFloat16 = c10::BFloat16;
using Half = c10::Half;

constexpr int64_t kValuesPerThread = 1 << 15;  // less is done faster than a thread is woken
constexpr int64_t kNear = 16;                  // columns that the two lowest digits span

[[gnu::always_inline]] inline void turn(float& a, float& b, float& c, float& d) {
  const float total = (a + c) + (b + d);
  const float first = total - 2.0F * d, second = total - 2.0F * c, third = total - 2.0F * b;
  d = total - 2.0F * a;
  a = first, b = second, c = third;
}

// The digit whose steps are `stride` columns apart.
[[gnu::always_inline]] inline void turn_digit(float* values, int64_t size, int64_t stride) {
  for (int64_t begin = 0; begin < size; begin += 4 * stride) {
    float *a = values + begin, *b = a + stride, *c = b + stride, *d = c + stride;
    for (int64_t k = 0; k < stride; ++k) turn(a[k], b[k], c[k], d[k]);
  }
}

template <typename T>
[[gnu::always_inline]] inline void load_scaled(const T* x, int64_t columns, float factor, float* out) {
  for (int64_t k = 0; k < columns; ++k) out[k] = static_cast<float>(x[k]) * factor;
}

[[gnu::always_inline]] inline void turn_far_digits(float* run, int64_t size) {
  for (int64_t stride = kNear; stride < size; stride *= 4) turn_digit(run, size, stride);
}

// A power of two, with which numbers are multiplied before they are added, so that large ones stay finite.
inline float factor_of(int64_t size) { return 1.0F / std::sqrt(static_cast<float>(size)); }

#if defined(__x86_64__)
// The two lowest digits of kNear columns, in two registers of two lanes of four.
[[gnu::always_inline]] TADP_AVX2 inline void turn_near_digits(float* values) {
  const __m256 two = _mm256_set1_ps(2.0F);
  __m256 half[2] = {_mm256_loadu_ps(values), _mm256_loadu_ps(values + 8)};
  for (__m256& lanes : half) {  // within lanes; fused products change no bits, since twice a number is exact
    __m256 total = _mm256_add_ps(lanes, _mm256_permute_ps(lanes, 0b01001110));
    total = _mm256_add_ps(total, _mm256_permute_ps(total, 0b10110001));
    lanes = _mm256_fnmadd_ps(two, _mm256_permute_ps(lanes, 0b00011011), total);
  }
  __m256 total = _mm256_add_ps(half[0], half[1]);  // across lanes
  total = _mm256_add_ps(total, _mm256_permute2f128_ps(total, total, 1));
  _mm256_storeu_ps(values, _mm256_fnmadd_ps(two, _mm256_permute2f128_ps(half[1], half[1], 1), total));
  _mm256_storeu_ps(values + 8, _mm256_fnmadd_ps(two, _mm256_permute2f128_ps(half[0], half[0], 1), total));
}
#endif

template <typename T>
void rotate_rows(const Tensor& x, int64_t rows, int64_t columns, int64_t size, Tensor& result) {
  const RotateRow<T> row_kernel = rotate_row<T>();
  const auto* from = static_cast<const T*>(x.const_data_ptr());
  auto* to = static_cast<T*>(result.mutable_data_ptr());
  const int64_t grain = std::max<int64_t>(1, kValuesPerThread / std::max<int64_t>(1, columns));
  torch::stable::parallel_for(0, rows, grain, [&](int64_t begin, int64_t end) {
    auto* turned = reinterpret_cast<float*>(aligned_scratch(columns * static_cast<int64_t>(sizeof(float))));
    for (int64_t row = begin; row < end; ++row) {
      row_kernel(from + row * columns, columns, size, turned);
      std::transform(turned, turned + columns, to + row * columns, [](float value) { return static_cast<T>(value); });
    }
  });
}

}  // namespace

template <typename T>
void rotate_row_portable(const T* x, int64_t columns, int64_t size, float* out) {
  const float factor = factor_of(size);
  for (int64_t begin = 0; begin < columns; begin += size) {
    float* run = out + begin;
    load_scaled(x + begin, size, factor, run);
    turn_digit(run, size, 1);
    turn_digit(run, size, 4);
    turn_far_digits(run, size);
  }
}

#if defined(__x86_64__)
template <typename T>
void rotate_row_avx2(const T* x, int64_t columns, int64_t size, float* out) {
  const float factor = factor_of(size);
  for (int64_t begin = 0; begin < columns; begin += size) {
    float* run = out + begin;
    load_scaled(x + begin, size, factor, run);
    for (int64_t k = 0; k < size; k += kNear) turn_near_digits(run + k);
    turn_far_digits(run, size);
  }
}
#endif

#define TADP_INSTANTIATE(T, SET) template void rotate_row_##SET<T>(const T*, int64_t, int64_t, float*);
TADP_INSTANTIATE(float, portable)
TADP_INSTANTIATE(BFloat16, portable)
TADP_INSTANTIATE(Half, portable)
#if defined(__x86_64__)
TADP_INSTANTIATE(float, avx2)
TADP_INSTANTIATE(BFloat16, avx2)
TADP_INSTANTIATE(Half, avx2)
#endif
#undef TADP_INSTANTIATE

Tensor rotate(const Tensor& x, int64_t size) {
  check_float("x", x.scalar_type());
  TADP_CHECK(x.dim() >= 1, "x must have at least one dimension, the columns");
  const std::vector<int64_t> shape = shape_of(x);
  check_rotation(size, shape.back());
  const Tensor held = dense(x);
  Tensor result = torch::stable::new_empty(x, shape);
  const int64_t rows = shape.back() == 0 ? 0 : x.numel() / shape.back();
  switch (x.scalar_type()) {
    case ScalarType::Float:
      rotate_rows<float>(held, rows, shape.back(), size, result);
      break;
    case ScalarType::BFloat16:
      rotate_rows<BFloat16>(held, rows, shape.back(), size, result);
      break;
    default:
      rotate_rows<Half>(held, rows, shape.back(), size, result);
  }
  return result;
}

}  // namespace tadp
