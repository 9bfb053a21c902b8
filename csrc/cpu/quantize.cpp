#include <torch/csrc/stable/ops.h>

#include <algorithm>

#include "isa.h"
#include "operators.h"
#include "rotation.h"
#include "rows.h"
#include "scratch.h"
#include "weight.h"

namespace tadp {
namespace {

constexpr int64_t kValuesPerThread = 1 << 15;  // less is done faster than a thread is woken

// The sums of the codes of each group: of a run from each quarter.
void sum_groups(const int8_t* codes, int64_t columns, int64_t groups, int32_t* sums) {
  const int64_t run = columns / (4 * groups);
  std::fill(sums, sums + groups, 0);
  for (int q = 0; q < 4; ++q) {
    for (int64_t group = 0; group < groups; ++group, codes += run) {
      int32_t sum = 0;
      for (int64_t k = 0; k < run; ++k) sum += codes[k];
      sums[group] += sum;
    }
  }
}

template <typename T>
using QuantizeRow = TokenScale (*)(const T* x, int64_t columns, int8_t* codes);

template <typename T>
QuantizeRow<T> quantize_row() {
#if defined(__x86_64__)
  const Isa isa = active_isa();
  if (isa == Isa::kAvx2 || isa == Isa::kAvxVnni) return quantize_row_avx2<T>;
  if (isa == Isa::kAvx512Vnni) return quantize_row_avx512<T>;
#endif
  return quantize_row_portable<T>;
}

template <typename T>
void quantize_rows(const Tensor& x, int64_t rows, int64_t columns, int64_t groups, int64_t rotation, Tensor& codes,
                   Tensor& scale, Tensor& sum) {
  const QuantizeRow<T> quantize_plain = quantize_row<T>();
  const QuantizeRow<float> quantize_turned = quantize_row<float>();
  const RotateRow<T> turn = rotate_row<T>();
  const auto* from = static_cast<const T*>(x.const_data_ptr());
  auto* to = static_cast<int8_t*>(codes.mutable_data_ptr());
  auto* scales = static_cast<float*>(scale.mutable_data_ptr());
  auto* sums = static_cast<int32_t*>(sum.mutable_data_ptr());
  const int64_t grain = std::max<int64_t>(1, kValuesPerThread / std::max<int64_t>(1, columns));
  torch::stable::parallel_for(0, rows, grain, [&](int64_t begin, int64_t end) {
    float* turned = nullptr;
    if (rotation != 0) {
      turned = reinterpret_cast<float*>(aligned_scratch(columns * static_cast<int64_t>(sizeof(float))));
    }
    for (int64_t row = begin; row < end; ++row) {
      TokenScale token;
      if (rotation == 0) {
        token = quantize_plain(from + row * columns, columns, to + row * columns);
      } else {
        turn(from + row * columns, columns, rotation, turned);
        token = quantize_turned(turned, columns, to + row * columns);
      }
      scales[row] = token.scale;
      if (groups == 0) {
        sums[row] = token.sum;
      } else {
        sum_groups(to + row * columns, columns, groups, sums + row * groups);
      }
    }
  });
}

}  // namespace

std::tuple<Tensor, Tensor, Tensor> quantize(const Tensor& x, int64_t groups, int64_t rotation) {
  check_float("x", x.scalar_type());
  TADP_CHECK(x.dim() >= 1, "x must have at least one dimension, the columns");
  const Tensor held = dense(x);
  std::vector<int64_t> shape = shape_of(x);
  const int64_t columns = shape.back();
  TADP_CHECK(columns <= kMaxColumns, "a row of ", columns, " columns; at most ", kMaxColumns, " fit the 32-bit sums");
  check_groups(groups, columns);
  if (rotation != 0) check_rotation(rotation, columns);
  Tensor codes = torch::stable::new_empty(x, shape, ScalarType::Char);
  shape.pop_back();
  Tensor scale = torch::stable::new_empty(x, shape, ScalarType::Float);
  const int64_t rows = scale.numel();
  if (groups != 0) shape.push_back(groups);
  Tensor sum = torch::stable::new_empty(x, shape, ScalarType::Int);
  switch (x.scalar_type()) {
    case ScalarType::Float:
      quantize_rows<float>(held, rows, columns, groups, rotation, codes, scale, sum);
      break;
    case ScalarType::BFloat16:
      quantize_rows<BFloat16>(held, rows, columns, groups, rotation, codes, scale, sum);
      break;
    default:
      quantize_rows<Half>(held, rows, columns, groups, rotation, codes, scale, sum);
  }
  return {codes, scale, sum};
}

}  // namespace tadp
