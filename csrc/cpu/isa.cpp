#include "isa.h"

#include <cstdlib>
#include <string_view>

#include "checks.h"

namespace tadp {
namespace {

bool has_avx512vnni() {
#if defined(__x86_64__)
  static const bool present = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                              __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
                              __builtin_cpu_supports("avx512vnni");
  return present;
#else
  return false;
#endif
}

}  // namespace

Isa active_isa() {
  const char* wish = std::getenv("TADP_CPU_ISA");
  if (wish == nullptr || *wish == '\0') return has_avx512vnni() ? Isa::kAvx512Vnni : Isa::kPortable;
  const std::string_view name(wish);
  if (name == isa_name(Isa::kPortable)) return Isa::kPortable;
  TADP_CHECK(name == isa_name(Isa::kAvx512Vnni), "TADP_CPU_ISA is '", name, "'; valid are portable and avx512vnni");
  TADP_CHECK(has_avx512vnni(), "TADP_CPU_ISA asks for avx512vnni, which this processor does not have");
  return Isa::kAvx512Vnni;
}

const char* isa_name(Isa isa) { return isa == Isa::kAvx512Vnni ? "avx512vnni" : "portable"; }

}  // namespace tadp
