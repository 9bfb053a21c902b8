#include <torch/csrc/stable/ops.h>

#include <algorithm>

#include "isa.h"
#include "operators.h"
#include "planes.h"
#include "rows.h"

namespace tadp {
namespace {

constexpr int64_t kValuesPerThread = 1 << 15;

template <typename T>
void dequantize_rows(const Planes& planes, const float* scales, int64_t columns, Tensor& out) {
  auto row_kernel = dequantize_row_portable<T>;
#if defined(__x86_64__)
  if (active_isa() == Isa::kAvx512Vnni) row_kernel = dequantize_row_avx512<T>;
#endif
  auto* to = static_cast<T*>(out.mutable_data_ptr());
  const int64_t grain = std::max<int64_t>(1, kValuesPerThread / std::max<int64_t>(1, columns));
  torch::stable::parallel_for(0, planes.rows, grain, [&](int64_t begin, int64_t end) {
    std::vector<uint8_t> codes(static_cast<size_t>(planes.padded));
    for (int64_t row = begin; row < end; ++row) {
      row_kernel(planes, row, scales[row], columns, codes.data(), to + row * columns);
    }
  });
}

}  // namespace

Tensor dequantize(const Tensor& high, const std::optional<Tensor>& mid, const std::optional<Tensor>& low,
                  const Tensor& weight_scale, int64_t columns, ScalarType dtype) {
  check_float("dtype", dtype);
  const ContiguousPlanes held = contiguous_planes(high, mid, low);
  const Planes planes = read_planes(held.high, held.mid, held.low, columns);
  check_cpu_type("weight_scale", weight_scale, ScalarType::Float);
  TADP_CHECK(weight_scale.dim() == 1 && weight_scale.size(0) == planes.rows, "weight_scale must have shape (",
             planes.rows, ",)");
  const Tensor scale = weight_scale.is_contiguous() ? weight_scale : torch::stable::contiguous(weight_scale);
  const auto* scales = static_cast<const float*>(scale.const_data_ptr());
  Tensor out = torch::stable::new_empty(high, {planes.rows, columns}, dtype);
  switch (dtype) {
    case ScalarType::Float:
      dequantize_rows<float>(planes, scales, columns, out);
      break;
    case ScalarType::BFloat16:
      dequantize_rows<BFloat16>(planes, scales, columns, out);
      break;
    default:
      dequantize_rows<Half>(planes, scales, columns, out);
  }
  return out;
}

}  // namespace tadp
