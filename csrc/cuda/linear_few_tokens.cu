// How many rows and tokens a warp takes, by the number of tokens.
#include "linear_few_tokens.cuh"

namespace tadp::cuda {
namespace {

template <int Width, int Rows, int Tokens, bool Whole, bool Grouped>
cudaError_t launch(const FewTokensProblem& problem, cudaStream_t stream) {
  constexpr int64_t kBlockRows = kWarps * Rows;
  const dim3 blocks(static_cast<unsigned>((problem.rows + kBlockRows - 1) / kBlockRows),
                    static_cast<unsigned>((problem.tokens + Tokens - 1) / Tokens));
  few_tokens_kernel<Width, Rows, Tokens, Whole, Grouped><<<blocks, kWarps * kWarp, 0, stream>>>(problem);
  return cudaGetLastError();
}

// More rows a warp mean fewer reads of activations, which from four tokens on take as long as the products do.
template <int Width, int Rows, int Tokens>
cudaError_t launch(const FewTokensProblem& problem, cudaStream_t stream) {
  if (problem.groups != 0) return launch<Width, Rows, Tokens, true, true>(problem, stream);
  return launch<Width, Rows, Tokens, true, false>(problem, stream);
}

template <int Width>
cudaError_t launch(const FewTokensProblem& problem, cudaStream_t stream) {
  // Rows of other lengths are read byte by byte: correct, not fast. No groups divide them.
  if (problem.columns % (4 * kChunk) != 0) return launch<Width, 1, 1, false, false>(problem, stream);
  if (problem.tokens == 1) return launch<Width, 2, 1>(problem, stream);
  if (problem.tokens == 2) return launch<Width, 2, 2>(problem, stream);
  if (problem.tokens <= 4) return launch<Width, 4, 4>(problem, stream);
  if (problem.tokens <= 8) return launch<Width, 4, 8>(problem, stream);
  return launch<Width, 2, 16>(problem, stream);
}

}  // namespace

cudaError_t launch_few_tokens(const FewTokensProblem& problem, cudaStream_t stream) {
  if (problem.low != nullptr) return launch<8>(problem, stream);
  if (problem.mid != nullptr) return launch<6>(problem, stream);
  return launch<4>(problem, stream);
}

}  // namespace tadp::cuda
