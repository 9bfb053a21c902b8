#include <torch/csrc/stable/ops.h>

#include <algorithm>

#include "isa.h"
#include "operators.h"
#include "rows.h"
#include "weight.h"

namespace tadp {
namespace {

constexpr int64_t kValuesPerThread = 1 << 15;

template <typename T>
void dequantize_rows(const Weight& weight, int64_t columns, Tensor& out) {
  const Planes& planes = weight.planes;
  auto row_kernel = dequantize_row_portable<T>;
#if defined(__x86_64__)
  const Isa isa = active_isa();
  if (isa == Isa::kAvx2 || isa == Isa::kAvxVnni) row_kernel = dequantize_row_avx2<T>;
  if (isa == Isa::kAvx512Vnni) row_kernel = dequantize_row_avx512<T>;
#endif
  auto* to = static_cast<T*>(out.mutable_data_ptr());
  const int64_t grain = std::max<int64_t>(1, kValuesPerThread / std::max<int64_t>(1, columns));
  torch::stable::parallel_for(0, planes.rows, grain, [&](int64_t begin, int64_t end) {
    std::vector<uint8_t> codes(static_cast<size_t>(planes.padded));
    for (int64_t row = begin; row < end; ++row) {
      const RowScale scale{.first = weight.scale + row, .stride = planes.rows, .groups = weight.groups};
      row_kernel(planes, row, scale, columns, codes.data(), to + row * columns);
    }
  });
}

}  // namespace

Tensor dequantize(const Tensor& high, const std::optional<Tensor>& mid, const std::optional<Tensor>& low,
                  const Tensor& weight_scale, int64_t columns, ScalarType dtype) {
  check_float("dtype", dtype);
  const Weight weight = read_weight(high, mid, low, weight_scale, columns);
  Tensor out = torch::stable::new_empty(high, {weight.planes.rows, columns}, dtype);
  switch (dtype) {
    case ScalarType::Float:
      dequantize_rows<float>(weight, columns, out);
      break;
    case ScalarType::BFloat16:
      dequantize_rows<BFloat16>(weight, columns, out);
      break;
    default:
      dequantize_rows<Half>(weight, columns, out);
  }
  return out;
}

}  // namespace tadp
