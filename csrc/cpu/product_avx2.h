// Integer products of panels in registers of 256 bits.
//
// A panel has 16 lanes: weight rows of a layer, or queries of attention. A step along the columns is four bytes of each
// lane, 64 bytes of the panel, and four bytes of each of up to six rows of signed codes, tokens or keys or channels,
// which are broadcast; six rows are packed as [steps][6][4], one stream of memory. So twelve sums, two registers of the
// panel, one broadcast and one product fit the 16 registers, every lane has its own sum, and nothing is added up across
// lanes.
#pragma once

#include "avx2.h"

#if defined(__x86_64__)
#include <utility>

namespace tadp {

inline constexpr int64_t kPanelLanes = 16;
inline constexpr int64_t kStepBytes = 4 * kPanelLanes;
inline constexpr int kPackRows = 6;
inline constexpr int64_t kPackBytes = 4 * kPackRows;  // of a step

// What a step is, and how its products are added to eight sums.

// AVX-VNNI: four columns.
struct StepsByVnni {
  static constexpr int64_t kStepsOfFour = 1;

  TADP_AVX2_INLINE static void multiply_add(__m256i& sum, __m256i panel, __m256i codes) {
    add_products_of_bytes(sum, panel, codes);
  }
};

// Any codes: two columns, both factors as numbers of 16 bits, as vpmaddubsw would saturate. Of four columns the first
// step has the even ones: so bytes are widened by a mask and a shift.
struct StepsOfSixteenBits {
  static constexpr int64_t kStepsOfFour = 2;

  TADP_AVX2_INLINE static void multiply_add(__m256i& sum, __m256i panel, __m256i codes) {
    add32(sum, _mm256_madd_epi16(panel, codes));
  }
};

// Codes of so few bits that kTerms products of two columns, each of at most (2^Bits - 1) * 128 twice, fit 16 bits: so
// many results of vpmaddubsw are added before they are widened. Sums of 32 bits stand in memory then, and those of 16
// bits have the registers.
template <int Bits>
struct StepsOfEightBits {
  static constexpr int64_t kStepsOfFour = 1;
  static constexpr int64_t kTerms = 32767 / (2 * 128 * ((1 << Bits) - 1));
  static_assert(kTerms > 1);
};

template <typename Steps>
concept HasTerms = requires { Steps::kTerms; };

template <int Rows>
using PanelSums = __m256i[Rows][2];

template <int Rows>
TADP_AVX2_INLINE void set_sums(PanelSums<Rows>& sums, const int32_t* from, int64_t pitch, bool fresh) {
#pragma GCC unroll 6
  for (int r = 0; r < Rows; ++r) {
#pragma GCC unroll 2
    for (int half = 0; half < 2; ++half) {
      sums[r][half] = fresh ? _mm256_setzero_si256() : load32(from + r * pitch + half * 8);
    }
  }
}

// Adds to the sums of the first Rows rows of packed codes with a panel over `steps` steps.
template <typename Steps, int Rows>
TADP_AVX2_INLINE void add_products(const int8_t* codes, int64_t steps, const uint8_t* panel, PanelSums<Rows>& sums) {
  for (int64_t step = 0; step < steps; ++step, codes += kPackBytes, panel += kStepBytes) {
    const __m256i left = load32(panel), right = load32(panel + 32);
#pragma GCC unroll 6
    for (int r = 0; r < Rows; ++r) {
      const __m256i row = broadcast4(codes + r * 4);
      Steps::multiply_add(sums[r][0], left, row);
      Steps::multiply_add(sums[r][1], right, row);
    }
  }
}

// sums[row][lane], `pitch` apart, of the first Rows rows of packed codes with a panel over `steps` steps: added to what
// is there, or where they are fresh, instead of it.
template <typename Steps, int Rows>
  requires(!HasTerms<Steps>)
TADP_AVX2 void multiply_panel(const int8_t* codes, int64_t steps, const uint8_t* panel, int32_t* sums, int64_t pitch,
                              bool fresh) {
  PanelSums<Rows> totals;
  set_sums<Rows>(totals, sums, pitch, fresh);
  add_products<Steps, Rows>(codes, steps, panel, totals);
#pragma GCC unroll 6
  for (int r = 0; r < Rows; ++r) {
#pragma GCC unroll 2
    for (int half = 0; half < 2; ++half) store32(sums + r * pitch + half * 8, totals[r][half]);
  }
}

// Adds to the sums in memory what kTerms steps give.
template <int64_t Terms, int Rows>
TADP_AVX2_INLINE void add_terms(const int8_t* codes, const uint8_t* panel, int32_t* sums, int64_t pitch) {
  PanelSums<Rows> terms;
#pragma GCC unroll 8
  for (int64_t step = 0; step < Terms; ++step, codes += kPackBytes, panel += kStepBytes) {
    const __m256i left = load32(panel), right = load32(panel + 32);
#pragma GCC unroll 6
    for (int r = 0; r < Rows; ++r) {
      const __m256i row = broadcast4(codes + r * 4);
      if (step == 0) {
        terms[r][0] = _mm256_maddubs_epi16(left, row);
        terms[r][1] = _mm256_maddubs_epi16(right, row);
      } else {
        add16(terms[r][0], _mm256_maddubs_epi16(left, row));
        add16(terms[r][1], _mm256_maddubs_epi16(right, row));
      }
    }
  }
#pragma GCC unroll 6
  for (int r = 0; r < Rows; ++r) {
#pragma GCC unroll 2
    for (int half = 0; half < 2; ++half) {
      int32_t* sum = sums + r * pitch + half * 8;
      store32(sum, _mm256_add_epi32(load32(sum), _mm256_madd_epi16(terms[r][half], _mm256_set1_epi16(1))));
    }
  }
}

template <typename Steps, int Rows>
  requires HasTerms<Steps>
TADP_AVX2 void multiply_panel(const int8_t* codes, int64_t steps, const uint8_t* panel, int32_t* sums, int64_t pitch,
                              bool fresh) {
  if (fresh) {
#pragma GCC unroll 6
    for (int r = 0; r < Rows; ++r) {
      store32(sums + r * pitch, _mm256_setzero_si256());
      store32(sums + r * pitch + 8, _mm256_setzero_si256());
    }
  }
  int64_t step = 0;
  for (; step + Steps::kTerms <= steps; step += Steps::kTerms) {
    add_terms<Steps::kTerms, Rows>(codes + step * kPackBytes, panel + step * kStepBytes, sums, pitch);
  }
  for (; step < steps; ++step) {
    add_terms<1, Rows>(codes + step * kPackBytes, panel + step * kStepBytes, sums, pitch);
  }
}

using MultiplyPanel = void (*)(const int8_t*, int64_t, const uint8_t*, int32_t*, int64_t, bool);

// By rows - 1.
template <typename Steps>
constexpr MultiplyPanel kMultiplyPanel[kPackRows] = {multiply_panel<Steps, 1>, multiply_panel<Steps, 2>,
                                                     multiply_panel<Steps, 3>, multiply_panel<Steps, 4>,
                                                     multiply_panel<Steps, 5>, multiply_panel<Steps, 6>};

// Stores eight lanes of four columns, as bytes, as the step or steps of a panel that they make.
template <typename Steps>
TADP_AVX2_INLINE void store_steps(__m256i bytes, uint8_t* to) {
  if constexpr (Steps::kStepsOfFour == 1) {
    store32(to, bytes);
  } else {
    store32(to, _mm256_and_si256(bytes, _mm256_set1_epi16(0xFF)));
    store32(to + kStepBytes, _mm256_srli_epi16(bytes, 8));
  }
}

// Stores four columns, as bytes, of four and two rows of signed codes as the step or steps that they make.
template <typename Steps>
TADP_AVX2_INLINE void store_packed(__m128i fours, __m128i twos, int8_t* to) {
  const auto store = [](int8_t* place, __m128i four_rows, __m128i two_rows) TADP_AVX2 {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(place), four_rows);
    _mm_storel_epi64(reinterpret_cast<__m128i*>(place + 16), two_rows);
  };
  if constexpr (Steps::kStepsOfFour == 1) {
    store(to, fours, twos);
  } else {
    store(to, _mm_srai_epi16(_mm_slli_epi16(fours, 8), 8), _mm_srai_epi16(_mm_slli_epi16(twos, 8), 8));
    store(to + kPackBytes, _mm_srai_epi16(fours, 8), _mm_srai_epi16(twos, 8));
  }
}

// Packs `rows` rows of codes, `pitch` bytes apart and a multiple of four long, of which there are six at most; in place
// of rows that are not there it repeats the last one.
template <typename Steps>
TADP_AVX2 void pack_rows(const int8_t* codes, int64_t pitch, int64_t rows, int64_t columns, int8_t* to) {
  const int8_t* row[kPackRows];
  for (int64_t r = 0; r < kPackRows; ++r) row[r] = codes + (r < rows ? r : rows - 1) * pitch;
  constexpr int64_t kFourBytes = Steps::kStepsOfFour * kPackBytes;
  int64_t k = 0;
  for (; k + 16 <= columns; k += 16, to += 4 * kFourBytes) {
    __m128i four[kPackRows];
#pragma GCC unroll 6
    for (int r = 0; r < kPackRows; ++r) four[r] = _mm_loadu_si128(reinterpret_cast<const __m128i*>(row[r] + k));
    const __m128i low01 = _mm_unpacklo_epi32(four[0], four[1]), high01 = _mm_unpackhi_epi32(four[0], four[1]);
    const __m128i low23 = _mm_unpacklo_epi32(four[2], four[3]), high23 = _mm_unpackhi_epi32(four[2], four[3]);
    const __m128i low45 = _mm_unpacklo_epi32(four[4], four[5]), high45 = _mm_unpackhi_epi32(four[4], four[5]);
    store_packed<Steps>(_mm_unpacklo_epi64(low01, low23), low45, to);
    store_packed<Steps>(_mm_unpackhi_epi64(low01, low23), _mm_unpackhi_epi64(low45, low45), to + kFourBytes);
    store_packed<Steps>(_mm_unpacklo_epi64(high01, high23), high45, to + 2 * kFourBytes);
    store_packed<Steps>(_mm_unpackhi_epi64(high01, high23), _mm_unpackhi_epi64(high45, high45), to + 3 * kFourBytes);
  }
  for (; k < columns; k += 4, to += kFourBytes) {
    int32_t four[kPackRows];
    for (int r = 0; r < kPackRows; ++r) std::memcpy(&four[r], row[r] + k, sizeof(int32_t));
    store_packed<Steps>(_mm_setr_epi32(four[0], four[1], four[2], four[3]), _mm_setr_epi32(four[4], four[5], 0, 0), to);
  }
}

}  // namespace tadp
#endif
