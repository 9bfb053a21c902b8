#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <array>

#include "epilogue.h"
#include "isa.h"
#include "operators.h"
#include "scratch.h"
#include "weight_only.h"

namespace tadp {
namespace {

constexpr int64_t kProductsPerThread = 1 << 18;

template <typename T>
void widen_tokens(const Tensor& x, int64_t columns, const Weight& weight, int64_t stride, std::vector<float>& to) {
  const auto* from = static_cast<const T*>(x.const_data_ptr());
  std::vector<float> natural(static_cast<size_t>(stride), 0.0F);
  const int64_t tokens = static_cast<int64_t>(to.size()) / stride;
  for (int64_t token = 0; token < tokens; ++token, from += columns) {
    std::copy(from, from + columns, natural.data());
    float* row = to.data() + token * stride;
    if (weight.groups != 0) {
      arrange(natural.data(), weight.planes.padded, weight.groups, row);
    } else {
      std::copy(natural.begin(), natural.end(), row);
    }
  }
}

auto tasks_of(Isa isa) {
#if defined(__x86_64__)
  if (isa == Isa::kAvx2 || isa == Isa::kAvxVnni) return weight_only_tasks_avx2;
  if (isa == Isa::kAvx512Vnni) return weight_only_tasks_avx512;
#endif
  return weight_only_tasks_portable;
}

Tensor call(const char* name, const char* overload, StableIValue* stack) {
  TORCH_ERROR_CODE_CHECK(torch_call_dispatcher(name, overload, stack, TORCH_ABI_VERSION));
  return torch::stable::detail::to<Tensor>(stack[0]);
}

// aten's own functions round to the type of their input, as they do in a model that is not quantized.
Tensor apply_aten(const Tensor& value, Nonlinearity function) {
  if (function == Nonlinearity::kNone) return value;
  std::array<StableIValue, 2> stack{torch::stable::detail::from(value)};
  if (function == Nonlinearity::kSilu) return call("aten::silu", "", stack.data());
  stack[1] = torch::stable::detail::from(std::string(function == Nonlinearity::kGelu ? "none" : "tanh"));
  return call("aten::gelu", "", stack.data());
}

Tensor by_dequantizing(const Tensor& x, const Tensor& high, const std::optional<Tensor>& mid,
                       const std::optional<Tensor>& low, const Tensor& weight_scale, const std::optional<Tensor>& bias,
                       Nonlinearity function) {
  const Tensor weight = dequantize(high, mid, low, weight_scale, x.size(x.dim() - 1), x.scalar_type());
  std::optional<Tensor> typed;
  if (bias.has_value()) typed = torch::stable::to(*bias, x.scalar_type());
  std::array<StableIValue, 3> stack{torch::stable::detail::from(x), torch::stable::detail::from(weight),
                                    torch::stable::detail::from(typed)};
  return apply_aten(call("aten::linear", "", stack.data()), function);
}

}  // namespace

Tensor weight_only_linear(const Tensor& x, const Tensor& high, const std::optional<Tensor>& mid,
                          const std::optional<Tensor>& low, const Tensor& weight_scale,
                          const std::optional<Tensor>& bias, std::string nonlinearity, std::string kernel) {
  TADP_CHECK(x.is_cpu(), "x must be on the CPU, as the other arguments are");
  check_float("x", x.scalar_type());
  TADP_CHECK(x.dim() >= 1, "x must have at least one dimension, the columns");
  std::vector<int64_t> shape = shape_of(x);
  const int64_t columns = shape.back();
  const Weight weight = read_weight(high, mid, low, weight_scale, columns);
  const Planes& planes = weight.planes;
  const std::vector<float> wide_bias = read_bias(bias, planes.rows);
  const Nonlinearity function = read_nonlinearity(nonlinearity);
  shape.back() = planes.rows;
  int64_t tokens = 1;
  for (size_t i = 0; i + 1 < shape.size(); ++i) tokens *= shape[i];
  TADP_CHECK(kernel.empty() || kernel == "fused" || kernel == "dequantize", "weight_only_linear has no kernel '",
             kernel, "' on the CPU; there are fused and dequantize");
  TADP_CHECK(kernel != "fused" || tokens <= kWeightOnlyTokens, "the fused kernel serves at most ", kWeightOnlyTokens,
             " tokens, got ", tokens);
  if (kernel == "dequantize" || tokens > kWeightOnlyTokens) {
    return by_dequantizing(x, high, mid, low, weight_scale, bias, function);
  }
  Tensor out = torch::stable::new_empty(x, shape);
  if (out.numel() == 0) return out;

  const Tensor held = dense(x);
  const int64_t stride = round_up(std::max<int64_t>(planes.padded, 1), kWeightOnlyLanes);
  std::vector<float> wide(static_cast<size_t>(tokens * stride));
  if (x.scalar_type() == ScalarType::Float) widen_tokens<float>(held, columns, weight, stride, wide);
  if (x.scalar_type() == ScalarType::BFloat16) widen_tokens<BFloat16>(held, columns, weight, stride, wide);
  if (x.scalar_type() == ScalarType::Half) widen_tokens<Half>(held, columns, weight, stride, wide);
  const WeightOnlyProblem problem{
      .x = wide.data(),
      .stride = stride,
      .tokens = tokens,
      .planes = planes,
      .weight_scale = weight.scale,
      .groups = weight.groups,
      .output = {.bias = bias.has_value() ? wide_bias.data() : nullptr,
                 .nonlinearity = function,
                 .out = out.mutable_data_ptr(),
                 .type = x.scalar_type(),
                 .rows = planes.rows},
  };
  const auto run_tasks = tasks_of(active_isa());
  const int64_t products = tokens * kWeightOnlyRows * stride;
  torch::stable::parallel_for(0, (planes.rows + kWeightOnlyRows - 1) / kWeightOnlyRows,
                              std::max<int64_t>(1, kProductsPerThread / products),
                              [&](int64_t begin, int64_t end) { run_tasks(problem, begin, end); });
  return out;
}

}  // namespace tadp
