#include "planes.h"

namespace tadp {
namespace {

void check_plane(const char* name, const Tensor& plane, int64_t rows, int64_t bytes, int64_t columns) {
  check_cpu_type(name, plane, ScalarType::Byte);
  TADP_CHECK(plane.dim() == 2 && plane.size(0) == rows && plane.size(1) == bytes, name, " must have shape (", rows,
             ", ", bytes, ") for a weight of ", rows, " rows and ", columns, " columns");
}

}  // namespace

Planes read_planes(const Tensor& high, const std::optional<Tensor>& mid, const std::optional<Tensor>& low,
                   int64_t columns) {
  TADP_CHECK(columns >= 0 && columns <= kMaxColumns, "a row of ", columns, " columns; at most ", kMaxColumns,
             " fit the 32-bit sums");
  TADP_CHECK(mid.has_value() || !low.has_value(), "the low plane needs the mid plane before it");
  TADP_CHECK(high.dim() == 2, "high must be two-dimensional, got ", high.dim(), " dimensions");
  Planes planes;
  planes.rows = high.size(0);
  planes.padded = (columns + 3) / 4 * 4;
  check_plane("high", high, planes.rows, planes.padded / 2, columns);
  planes.high = static_cast<const uint8_t*>(high.const_data_ptr());
  if (mid.has_value()) {
    check_plane("mid", *mid, planes.rows, planes.padded / 4, columns);
    planes.mid = static_cast<const uint8_t*>(mid->const_data_ptr());
    planes.width = width_of_planes(2);
  }
  if (low.has_value()) {
    check_plane("low", *low, planes.rows, planes.padded / 4, columns);
    planes.low = static_cast<const uint8_t*>(low->const_data_ptr());
    planes.width = width_of_planes(3);
  }
  return planes;
}

ContiguousPlanes contiguous_planes(const Tensor& high, const std::optional<Tensor>& mid,
                                   const std::optional<Tensor>& low) {
  ContiguousPlanes planes{dense(high), std::nullopt, std::nullopt};
  if (mid.has_value()) planes.mid = dense(*mid);
  if (low.has_value()) planes.low = dense(*low);
  return planes;
}

}  // namespace tadp
