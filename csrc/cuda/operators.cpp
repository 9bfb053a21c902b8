// The CUDA kernels as operators. They are private to tadp/kernels/cuda.py, which has checked the arguments and decided
// that a kernel serves them; here tensors become pointers.
#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>

#include <optional>
#include <stdexcept>
#include <string>
#include <tuple>
#include <vector>

#include "problems.h"

// Declared by torch's header under USE_CUDA only. Weak, so that a library that was built for GPUs also loads where
// torch was not; there are no CUDA tensors then to call it for.
extern "C" [[gnu::weak]] AOTITorchError aoti_torch_get_current_cuda_stream(int32_t device_index, void** ret_stream);

namespace tadp::cuda {
namespace {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;
void check(cudaError_t status) {
  if (status != cudaSuccess) throw std::runtime_error(std::string("tadp: CUDA reports: ") + cudaGetErrorString(status));
}

// Makes a tensor's device current as long as it lives. torch's guard restores the one before; the runtime that this
// library is linked with is another copy than torch's, and has to be told as well.
class OnDevice {
 public:
  explicit OnDevice(int32_t device) : device_(device), guard_(device) { check(cudaSetDevice(device)); }

  cudaStream_t current_stream() const {
    void* stream = nullptr;
    if (aoti_torch_get_current_cuda_stream(device_, &stream) != AOTI_TORCH_SUCCESS) {
      throw std::runtime_error("tadp: torch names no current CUDA stream");
    }
    return static_cast<cudaStream_t>(stream);
  }

 private:
  int32_t device_;
  torch::stable::accelerator::DeviceGuard guard_;
};

FloatType float_type(ScalarType type) {
  if (type == ScalarType::Float) return FloatType::kFloat32;
  return type == ScalarType::BFloat16 ? FloatType::kBFloat16 : FloatType::kFloat16;
}

Nonlinearity nonlinearity_of(const std::string& name) {
  if (name == "gelu") return Nonlinearity::kGelu;
  if (name == "gelu_tanh") return Nonlinearity::kGeluTanh;
  return name == "silu" ? Nonlinearity::kSilu : Nonlinearity::kNone;
}

Tensor dense(const Tensor& tensor) { return tensor.is_contiguous() ? tensor : torch::stable::contiguous(tensor); }

// The same and readable 16 bytes at a time, which a slice need not be.
Tensor aligned(const Tensor& tensor) {
  const Tensor result = dense(tensor);
  const bool fits = reinterpret_cast<uintptr_t>(result.const_data_ptr()) % 16 == 0;
  return fits ? result : torch::stable::clone(result);
}

std::optional<Tensor> aligned(const std::optional<Tensor>& tensor) {
  if (!tensor.has_value()) return std::nullopt;
  return aligned(*tensor);
}

template <typename T>
const T* pointer(const Tensor& tensor) {
  return static_cast<const T*>(tensor.const_data_ptr());
}

template <typename T>
const T* pointer(const std::optional<Tensor>& tensor) {
  return tensor.has_value() ? pointer<T>(*tensor) : nullptr;
}

std::vector<int64_t> leading_shape(const Tensor& tensor) {
  const auto sizes = tensor.sizes();
  return std::vector<int64_t>(sizes.begin(), sizes.end() - 1);
}

std::tuple<Tensor, Tensor, Tensor> quantize(const Tensor& x, int64_t groups) {
  const OnDevice device(x.get_device());
  const Tensor values = dense(x);
  std::vector<int64_t> tokens = leading_shape(x);
  Tensor scale = torch::stable::new_empty(x, tokens, ScalarType::Float);
  std::vector<int64_t> sums = tokens;
  if (groups != 0) sums.push_back(groups);
  Tensor sum = torch::stable::new_empty(x, sums, ScalarType::Int);
  const int64_t columns = x.size(x.dim() - 1);
  tokens.push_back(columns);
  Tensor codes = torch::stable::new_empty(x, tokens, ScalarType::Char);
  const QuantizeProblem problem{
      .x = values.const_data_ptr(),
      .type = float_type(x.scalar_type()),
      .tokens = scale.numel(),
      .columns = static_cast<int32_t>(columns),
      .groups = static_cast<int32_t>(groups),
      .codes = static_cast<int8_t*>(codes.mutable_data_ptr()),
      .scale = static_cast<float*>(scale.mutable_data_ptr()),
      .sum = static_cast<int32_t*>(sum.mutable_data_ptr()),
  };
  check(launch_quantize(problem, device.current_stream()));
  return {codes, scale, sum};
}

Tensor few_tokens_linear(const Tensor& codes, const Tensor& scale, const Tensor& sum, const Tensor& high,
                         const std::optional<Tensor>& mid, const std::optional<Tensor>& low, const Tensor& weight_scale,
                         const std::optional<Tensor>& bias, ScalarType dtype, std::string nonlinearity) {
  const OnDevice device(codes.get_device());
  const Tensor held_codes = aligned(codes), held_scale = dense(scale), held_sum = dense(sum);
  const Tensor held_high = aligned(high);
  const bool grouped = weight_scale.dim() == 2;  // a packed weight's scales lie group by group already
  const Tensor held_weight_scale = dense(grouped ? torch::stable::transpose(weight_scale, 0, 1) : weight_scale);
  const std::optional<Tensor> held_mid = aligned(mid), held_low = aligned(low), held_bias = aligned(bias);
  const int64_t columns = codes.size(codes.dim() - 1);
  std::vector<int64_t> shape = leading_shape(codes);
  shape.push_back(high.size(0));
  Tensor out = torch::stable::new_empty(codes, shape, dtype);
  if (out.numel() == 0) return out;
  const FewTokensProblem problem{
      .codes = pointer<int8_t>(held_codes),
      .scale = pointer<float>(held_scale),
      .sum = pointer<int32_t>(held_sum),
      .tokens = static_cast<int32_t>(scale.numel()),
      .columns = static_cast<int32_t>(columns),
      .high = pointer<uint8_t>(held_high),
      .mid = pointer<uint8_t>(held_mid),
      .low = pointer<uint8_t>(held_low),
      .rows = high.size(0),
      .quarter = static_cast<int32_t>((columns + 3) / 4),
      .weight_scale = pointer<float>(held_weight_scale),
      .groups = grouped ? static_cast<int32_t>(weight_scale.size(1)) : 0,
      .bias = pointer<void>(held_bias),
      .bias_type = bias.has_value() ? float_type(bias->scalar_type()) : FloatType::kFloat32,
      .nonlinearity = nonlinearity_of(nonlinearity),
      .out = out.mutable_data_ptr(),
      .out_type = float_type(dtype),
  };
  check(launch_few_tokens(problem, device.current_stream()));
  return out;
}

bool runs_on(int64_t device) {
  const torch::stable::accelerator::DeviceGuard guard(static_cast<int32_t>(device));
  return has_kernels_for(static_cast<int>(device));
}

}  // namespace
}  // namespace tadp::cuda

STABLE_TORCH_LIBRARY_FRAGMENT(tadp, library) {
  library.def("cuda_quantize(Tensor x, int groups) -> (Tensor codes, Tensor scale, Tensor sum)");
  library.def(
      "cuda_few_tokens_linear(Tensor codes, Tensor scale, Tensor sum, Tensor high, Tensor? mid, Tensor? low, "
      "Tensor weight_scale, Tensor? bias, ScalarType dtype, str nonlinearity) -> Tensor");
  library.def("cuda_runs_on(int device) -> bool");
}

STABLE_TORCH_LIBRARY_IMPL(tadp, CUDA, library) {
  library.impl("cuda_quantize", TORCH_BOX(&tadp::cuda::quantize));
  library.impl("cuda_few_tokens_linear", TORCH_BOX(&tadp::cuda::few_tokens_linear));
}

STABLE_TORCH_LIBRARY_IMPL(tadp, CompositeExplicitAutograd, library) {
  library.impl("cuda_runs_on", TORCH_BOX(&tadp::cuda::runs_on));
}
