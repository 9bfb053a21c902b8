// torch.ops.tadp.linear for up to 16 tokens, which is bound by reading the weight: a warp owns a few weight rows, reads
// their planes once, 16 bytes a lane, and multiplies them with all tokens. Activation codes come through the L1 cache;
// all warps of a multiprocessor walk along the same columns at about the same time.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "few_tokens_steps.h"
#include "problems.h"

namespace tadp::cuda {

constexpr int kWarps = 4;
constexpr int kStep = kWarp * kChunk;  // bytes of mid that a warp takes at a time
constexpr uint32_t kAll = ~0U;

// Blocks that a multiprocessor is to hold at a time. Registers are what limits them: with more blocks, and strangely
// with none demanded too, the compiler spills sums to load more activations ahead.
constexpr int kMinBlocks = 2;

inline __device__ float read(const void* values, FloatType type, int64_t at) {
  if (type == FloatType::kFloat32) return static_cast<const float*>(values)[at];
  if (type == FloatType::kBFloat16) return __bfloat162float(static_cast<const __nv_bfloat16*>(values)[at]);
  return __half2float(static_cast<const __half*>(values)[at]);
}

inline __device__ void write(void* values, FloatType type, int64_t at, float value) {
  if (type == FloatType::kFloat32) {
    static_cast<float*>(values)[at] = value;
  } else if (type == FloatType::kBFloat16) {
    static_cast<__nv_bfloat16*>(values)[at] = __float2bfloat16_rn(value);
  } else {
    static_cast<__half*>(values)[at] = __float2half_rn(value);
  }
}

inline __device__ float apply(Nonlinearity which, float value) {
  if (which == Nonlinearity::kGelu) return gelu(value);
  if (which == Nonlinearity::kGeluTanh) return gelu_tanh(value);
  return which == Nonlinearity::kSilu ? silu(value) : value;
}

// The outputs of a warp, Rows by Tokens: lane l finishes numbers l and l + 32, neighbours being rows of one token.
template <int Rows, int Tokens>
struct Outputs {
  static constexpr int kCount = Rows * Tokens;
  static constexpr int kPerLane = (kCount + kWarp - 1) / kWarp;
  int64_t first_row;
  int32_t first_token;

  // `scaled` gives the value before the bias of (i, row, token), i being the number of this lane's output.
  template <typename Scaled>
  __device__ void finish(const FewTokensProblem& problem, int lane, const Scaled& scaled) const {
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) {
      const int number = i * kWarp + lane;
      const int64_t row = first_row + number % Rows;
      const int32_t token = first_token + number / Rows;
      if (number >= kCount || row >= problem.rows || token >= problem.tokens) continue;
      float value = scaled(i, row, token);
      if (problem.bias != nullptr) value = add(value, read(problem.bias, problem.bias_type, row));
      value = apply(problem.nonlinearity, value);
      write(problem.out, problem.out_type, token * problem.rows + row, value);
    }
  }
};

template <int Width, int Rows, int Tokens, bool Whole>
inline __device__ void one_scale(const FewTokensProblem& problem, const PlaneRows<Rows>& rows,
                                 const TokenCodes<Tokens>& tokens, const Outputs<Rows, Tokens>& outputs, int lane) {
  int32_t sums[Tokens][Rows] = {};
#pragma unroll 1
  for (int32_t start = 0; start < problem.quarter; start += kStep) {
    const int32_t byte = start + lane * kChunk;
    if (byte < problem.quarter) multiply_chunk<Width, Rows, Tokens, Whole>(rows, tokens, byte, sums);
  }
  int32_t products[Outputs<Rows, Tokens>::kPerLane];
#pragma unroll
  for (int number = 0; number < Rows * Tokens; ++number) {
    const int32_t total = __reduce_add_sync(kAll, sums[number / Rows][number % Rows]);
    if (lane == number % kWarp) products[number / kWarp] = total;
  }
  outputs.finish(problem, lane, [&](int i, int64_t row, int32_t token) {
    const float value = centred<Width>(products[i], problem.sum[token]);
    return multiply(multiply(value, problem.scale[token]), problem.weight_scale[row]);
  });
}

// With groups a warp's step holds 32 or 16 of them, a group to one or two lanes. Their values are scaled and added in
// the order of the groups, as every kernel does; for that they pass through shared memory, from lanes that hold a
// group's value of every output to lanes that own an output. So do the scales, which are loaded where the sums no
// longer take all registers.
template <int Width, int Rows, int Tokens>
inline __device__ void scale_per_group(const FewTokensProblem& problem, const PlaneRows<Rows>& rows,
                                       const TokenCodes<Tokens>& tokens, const Outputs<Rows, Tokens>& outputs,
                                       int lane) {
  constexpr int kCount = Rows * Tokens, kPerLane = Outputs<Rows, Tokens>::kPerLane;
  constexpr int kStride = kCount + Rows + 1;  // values, scales, and one more to keep lanes in different banks
  __shared__ float shared[kWarps][kWarp][kStride];
  float (*values)[kStride] = shared[threadIdx.x / kWarp];
  const int32_t quarter = problem.quarter, groups = problem.groups, bytes = quarter / groups;
  float totals[kPerLane];
#pragma unroll
  for (float& total : totals) total = -0.0F;  // the one number that, added, changes nothing
#pragma unroll 1
  for (int32_t start = 0; start < quarter; start += kStep) {
    const int32_t byte = start + lane * kChunk;
    int32_t sums[Tokens][Rows] = {};
    if (byte < quarter) multiply_chunk<Width, Rows, Tokens, true>(rows, tokens, byte, sums);
    if (bytes == 2 * kChunk) {
#pragma unroll
      for (int number = 0; number < kCount; ++number) {
        int32_t& sum = sums[number / Rows][number % Rows];
        sum += __shfl_xor_sync(kAll, sum, 1);
      }
    }
    if (byte < quarter && byte % bytes == 0) {
      const int32_t group = byte / bytes;
      float* own = values[(byte - start) / bytes];
#pragma unroll
      for (int t = 0; t < Tokens; ++t) {
        const int32_t token = min(outputs.first_token + t, problem.tokens - 1);
        const int32_t sum = problem.sum[static_cast<int64_t>(token) * groups + group];
#pragma unroll
        for (int r = 0; r < Rows; ++r) own[t * Rows + r] = centred<Width>(sums[t][r], sum);
      }
    }
    const int32_t present = min(kStep, quarter - start) / bytes;
    if (lane < present) {
      const float* scales = problem.weight_scale + (start / bytes + lane) * problem.rows + outputs.first_row;
#pragma unroll
      for (int r = 0; r < Rows; ++r) values[lane][kCount + r] = outputs.first_row + r < problem.rows ? scales[r] : 0.0F;
    }
    __syncwarp();
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) {
      const int number = min(i * kWarp + lane, kCount - 1);
      for (int32_t group = 0; group < present; ++group) {
        const float* found = values[group];
        totals[i] = add(totals[i], multiply(found[number], found[kCount + number % Rows]));
      }
    }
    __syncwarp();
  }
  outputs.finish(problem, lane,
                 [&](int i, int64_t, int32_t token) { return multiply(totals[i], problem.scale[token]); });
}

// Whole: every lane's 16 bytes and activation codes are there and aligned.
template <int Width, int Rows, int Tokens, bool Whole, bool Grouped>
__global__ void __launch_bounds__(kWarps* kWarp, kMinBlocks) few_tokens_kernel(const FewTokensProblem problem) {
  const int lane = threadIdx.x % kWarp;
  const int64_t first_row = (static_cast<int64_t>(blockIdx.x) * kWarps + threadIdx.x / kWarp) * Rows;
  const int32_t first_token = blockIdx.y * Tokens;
  if (first_row >= problem.rows) return;
  const PlaneRows<Rows> rows(problem.high, problem.mid, problem.low, problem.quarter, first_row, problem.rows);
  const TokenCodes<Tokens> tokens(problem.codes, problem.columns, first_token, problem.tokens);
  const Outputs<Rows, Tokens> outputs{first_row, first_token};
  if constexpr (Grouped) {
    scale_per_group<Width, Rows, Tokens>(problem, rows, tokens, outputs, lane);
  } else {
    one_scale<Width, Rows, Tokens, Whole>(problem, rows, tokens, outputs, lane);
  }
}

}  // namespace tadp::cuda
