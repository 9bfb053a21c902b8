// What one lane of a warp contributes to the product of a few tokens with a few weight rows. csrc/cpu/planes.h
// describes the planes.
//
// A lane takes 16 neighbouring bytes of `mid` at a time, a chunk: with the bytes of the other planes that belong to
// them they hold 64 codes of a row, a run of 16 from each quarter of its columns. So a group of 64 columns that share a
// scale is one chunk, one of 128 columns two.
#pragma once

#include "../codes.h"
#include "dot4.h"

namespace tadp::cuda {

inline constexpr int kChunk = 16;

struct alignas(kChunk) Chunk {
  uint32_t words[kChunk / 4];
};

// Rows [first, first + Rows) of a weight, as one warp reads them. Rows behind the last one repeat the first.
template <int Rows>
struct PlaneRows {
  const uint8_t* high;
  const uint8_t* mid;
  const uint8_t* low;
  int32_t quarter;       // bytes of a row of mid, columns of a quarter
  int32_t offset[Rows];  // of the rows, in mid

  TADP_HOST_DEVICE PlaneRows(const uint8_t* high, const uint8_t* mid, const uint8_t* low, int32_t quarter,
                             int64_t first, int64_t rows)
      : high(high + 2 * first * quarter),
        mid(mid == nullptr ? nullptr : mid + first * quarter),
        low(low == nullptr ? nullptr : low + first * quarter),
        quarter(quarter) {
#pragma unroll
    for (int r = 0; r < Rows; ++r) offset[r] = first + r < rows ? r * quarter : 0;
  }
};

// The codes of tokens [first, first + Tokens). Tokens behind the last one repeat it.
template <int Tokens>
struct TokenCodes {
  const uint8_t* codes;
  int32_t columns;
  int32_t offset[Tokens];

  TADP_HOST_DEVICE TokenCodes(const int8_t* codes, int32_t columns, int32_t first, int32_t tokens)
      : codes(reinterpret_cast<const uint8_t*>(codes)), columns(columns) {
#pragma unroll
    for (int t = 0; t < Tokens; ++t) offset[t] = (first + t < tokens ? first + t : tokens - 1) * columns;
  }
};

// How a load uses the caches: weights pass through once, activations are read again for every row.
enum class Cache { kOnce, kKeep };

// Bytes [at, at + 16) of a run that ends at `end`, zeros behind. Whole: all are there, and aligned to 16.
template <bool Whole, Cache Use>
TADP_HOST_DEVICE Chunk load_chunk(const uint8_t* from, int32_t at, int32_t end) {
  Chunk chunk{};
  if constexpr (Whole) {
#if defined(__CUDA_ARCH__)
    const auto* place = reinterpret_cast<const uint4*>(from + at);
    const uint4 words = Use == Cache::kOnce ? __ldcs(place) : __ldg(place);
    chunk = {words.x, words.y, words.z, words.w};
#else
    memcpy(&chunk, from + at, sizeof(chunk));
#endif
  } else {
#pragma unroll
    for (int i = 0; i < kChunk; ++i) {
      const uint32_t byte = at + i < end ? from[at + i] : 0;
      chunk.words[i / 4] |= byte << (8 * (i % 4));
    }
  }
  return chunk;
}

// The bits under `Mask` of a code in each byte, moved left by `Shift`, or right where it is negative. What a shift
// carries across the border of a byte, the mask drops.
template <int Shift, uint32_t Mask>
TADP_HOST_DEVICE uint32_t place(uint32_t word) {
  constexpr uint32_t kMask = Mask * 0x01010101U;
  if constexpr (Shift >= 0) {
    return (word << Shift) & kMask;
  } else {
    return (word >> -Shift) & kMask;
  }
}

// Four codes u_b of quarter Q from four bytes of each plane; of `high`, the bytes that this quarter stands in.
template <int Width, int Q>
TADP_HOST_DEVICE uint32_t unpack4(uint32_t high, uint32_t mid, uint32_t low) {
  uint32_t codes = place<Width - 4 - 4 * (Q / 2), 15U << (Width - 4)>(high);
  if constexpr (Decode<Width>::kReadsMid) codes |= place<Width - 6 - 2 * Q, 3U << (Width - 6)>(mid);
  if constexpr (Decode<Width>::kReadsLow) codes |= place<-2 * Q, 3U>(low);
  return codes;
}

// A chunk of each row, as stored.
template <int Rows>
struct Planes {
  Chunk even[Rows], odd[Rows];  // of high: quarters 0 and 2, quarters 1 and 3
  Chunk mid[Rows], low[Rows];
};

template <int Width, int Rows, bool Whole>
TADP_HOST_DEVICE void load_planes(const PlaneRows<Rows>& rows, int32_t byte, Planes<Rows>& planes) {
#pragma unroll
  for (int r = 0; r < Rows; ++r) {
    const int32_t quarter = rows.quarter, end = quarter - byte;
    const uint8_t* high = rows.high + 2 * rows.offset[r] + byte;
    planes.even[r] = load_chunk<Whole, Cache::kOnce>(high, 0, end);
    planes.odd[r] = load_chunk<Whole, Cache::kOnce>(high + quarter, 0, end);
    if constexpr (Decode<Width>::kReadsMid)
      planes.mid[r] = load_chunk<Whole, Cache::kOnce>(rows.mid + rows.offset[r] + byte, 0, end);
    if constexpr (Decode<Width>::kReadsLow)
      planes.low[r] = load_chunk<Whole, Cache::kOnce>(rows.low + rows.offset[r] + byte, 0, end);
  }
}

// Adds the products of quarter Q of a chunk.
template <int Width, int Q, int Rows, int Tokens, bool Whole>
TADP_HOST_DEVICE void multiply_quarter(const Planes<Rows>& planes, int32_t quarter, const TokenCodes<Tokens>& tokens,
                                       int32_t byte, int32_t (&sums)[Tokens][Rows]) {
  uint32_t weights[Rows][kChunk / 4];
#pragma unroll
  for (int r = 0; r < Rows; ++r) {
#pragma unroll
    for (int w = 0; w < kChunk / 4; ++w) {
      const uint32_t high = Q % 2 == 0 ? planes.even[r].words[w] : planes.odd[r].words[w];
      weights[r][w] = unpack4<Width, Q>(high, planes.mid[r].words[w], planes.low[r].words[w]);
    }
  }
  // A quarter's codes end where the next begins, or where the row does: the planes are padded, codes are not.
  const int32_t at = Q * quarter + byte;
  const int32_t end = tokens.columns < (Q + 1) * quarter ? tokens.columns : (Q + 1) * quarter;
#pragma unroll
  for (int t = 0; t < Tokens; ++t) {
    const Chunk codes = load_chunk<Whole, Cache::kKeep>(tokens.codes + tokens.offset[t], at, end);
#pragma unroll
    for (int r = 0; r < Rows; ++r) {
#pragma unroll
      for (int w = 0; w < kChunk / 4; ++w) sums[t][r] = dot4(weights[r][w], codes.words[w], sums[t][r]);
    }
  }
}

// Adds the products of the 64 columns that belong to bytes [byte, byte + 16) of mid.
template <int Width, int Rows, int Tokens, bool Whole>
TADP_HOST_DEVICE void multiply_chunk(const PlaneRows<Rows>& rows, const TokenCodes<Tokens>& tokens, int32_t byte,
                                     int32_t (&sums)[Tokens][Rows]) {
  Planes<Rows> planes{};
  load_planes<Width, Rows, Whole>(rows, byte, planes);
  multiply_quarter<Width, 0, Rows, Tokens, Whole>(planes, rows.quarter, tokens, byte, sums);
  multiply_quarter<Width, 1, Rows, Tokens, Whole>(planes, rows.quarter, tokens, byte, sums);
  multiply_quarter<Width, 2, Rows, Tokens, Whole>(planes, rows.quarter, tokens, byte, sums);
  multiply_quarter<Width, 3, Rows, Tokens, Whole>(planes, rows.quarter, tokens, byte, sums);
}

}  // namespace tadp::cuda
