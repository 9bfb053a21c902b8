#include <algorithm>

#include "linear_kernels.h"
#include "rows.h"

namespace tadp {
namespace {

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
  int32_t products[kTileColumns];
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
      for (int64_t c = 0; c < columns; ++c) {
        products[c] = dot(unpacked.data() + c * planes.padded, problem.codes + token * planes.padded, planes.padded);
      }
      finish_token<Width, T>(problem, token, first, columns, products);
    }
  }
}

}  // namespace

void linear_tasks_portable(const LinearProblem& problem, int64_t begin, int64_t end) {
  for_width_and_type(problem, [&]<int Width, typename T>() { run<Width, T>(problem, begin, end); });
}

}  // namespace tadp
