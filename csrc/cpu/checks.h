// Argument checks shared by the operators. A failed one reaches Python as a RuntimeError with the plain sentence.
#pragma once

#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>

#include <cstdint>
#include <sstream>
#include <stdexcept>
#include <vector>

// Unlike STD_TORCH_CHECK it leaves function, file and line of this library out of a message that users read.
#define TADP_CHECK(condition, ...)                      \
  do {                                                  \
    if (!(condition)) ::tadp::throw_error(__VA_ARGS__); \
  } while (false)

namespace tadp {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

template <typename... Parts>
[[noreturn]] void throw_error(const Parts&... parts) {
  std::ostringstream message;
  message << "tadp: ";
  (message << ... << parts);
  throw std::runtime_error(message.str());
}

inline bool is_supported_float(ScalarType type) {
  return type == ScalarType::Float || type == ScalarType::BFloat16 || type == ScalarType::Half;
}

inline void check_float(const char* what, ScalarType type) {
  TADP_CHECK(is_supported_float(type), what, " must be float32, bfloat16 or float16, got ",
             torch::headeronly::toString(type));
}

inline void check_cpu_type(const char* name, const Tensor& tensor, ScalarType type) {
  TADP_CHECK(tensor.is_cpu(), name, " must be on the CPU, as the other arguments are");
  TADP_CHECK(tensor.scalar_type() == type, name, " must be ", torch::headeronly::toString(type), ", got ",
             torch::headeronly::toString(tensor.scalar_type()));
}

inline Tensor dense(const Tensor& tensor) {
  return tensor.is_contiguous() ? tensor : torch::stable::contiguous(tensor);
}

inline std::vector<int64_t> shape_of(const Tensor& tensor) {
  const auto sizes = tensor.sizes();
  return std::vector<int64_t>(sizes.begin(), sizes.end());
}

}  // namespace tadp
