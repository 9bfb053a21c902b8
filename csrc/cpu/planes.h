// The bit planes of a weight, and how a row of codes is read from them.
//
// A weight of N rows and K columns (padded to a multiple of four, `padded`) has codes u of eight bits. `high` holds
// their top four bits, `mid` the next two, `low` the last two. Within a row the columns are cut into four quarters of Q
// = padded / 4; byte j of mid and low holds columns j, Q + j, 2Q + j, 3Q + j in its bit pairs from the lowest on, and
// byte j of high (2Q bytes) holds column j in its low and column 2Q + j in its high nibble. So codes that stand side by
// side in memory are neighbouring columns, and unpacking is shifts and masks only, on any vector width and on GPUs as
// well.
#pragma once

#include <cstdint>
#include <optional>

#include "../codes.h"
#include "checks.h"

namespace tadp {

struct Planes {
  const uint8_t* high = nullptr;
  const uint8_t* mid = nullptr;
  const uint8_t* low = nullptr;
  int64_t rows = 0;
  int64_t padded = 0;              // columns, rounded up to a multiple of four
  int width = width_of_planes(1);  // by which planes are given
};

// Checks the planes of a weight with `columns` columns and returns pointers into them. The tensors must be contiguous
// and outlive the result.
Planes read_planes(const Tensor& high, const std::optional<Tensor>& mid, const std::optional<Tensor>& low,
                   int64_t columns);

// The planes as contiguous tensors: the holder that keeps copies of strided ones alive.
struct ContiguousPlanes {
  Tensor high;
  std::optional<Tensor> mid, low;
};
ContiguousPlanes contiguous_planes(const Tensor& high, const std::optional<Tensor>& mid,
                                   const std::optional<Tensor>& low);

// Writes the codes u_b = u >> (8 - Width) of one row, `padded` bytes, shifted left to where they stand in codes of
// Frame bits. Forced inline, so that each caller vectorizes it for its own instruction set.
template <int Width, int Frame = Width>
[[gnu::always_inline]] inline void unpack_row(const Planes& planes, int64_t row, uint8_t* __restrict__ codes) {
  const int64_t quarter = planes.padded / 4;
  const uint8_t* __restrict__ high = planes.high + row * 2 * quarter;
  const uint8_t* __restrict__ mid = Decode<Width>::kReadsMid ? planes.mid + row * quarter : nullptr;
  const uint8_t* __restrict__ low = Decode<Width>::kReadsLow ? planes.low + row * quarter : nullptr;
  for (int64_t j = 0; j < quarter; ++j) {
    uint8_t code[4] = {static_cast<uint8_t>(high[j] & 15), static_cast<uint8_t>(high[quarter + j] & 15),
                       static_cast<uint8_t>(high[j] >> 4), static_cast<uint8_t>(high[quarter + j] >> 4)};
    for (int q = 0; q < 4; ++q) {
      if constexpr (Decode<Width>::kReadsMid) code[q] = static_cast<uint8_t>(code[q] << 2 | (mid[j] >> (2 * q) & 3));
      if constexpr (Decode<Width>::kReadsLow) code[q] = static_cast<uint8_t>(code[q] << 2 | (low[j] >> (2 * q) & 3));
      codes[q * quarter + j] = static_cast<uint8_t>(code[q] << (Frame - Width));
    }
  }
}

}  // namespace tadp
