// Attention with 8-bit codes, as the code for each instruction set sees it.
//
// After SageAttention (arXiv 2410.02367, sections 4.1 to 4.3) with two changes for CPUs: the codes of the weights are
// relative to the largest weight of their block of keys, not of all keys before it, so that blocks of small weights
// keep eight bits; and the sum of the weights is the sum of their codes, so that weights always add up to one.
//
// Per head, once: keys without their mean over all keys, which moves the scores of a query by one number that the
// softmax ignores, as codes with one scale a key; values without their mean, which comes back at the end, as weights
// add up to one, with one scale for each channel of a block of keys.
//
// Per tile of 64 queries and block of keys, with a lane for each query throughout:
//   scores   of a key: the codes of the queries, plus 128, times those of the key; scaled to log2 / kUnits
//   weights  255 * 2^((score - largest of the block) / kUnits), rounded
//   totals   of a channel: the weights times the codes of its values, and of a last channel of ones, whose total is the
//            sum of the weights; totals before are scaled down where the block has a larger score
//
// A map may name the parts of 64 keys that the queries of a tile see. The tile then takes as many parts at a time as a
// block has, wherever they lie, so that none costs more than where all are seen, but for the totals: those of parts
// from different blocks have different scales, and are added one after the other.
//
// All of it is done in the same steps for every instruction set, so that they agree to the bit.
#pragma once

#include <cstdint>

#include "scratch.h"

namespace tadp {

inline constexpr int64_t kTileQueries = 64;
inline constexpr int64_t kBlockKeys = 192;  // products take four at a time, in rows of six; values are stored by 16
inline constexpr int64_t kPartKeys = 64;    // of which a map says whether they are seen
inline constexpr int64_t kParts = kBlockKeys / kPartKeys;
static_assert(kBlockKeys % kPartKeys == 0);
inline constexpr float kUnits = 2048.0F;  // scores are counted in so many parts of a factor of two
// Below the scores of all keys, also of those that a mask lowers by the most negative number it may hold.
inline constexpr float kLowestScore = -2e38F;
inline constexpr float kLowestMask = -1e38F;

// A tensor of (batch, heads, tokens, dim) in memory; strides in elements, one between channels.
struct Heads {
  const void* data;
  int64_t batch_stride, head_stride, token_stride;
};

// Keys [key, key + count) of one block, which a tile has from `place` on among those that it takes at a time.
struct KeyRun {
  int64_t key, count, place;
};

struct KeyRuns {
  KeyRun runs[kParts];
  int64_t count, keys;
};

struct AttentionProblem {
  int64_t heads, pairs;  // pairs: batch times heads
  int64_t queries, keys, dim;
  int64_t padded;  // dim, filled up with zeros to a multiple of four
  Heads q, k, v, out;
  float factor;  // of the scores, in kUnits of a factor of two

  // By pair.
  int8_t* key_codes;    // (keys, padded), or as an instruction set wants them
  float* key_scale;     // (keys)
  int32_t* key_offset;  // (keys): -128 times the sum of the codes, as query codes are 128 too large
  int8_t* value_codes;  // (blocks, dim + 1, kBlockKeys), the same
  float* value_scale;   // (blocks, dim + 1)
  float* key_mean;      // (dim)
  float* value_mean;    // (dim)

  const float* mask;  // in kUnits, null where there is none
  int64_t mask_strides[4];

  const bool* map;      // (pairs, map_rows, parts), null where all keys are seen
  int64_t map_rows;     // of a pair
  int64_t map_queries;  // of a row, a multiple of kTileQueries

  int64_t parts() const { return (keys + kPartKeys - 1) / kPartKeys; }
  int64_t blocks() const { return (keys + kBlockKeys - 1) / kBlockKeys; }
  int64_t tiles() const { return (queries + kTileQueries - 1) / kTileQueries; }
  int64_t block_keys(int64_t block) const {
    const int64_t rest = keys - block * kBlockKeys;
    return rest < kBlockKeys ? rest : kBlockKeys;
  }
  // The row of the map for the queries from `first` on.
  const bool* map_row(int64_t pair, int64_t first) const {
    return map == nullptr ? nullptr : map + (pair * map_rows + first / map_queries) * parts();
  }
  // The next parts that a row of the map names, from `part` on. Returns the part behind them.
  int64_t next_runs(const bool* row, int64_t part, KeyRuns& next) const {
    next.count = next.keys = 0;
    int64_t taken = 0;
    for (; part < parts() && taken < kParts; ++part) {
      if (row != nullptr && !row[part]) continue;
      const int64_t key = part * kPartKeys, rest = keys - key, count = rest < kPartKeys ? rest : kPartKeys;
      KeyRun* before = next.count > 0 ? &next.runs[next.count - 1] : nullptr;
      if (before != nullptr && before->key + before->count == key && key % kBlockKeys != 0) {
        before->count += count;
      } else {
        next.runs[next.count++] = {.key = key, .count = count, .place = next.keys};
      }
      next.keys += count;
      ++taken;
    }
    return part;
  }
  // The first token of a pair.
  template <typename T>
  T* tokens(const Heads& tensor, int64_t pair) const {
    auto* data = static_cast<T*>(const_cast<void*>(tensor.data));
    return data + pair / heads * tensor.batch_stride + pair % heads * tensor.head_stride;
  }
};

// What a thread keeps of one tile of queries.
struct AttentionTile {
  uint8_t* queries;  // [padded / 4][64][4]
  float* factor;     // [64]: of the scores; NaN for a query that holds NaN or infinity
  float* scores;     // [kBlockKeys][64]
  float* mask;       // the same
  float* peak;       // [64]: largest score of the block
  float* highest;    // [64]: of all blocks so far
  float* keep;       // [64]: what totals so far are to be multiplied with
  float* take;       // [64]: what those of the block are
  uint8_t* weights;  // [kBlockKeys / 4][64][4]
  float* totals;     // [dim + 1][64]
  float* row;        // [padded rounded up]: a row on its way
  int8_t* codes;     // the same
};

// `code_bytes`: what a code of queries and of weights takes.
inline AttentionTile attention_tile(int64_t dim, int64_t code_bytes) {
  const int64_t lanes = kTileQueries * static_cast<int64_t>(sizeof(float));
  const int64_t padded = round_up(dim, kScratchAlignment);
  uint8_t* next =
      aligned_scratch((2 * kBlockKeys + dim + 1 + 5) * lanes + (padded + kBlockKeys) * kTileQueries * code_bytes +
                      padded * static_cast<int64_t>(sizeof(float) + 1));
  const auto floats = [&](int64_t bytes) {
    auto* here = reinterpret_cast<float*>(next);
    next += bytes;
    return here;
  };
  AttentionTile tile{};
  tile.scores = floats(kBlockKeys * lanes);
  tile.mask = floats(kBlockKeys * lanes);
  tile.totals = floats((dim + 1) * lanes);
  tile.factor = floats(lanes);
  tile.peak = floats(lanes);
  tile.highest = floats(lanes);
  tile.keep = floats(lanes);
  tile.take = floats(lanes);
  tile.row = floats(padded * static_cast<int64_t>(sizeof(float)));
  tile.queries = next;
  tile.weights = next + padded * kTileQueries * code_bytes;
  tile.codes = reinterpret_cast<int8_t*>(tile.weights + kBlockKeys * kTileQueries * code_bytes);
  return tile;
}

// The phases of one instruction set, one after the other.
struct AttentionPhases {
  using Phase = void (*)(const AttentionProblem&, int64_t begin, int64_t end);
  Phase average;                                    // keys and values of pairs
  Phase encode;                                     // keys and values of blocks, counted over all pairs
  Phase attend;                                     // tiles of queries, counted over all pairs
  int64_t (*key_bytes)(const AttentionProblem&);    // of the codes of a pair's keys
  int64_t (*value_bytes)(const AttentionProblem&);  // of the codes of a block's values
};

// T is float, BFloat16 or Half, the type of queries, keys, values and results.
template <typename T>
AttentionPhases attention_portable();
template <typename T>
AttentionPhases attention_avx2();
template <typename T>
AttentionPhases attention_avxvnni();
template <typename T>
AttentionPhases attention_avx512vnni();

}  // namespace tadp
