// Scratch memory of a thread.
#pragma once

#include <cstdint>
#include <vector>

namespace tadp {

inline constexpr int64_t kScratchAlignment = 64;

inline int64_t round_up(int64_t value, int64_t multiple) { return (value + multiple - 1) / multiple * multiple; }

// Kept from call to call: fresh pages would cost as much as unpacking into them.
inline uint8_t* aligned_scratch(int64_t bytes) {
  thread_local std::vector<uint8_t> scratch;
  const int64_t size = bytes + kScratchAlignment;
  if (static_cast<int64_t>(scratch.size()) < size) scratch.resize(static_cast<size_t>(size));
  const auto address = reinterpret_cast<uintptr_t>(scratch.data());
  return reinterpret_cast<uint8_t*>((address + kScratchAlignment - 1) / kScratchAlignment * kScratchAlignment);
}

}  // namespace tadp
