#include "isa.h"

#include <array>
#include <cstdlib>
#include <string>
#include <string_view>

#include "checks.h"

namespace tadp {
namespace {

// In the order of the enumeration.
constexpr std::array<const char*, 4> kNames = {"portable", "avx2", "avxvnni", "avx512vnni"};

#if defined(__x86_64__)
bool has_avx2() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
}
#endif

bool is_present(Isa isa) {
#if defined(__x86_64__)
  switch (isa) {
    case Isa::kAvx2:
      return has_avx2();
    case Isa::kAvxVnni:
      return has_avx2() && __builtin_cpu_supports("avxvnni");
    case Isa::kAvx512Vnni:
      return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
             __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
             __builtin_cpu_supports("avx512vnni");
    case Isa::kPortable:
      break;
  }
#endif
  return isa == Isa::kPortable;
}

Isa best_isa() {
  size_t best = kNames.size() - 1;
  while (!is_present(static_cast<Isa>(best))) --best;
  return static_cast<Isa>(best);
}

std::string valid_names() {
  std::string list;
  for (size_t i = 0; i < kNames.size(); ++i) {
    if (i != 0) list += i + 1 < kNames.size() ? ", " : " and ";
    list += kNames[i];
  }
  return list;
}

}  // namespace

Isa active_isa() {
  const char* wish = std::getenv("TADP_CPU_ISA");
  if (wish == nullptr || *wish == '\0') {
    static const Isa best = best_isa();
    return best;
  }
  const std::string_view name(wish);
  size_t index = 0;
  while (index < kNames.size() && name != kNames[index]) ++index;
  TADP_CHECK(index < kNames.size(), "TADP_CPU_ISA is '", name, "'; valid are ", valid_names());
  const Isa isa = static_cast<Isa>(index);
  TADP_CHECK(is_present(isa), "TADP_CPU_ISA asks for ", name, ", which this processor does not have");
  return isa;
}

const char* isa_name(Isa isa) { return kNames[static_cast<size_t>(isa)]; }

}  // namespace tadp
