// Which instruction set the CPU kernels use.
#pragma once

// The library is built for any x86-64; only functions with this attribute use AVX-512, and they are called only where
// active_isa() says so. A template needs it at its first declaration.
#if defined(__x86_64__)
#define TADP_AVX512 [[gnu::target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]]
#else
#define TADP_AVX512
#endif

namespace tadp {

enum class Isa { kPortable, kAvx512Vnni };

// The best set that this processor has, or the one that the environment variable TADP_CPU_ISA names ("portable" or
// "avx512vnni"). It is read at every call, so that tests can compare both within one process.
// Throws where the variable names something unknown, or something that this processor lacks.
Isa active_isa();

const char* isa_name(Isa isa);

}  // namespace tadp
