// What kernels of the products share besides arithmetic: the order of columns, the last steps of a row of results, and
// the way from a width and a type at run time to code for both.
#pragma once

#include <cstdint>
#include <cstring>
#include <iterator>
#include <utility>

#include "planes.h"
#include "rows.h"
#include "weight.h"

namespace tadp {

// Groups are the columns that share a scale, see tadp/kernels/planes.py. Products take them one after the other, so the
// columns of both sides are brought from their natural order into that of groups: of each group its four runs, one from
// each quarter of the columns.
template <typename T>
[[gnu::always_inline]] inline void arrange(const T* __restrict__ natural, int64_t padded, int64_t groups,
                                           T* __restrict__ to) {
  const int64_t quarter = padded / 4;
  // Of a length that the compiler knows, a copy is a register or two.
  const auto copy = [&]<int64_t Run>() {
    for (int64_t start = 0; start < quarter; start += Run) {
      for (int q = 0; q < 4; ++q, to += Run) std::memcpy(to, natural + q * quarter + start, Run * sizeof(T));
    }
  };
  static_assert(std::size(kGroupSizes) == 2);
  constexpr int64_t kShort = kGroupSizes[0] / 4, kLong = kGroupSizes[1] / 4;
  if (quarter / groups == kShort) return copy.template operator()<kShort>();
  copy.template operator()<kLong>();
}

// Unpacks one row, arranged where there are groups; `natural` is scratch of planes.padded bytes.
template <int Width>
[[gnu::always_inline]] inline void unpack_arranged(const Planes& planes, int64_t row, int64_t groups, uint8_t* natural,
                                                   uint8_t* to) {
  unpack_row<Width>(planes, row, groups == 0 ? to : natural);
  if (groups != 0) arrange(natural, planes.padded, groups, to);
}

// Adds the bias to the values of one token for weight rows [first, first + columns), applies the nonlinearity, and
// stores them as T. Forced inline, so that each caller vectorizes it for its own instruction set.
template <typename T>
[[gnu::always_inline]] inline void store_token(const Output& output, int64_t token, int64_t first, int64_t columns,
                                               float* __restrict__ values) {
  if (output.bias != nullptr) {
    const float* __restrict__ bias = output.bias + first;
    for (int64_t c = 0; c < columns; ++c) values[c] += bias[c];
  }
  apply(output.nonlinearity, values, columns);
  auto* __restrict__ out = static_cast<T*>(output.out) + token * output.rows + first;
  for (int64_t c = 0; c < columns; ++c) out[c] = static_cast<T>(values[c]);
}

// Calls run.operator()<Width>() for the width of a weight, which is one of kFormats.
template <typename Run>
void for_width(int width, const Run& run) {
  const auto try_rows = [&]<size_t... Row>(std::index_sequence<Row...>) {
    const auto try_row = [&]<int Width>() {
      if (width == Width) run.template operator()<Width>();
    };
    (try_row.template operator()<kFormats[Row].width>(), ...);
  };
  try_rows(std::make_index_sequence<std::size(kFormats)>());
}

// Calls run.operator()<Width, T>() for the width of a weight and the type of a result.
template <typename Run>
void for_width_and_type(int width, ScalarType type, const Run& run) {
  const auto with_type = [&]<typename T>() {
    for_width(width, [&]<int Width>() { run.template operator()<Width, T>(); });
  };
  if (type == ScalarType::Float) return with_type.template operator()<float>();
  if (type == ScalarType::BFloat16) return with_type.template operator()<BFloat16>();
  with_type.template operator()<Half>();
}

}  // namespace tadp
