// How many threads quantize a token, by its length.
#include <algorithm>

#include "quantize.cuh"

namespace tadp::cuda {
namespace {

template <typename T, bool Aligned>
cudaError_t launch(const QuantizeProblem& problem, cudaStream_t stream) {
  const int32_t runs = (problem.columns + kRun<T> - 1) / kRun<T>;
  int kept = 1;
  while (kept <= kMaxKept<Aligned> && runs > kept * kMaxThreads) kept *= 2;
  // As few threads as `kept` runs each allow, in whole warps: each then has the same to do.
  const int32_t needed = kept > kMaxKept<Aligned> ? kMaxThreads : std::max((runs + kept - 1) / kept, 1);
  const dim3 threads((needed + kWarp - 1) / kWarp * kWarp);
  const dim3 blocks(static_cast<unsigned>(problem.tokens));
  if (kept > kMaxKept<Aligned>) {
    quantize_kernel<T, 0, Aligned><<<blocks, threads, 0, stream>>>(problem);
  } else if (kept == 1) {
    quantize_kernel<T, 1, Aligned><<<blocks, threads, 0, stream>>>(problem);
  } else if (kept == 2) {
    quantize_kernel<T, 2, Aligned><<<blocks, threads, 0, stream>>>(problem);
  } else if (kept == 4) {
    quantize_kernel<T, 4, Aligned><<<blocks, threads, 0, stream>>>(problem);
  } else {
    quantize_kernel<T, kMaxKept<Aligned>, Aligned><<<blocks, threads, 0, stream>>>(problem);
  }
  return cudaGetLastError();
}

template <typename T>
cudaError_t launch(const QuantizeProblem& problem, cudaStream_t stream) {
  const bool aligned = problem.columns % kRun<T> == 0 && reinterpret_cast<uintptr_t>(problem.x) % 16 == 0;
  return aligned ? launch<T, true>(problem, stream) : launch<T, false>(problem, stream);
}

}  // namespace

cudaError_t launch_quantize(const QuantizeProblem& problem, cudaStream_t stream) {
  if (problem.tokens == 0) return cudaSuccess;
  if (problem.type == FloatType::kFloat32) return launch<float>(problem, stream);
  if (problem.type == FloatType::kBFloat16) return launch<__nv_bfloat16>(problem, stream);
  return launch<__half>(problem, stream);
}

bool has_kernels_for(int device) {
  cudaFuncAttributes attributes;
  const bool found = cudaSetDevice(device) == cudaSuccess &&
                     cudaFuncGetAttributes(&attributes, quantize_kernel<float, 1, true>) == cudaSuccess;
  if (!found) cudaGetLastError();  // or the next launch would report it
  return found;
}

}  // namespace tadp::cuda
