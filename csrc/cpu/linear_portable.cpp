#include <algorithm>

#include "linear_kernels.h"
#include "rows.h"

namespace tadp {
namespace {

// Compiled for AVX2 as well where the toolchain can pick at load time: the sums are integers, so both agree to the bit.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
__attribute__((target_clones("default", "avx2")))
#endif
int32_t dot(const uint8_t* u, const int8_t* a, int64_t count) {
  int32_t total = 0;
  for (int64_t k = 0; k < count; ++k) total += static_cast<int32_t>(u[k]) * static_cast<int32_t>(a[k]);
  return total;
}

template <int Width, typename T>
void run(const LinearProblem& problem, int64_t begin, int64_t end) {
  const Planes& planes = problem.planes;
  const int64_t blocks = token_blocks(problem);
  std::vector<uint8_t> unpacked(static_cast<size_t>(kTileColumns * planes.padded));
  auto* out = static_cast<T*>(problem.out);
  int64_t unpacked_tile = -1;
  for (int64_t task = begin; task < end; ++task) {
    const int64_t tile = task / blocks, first = tile * kTileColumns;
    const int64_t columns = std::min(kTileColumns, planes.rows - first);
    if (tile != unpacked_tile) {
      for (int64_t c = 0; c < columns; ++c) unpack_row<Width>(planes, first + c, unpacked.data() + c * planes.padded);
      unpacked_tile = tile;
    }
    const int64_t last_token = std::min(problem.tokens, (task % blocks + 1) * kTileTokens);
    for (int64_t token = task % blocks * kTileTokens; token < last_token; ++token) {
      const int32_t sum = problem.sum[token];
      for (int64_t c = 0; c < columns; ++c) {
        const int64_t column = first + c;
        const int32_t product =
            dot(unpacked.data() + c * planes.padded, problem.codes + token * planes.padded, planes.padded);
        float value = static_cast<float>(centre<Width>(product, sum));
        if constexpr (Decode<Width>::kHalf != 0.0F) value -= Decode<Width>::kHalf * static_cast<float>(sum);
        value = value * problem.scale[token] * problem.weight_scale[column];
        if (problem.bias != nullptr) value += problem.bias[column];
        out[token * planes.rows + column] = static_cast<T>(value);
      }
    }
  }
}

template <typename T>
void run_any_width(const LinearProblem& problem, int64_t begin, int64_t end) {
  if (problem.planes.width == 8) return run<8, T>(problem, begin, end);
  if (problem.planes.width == 6) return run<6, T>(problem, begin, end);
  run<4, T>(problem, begin, end);
}

}  // namespace

void linear_tasks_portable(const LinearProblem& problem, int64_t begin, int64_t end) {
  if (problem.out_type == ScalarType::Float) return run_any_width<float>(problem, begin, end);
  if (problem.out_type == ScalarType::BFloat16) return run_any_width<BFloat16>(problem, begin, end);
  run_any_width<Half>(problem, begin, end);
}

}  // namespace tadp
