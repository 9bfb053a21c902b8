// The steps of attention that take the time, with AVX-512: products that stay in registers until they are scores or
// totals, weights in integers of 16 bits, 32 at a time, and transpositions 16 by 16.
#include "attention_steps.h"

#if defined(__x86_64__)
#include <array>

#include "product_avx512.h"
#include "unpack_avx512.h"

namespace tadp {
namespace {

constexpr int kLanes = 4;  // registers of 16 queries
static_assert(kTileQueries == kLanes * 16 && kRowsAtOnce == 6);
static_assert(kBlockKeys % 16 == 0, "values are stored for 16 keys at a time");

// Where the scores of some keys go.
struct Scores {
  const float* factor;
  const float* mask;  // null: none
  float* scores;
  float* peak;
};

// score() of Rows keys.
template <int Rows>
TADP_AVX512 void score_keys(const int8_t* codes, int64_t padded, const uint8_t* queries, const int32_t* offset,
                            const float* scale, const Scores& to) {
  __m512i sums[Rows][kLanes];
#pragma GCC unroll 6
  for (int r = 0; r < Rows; ++r) {
#pragma GCC unroll 4
    for (int lane = 0; lane < kLanes; ++lane) sums[r][lane] = _mm512_set1_epi32(offset[r]);
  }
  add_products(codes, padded, padded, queries, sums);
#pragma GCC unroll 4
  for (int lane = 0; lane < kLanes; ++lane) {
    const __m512 factor = _mm512_load_ps(to.factor + lane * 16);
    __m512 peak = _mm512_load_ps(to.peak + lane * 16);
#pragma GCC unroll 6
    for (int r = 0; r < Rows; ++r) {
      const int64_t place = r * kTileQueries + lane * 16;
      __m512 score = _mm512_mul_ps(_mm512_cvtepi32_ps(sums[r][lane]), _mm512_set1_ps(scale[r]));
      score = _mm512_mul_ps(score, factor);
      if (to.mask != nullptr) score = _mm512_add_ps(score, _mm512_load_ps(to.mask + place));
      _mm512_store_ps(to.scores + place, score);
      peak = _mm512_max_ps(score, peak);  // of a score that is not a number, the peak
    }
    _mm512_store_ps(to.peak + lane * 16, peak);
  }
}

// gather() of Rows channels.
template <int Rows>
TADP_AVX512 void gather_channels(const int8_t* codes, int64_t keys, const uint8_t* weights, const float* scale,
                                 const AttentionTile& tile, float* totals) {
  __m512i sums[Rows][kLanes];
  multiply_tile(codes, kBlockKeys, keys, weights, sums);
#pragma GCC unroll 4
  for (int lane = 0; lane < kLanes; ++lane) {
    const __m512 keep = _mm512_load_ps(tile.keep + lane * 16), take = _mm512_load_ps(tile.take + lane * 16);
#pragma GCC unroll 6
    for (int r = 0; r < Rows; ++r) {
      float* total = totals + r * kTileQueries + lane * 16;
      const __m512 scaled = _mm512_mul_ps(_mm512_cvtepi32_ps(sums[r][lane]), _mm512_set1_ps(scale[r]));
      const __m512 kept = _mm512_mul_ps(_mm512_load_ps(total), keep);
      _mm512_store_ps(total, _mm512_add_ps(kept, _mm512_mul_ps(scaled, take)));
    }
  }
}

constexpr std::array kScoreKeys = {score_keys<1>, score_keys<2>, score_keys<3>,
                                   score_keys<4>, score_keys<5>, score_keys<6>};
constexpr std::array kGatherChannels = {gather_channels<1>, gather_channels<2>, gather_channels<3>,
                                        gather_channels<4>, gather_channels<5>, gather_channels<6>};

// weight_parts() of 32 rounded differences.
TADP_AVX512_INLINE __m512i weight_parts(__m512i x) {
  const __m512i f = _mm512_slli_epi16(x, 5), n = _mm512_srai_epi16(x, 11);
  __m512i power = _mm512_add_epi16(_mm512_mulhi_epu16(f, _mm512_set1_epi16(kPower3)), _mm512_set1_epi16(kPower2));
  power = _mm512_add_epi16(_mm512_mulhi_epu16(f, power), _mm512_set1_epi16(kPower1));
  power = _mm512_add_epi16(_mm512_mulhi_epu16(f, power), _mm512_set1_epi16(kPower0));
  return _mm512_srlv_epi16(power, _mm512_sub_epi16(_mm512_setzero_si512(), n));
}

// The codes of 32 weights, given what was lost before, which is replaced by what is lost now.
TADP_AVX512_INLINE __m512i round_parts(__m512i parts, __m512i& lost) {
  static_assert(kPartsOfCode == 1 << 7);
  const __m512i wanted = _mm512_add_epi16(parts, lost);
  lost = _mm512_and_si512(wanted, _mm512_set1_epi16(kPartsOfCode - 1));
  return _mm512_srli_epi16(wanted, 7);
}

// The difference of 16 scores from their peaks, rounded; the least integer where it is below all, or not a number.
TADP_AVX512_INLINE __m512i below(const float* scores, __m512 peak) {
  return _mm512_cvt_roundps_epi32(_mm512_sub_ps(_mm512_load_ps(scores), peak),
                                  _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

struct Avx512 : PlainSteps<Avx512> {
  static TokenScale quantize(const float* values, int64_t columns, int8_t* codes) {
    return quantize_row_avx512(values, columns, codes);
  }

  template <typename T>
  TADP_AVX512 static void add_to_mean(const T* row, int64_t dim, float share, float* mean) {
    for (int64_t d = 0; d < dim; d += 16) {
      const __mmask16 lanes = first_lanes(dim - d);
      const __m512 part = _mm512_mul_ps(load16(row + d, lanes), _mm512_set1_ps(share));
      _mm512_mask_storeu_ps(mean + d, lanes, _mm512_add_ps(_mm512_maskz_loadu_ps(lanes, mean + d), part));
    }
  }

  template <typename T>
  TADP_AVX512 static void subtract_mean(const T* row, int64_t dim, const float* mean, float* to) {
    for (int64_t d = 0; d < dim; d += 16) {
      const __mmask16 lanes = first_lanes(dim - d);
      _mm512_mask_storeu_ps(to + d, lanes,
                            _mm512_sub_ps(load16(row + d, lanes), _mm512_maskz_loadu_ps(lanes, mean + d)));
    }
  }

  template <typename T>
  TADP_AVX512 static void encode_values(const AttentionProblem& problem, int64_t pair, int64_t block,
                                        const AttentionTile& tile) {
    const int64_t dim = problem.dim, first = block * kBlockKeys, count = problem.block_keys(block);
    const int64_t index = pair * problem.blocks() + block;
    int8_t* codes = problem.value_codes + index * (dim + 1) * kBlockKeys;
    float* scale = problem.value_scale + index * (dim + 1);
    const float* mean = problem.value_mean + pair * dim;
    const int64_t stride = problem.v.token_stride;
    const T* v = problem.tokens<const T>(problem.v, pair) + first * stride;
    alignas(64) float peaks[16], inverses[16];
    for (int64_t d = 0; d < dim; d += 16) {
      const __mmask16 channels = first_lanes(dim - d);
      const __m512 shift = _mm512_maskz_loadu_ps(channels, mean + d);
      __m512 peak = _mm512_setzero_ps();
      for (int64_t key = 0; key < count; ++key) {
        peak = _mm512_max_ps(_mm512_abs_ps(_mm512_sub_ps(load16(v + key * stride + d, channels), shift)), peak);
      }
      _mm512_store_ps(peaks, peak);
      for (int64_t i = 0; i < 16; ++i) {
        const ChannelScale channel = channel_scale(peaks[i]);
        inverses[i] = channel.inverse;
        if (d + i < dim) scale[d + i] = channel.scale;
      }
      const __m512 inverse = _mm512_load_ps(inverses);
      const __mmask16 present = _mm512_cmp_ps_mask(inverse, _mm512_setzero_ps(), _CMP_NEQ_OQ);
      __m512 lost = _mm512_setzero_ps();
      for (int64_t key = 0; key < count; key += 16) {
        __m512i rows[16];
#pragma GCC unroll 16
        for (int i = 0; i < 16; ++i) {
          rows[i] = _mm512_setzero_si512();
          if (key + i >= count) continue;
          const __m512 value = _mm512_sub_ps(load16(v + (key + i) * stride + d, channels), shift);
          const __m512 scaled = _mm512_maskz_mul_ps(present, value, inverse);
          const __m512 wanted = _mm512_add_ps(scaled, lost);
          rows[i] = _mm512_cvt_roundps_epi32(wanted, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
          lost = _mm512_sub_ps(wanted, _mm512_cvtepi32_ps(rows[i]));
        }
        transpose(rows);
#pragma GCC unroll 16
        for (int i = 0; i < 16; ++i) {
          if (d + i >= dim) break;
          _mm_storeu_si128(reinterpret_cast<__m128i*>(codes + (d + i) * kBlockKeys + key),
                           _mm512_cvtepi32_epi8(rows[i]));
        }
      }
    }
    encode_ones(problem, codes, scale);
  }

  template <typename T>
  TADP_AVX512 static void load_queries(const AttentionProblem& problem, int64_t pair, int64_t first,
                                       const AttentionTile& tile) {
    const int64_t padded = problem.padded, count = std::min(kTileQueries, problem.queries - first);
    const int64_t stride = round_up(padded, kLane), fours = padded / 4;
    const T* q = problem.tokens<const T>(problem.q, pair) + first * problem.q.token_stride;
    auto* codes = reinterpret_cast<int8_t*>(tile.weights);  // not needed yet
    static_assert(16 * 256 <= kBlockKeys * kTileQueries);
    for (int64_t lane = 0; lane < kTileQueries; lane += 16) {
      for (int64_t i = 0; i < 16; ++i) {
        tile.factor[lane + i] = 0.0F;
        if (lane + i >= count) {
          std::memset(codes + i * stride, 0, static_cast<size_t>(padded));
          continue;
        }
        std::memset(codes + i * stride + padded - 4, 0, 4);
        const T* row = q + (lane + i) * problem.q.token_stride;
        tile.factor[lane + i] = quantize_row_avx512(row, problem.dim, codes + i * stride).scale * problem.factor;
      }
      for (int64_t four = 0; four < fours; four += 16) {
        __m512i rows[16];
#pragma GCC unroll 16
        for (int i = 0; i < 16; ++i) rows[i] = _mm512_load_si512(codes + i * stride + four * 4);
        transpose(rows);
#pragma GCC unroll 16
        for (int i = 0; i < 16; ++i) {
          if (four + i >= fours) break;
          _mm512_store_si512(tile.queries + ((four + i) * kTileQueries + lane) * 4,
                             _mm512_xor_si512(rows[i], _mm512_set1_epi8(-128)));
        }
      }
    }
  }

  TADP_AVX512 static void score(const AttentionProblem& problem, int64_t pair, const KeyRun& run,
                                const AttentionTile& tile) {
    const int64_t place = pair * problem.keys + run.key;
    for (int64_t key = 0; key < run.count; key += kRowsAtOnce) {
      const int64_t rows = std::min(kRowsAtOnce, run.count - key), here = (run.place + key) * kTileQueries;
      const Scores to{.factor = tile.factor,
                      .mask = problem.mask == nullptr ? nullptr : tile.mask + here,
                      .scores = tile.scores + here,
                      .peak = tile.peak};
      kScoreKeys[static_cast<size_t>(rows - 1)](problem.key_codes + (place + key) * problem.padded, problem.padded,
                                                tile.queries, problem.key_offset + place + key,
                                                problem.key_scale + place + key, to);
    }
  }

  TADP_AVX512 static void weigh(int64_t keys, const AttentionTile& tile) {
    // Byte i of a number of 32 bits, of which four stand one after the other, to byte i of a query's four.
    const __m512i by_query =
        _mm512_broadcast_i32x4(_mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
    std::fill(tile.scores + keys * kTileQueries, tile.scores + round_up(keys, 4) * kTileQueries,
              -std::numeric_limits<float>::infinity());
    for (int64_t lane = 0; lane < kTileQueries; lane += 16) {
      const __m512 peak = _mm512_load_ps(tile.peak + lane);
      __m512i lost = _mm512_set1_epi16(kPartsOfCode / 2);
      for (int64_t key = 0; key < keys; key += 4) {
        const float* scores = tile.scores + key * kTileQueries + lane;
        const __m512i first = _mm512_packs_epi32(below(scores, peak), below(scores + kTileQueries, peak));
        const __m512i second =
            _mm512_packs_epi32(below(scores + 2 * kTileQueries, peak), below(scores + 3 * kTileQueries, peak));
        const __m512i first_codes = round_parts(weight_parts(first), lost);
        const __m512i codes = _mm512_packus_epi16(first_codes, round_parts(weight_parts(second), lost));
        _mm512_store_si512(tile.weights + key * kTileQueries + lane * 4, _mm512_shuffle_epi8(codes, by_query));
      }
    }
  }

  TADP_AVX512 static void gather(const AttentionProblem& problem, int64_t pair, const KeyRun& run,
                                 const AttentionTile& tile) {
    const int64_t channels = problem.dim + 1;
    const int64_t index = (pair * problem.blocks() + run.key / kBlockKeys) * channels;
    const int8_t* codes = problem.value_codes + index * kBlockKeys + run.key % kBlockKeys;
    const uint8_t* weights = tile.weights + run.place * kTileQueries;
    const int64_t keys = round_up(run.count, 4);
    for (int64_t d = 0; d < channels; d += kRowsAtOnce) {
      const int64_t rows = std::min(kRowsAtOnce, channels - d);
      kGatherChannels[static_cast<size_t>(rows - 1)](
          codes + d * kBlockKeys, keys, weights, problem.value_scale + index + d, tile, tile.totals + d * kTileQueries);
    }
  }

  template <typename T>
  TADP_AVX512 static void store_results(const AttentionProblem& problem, int64_t pair, int64_t first,
                                        const AttentionTile& tile) {
    const int64_t count = std::min(kTileQueries, problem.queries - first);
    T* to = problem.tokens<T>(problem.out, pair) + first * problem.out.token_stride;
    for (int64_t lane = 0; lane < count; lane += 16) {
      for (int64_t d = 0; d < problem.dim; d += 16) {
        __m512i rows[16];
#pragma GCC unroll 16
        for (int i = 0; i < 16; ++i) {
          rows[i] = d + i < problem.dim ? _mm512_load_si512(tile.totals + (d + i) * kTileQueries + lane)
                                        : _mm512_setzero_si512();
        }
        transpose(rows);
#pragma GCC unroll 16
        for (int i = 0; i < 16; ++i) {
          if (lane + i >= count) break;
          store16(to + (lane + i) * problem.out.token_stride + d, first_lanes(problem.dim - d),
                  _mm512_castsi512_ps(rows[i]));
        }
      }
    }
  }
};

template <typename T>
TADP_AVX512 void average(const AttentionProblem& problem, int64_t begin, int64_t end) {
  average_pairs<Avx512, T>(problem, begin, end);
}
template <typename T>
TADP_AVX512 void encode(const AttentionProblem& problem, int64_t begin, int64_t end) {
  encode_blocks<Avx512, T>(problem, begin, end);
}
template <typename T>
TADP_AVX512 void attend(const AttentionProblem& problem, int64_t begin, int64_t end) {
  attend_tiles<Avx512, T>(problem, begin, end);
}

}  // namespace

template <typename T>
AttentionPhases attention_avx512vnni() {
  return {average<T>, encode<T>, attend<T>, Avx512::key_bytes, Avx512::value_bytes};
}

template AttentionPhases attention_avx512vnni<float>();
template AttentionPhases attention_avx512vnni<BFloat16>();
template AttentionPhases attention_avx512vnni<Half>();

}  // namespace tadp
#endif
