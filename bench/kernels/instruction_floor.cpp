// The instructions of the integer products, on registers only: no loads, no stores, no sums to finish. What a kernel
// reaches of their rate is its share of the floor. One round of a function is what MULTIPLY_ADDS in
// instruction_floor.py says.
#define LOOP(body)                                                                                                   \
  asm volatile("1:\n" body "dec %0\njnz 1b\n"                                                                        \
               : "+r"(rounds)::"cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", \
                 "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15")

#define TWELVE(of) of(0) of(1) of(2) of(3) of(4) of(5) of(6) of(7) of(8) of(9) of(10) of(11)

// A product of 16 bits and its sum.
#define WIDE(sum, product) \
  "vpmaddwd %%ymm14, %%ymm15, %%ymm" #product "\nvpaddd %%ymm" #product ", %%ymm" #sum ", %%ymm" #sum "\n"

// A product of 8 bits, alone and added to sums of 16 bits.
#define FIRST(terms) "vpmaddubsw %%ymm14, %%ymm15, %%ymm" #terms "\n"
#define NEXT(terms, product)                    \
  "vpmaddubsw %%ymm14, %%ymm15, %%ymm" #product \
  "\n"                                          \
  "vpaddw %%ymm" #product ", %%ymm" #terms ", %%ymm" #terms "\n"
// Sums of 16 bits widened and added; ones would stand in register 15, and any numbers take as long.
#define WIDEN(sum, terms)                           \
  "vpmaddwd %%ymm" #terms ", %%ymm15, %%ymm" #terms \
  "\n"                                              \
  "vpaddd %%ymm" #terms ", %%ymm" #sum ", %%ymm" #sum "\n"
#define WIDEN_TO_13(terms) WIDEN(13, terms)
#define TWO(sum, terms, product) FIRST(terms) NEXT(terms, product) WIDEN(sum, terms)
#define VNNI(sum) "%{vex%} vpdpbusd %%ymm14, %%ymm15, %%ymm" #sum "\n"
#define VNNI_WIDE(sum) "vpdpbusd %%zmm14, %%zmm15, %%zmm" #sum "\n"

extern "C" {

void avx2_8(long rounds) {
  LOOP(WIDE(0, 12) WIDE(1, 13) WIDE(2, 12) WIDE(3, 13) WIDE(4, 12) WIDE(5, 13) WIDE(6, 12) WIDE(7, 13) WIDE(8, 12)
           WIDE(9, 13) WIDE(10, 12) WIDE(11, 13));
}

void avx2_6(long rounds) {
  LOOP(TWO(0, 8, 9) TWO(1, 10, 11) TWO(2, 12, 13) TWO(3, 8, 9) TWO(4, 10, 11) TWO(5, 12, 13) TWO(6, 8, 9)
           TWO(7, 10, 11));
}

// As in the kernel, twelve sums of 16 bits have the registers.
#define ALL(of)                                                                                                  \
  of(0, 12) of(1, 12) of(2, 12) of(3, 12) of(4, 12) of(5, 12) of(6, 12) of(7, 12) of(8, 12) of(9, 12) of(10, 12) \
      of(11, 12)
void avx2_4(long rounds) {
  LOOP(TWELVE(FIRST) ALL(NEXT) ALL(NEXT) ALL(NEXT) ALL(NEXT) ALL(NEXT) ALL(NEXT) ALL(NEXT) TWELVE(WIDEN_TO_13));
}

void avxvnni(long rounds) { LOOP(TWELVE(VNNI)); }

void avx512vnni(long rounds) { LOOP(TWELVE(VNNI_WIDE)); }
}
