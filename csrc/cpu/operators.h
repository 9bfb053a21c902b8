// The operators of torch.ops.tadp on the CPU. Their schemas and meaning stand in tadp/kernels/operators.py.
#pragma once

#include <optional>
#include <string>
#include <tuple>

#include "checks.h"

namespace tadp {

std::tuple<Tensor, Tensor, Tensor> quantize(const Tensor& x, int64_t groups, int64_t rotation);

Tensor rotate(const Tensor& x, int64_t size);

Tensor linear(const Tensor& codes, const Tensor& scale, const Tensor& sum, const Tensor& high,
              const std::optional<Tensor>& mid, const std::optional<Tensor>& low, const Tensor& weight_scale,
              const std::optional<Tensor>& bias, ScalarType dtype, std::string nonlinearity, std::string kernel,
              const std::optional<Tensor>& widths);

Tensor weight_only_linear(const Tensor& x, const Tensor& high, const std::optional<Tensor>& mid,
                          const std::optional<Tensor>& low, const Tensor& weight_scale,
                          const std::optional<Tensor>& bias, std::string nonlinearity, std::string kernel);

Tensor dequantize(const Tensor& high, const std::optional<Tensor>& mid, const std::optional<Tensor>& low,
                  const Tensor& weight_scale, int64_t columns, ScalarType dtype);

Tensor attention(const Tensor& q, const Tensor& k, const Tensor& v, const std::optional<Tensor>& mask,
                 std::optional<double> scale, int64_t level, std::string kernel,
                 const std::optional<Tensor>& block_map);

}  // namespace tadp
