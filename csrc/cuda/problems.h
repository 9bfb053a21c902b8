// The CUDA kernels as the operators call them: plain pointers, so that nvcc compiles nothing of torch.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "../nonlinearity.h"

namespace tadp::cuda {

constexpr int kWarp = 32;

enum class FloatType : int32_t { kFloat32, kBFloat16, kFloat16 };

// All arrays are contiguous.
struct QuantizeProblem {
  const void* x;  // (tokens, columns) of type
  FloatType type;
  int64_t tokens;
  int32_t columns;
  int32_t groups;  // 0: one sum a token
  int8_t* codes;   // (tokens, columns)
  float* scale;    // (tokens)
  int32_t* sum;    // (tokens), or (tokens, groups)
};

// Codes and planes are aligned to 16 bytes.
struct FewTokensProblem {
  const int8_t* codes;  // (tokens, columns)
  const float* scale;   // (tokens)
  const int32_t* sum;   // (tokens), or (tokens, groups)
  int32_t tokens;
  int32_t columns;
  const uint8_t* high;  // (rows, 2 * quarter)
  const uint8_t* mid;   // (rows, quarter), null at 4 bits
  const uint8_t* low;   // (rows, quarter), null at 6 and 4 bits
  int64_t rows;
  int32_t quarter;            // a quarter of the columns, rounded up
  const float* weight_scale;  // (rows), or (groups, rows)
  int32_t groups;             // 0: one scale a row
  const void* bias;           // (rows) of bias_type, or null
  FloatType bias_type;
  Nonlinearity nonlinearity;
  void* out;  // (tokens, rows) of out_type
  FloatType out_type;
};

// Both enqueue their work on the stream and return what the launch did.
cudaError_t launch_quantize(const QuantizeProblem& problem, cudaStream_t stream);
cudaError_t launch_few_tokens(const FewTokensProblem& problem, cudaStream_t stream);

// Whether the library was built for a device, and its driver is new enough to run what was built. Makes it current.
bool has_kernels_for(int device);

}  // namespace tadp::cuda
