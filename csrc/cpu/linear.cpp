#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <cstring>

#include "isa.h"
#include "linear_kernels.h"
#include "operators.h"
#include "rows.h"

namespace tadp {
namespace {

constexpr int64_t kProductsPerThread = 1 << 21;

// A token's codes must be readable four at a time: rows of another length are copied with zeros behind.
std::vector<int8_t> pad_codes(const int8_t* codes, int64_t tokens, int64_t columns, int64_t padded) {
  std::vector<int8_t> copy(static_cast<size_t>(tokens * padded), 0);
  for (int64_t token = 0; token < tokens; ++token) {
    std::memcpy(copy.data() + token * padded, codes + token * columns, static_cast<size_t>(columns));
  }
  return copy;
}

template <typename T>
std::vector<float> widen(const Tensor& tensor) {
  const auto* from = static_cast<const T*>(tensor.const_data_ptr());
  return std::vector<float>(from, from + tensor.numel());
}

std::vector<float> read_bias(const Tensor& bias) {
  const Tensor dense = bias.is_contiguous() ? bias : torch::stable::contiguous(bias);
  if (bias.scalar_type() == ScalarType::Float) return widen<float>(dense);
  if (bias.scalar_type() == ScalarType::BFloat16) return widen<BFloat16>(dense);
  return widen<Half>(dense);
}

void check_per_token(const char* name, const Tensor& tensor, ScalarType type, const std::vector<int64_t>& shape) {
  check_cpu_type(name, tensor, type);
  TADP_CHECK(shape_of(tensor) == shape, name, " must have the shape of codes without its last dimension");
}

void check_per_column(const char* name, const Tensor& tensor, int64_t rows) {
  TADP_CHECK(tensor.dim() == 1 && tensor.size(0) == rows, name, " must have shape (", rows, ",)");
}

auto tasks_of(Isa isa) {
#if defined(__x86_64__)
  if (isa == Isa::kAvx2) return linear_tasks_avx2;
  if (isa == Isa::kAvxVnni) return linear_tasks_avxvnni;
  if (isa == Isa::kAvx512Vnni) return linear_tasks_avx512vnni;
#endif
  return linear_tasks_portable;
}

}  // namespace

Tensor linear(const Tensor& codes, const Tensor& scale, const Tensor& sum, const Tensor& high,
              const std::optional<Tensor>& mid, const std::optional<Tensor>& low, const Tensor& weight_scale,
              const std::optional<Tensor>& bias, ScalarType dtype, std::string nonlinearity, std::string kernel) {
  TADP_CHECK(nonlinearity == "none" && kernel.empty(), "nonlinearity: not yet");
  check_float("dtype", dtype);
  check_cpu_type("codes", codes, ScalarType::Char);
  TADP_CHECK(codes.dim() >= 1, "codes must have at least one dimension, the columns");
  std::vector<int64_t> shape = shape_of(codes);
  const int64_t columns = shape.back();
  shape.pop_back();
  check_per_token("scale", scale, ScalarType::Float, shape);
  check_per_token("sum", sum, ScalarType::Int, shape);
  const ContiguousPlanes held = contiguous_planes(high, mid, low);
  const Planes planes = read_planes(held.high, held.mid, held.low, columns);
  check_cpu_type("weight_scale", weight_scale, ScalarType::Float);
  check_per_column("weight_scale", weight_scale, planes.rows);
  std::vector<float> wide_bias;
  if (bias.has_value()) {
    TADP_CHECK(bias->is_cpu(), "bias must be on the CPU, as the other arguments are");
    check_float("bias", bias->scalar_type());
    check_per_column("bias", *bias, planes.rows);
    wide_bias = read_bias(*bias);
  }

  const auto dense = [](const Tensor& tensor) {
    return tensor.is_contiguous() ? tensor : torch::stable::contiguous(tensor);
  };
  const Tensor dense_codes = dense(codes), dense_scale = dense(scale), dense_sum = dense(sum);
  const Tensor dense_weight_scale = dense(weight_scale);
  const int64_t tokens = scale.numel();
  shape.push_back(planes.rows);
  Tensor out = torch::stable::new_empty(codes, shape, dtype);
  if (out.numel() == 0) return out;

  const auto* code_data = static_cast<const int8_t*>(dense_codes.const_data_ptr());
  std::vector<int8_t> padded_codes;
  if (planes.padded != columns) padded_codes = pad_codes(code_data, tokens, columns, planes.padded);
  const LinearProblem problem{
      .codes = padded_codes.empty() ? code_data : padded_codes.data(),
      .scale = static_cast<const float*>(dense_scale.const_data_ptr()),
      .sum = static_cast<const int32_t*>(dense_sum.const_data_ptr()),
      .tokens = tokens,
      .planes = planes,
      .weight_scale = static_cast<const float*>(dense_weight_scale.const_data_ptr()),
      .bias = bias.has_value() ? wide_bias.data() : nullptr,
      .out = out.mutable_data_ptr(),
      .out_type = dtype,
  };
  const auto run_tasks = tasks_of(active_isa());
  const int64_t tile_columns = (planes.rows + kTileColumns - 1) / kTileColumns;
  const int64_t products = std::min(tokens, kTileTokens) * kTileColumns * std::max<int64_t>(1, planes.padded);
  torch::stable::parallel_for(0, tile_columns * token_blocks(problem),
                              std::max<int64_t>(1, kProductsPerThread / products),
                              [&](int64_t begin, int64_t end) { run_tasks(problem, begin, end); });
  return out;
}

}  // namespace tadp
