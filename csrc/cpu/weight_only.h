// The product of floating activations with bit-plane codes for few tokens, as its instruction-set variants see it.
#pragma once

#include <cstdint>

#include "weight.h"

namespace tadp {

struct WeightOnlyProblem {
  const float* x;  // (tokens, stride), arranged where there are groups, zeros behind the columns
  int64_t stride;  // a multiple of kWeightOnlyLanes
  int64_t tokens;
  Planes planes;
  const float* weight_scale;  // (planes.rows), or (groups, planes.rows)
  int64_t groups;
  Output output;
};

inline constexpr int64_t kWeightOnlyLanes = 16;
inline constexpr int64_t kWeightOnlyTokens = 16;  // most tokens that are served
inline constexpr int64_t kWeightOnlyRows = 64;    // weight rows of a task

void weight_only_tasks_portable(const WeightOnlyProblem& problem, int64_t begin, int64_t end);
void weight_only_tasks_avx2(const WeightOnlyProblem& problem, int64_t begin, int64_t end);
void weight_only_tasks_avx512(const WeightOnlyProblem& problem, int64_t begin, int64_t end);

}  // namespace tadp
