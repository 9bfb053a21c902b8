// The formats of a weight, as tadp/kernels/formats.py has them, which also says why the numbers are what they are.
// tests/kernels/test_formats.py compares the two files.
#pragma once

#include <cstdint>

namespace tadp {

// One width: the real value of code u is scale * (2^shift * (u >> shift) - zero - half).
struct Format {
  int width;     // bits of a code that are read
  int planes;    // of high, mid and low, how many hold them
  int shift;     // 8 - width
  int32_t zero;  // the whole part of the zero point
  float half;    // what is left of it, which is subtracted in floating point
};

inline constexpr Format kFormats[] = {
    {8, 3, 0, 134, 0.0F},
    {6, 2, 2, 132, 0.5F},
    {4, 1, 4, 126, 0.5F},
};

inline constexpr int64_t kGroupSizes[] = {64, 128};  // columns that may share a scale
inline constexpr int64_t kMaxColumns = 65536;        // 65536 * 255 * 127 still fits in 32 bits with a sign

// The row of a width; one of zeros for a width that there is not.
constexpr Format format_of(int width) {
  for (const Format& format : kFormats) {
    if (format.width == width) return format;
  }
  return {};
}

// The width that so many planes amount to.
constexpr int width_of_planes(int planes) {
  for (const Format& format : kFormats) {
    if (format.planes == planes) return format.width;
  }
  return 0;
}

// Of narrow widths the zero point is the centre of the cell that zero lies in.
constexpr bool are_centred() {
  for (const Format& format : kFormats) {
    const int cell = (1 << format.shift) - 1;
    if (format.shift != 8 - format.width) return false;
    if (2 * format.zero + static_cast<int>(2 * format.half) != 2 * kFormats[0].zero - cell) return false;
  }
  return kFormats[0].width == 8;
}
static_assert(are_centred());

}  // namespace tadp
