// Rotation of a row's columns by regular Hadamard matrices, see tadp/kernels/rotation.py. T is float, BFloat16 or Half.
#pragma once

#include <cstdint>

#include "checks.h"
#include "isa.h"

namespace tadp {

// Throws where a run of `size` columns is not a rotation that kernels have, or does not divide `columns`.
inline void check_rotation(int64_t size, int64_t columns) {
  TADP_CHECK(size == 64 || size == 256, "a rotation mixes 256 or 64 columns, not ", size);
  TADP_CHECK(columns % size == 0, "rotations of ", size, " columns do not divide ", columns, " columns");
}

// out = x with each run of `size` columns, see check_rotation, rotated in float32.
template <typename T>
void rotate_row_portable(const T* x, int64_t columns, int64_t size, float* out);
template <typename T>
TADP_AVX2 void rotate_row_avx2(const T* x, int64_t columns, int64_t size, float* out);

// The fastest of them that active_isa() allows.
template <typename T>
using RotateRow = void (*)(const T* x, int64_t columns, int64_t size, float* out);
template <typename T>
RotateRow<T> rotate_row() {
#if defined(__x86_64__)
  if (active_isa() != Isa::kPortable) return rotate_row_avx2<T>;
#endif
  return rotate_row_portable<T>;
}

}  // namespace tadp
