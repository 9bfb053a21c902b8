#include <torch/csrc/stable/ops.h>

#include <algorithm>

#include "isa.h"
#include "operators.h"
#include "rows.h"

namespace tadp {
namespace {

constexpr int64_t kValuesPerThread = 1 << 15;  // less is done faster than a thread is woken

template <typename T>
void quantize_rows(const Tensor& x, int64_t rows, int64_t columns, Tensor& codes, Tensor& scale, Tensor& sum) {
  auto row_kernel = quantize_row_portable<T>;
#if defined(__x86_64__)
  if (active_isa() == Isa::kAvx512Vnni) row_kernel = quantize_row_avx512<T>;
#endif
  const auto* from = static_cast<const T*>(x.const_data_ptr());
  auto* to = static_cast<int8_t*>(codes.mutable_data_ptr());
  auto* scales = static_cast<float*>(scale.mutable_data_ptr());
  auto* sums = static_cast<int32_t*>(sum.mutable_data_ptr());
  const int64_t grain = std::max<int64_t>(1, kValuesPerThread / std::max<int64_t>(1, columns));
  torch::stable::parallel_for(0, rows, grain, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const TokenScale token = row_kernel(from + row * columns, columns, to + row * columns);
      scales[row] = token.scale;
      sums[row] = token.sum;
    }
  });
}

}  // namespace

std::tuple<Tensor, Tensor, Tensor> quantize(const Tensor& x, int64_t groups) {
  TADP_CHECK(groups == 0, "groups: not yet");
  check_float("x", x.scalar_type());
  TADP_CHECK(x.dim() >= 1, "x must have at least one dimension, the columns");
  const Tensor dense = x.is_contiguous() ? x : torch::stable::contiguous(x);
  std::vector<int64_t> shape = shape_of(x);
  const int64_t columns = shape.back();
  TADP_CHECK(columns <= kMaxColumns, "a row of ", columns, " columns; at most ", kMaxColumns, " fit the 32-bit sums");
  Tensor codes = torch::stable::new_empty(x, shape, ScalarType::Char);
  shape.pop_back();
  Tensor scale = torch::stable::new_empty(x, shape, ScalarType::Float);
  Tensor sum = torch::stable::new_empty(x, shape, ScalarType::Int);
  const int64_t rows = scale.numel();
  switch (x.scalar_type()) {
    case ScalarType::Float:
      quantize_rows<float>(dense, rows, columns, codes, scale, sum);
      break;
    case ScalarType::BFloat16:
      quantize_rows<BFloat16>(dense, rows, columns, codes, scale, sum);
      break;
    default:
      quantize_rows<Half>(dense, rows, columns, codes, scale, sum);
  }
  return {codes, scale, sum};
}

}  // namespace tadp
