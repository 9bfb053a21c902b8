#include "weight.h"

#include <torch/csrc/stable/ops.h>

#include "rows.h"

namespace tadp {
namespace {

template <typename T>
std::vector<float> widen(const Tensor& tensor) {
  const auto* from = static_cast<const T*>(tensor.const_data_ptr());
  return std::vector<float>(from, from + tensor.numel());
}

}  // namespace

void check_groups(int64_t groups, int64_t columns) {
  bool known = groups == 0;
  for (const int64_t size : kGroupSizes) known = known || groups * size == columns;
  TADP_CHECK(known, columns, " columns in ", groups, " groups; groups are of ", kGroupSizes[0], " or ", kGroupSizes[1]);
}

Weight read_weight(const Tensor& high, const std::optional<Tensor>& mid, const std::optional<Tensor>& low,
                   const Tensor& weight_scale, int64_t columns) {
  Weight weight{.held = contiguous_planes(high, mid, low),
                .planes = {},
                .held_scale = weight_scale,
                .scale = nullptr,
                .groups = 0};
  weight.planes = read_planes(weight.held.high, weight.held.mid, weight.held.low, columns);
  const int64_t rows = weight.planes.rows;
  check_cpu_type("weight_scale", weight_scale, ScalarType::Float);
  const bool grouped = weight_scale.dim() == 2;
  TADP_CHECK((weight_scale.dim() == 1 || grouped) && weight_scale.size(0) == rows, "weight_scale must have shape (",
             rows, ",) or (", rows, ", groups)");
  if (grouped) {
    weight.groups = weight_scale.size(1);
    TADP_CHECK(weight.groups > 0, "weight_scale has no groups");
    check_groups(weight.groups, columns);
    weight.held_scale = torch::stable::transpose(weight_scale, 0, 1);  // as it lies in memory, see planes.encode
  }
  weight.held_scale = dense(weight.held_scale);
  weight.scale = static_cast<const float*>(weight.held_scale.const_data_ptr());
  return weight;
}

std::vector<float> read_bias(const std::optional<Tensor>& bias, int64_t rows) {
  if (!bias.has_value()) return {};
  TADP_CHECK(bias->is_cpu(), "bias must be on the CPU, as the other arguments are");
  check_float("bias", bias->scalar_type());
  TADP_CHECK(bias->dim() == 1 && bias->size(0) == rows, "bias must have shape (", rows, ",)");
  const Tensor held = dense(*bias);
  if (bias->scalar_type() == ScalarType::Float) return widen<float>(held);
  if (bias->scalar_type() == ScalarType::BFloat16) return widen<BFloat16>(held);
  return widen<Half>(held);
}

}  // namespace tadp
