// torch.ops.tadp.quantize: a block of threads quantizes one token. The token is read from memory once and waits in
// registers until its largest magnitude is known.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "problems.h"
#include "quantize_steps.h"

namespace tadp::cuda {

constexpr int kMaxThreads = 512;

// Runs that a thread keeps in registers. Those put together value by value need registers for more than themselves.
template <bool Aligned>
inline constexpr int kMaxKept = Aligned ? 8 : 4;

constexpr int kMaxGroups = static_cast<int>(kMaxColumns / 64);

// As many values as 16 bytes hold, which a thread loads at once.
template <typename T>
inline constexpr int kRun = 16 / sizeof(T);

template <typename T>
union Run {
  uint4 words;
  T values[kRun<T>];
  __device__ Run() : words{0, 0, 0, 0} {}
};

inline __device__ float widen(float value) { return value; }
inline __device__ float widen(__nv_bfloat16 value) { return __bfloat162float(value); }
inline __device__ float widen(__half value) { return __half2float(value); }

// Values [at, at + kRun) of a row, zeros behind its end.
template <typename T, bool Aligned>
__device__ Run<T> load_run(const T* row, int32_t at, int32_t columns) {
  Run<T> run;
  if constexpr (Aligned) {
    if (at < columns) run.words = __ldcs(reinterpret_cast<const uint4*>(row + at));
  } else {
#pragma unroll
    for (int i = 0; i < kRun<T>; ++i) {
      if (at + i < columns) run.values[i] = row[at + i];
    }
  }
  return run;
}

template <typename T>
__device__ uint32_t peak_of(const Run<T>& run) {
  uint32_t peak = 0;
#pragma unroll
  for (int i = 0; i < kRun<T>; ++i) peak = max(peak, magnitude_bits(widen(run.values[i])));
  return peak;
}

// Quantizes a run and stores its codes; gives their sum.
template <typename T, bool Aligned>
__device__ int32_t store_run(const Run<T>& run, const TokenStep& step, int8_t* codes, int32_t at, int32_t columns) {
  constexpr int kWords = kRun<T> / 4;
  uint32_t words[kWords];
  int32_t sum = 0;
#pragma unroll
  for (int w = 0; w < kWords; ++w) {
    float values[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) values[i] = widen(run.values[4 * w + i]);
    words[w] = quantize4(values, step);
    sum = add_codes(words[w], sum);
  }
  if constexpr (!Aligned) {
#pragma unroll
    for (int i = 0; i < kRun<T>; ++i) {
      if (at + i < columns) codes[at + i] = static_cast<int8_t>(words[i / 4] >> (8 * (i % 4)));
    }
  } else if (at < columns) {
    if constexpr (kWords == 2) {
      *reinterpret_cast<uint2*>(codes + at) = {words[0], words[1]};
    } else {
      *reinterpret_cast<uint32_t*>(codes + at) = words[0];
    }
  }
  return sum;
}

// Combines a value of each thread over the block; every thread gets the result. `scratch` holds one word a warp.
template <typename Combine>
__device__ uint32_t over_block(uint32_t value, uint32_t* scratch, const Combine& combine) {
  value = combine(value);
  if (threadIdx.x % kWarp == 0) scratch[threadIdx.x / kWarp] = value;
  __syncthreads();
  const uint32_t lane = threadIdx.x % kWarp;
  return combine(lane < blockDim.x / kWarp ? scratch[lane] : 0);
}

// Kept: how many runs a thread keeps. 0 for rows too long for that, which are read again; by then they are in a cache.
template <typename T, int Kept, bool Aligned>
__global__ void __launch_bounds__(kMaxThreads) quantize_kernel(const QuantizeProblem problem) {
  __shared__ uint32_t peaks[kWarp], sums[kWarp];
  __shared__ int32_t group_sums[kMaxGroups];
  const int64_t token = blockIdx.x;
  const int32_t columns = problem.columns, groups = problem.groups;
  const T* row = static_cast<const T*>(problem.x) + token * columns;
  int8_t* codes = problem.codes + token * columns;
  const auto first = static_cast<int32_t>(threadIdx.x * kRun<T>);
  const auto stride = static_cast<int32_t>(blockDim.x * kRun<T>);

  for (int32_t group = threadIdx.x; group < groups; group += blockDim.x) group_sums[group] = 0;
  uint32_t peak = 0;
  Run<T> kept[Kept == 0 ? 1 : Kept];
  if constexpr (Kept == 0) {
    for (int32_t at = first; at < columns; at += stride)
      peak = max(peak, peak_of(load_run<T, Aligned>(row, at, columns)));
  } else {
#pragma unroll
    for (int i = 0; i < Kept; ++i) kept[i] = load_run<T, Aligned>(row, first + i * stride, columns);
#pragma unroll
    for (int i = 0; i < Kept; ++i) peak = max(peak, peak_of(kept[i]));
  }
  peak = over_block(peak, peaks, [](uint32_t value) { return __reduce_max_sync(~0U, value); });
  const TokenStep step = step_of(peak);

  int32_t sum = 0;
  const auto finish = [&](const Run<T>& run, int32_t at) {
    const int32_t part = store_run<T, Aligned>(run, step, codes, at, columns);
    sum += part;
    // A run of 16 or 32 columns of each quarter makes a group, so one of values lies in a single one. Whole numbers
    // add up to the same in any order.
    if (groups != 0 && at < columns) {
      const int32_t quarter = columns / 4;
      atomicAdd(&group_sums[at % quarter / (quarter / groups)], part);
    }
  };
  if constexpr (Kept == 0) {
    for (int32_t at = first; at < columns; at += stride) finish(load_run<T, Aligned>(row, at, columns), at);
  } else {
#pragma unroll
    for (int i = 0; i < Kept; ++i) finish(kept[i], first + i * stride);
  }
  if (threadIdx.x == 0) problem.scale[token] = step.scale;
  if (groups == 0) {
    const auto bits = static_cast<uint32_t>(sum);
    const uint32_t total = over_block(bits, sums, [](uint32_t value) { return __reduce_add_sync(~0U, value); });
    if (threadIdx.x == 0) problem.sum[token] = static_cast<int32_t>(total);
  } else {
    __syncthreads();
    for (int32_t group = threadIdx.x; group < groups; group += blockDim.x) {
      problem.sum[token * groups + group] = group_sums[group];
    }
  }
}

}  // namespace tadp::cuda
