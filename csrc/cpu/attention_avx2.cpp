// The steps of attention that take the time, in registers of 256 bits: products of panels that stay in registers until
// they are scores or totals (product_avx2.h), and weights in integers of 16 bits, 16 at a time.
//
// Queries, and weights in turn, are four panels of 16 lanes; keys, and channels of values, are packed in sixes.
#include "attention_steps.h"

#if defined(__x86_64__)
#include "attention_weights_avx2.h"
#include "product_avx2.h"

namespace tadp {
namespace {

constexpr int64_t kPanels = kTileQueries / kPanelLanes;
constexpr int64_t kPacksOfPart = (kPartKeys + kPackRows - 1) / kPackRows;  // a run of keys begins with a part

TADP_AVX2_INLINE __m256 load8(const float* from) { return _mm256_load_ps(from); }

// Where the scores of some keys with a panel of queries go.
struct Scores {
  const float* factor;
  const float* mask;  // null: none
  float* scores;
  float* peak;
};

// score() of Rows packed keys with a panel of queries.
template <typename Steps, int Rows>
TADP_AVX2 void score_keys(const int8_t* codes, int64_t steps, const uint8_t* panel, const int32_t* offset,
                          const float* scale, const Scores& to) {
  PanelSums<Rows> sums;
#pragma GCC unroll 6
  for (int r = 0; r < Rows; ++r) sums[r][0] = sums[r][1] = _mm256_set1_epi32(offset[r]);
  add_products<Steps, Rows>(codes, steps, panel, sums);
  const float* mask = to.mask;  // out of memory that stores below might change, for all the compiler knows
  float *scores = to.scores, *peaks = to.peak;
  const __m256 factors[2] = {load8(to.factor), load8(to.factor + 8)};
#pragma GCC unroll 2
  for (int half = 0; half < 2; ++half) {
    __m256 peak = load8(peaks + half * 8);
#pragma GCC unroll 6
    for (int r = 0; r < Rows; ++r) {
      const int64_t place = r * kTileQueries + half * 8;
      __m256 score = _mm256_mul_ps(_mm256_cvtepi32_ps(sums[r][half]), _mm256_set1_ps(scale[r]));
      score = _mm256_mul_ps(score, factors[half]);
      if (mask != nullptr) score = _mm256_add_ps(score, load8(mask + place));
      _mm256_store_ps(scores + place, score);
      peak = _mm256_max_ps(score, peak);  // of a score that is not a number, the peak
    }
    _mm256_store_ps(peaks + half * 8, peak);
  }
}

// gather() of Rows packed channels with a panel of weights; keep, take and totals are those of its first lane.
template <typename Steps, int Rows>
TADP_AVX2 void gather_channels(const int8_t* codes, int64_t steps, const uint8_t* panel, const float* scale,
                               const float* keep, const float* take, float* totals) {
  PanelSums<Rows> sums;
#pragma GCC unroll 6
  for (int r = 0; r < Rows; ++r) sums[r][0] = sums[r][1] = _mm256_setzero_si256();
  add_products<Steps, Rows>(codes, steps, panel, sums);
#pragma GCC unroll 2
  for (int half = 0; half < 2; ++half) {
    const __m256 kept = load8(keep + half * 8), taken = load8(take + half * 8);
#pragma GCC unroll 6
    for (int r = 0; r < Rows; ++r) {
      float* total = totals + r * kTileQueries + half * 8;
      const __m256 scaled = _mm256_mul_ps(_mm256_cvtepi32_ps(sums[r][half]), _mm256_set1_ps(scale[r]));
      _mm256_store_ps(total, _mm256_add_ps(_mm256_mul_ps(load8(total), kept), _mm256_mul_ps(scaled, taken)));
    }
  }
}

using ScoreKeys = void (*)(const int8_t*, int64_t, const uint8_t*, const int32_t*, const float*, const Scores&);
using GatherChannels = void (*)(const int8_t*, int64_t, const uint8_t*, const float*, const float*, const float*,
                                float*);

// By rows - 1.
template <typename Steps>
constexpr ScoreKeys kScoreKeys[kPackRows] = {score_keys<Steps, 1>, score_keys<Steps, 2>, score_keys<Steps, 3>,
                                             score_keys<Steps, 4>, score_keys<Steps, 5>, score_keys<Steps, 6>};
template <typename Steps>
constexpr GatherChannels kGatherChannels[kPackRows] = {gather_channels<Steps, 1>, gather_channels<Steps, 2>,
                                                       gather_channels<Steps, 3>, gather_channels<Steps, 4>,
                                                       gather_channels<Steps, 5>, gather_channels<Steps, 6>};

template <typename Steps>
struct Avx2 : PlainSteps<Avx2<Steps>> {
  using Plain = PlainSteps<Avx2<Steps>>;
  static constexpr int64_t kTileCodeBytes = Steps::kStepsOfFour;
  static constexpr int64_t kBlockSteps = kBlockKeys / 4 * Steps::kStepsOfFour;

  static int64_t steps(const AttentionProblem& problem) { return problem.padded / 4 * Steps::kStepsOfFour; }
  static int64_t key_pack_bytes(const AttentionProblem& problem) { return steps(problem) * kPackBytes; }
  static int64_t key_bytes(const AttentionProblem& problem) {
    return problem.parts() * kPacksOfPart * key_pack_bytes(problem);
  }
  static int64_t value_bytes(const AttentionProblem& problem) {
    return (problem.dim + 1 + kPackRows - 1) / kPackRows * kBlockSteps * kPackBytes;
  }

  static TokenScale quantize(const float* values, int64_t columns, int8_t* codes) {
    return quantize_row_avx2(values, columns, codes);
  }

  // The packs of a part of the keys of a pair.
  static int8_t* keys_of_part(const AttentionProblem& problem, int64_t pair, int64_t part) {
    return problem.key_codes + (pair * problem.parts() + part) * kPacksOfPart * key_pack_bytes(problem);
  }

  template <typename T>
  TADP_AVX2 static void encode_keys(const AttentionProblem& problem, int64_t pair, int64_t block,
                                    const AttentionTile& tile) {
    auto* codes = reinterpret_cast<int8_t*>(tile.scores);  // not needed yet
    static_assert(kTileQueries * sizeof(float) >= 256, "codes of all channels of a block of keys fit its scores");
    Plain::template round_keys<T>(problem, pair, block, tile, codes);
    const int64_t padded = problem.padded, count = problem.block_keys(block);
    for (int64_t first = 0; first < count; first += kPartKeys) {
      int8_t* to = keys_of_part(problem, pair, block * kParts + first / kPartKeys);
      const int64_t end = std::min(count, first + kPartKeys);
      for (int64_t key = first; key < end; key += kPackRows, to += key_pack_bytes(problem)) {
        pack_rows<Steps>(codes + key * padded, padded, std::min<int64_t>(kPackRows, end - key), padded, to);
      }
    }
  }

  template <typename T>
  TADP_AVX2 static void encode_values(const AttentionProblem& problem, int64_t pair, int64_t block,
                                      const AttentionTile& tile) {
    auto* codes = reinterpret_cast<int8_t*>(tile.scores);  // and the mask behind them, neither needed yet
    Plain::template round_values<T>(problem, pair, block, tile, codes);
    int8_t* to = problem.value_codes + (pair * problem.blocks() + block) * value_bytes(problem);
    const int64_t channels = problem.dim + 1;
    for (int64_t d = 0; d < channels; d += kPackRows, to += kBlockSteps * kPackBytes) {
      pack_rows<Steps>(codes + d * kBlockKeys, kBlockKeys, std::min<int64_t>(kPackRows, channels - d), kBlockKeys, to);
    }
  }

  template <typename T>
  TADP_AVX2 static void load_queries(const AttentionProblem& problem, int64_t pair, int64_t first,
                                     const AttentionTile& tile) {
    const int64_t padded = problem.padded, count = std::min(kTileQueries, problem.queries - first);
    const int64_t stride = round_up(padded, kScratchAlignment), fours = padded / 4;
    const T* q = problem.tokens<const T>(problem.q, pair) + first * problem.q.token_stride;
    auto* codes = reinterpret_cast<int8_t*>(tile.weights);  // not needed yet
    static_assert(8 * 256 <= kBlockKeys * kTileQueries);
    for (int64_t lane = 0; lane < kTileQueries; lane += 8) {
      for (int64_t i = 0; i < 8; ++i) {
        int8_t* row = codes + i * stride;
        std::memset(row, 0, static_cast<size_t>(stride));
        tile.factor[lane + i] = 0.0F;
        if (lane + i >= count) continue;
        const TokenScale scale = quantize_row_avx2(q + (lane + i) * problem.q.token_stride, problem.dim, row);
        tile.factor[lane + i] = scale.scale * problem.factor;
      }
      uint8_t* to = tile.queries + lane / kPanelLanes * steps(problem) * kStepBytes + lane % kPanelLanes * 4;
      for (int64_t four = 0; four < fours; four += 8) {
        __m256i rows[8];
#pragma GCC unroll 8
        for (int i = 0; i < 8; ++i) rows[i] = load32(codes + i * stride + four * 4);
        transpose(rows);
        for (int64_t i = 0; i < std::min<int64_t>(8, fours - four); ++i) {
          store_steps<Steps>(_mm256_xor_si256(rows[i], _mm256_set1_epi8(-128)),
                             to + (four + i) * Steps::kStepsOfFour * kStepBytes);
        }
      }
    }
  }

  TADP_AVX2 static void score(const AttentionProblem& problem, int64_t pair, const KeyRun& run,
                              const AttentionTile& tile) {
    const int64_t place = pair * problem.keys + run.key, depth = steps(problem);
    for (int64_t first = 0; first < run.count; first += kPartKeys) {
      const int8_t* codes = keys_of_part(problem, pair, (run.key + first) / kPartKeys);
      const int64_t end = std::min(run.count, first + kPartKeys);
      for (int64_t panel = 0; panel < kPanels; ++panel) {
        const int64_t lane = panel * kPanelLanes;
        const int8_t* pack = codes;
        for (int64_t key = first; key < end; key += kPackRows, pack += depth * kPackBytes) {
          const auto rows = static_cast<size_t>(std::min<int64_t>(kPackRows, end - key));
          const int64_t here = (run.place + key) * kTileQueries + lane;
          const Scores to{.factor = tile.factor + lane,
                          .mask = problem.mask == nullptr ? nullptr : tile.mask + here,
                          .scores = tile.scores + here,
                          .peak = tile.peak + lane};
          kScoreKeys<Steps>[rows - 1](pack, depth, tile.queries + panel* depth* kStepBytes,
                                      problem.key_offset + place + key, problem.key_scale + place + key, to);
        }
      }
    }
  }

  TADP_AVX2 static void weigh(int64_t keys, const AttentionTile& tile) {
    std::fill(tile.scores + keys * kTileQueries, tile.scores + round_up(keys, 4) * kTileQueries,
              -std::numeric_limits<float>::infinity());
    for (int64_t panel = 0; panel < kPanels; ++panel) {
      const int64_t lane = panel * kPanelLanes;
      weigh_panel<Steps>(keys, tile.scores + lane, tile.peak + lane, tile.weights + panel * kBlockSteps * kStepBytes);
    }
  }

  TADP_AVX2 static void gather(const AttentionProblem& problem, int64_t pair, const KeyRun& run,
                               const AttentionTile& tile) {
    const int64_t channels = problem.dim + 1, index = pair * problem.blocks() + run.key / kBlockKeys;
    const int64_t skipped = run.key % kBlockKeys / 4 * Steps::kStepsOfFour;
    const int8_t* codes = problem.value_codes + index * value_bytes(problem) + skipped * kPackBytes;
    const uint8_t* weights = tile.weights + run.place / 4 * Steps::kStepsOfFour * kStepBytes;
    const int64_t depth = round_up(run.count, 4) / 4 * Steps::kStepsOfFour;
    const float* scale = problem.value_scale + index * channels;
    for (int64_t panel = 0; panel < kPanels; ++panel, weights += kBlockSteps * kStepBytes) {
      const int64_t lane = panel * kPanelLanes;
      const int8_t* pack = codes;
      for (int64_t d = 0; d < channels; d += kPackRows, pack += kBlockSteps * kPackBytes) {
        const auto rows = static_cast<size_t>(std::min<int64_t>(kPackRows, channels - d));
        kGatherChannels<Steps>[rows - 1](pack, depth, weights, scale + d, tile.keep + lane, tile.take + lane,
                                         tile.totals + d* kTileQueries + lane);
      }
    }
  }

  template <typename T>
  TADP_AVX2 static void store_results(const AttentionProblem& problem, int64_t pair, int64_t first,
                                      const AttentionTile& tile) {
    const int64_t count = std::min(kTileQueries, problem.queries - first), stride = problem.out.token_stride;
    T* to = problem.tokens<T>(problem.out, pair) + first * stride;
    const int64_t whole = problem.dim / 8 * 8;
    for (int64_t lane = 0; lane < count; lane += 8) {
      const int64_t lanes = std::min<int64_t>(8, count - lane);
      for (int64_t d = 0; d < whole; d += 8) {
        __m256i rows[8];
#pragma GCC unroll 8
        for (int i = 0; i < 8; ++i) rows[i] = load32(tile.totals + (d + i) * kTileQueries + lane);
        transpose(rows);
#pragma GCC unroll 8
        for (int i = 0; i < 8; ++i) {
          if (i < lanes) store8(to + (lane + i) * stride + d, _mm256_castsi256_ps(rows[i]));
        }
      }
      for (int64_t i = 0; i < lanes; ++i) {
        for (int64_t d = whole; d < problem.dim; ++d) {
          to[(lane + i) * stride + d] = static_cast<T>(tile.totals[d * kTileQueries + lane + i]);
        }
      }
    }
  }
};

template <typename By, typename T>
TADP_AVX2 void average(const AttentionProblem& problem, int64_t begin, int64_t end) {
  average_pairs<By, T>(problem, begin, end);
}
template <typename By, typename T>
TADP_AVX2 void encode(const AttentionProblem& problem, int64_t begin, int64_t end) {
  encode_blocks<By, T>(problem, begin, end);
}
template <typename By, typename T>
TADP_AVX2 void attend(const AttentionProblem& problem, int64_t begin, int64_t end) {
  attend_tiles<By, T>(problem, begin, end);
}

template <typename By, typename T>
AttentionPhases phases() {
  return {average<By, T>, encode<By, T>, attend<By, T>, By::key_bytes, By::value_bytes};
}

}  // namespace

template <typename T>
AttentionPhases attention_avx2() {
  return phases<Avx2<StepsOfSixteenBits>, T>();
}
template <typename T>
AttentionPhases attention_avxvnni() {
  return phases<Avx2<StepsByVnni>, T>();
}

#define TADP_INSTANTIATE(T)                     \
  template AttentionPhases attention_avx2<T>(); \
  template AttentionPhases attention_avxvnni<T>();
TADP_INSTANTIATE(float)
TADP_INSTANTIATE(BFloat16)
TADP_INSTANTIATE(Half)
#undef TADP_INSTANTIATE

}  // namespace tadp
#endif
