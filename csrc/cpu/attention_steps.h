// The steps of attention in plain C++, which each instruction set compiles for itself.
//
// The steps of an instruction set are a type `By` derived from PlainSteps<By>. It has to bring
//
//   quantize(values, columns, codes)  one row, see rows.h
//   multiply(codes, pitch, rows, depth, tile, sums)
//       sums[row][lane] of rows <= kRowsAtOnce rows of signed codes, `pitch` apart, with the unsigned tile
//       [depth / 4][64][4]
//
// and may bring steps of its own, which then hide those here.
#pragma once

#include <torch/headeronly/util/BFloat16.h>
#include <torch/headeronly/util/Half.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "../nonlinearity.h"
#include "attention_kernels.h"
#include "rows.h"

#define TADP_STEP [[gnu::always_inline]] inline

namespace tadp {

inline constexpr int64_t kRowsAtOnce = 6;
inline constexpr float kLn2PerUnit = 0.693147181F / kUnits;

// Weights are counted in 128ths of a code while they are rounded; 255 codes are the largest weight of a block.
inline constexpr int32_t kPartsOfCode = 128;
inline constexpr uint16_t kPower0 = 32640, kPower1 = 22691, kPower2 = 7429, kPower3 = 2515;
static_assert(kPower0 == 255 * kPartsOfCode);

// 255 * 2^(below / kUnits) in parts of a code, for below <= 0; 0 for NaN. The power is built of integers of 16 bits:
// with below / kUnits = n + f, a cubic of 2^f on [0, 1) that is off by 1.1e-4 of it at most, shifted by n.
TADP_STEP int32_t weight_parts(float below) {
  constexpr float kLeast = -32768.0F;
  const float kept = below >= kLeast ? below : kLeast;  // of NaN too
  const auto x = static_cast<int32_t>(bits_of(kept + kRound) - bits_of(kRound));
  const uint32_t f = (static_cast<uint32_t>(x) << 5) & 0xFFFFU;
  const uint32_t power = kPower0 + ((f * (kPower1 + ((f * (kPower2 + ((f * kPower3) >> 16))) >> 16))) >> 16);
  return static_cast<int32_t>(power >> -(x >> 11));
}

// 126 / peak and peak / 126; nothing for channels that are zero, too small to have a scale, or not finite.
inline constexpr float kValueCodes = 126.0F;  // one less than fits, as a code takes over what others lost
struct ChannelScale {
  float inverse, scale;
};
TADP_STEP ChannelScale channel_scale(float peak) {
  const bool empty = !(peak >= kSmallestPeak && peak <= std::numeric_limits<float>::max());
  return {empty ? 0.0F : kValueCodes / peak, empty ? 0.0F : peak / kValueCodes};
}

// The last channel of a block of values: ones, of scale one.
TADP_STEP void encode_ones(const AttentionProblem& problem, int8_t* codes, float* scale) {
  std::memset(codes + problem.dim * kBlockKeys, 1, kBlockKeys);
  scale[problem.dim] = 1.0F;
}

// Steps in plain C++ of an instruction set.
template <typename By>
struct PlainSteps {
  static constexpr int64_t kTileCodeBytes = 1;
  static int64_t key_bytes(const AttentionProblem& problem) { return problem.keys * problem.padded; }
  static int64_t value_bytes(const AttentionProblem& problem) { return (problem.dim + 1) * kBlockKeys; }

  // mean += share * row
  template <typename T>
  TADP_STEP static void add_to_mean(const T* row, int64_t dim, float share, float* mean) {
    for (int64_t d = 0; d < dim; ++d) mean[d] += static_cast<float>(row[d]) * share;
  }

  // to = row - mean
  template <typename T>
  TADP_STEP static void subtract_mean(const T* row, int64_t dim, const float* mean, float* to) {
    for (int64_t d = 0; d < dim; ++d) to[d] = static_cast<float>(row[d]) - mean[d];
  }

  // Means of the keys and values of a pair.
  template <typename T>
  TADP_STEP static void average(const AttentionProblem& problem, int64_t pair) {
    const int64_t dim = problem.dim;
    float *key = problem.key_mean + pair * dim, *value = problem.value_mean + pair * dim;
    std::fill_n(key, dim, 0.0F);
    std::fill_n(value, dim, 0.0F);
    const float share = 1.0F / static_cast<float>(problem.keys);
    const T *k = problem.tokens<const T>(problem.k, pair), *v = problem.tokens<const T>(problem.v, pair);
    for (int64_t token = 0; token < problem.keys; ++token) {
      By::add_to_mean(k + token * problem.k.token_stride, dim, share, key);
      By::add_to_mean(v + token * problem.v.token_stride, dim, share, value);
    }
  }

  // Codes of the keys of a block, one after the other.
  template <typename T>
  TADP_STEP static void round_keys(const AttentionProblem& problem, int64_t pair, int64_t block,
                                   const AttentionTile& tile, int8_t* codes) {
    const int64_t first = block * kBlockKeys, padded = problem.padded;
    std::fill(tile.row + problem.dim, tile.row + padded, 0.0F);
    const T* k = problem.tokens<const T>(problem.k, pair);
    const float* mean = problem.key_mean + pair * problem.dim;
    for (int64_t token = first; token < first + problem.block_keys(block); ++token) {
      By::subtract_mean(k + token * problem.k.token_stride, problem.dim, mean, tile.row);
      const int64_t place = pair * problem.keys + token;
      const TokenScale scale = By::quantize(tile.row, padded, codes + (token - first) * padded);
      problem.key_scale[place] = scale.scale;
      problem.key_offset[place] = -128 * scale.sum;
    }
  }
  template <typename T>
  TADP_STEP static void encode_keys(const AttentionProblem& problem, int64_t pair, int64_t block,
                                    const AttentionTile& tile) {
    const int64_t place = pair * problem.keys + block * kBlockKeys;
    round_keys<T>(problem, pair, block, tile, problem.key_codes + place * problem.padded);
  }

  // Codes of the values of a block, channel by channel; zero behind the last key. What rounding a key's value loses is
  // added to the next key's.
  template <typename T>
  TADP_STEP static void round_values(const AttentionProblem& problem, int64_t pair, int64_t block,
                                     const AttentionTile& tile, int8_t* codes) {
    const int64_t dim = problem.dim, first = block * kBlockKeys, count = problem.block_keys(block);
    const float* mean = problem.value_mean + pair * dim;
    float* scale = problem.value_scale + (pair * problem.blocks() + block) * (dim + 1);
    float *values = tile.row, *inverse = tile.totals, *lost = tile.totals + dim;  // not needed yet
    const T* v = problem.tokens<const T>(problem.v, pair) + first * problem.v.token_stride;
    std::memset(codes, 0, static_cast<size_t>(dim * kBlockKeys));
    std::fill_n(inverse, dim, 0.0F);
    std::fill_n(lost, dim, 0.0F);
    for (int64_t key = 0; key < count; ++key) {
      By::subtract_mean(v + key * problem.v.token_stride, dim, mean, values);
      for (int64_t d = 0; d < dim; ++d) {
        const float size = std::fabs(values[d]);
        inverse[d] = size > inverse[d] ? size : inverse[d];
      }
    }
    for (int64_t d = 0; d < dim; ++d) {
      const ChannelScale channel = channel_scale(inverse[d]);
      inverse[d] = channel.inverse;
      scale[d] = channel.scale;
    }
    for (int64_t key = 0; key < count; ++key) {
      By::subtract_mean(v + key * problem.v.token_stride, dim, mean, values);
      for (int64_t d = 0; d < dim; ++d) {
        const float wanted = (inverse[d] == 0.0F ? 0.0F : values[d] * inverse[d]) + lost[d];
        const float shifted = wanted + kRound;
        codes[d * kBlockKeys + key] = static_cast<int8_t>(bits_of(shifted) - bits_of(kRound));
        lost[d] = wanted - (shifted - kRound);
      }
    }
    encode_ones(problem, codes, scale);
  }
  template <typename T>
  TADP_STEP static void encode_values(const AttentionProblem& problem, int64_t pair, int64_t block,
                                      const AttentionTile& tile) {
    const int64_t index = pair * problem.blocks() + block;
    round_values<T>(problem, pair, block, tile, problem.value_codes + index * (problem.dim + 1) * kBlockKeys);
  }

  // Codes of the queries of a tile and the factors of their scores; queries behind the last one are zero.
  template <typename T>
  TADP_STEP static void load_queries(const AttentionProblem& problem, int64_t pair, int64_t first,
                                     const AttentionTile& tile) {
    const int64_t padded = problem.padded, count = std::min(kTileQueries, problem.queries - first);
    const T* q = problem.tokens<const T>(problem.q, pair) + first * problem.q.token_stride;
    std::fill(tile.row + problem.dim, tile.row + padded, 0.0F);
    for (int64_t lane = 0; lane < kTileQueries; ++lane) {
      tile.factor[lane] = 0.0F;
      if (lane >= count) {
        std::memset(tile.codes, 0, static_cast<size_t>(padded));
      } else {
        const T* row = q + lane * problem.q.token_stride;
        for (int64_t d = 0; d < problem.dim; ++d) tile.row[d] = static_cast<float>(row[d]);
        tile.factor[lane] = By::quantize(tile.row, padded, tile.codes).scale * problem.factor;
      }
      for (int64_t four = 0; four < padded / 4; ++four) {
        uint32_t codes;
        std::memcpy(&codes, tile.codes + four * 4, sizeof(codes));
        codes ^= 0x80808080U;  // adds 128 to each
        std::memcpy(tile.queries + (four * kTileQueries + lane) * 4, &codes, sizeof(codes));
      }
    }
  }

  // The mask of a tile and a run of keys, as [key][64]; of queries behind the last one it is zero.
  TADP_STEP static void load_mask(const AttentionProblem& problem, int64_t pair, int64_t first, const KeyRun& run,
                                  const AttentionTile& tile) {
    const int64_t* strides = problem.mask_strides;
    const float* from = problem.mask + pair / problem.heads * strides[0] + pair % problem.heads * strides[1] +
                        first * strides[2] + run.key * strides[3];
    const int64_t count = std::min(kTileQueries, problem.queries - first);
    for (int64_t key = 0; key < run.count; ++key) {
      float* to = tile.mask + (run.place + key) * kTileQueries;
      if (strides[2] == 0) {
        std::fill_n(to, kTileQueries, from[key * strides[3]]);
      } else {
        for (int64_t lane = 0; lane < count; ++lane) to[lane] = from[lane * strides[2] + key * strides[3]];
        std::fill(to + count, to + kTileQueries, 0.0F);
      }
    }
  }

  // Scores of a run of keys, and the largest of each query, also of those before.
  TADP_STEP static void score(const AttentionProblem& problem, int64_t pair, const KeyRun& run,
                              const AttentionTile& tile) {
    const int64_t place = pair * problem.keys + run.key;
    alignas(kScratchAlignment) int32_t sums[kRowsAtOnce * kTileQueries];
    for (int64_t key = 0; key < run.count; key += kRowsAtOnce) {
      const int64_t rows = std::min(kRowsAtOnce, run.count - key);
      By::multiply(problem.key_codes + (place + key) * problem.padded, problem.padded, rows, problem.padded,
                   tile.queries, sums);
      for (int64_t r = 0; r < rows; ++r) {
        const int32_t offset = problem.key_offset[place + key + r];
        const float scale = problem.key_scale[place + key + r];
        float* to = tile.scores + (run.place + key + r) * kTileQueries;
        const float* mask = tile.mask + (run.place + key + r) * kTileQueries;
        for (int64_t lane = 0; lane < kTileQueries; ++lane) {
          to[lane] = static_cast<float>(sums[r * kTileQueries + lane] + offset) * scale * tile.factor[lane];
        }
        for (int64_t lane = 0; lane < kTileQueries && problem.mask != nullptr; ++lane) to[lane] += mask[lane];
        for (int64_t lane = 0; lane < kTileQueries; ++lane) {
          tile.peak[lane] = to[lane] > tile.peak[lane] ? to[lane] : tile.peak[lane];
        }
      }
    }
  }

  // What totals are to be multiplied with, now that the largest of all scores of this time are known.
  TADP_STEP static void rescale(const AttentionTile& tile) {
    for (int64_t lane = 0; lane < kTileQueries; ++lane) {
      const float before = tile.highest[lane], peak = tile.peak[lane];
      const float now = before > peak ? before : peak;
      tile.keep[lane] = exponential((before - now) * kLn2PerUnit);
      tile.take[lane] = exponential((peak - now) * kLn2PerUnit);
      tile.highest[lane] = now;
    }
  }

  // Codes of the weights, with zeros behind the last key up to a multiple of four. What rounding a weight
  // loses is added to that of the key after the next: even and odd keys by themselves, as registers hold pairs of keys.
  TADP_STEP static void weigh(int64_t keys, const AttentionTile& tile) {
    int32_t lost[2][kTileQueries];
    for (auto& parts : lost) std::fill_n(parts, kTileQueries, kPartsOfCode / 2);
    for (int64_t key = 0; key < round_up(keys, 4); ++key) {
      const float* scores = tile.scores + key * kTileQueries;
      int32_t* rest = lost[key % 2];
      uint8_t* to = tile.weights + key / 4 * kTileQueries * 4 + key % 4;
      for (int64_t lane = 0; lane < kTileQueries; ++lane) {
        const int32_t parts = (key < keys ? weight_parts(scores[lane] - tile.peak[lane]) : 0) + rest[lane];
        to[lane * 4] = static_cast<uint8_t>(parts / kPartsOfCode);
        rest[lane] = parts % kPartsOfCode;
      }
    }
  }

  // Adds the values of a run of keys to the totals.
  TADP_STEP static void gather(const AttentionProblem& problem, int64_t pair, const KeyRun& run,
                               const AttentionTile& tile) {
    const int64_t channels = problem.dim + 1;
    const int64_t index = (pair * problem.blocks() + run.key / kBlockKeys) * channels;
    const int8_t* codes = problem.value_codes + index * kBlockKeys + run.key % kBlockKeys;
    const uint8_t* weights = tile.weights + run.place * kTileQueries;
    const int64_t keys = round_up(run.count, 4);
    alignas(kScratchAlignment) int32_t sums[kRowsAtOnce * kTileQueries];
    for (int64_t d = 0; d < channels; d += kRowsAtOnce) {
      const int64_t rows = std::min(kRowsAtOnce, channels - d);
      By::multiply(codes + d * kBlockKeys, kBlockKeys, rows, keys, weights, sums);
      for (int64_t r = 0; r < rows; ++r) {
        const float scale = problem.value_scale[index + d + r];
        float* total = tile.totals + (d + r) * kTileQueries;
        for (int64_t lane = 0; lane < kTileQueries; ++lane) {
          const float value = static_cast<float>(sums[r * kTileQueries + lane]) * scale * tile.take[lane];
          total[lane] = total[lane] * tile.keep[lane] + value;
        }
      }
    }
  }

  // Totals to results in place: divided by the sums of the weights, the mean of the values added. A query that sees no
  // key gets zeros, one that holds NaN or infinity, or has such keys, NaN.
  TADP_STEP static void normalize(const AttentionProblem& problem, int64_t pair, const AttentionTile& tile) {
    const float *mean = problem.value_mean + pair * problem.dim, *key_mean = problem.key_mean + pair * problem.dim;
    const float* sum = tile.totals + problem.dim * kTileQueries;
    float nothing = 0.0F;  // NaN where a key is not finite
    for (int64_t d = 0; d < problem.dim; ++d) nothing += key_mean[d] - key_mean[d];
    for (int64_t lane = 0; lane < kTileQueries; ++lane) {
      const float factor = tile.factor[lane];
      tile.keep[lane] = sum[lane] > 0.0F ? 1.0F / sum[lane] : (factor - factor) + nothing;
      tile.take[lane] = sum[lane] > 0.0F ? 1.0F : 0.0F;
    }
    for (int64_t d = 0; d < problem.dim; ++d) {
      float* total = tile.totals + d * kTileQueries;
      for (int64_t lane = 0; lane < kTileQueries; ++lane) {
        const float shift = tile.take[lane] > 0.0F ? mean[d] : 0.0F;
        total[lane] = total[lane] * tile.keep[lane] + shift;
      }
    }
  }

  template <typename T>
  TADP_STEP static void store_results(const AttentionProblem& problem, int64_t pair, int64_t first,
                                      const AttentionTile& tile) {
    const int64_t count = std::min(kTileQueries, problem.queries - first);
    T* to = problem.tokens<T>(problem.out, pair) + first * problem.out.token_stride;
    for (int64_t lane = 0; lane < count; ++lane, to += problem.out.token_stride) {
      for (int64_t d = 0; d < problem.dim; ++d) to[d] = static_cast<T>(tile.totals[d * kTileQueries + lane]);
    }
  }
};

// Means of pairs [begin, end).
template <typename By, typename T>
TADP_STEP void average_pairs(const AttentionProblem& problem, int64_t begin, int64_t end) {
  for (int64_t pair = begin; pair < end; ++pair) By::template average<T>(problem, pair);
}

// Codes of blocks [begin, end).
template <typename By, typename T>
TADP_STEP void encode_blocks(const AttentionProblem& problem, int64_t begin, int64_t end) {
  const AttentionTile tile = attention_tile(problem.dim, By::kTileCodeBytes);
  for (int64_t index = begin; index < end; ++index) {
    const int64_t pair = index / problem.blocks(), block = index % problem.blocks();
    By::template encode_keys<T>(problem, pair, block, tile);
    By::template encode_values<T>(problem, pair, block, tile);
  }
}

// Results of tiles [begin, end).
template <typename By, typename T>
TADP_STEP void attend_tiles(const AttentionProblem& problem, int64_t begin, int64_t end) {
  const AttentionTile tile = attention_tile(problem.dim, By::kTileCodeBytes);
  for (int64_t index = begin; index < end; ++index) {
    const int64_t pair = index / problem.tiles(), first = index % problem.tiles() * kTileQueries;
    By::template load_queries<T>(problem, pair, first, tile);
    std::fill_n(tile.totals, (problem.dim + 1) * kTileQueries, 0.0F);
    std::fill_n(tile.highest, kTileQueries, kLowestScore);
    const bool* row = problem.map_row(pair, first);
    KeyRuns next;
    for (int64_t part = problem.next_runs(row, 0, next); next.count > 0; part = problem.next_runs(row, part, next)) {
      std::fill_n(tile.peak, kTileQueries, kLowestScore);
      for (int64_t i = 0; i < next.count; ++i) {
        if (problem.mask != nullptr) By::load_mask(problem, pair, first, next.runs[i], tile);
        By::score(problem, pair, next.runs[i], tile);
      }
      By::rescale(tile);
      By::weigh(next.keys, tile);
      for (int64_t i = 0; i < next.count; ++i) {
        if (i == 1) std::fill_n(tile.keep, kTileQueries, 1.0F);
        By::gather(problem, pair, next.runs[i], tile);
      }
    }
    By::normalize(problem, pair, tile);
    By::template store_results<T>(problem, pair, first, tile);
  }
}

}  // namespace tadp
