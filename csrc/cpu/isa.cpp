#include "isa.h"

#include <array>
#include <atomic>
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

// The set of a name; `asker` is what gave it. Throws where there is none, or where this processor lacks it.
Isa named_isa(std::string_view name, const char* asker) {
  size_t index = 0;
  while (index < kNames.size() && name != kNames[index]) ++index;
  TADP_CHECK(index < kNames.size(), asker, " is '", name, "'; valid are ", valid_names());
  const Isa isa = static_cast<Isa>(index);
  TADP_CHECK(is_present(isa), asker, " asks for ", name, ", which this processor does not have");
  return isa;
}

Isa chosen_isa() {
  const char* wish = std::getenv("TADP_CPU_ISA");
  return wish == nullptr || *wish == '\0' ? best_isa() : named_isa(wish, "TADP_CPU_ISA");
}

constexpr int kNotForced = -1;
std::atomic<int> forced = kNotForced;

}  // namespace

Isa active_isa() {
  const int isa = forced.load(std::memory_order_relaxed);
  if (isa != kNotForced) return static_cast<Isa>(isa);
  static const Isa chosen = chosen_isa();
  return chosen;
}

std::string force_isa(const std::string& name) {
  const int isa = name.empty() ? kNotForced : static_cast<int>(named_isa(name, "force_cpu_isa"));
  const int before = forced.exchange(isa);
  return before == kNotForced ? "" : isa_name(static_cast<Isa>(before));
}

const char* isa_name(Isa isa) { return kNames[static_cast<size_t>(isa)]; }

}  // namespace tadp
