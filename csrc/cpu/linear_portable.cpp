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
  const int64_t blocks = token_blocks(problem), padded = planes.padded;
  std::vector<uint8_t> unpacked(static_cast<size_t>(kTileColumns * padded)), natural(static_cast<size_t>(padded));
  int32_t products[kTileColumns];
  float totals[kTileColumns];
  const int64_t parts = problem.groups == 0 ? 1 : problem.groups, part_columns = padded / parts;
  int64_t unpacked_tile = -1;
  for (int64_t task = begin; task < end; ++task) {
    const int64_t tile = task / blocks, first = tile * kTileColumns;
    const int64_t columns = std::min(kTileColumns, planes.rows - first);
    if (tile != unpacked_tile) {
      for (int64_t c = 0; c < columns; ++c) {
        unpack_weights<Width>(problem, first + c, natural.data(), unpacked.data() + c * padded);
      }
      unpacked_tile = tile;
    }
    const int64_t last_token = std::min(problem.tokens, (task % blocks + 1) * kTileTokens);
    for (int64_t token = task % blocks * kTileTokens; token < last_token; ++token) {
      std::fill_n(totals, columns, kNothing);
      for (int64_t part = 0; part < parts; ++part) {
        const int64_t k = part * part_columns;
        for (int64_t c = 0; c < columns; ++c) {
          products[c] = dot(unpacked.data() + c * padded + k, problem.codes + token * padded + k, part_columns);
        }
        if (problem.groups != 0) add_group(problem, token, part, first, columns, products, totals);
      }
      if (problem.groups != 0) {
        finish_groups<Width, T>(problem, token, first, columns, totals);
      } else {
        finish_token<Width, T>(problem, token, first, columns, products);
      }
    }
  }
}

}  // namespace

void linear_tasks_portable(const LinearProblem& problem, int64_t begin, int64_t end) {
  for_width_and_type(problem.planes.width, problem.output.type,
                     [&]<int Width, typename T>() { run<Width, T>(problem, begin, end); });
}

}  // namespace tadp
