// Which instruction set the CPU kernels use.
#pragma once

#include <string>

// The library is built for any x86-64; only functions with these attributes use more, and they are called only where
// active_isa() says so. A template needs its attribute at its first declaration.
#if defined(__x86_64__)
#define TADP_AVX2 [[gnu::target("avx2,f16c,fma")]]
#define TADP_AVX512 [[gnu::target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]]
#else
#define TADP_AVX2
#define TADP_AVX512
#endif

namespace tadp {

// From the slowest to the fastest. kAvx2 includes the float16 conversions and fused products that every processor with
// AVX2 has had. No set implies the ones before it: the first processors with AVX-512 VNNI lack
// AVX-VNNI, the same instruction in the encoding for 256 bits.
enum class Isa { kPortable, kAvx2, kAvxVnni, kAvx512Vnni };

// The best set that this processor has, or the one that the environment variable TADP_CPU_ISA names by its isa_name().
// The variable is read once. Throws where it names something unknown, or something that this processor lacks.
Isa active_isa();

// Makes a set, by its name, the active one of this process, so that tests can compare all of them; an empty name undoes
// that. Returns what was forced before. Throws as active_isa().
std::string force_isa(const std::string& name);

const char* isa_name(Isa isa);

}  // namespace tadp
