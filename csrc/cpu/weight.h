// The weight, bias and nonlinearity of a product, read from an operator's arguments.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "checks.h"
#include "nonlinearity.h"
#include "planes.h"

namespace tadp {

// Bit planes with their scales, and what keeps them alive.
struct Weight {
  ContiguousPlanes held;
  Planes planes;
  Tensor held_scale;
  const float* scale;  // (rows), or (groups, rows)
  int64_t groups;      // 0: all columns of a row share one scale
};

// Throws where parts do not fit a weight of `columns` columns.
Weight read_weight(const Tensor& high, const std::optional<Tensor>& mid, const std::optional<Tensor>& low,
                   const Tensor& weight_scale, int64_t columns);

// Throws where so many groups of so many columns are of a size that the kernels do not have; 0 stands for no groups.
void check_groups(int64_t groups, int64_t columns);

// What becomes of a row of products before and as it is stored.
struct Output {
  const float* bias;  // (rows) or null
  Nonlinearity nonlinearity;
  void* out;  // (tokens, rows) of type
  ScalarType type;
  int64_t rows;
};

// A bias as float32; empty where there is none.
std::vector<float> read_bias(const std::optional<Tensor>& bias, int64_t rows);

}  // namespace tadp
