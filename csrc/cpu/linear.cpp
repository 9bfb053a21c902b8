#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <cstring>

#include "isa.h"
#include "linear_kernels.h"
#include "operators.h"

namespace tadp {
namespace {

constexpr int64_t kProductsPerThread = 1 << 21;
constexpr int64_t kCodesPerThread = 1 << 15;  // fewer are copied faster than a thread is woken

// A token's codes must be readable four at a time, and stand in the order of their groups: others are copied, with
// zeros behind.
Tensor lay_out_codes(const Tensor& codes, int64_t tokens, int64_t columns, const Weight& weight) {
  const int64_t padded = weight.planes.padded;
  if (weight.groups == 0 && columns == padded) return codes;
  Tensor copy = torch::stable::new_empty(codes, {tokens, padded});
  const auto* from = static_cast<const int8_t*>(codes.const_data_ptr());
  auto* to = static_cast<int8_t*>(copy.mutable_data_ptr());
  const int64_t grain = std::max<int64_t>(1, kCodesPerThread / padded);
  torch::stable::parallel_for(0, tokens, grain, [&](int64_t begin, int64_t end) {
    for (int64_t token = begin; token < end; ++token) {
      const int8_t* natural = from + token * columns;
      int8_t* row = to + token * padded;
      if (weight.groups != 0) {
        arrange(natural, padded, weight.groups, row);
      } else {
        std::memcpy(row, natural, static_cast<size_t>(columns));
        std::fill(row + columns, row + padded, 0);
      }
    }
  });
  return copy;
}

Packing packing_of(Isa isa, const LinearProblem& problem) {
#if defined(__x86_64__)
  if (isa == Isa::kAvx2) return packing_avx2(problem);
  if (isa == Isa::kAvxVnni) return packing_avxvnni(problem);
#endif
  return {};
}

// Gives a problem its packed codes, where the instruction set takes them. Returns what holds them.
std::optional<Tensor> pack_codes(const Tensor& codes, Isa isa, LinearProblem& problem) {
  const Packing packing = packing_of(isa, problem);
  if (packing.tokens == 0) return std::nullopt;
  const int64_t packs = (problem.tokens + packing.tokens - 1) / packing.tokens;
  Tensor packed = torch::stable::new_empty(codes, {packs * packing.bytes});
  auto* to = static_cast<int8_t*>(packed.mutable_data_ptr());
  const int64_t grain = std::max<int64_t>(1, kCodesPerThread / std::max<int64_t>(1, packing.bytes));
  torch::stable::parallel_for(0, packs, grain,
                              [&](int64_t begin, int64_t end) { packing.pack(problem, begin, end, to); });
  problem.packed = to;
  return packed;
}

// Of each group of each token, see LinearProblem.
std::vector<float> zero_sums(const Tensor& sum, int width) {
  const Format format = format_of(width);
  const float zero = (static_cast<float>(format.zero) + format.half) / static_cast<float>(1 << format.shift);
  const auto* from = static_cast<const int32_t*>(sum.const_data_ptr());
  std::vector<float> sums(static_cast<size_t>(sum.numel()));
  for (size_t i = 0; i < sums.size(); ++i) sums[i] = zero * static_cast<float>(from[i]);
  return sums;
}

// Checks the widths of single rows. Both loops are without branches, so that they vectorize: where rows are many and
// tokens few, they would take a hundredth of the time otherwise.
const uint8_t* read_widths(const Tensor& widths, const Weight& weight) {
  const int64_t rows = weight.planes.rows;
  check_cpu_type("widths", widths, ScalarType::Byte);
  TADP_CHECK(widths.dim() == 1 && widths.size(0) == rows, "widths must have shape (", rows, ",)");
  TADP_CHECK(weight.planes.width == kFormats[0].width, "widths of single rows need all three planes");
  TADP_CHECK(weight.groups == 0, "widths of single rows need one scale a row, not groups");
  const auto* read = static_cast<const uint8_t*>(widths.const_data_ptr());
  uint8_t wrong = 0;
  for (int64_t row = 0; row < rows; ++row) wrong |= (read[row] != 8) & (read[row] != 6) & (read[row] != 4);
  TADP_CHECK(wrong == 0, "widths of rows must be 8, 6 or 4");
  return read;
}

// The width that all rows have, or 0.
int width_of_all(const uint8_t* widths, int64_t rows) {
  uint8_t differs = 0;
  for (int64_t row = 1; row < rows; ++row) differs |= widths[row] ^ widths[0];
  return rows == 0 || differs != 0 ? 0 : widths[0];
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
              const std::optional<Tensor>& bias, ScalarType dtype, std::string nonlinearity, std::string kernel,
              const std::optional<Tensor>& widths) {
  TADP_CHECK(kernel.empty() || kernel == "int8", "linear has no kernel '", kernel, "' on the CPU; there is int8");
  check_float("dtype", dtype);
  check_cpu_type("codes", codes, ScalarType::Char);
  TADP_CHECK(codes.dim() >= 1, "codes must have at least one dimension, the columns");
  std::vector<int64_t> shape = shape_of(codes);
  const int64_t columns = shape.back();
  shape.pop_back();
  const Weight weight = read_weight(high, mid, low, weight_scale, columns);
  Planes planes = weight.planes;
  check_cpu_type("scale", scale, ScalarType::Float);
  TADP_CHECK(shape_of(scale) == shape, "scale must have the shape of codes without its last dimension");
  check_cpu_type("sum", sum, ScalarType::Int);
  std::vector<int64_t> sums = shape;
  if (weight.groups != 0) sums.push_back(weight.groups);
  TADP_CHECK(shape_of(sum) == sums, "sum must have the shape of scale", weight.groups == 0 ? "" : ", and groups");
  const std::vector<float> wide_bias = read_bias(bias, planes.rows);
  const Nonlinearity function = read_nonlinearity(nonlinearity);
  std::optional<Tensor> dense_widths;
  const uint8_t* row_widths = nullptr;
  if (widths.has_value()) {
    dense_widths = dense(*widths);
    row_widths = read_widths(*dense_widths, weight);
    if (const int one = width_of_all(row_widths, planes.rows); one != 0) {
      planes.width = one;
      row_widths = nullptr;
    }
  }

  const Tensor dense_scale = dense(scale), dense_sum = dense(sum);
  const int64_t tokens = scale.numel();
  shape.push_back(planes.rows);
  Tensor out = torch::stable::new_empty(codes, shape, dtype);
  if (out.numel() == 0) return out;

  const Tensor laid_out = lay_out_codes(dense(codes), tokens, columns, weight);
  std::vector<float> group_zeros;
  if (weight.groups != 0) group_zeros = zero_sums(dense_sum, planes.width);
  LinearProblem problem{
      .codes = static_cast<const int8_t*>(laid_out.const_data_ptr()),
      .scale = static_cast<const float*>(dense_scale.const_data_ptr()),
      .sum = static_cast<const int32_t*>(dense_sum.const_data_ptr()),
      .tokens = tokens,
      .planes = planes,
      .weight_scale = weight.scale,
      .groups = weight.groups,
      .zero_sums = group_zeros.empty() ? nullptr : group_zeros.data(),
      .widths = row_widths,
      .output = {.bias = bias.has_value() ? wide_bias.data() : nullptr,
                 .nonlinearity = function,
                 .out = out.mutable_data_ptr(),
                 .type = dtype,
                 .rows = planes.rows},
      .packed = nullptr,
  };
  const Isa isa = active_isa();
  const std::optional<Tensor> packed = pack_codes(codes, isa, problem);
  const auto run_tasks = tasks_of(isa);
  const int64_t tile_columns = (planes.rows + kTileColumns - 1) / kTileColumns;
  const int64_t products = std::min(tokens, kTileTokens) * kTileColumns * std::max<int64_t>(1, planes.padded);
  torch::stable::parallel_for(0, tile_columns * token_blocks(problem),
                              std::max<int64_t>(1, kProductsPerThread / products),
                              [&](int64_t begin, int64_t end) { run_tasks(problem, begin, end); });
  return out;
}

}  // namespace tadp
