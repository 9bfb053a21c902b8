// Runs CUDA kernels on the host: a thread for each thread of a block, one block after the other. Covers what csrc/cuda
// uses of CUDA and no more. test_cuda_emulated.py puts this in front of the sources.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime_api.h>

#include <algorithm>
#include <barrier>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <thread>
#include <vector>

#undef __device__
#undef __global__
#undef __launch_bounds__
#undef __shared__
#define __device__
#define __global__
#define __launch_bounds__(...)
#define __shared__ static  // blocks do not run at the same time
#define cudaGetLastError() cudaSuccess
#define cudaSetDevice(...) cudaSuccess
#define cudaFuncGetAttributes(...) cudaSuccess

using std::max;
using std::min;

inline thread_local dim3 threadIdx, blockIdx, blockDim;

namespace emulation {

constexpr unsigned kLanes = 32;
using Barrier = std::barrier<>;

inline std::unique_ptr<Barrier> block;
inline std::vector<std::unique_ptr<Barrier>> warps;
inline uint32_t values[1024 / kLanes][kLanes];  // what the lanes of a warp exchange

inline void meet_warp() { warps[threadIdx.x / kLanes]->arrive_and_wait(); }

// Every lane gives a value and gets what `combine` makes of all of them.
template <typename Combine>
uint32_t exchange(uint32_t value, const Combine& combine) {
  uint32_t* lanes = values[threadIdx.x / kLanes];
  lanes[threadIdx.x % kLanes] = value;
  meet_warp();
  const uint32_t result = combine(lanes);
  meet_warp();
  return result;
}

template <typename Kernel, typename Problem>
void launch(Kernel kernel, dim3 blocks, dim3 threads, const Problem& problem) {
  for (unsigned index = 0; index < blocks.x * blocks.y; ++index) {
    block = std::make_unique<Barrier>(threads.x);
    warps.clear();
    for (unsigned t = 0; t < threads.x; t += kLanes) warps.push_back(std::make_unique<Barrier>(kLanes));
    std::vector<std::thread> running;
    for (unsigned t = 0; t < threads.x; ++t) {
      running.emplace_back([=, &problem] {
        threadIdx = dim3(t);
        blockIdx = dim3(index % blocks.x, index / blocks.x);
        blockDim = threads;
        kernel(problem);
      });
    }
    for (std::thread& thread : running) thread.join();
  }
}

}  // namespace emulation

inline void __syncwarp() { emulation::meet_warp(); }
inline void __syncthreads() { emulation::block->arrive_and_wait(); }

inline uint32_t __reduce_max_sync(uint32_t, uint32_t value) {
  return emulation::exchange(value,
                             [](const uint32_t* lanes) { return *std::max_element(lanes, lanes + emulation::kLanes); });
}

inline uint32_t __reduce_add_sync(uint32_t, uint32_t value) {
  return emulation::exchange(value, [](const uint32_t* lanes) {
    uint32_t sum = 0;
    for (unsigned lane = 0; lane < emulation::kLanes; ++lane) sum += lanes[lane];
    return sum;
  });
}

inline int32_t __reduce_add_sync(uint32_t mask, int32_t value) {
  return static_cast<int32_t>(__reduce_add_sync(mask, static_cast<uint32_t>(value)));
}

inline int32_t __shfl_xor_sync(uint32_t, int32_t value, int mask) {
  const unsigned other = threadIdx.x % emulation::kLanes ^ static_cast<unsigned>(mask);
  return static_cast<int32_t>(
      emulation::exchange(static_cast<uint32_t>(value), [=](const uint32_t* lanes) { return lanes[other]; }));
}

inline void atomicAdd(int32_t* sum, int32_t value) { __atomic_fetch_add(sum, value, __ATOMIC_SEQ_CST); }

// A GPU stops at an address that is no multiple of what it loads.
inline uint4 __ldcs(const uint4* from) {
  if (reinterpret_cast<uintptr_t>(from) % 16 != 0) std::abort();
  return *from;
}
