// The nonlinearities of ../nonlinearity.h by name, and on rows of values.
#pragma once

#include <string_view>

#include "../nonlinearity.h"
#include "checks.h"

namespace tadp {

inline Nonlinearity read_nonlinearity(std::string_view name) {
  if (name == "none") return Nonlinearity::kNone;
  if (name == "gelu") return Nonlinearity::kGelu;
  if (name == "gelu_tanh") return Nonlinearity::kGeluTanh;
  TADP_CHECK(name == "silu", "unknown nonlinearity '", name, "'; there are none, gelu, gelu_tanh and silu");
  return Nonlinearity::kSilu;
}

[[gnu::always_inline]] inline void apply(Nonlinearity which, float* __restrict__ values, int64_t count) {
  switch (which) {
    case Nonlinearity::kNone:
      return;
    case Nonlinearity::kGelu:
      for (int64_t i = 0; i < count; ++i) values[i] = gelu(values[i]);
      return;
    case Nonlinearity::kGeluTanh:
      for (int64_t i = 0; i < count; ++i) values[i] = gelu_tanh(values[i]);
      return;
    case Nonlinearity::kSilu:
      for (int64_t i = 0; i < count; ++i) values[i] = silu(values[i]);
  }
}

}  // namespace tadp
