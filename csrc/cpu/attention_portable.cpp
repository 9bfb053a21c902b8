#include "attention_steps.h"

namespace tadp {
namespace {

struct Portable : PlainSteps<Portable> {
  static TokenScale quantize(const float* values, int64_t columns, int8_t* codes) {
    return quantize_row_portable(values, columns, codes);
  }

  static void multiply(const int8_t* codes, int64_t pitch, int64_t rows, int64_t depth, const uint8_t* tile,
                       int32_t* sums) {
    for (int64_t r = 0; r < rows; ++r, codes += pitch, sums += kTileQueries) {
      std::fill_n(sums, kTileQueries, 0);
      for (int64_t k = 0; k < depth; ++k) {
        const uint8_t* column = tile + k / 4 * kTileQueries * 4 + k % 4;
        for (int64_t lane = 0; lane < kTileQueries; ++lane) sums[lane] += codes[k] * column[lane * 4];
      }
    }
  }
};

}  // namespace

template <typename T>
AttentionPhases attention_portable() {
  return {average_pairs<Portable, T>, encode_blocks<Portable, T>, attend_tiles<Portable, T>, Portable::key_bytes,
          Portable::value_bytes};
}

template AttentionPhases attention_portable<float>();
template AttentionPhases attention_portable<BFloat16>();
template AttentionPhases attention_portable<Half>();

}  // namespace tadp
