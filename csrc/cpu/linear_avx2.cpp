// The integer product in registers of 256 bits: with vpdpbusd where there is AVX-VNNI, and with products of 8 or 16
// bits where there is only AVX2.
//
// A tile of 64 weight rows is unpacked once into four panels (product_avx2.h), which serve all blocks of tokens. For
// few tokens, rows are multiplied as they are unpacked (row_product_avx2.h).
#include "isa.h"

#if defined(__x86_64__)
#include <algorithm>
#include <type_traits>

#include "linear_kernels.h"
#include "product_avx2.h"
#include "row_product_avx2.h"

namespace tadp {
namespace {

static_assert(kTileColumns % kPanelLanes == 0 && kTileTokens % kPackRows == 0);

// Up to so many tokens rows are multiplied as they are unpacked. With groups, where sums over lanes are needed for each
// group, panels pay earlier.
constexpr int64_t kFewTokens = 16, kFewTokensInGroups = 4;

bool are_few(const LinearProblem& problem) {
  return problem.tokens <= (problem.groups == 0 ? kFewTokens : kFewTokensInGroups);
}

// Columns that are multiplied at a time, so many that calls and sums on their way count for little, and so few that a
// tile of panels and a block of tokens fit an L2 of 512 KB.
template <typename Steps>
constexpr int64_t kPartColumns = 4096 / Steps::kStepsOfFour;

// Which products a set uses for few tokens and for panels.
struct Vnni {
  using Dots = DotsByVnni;
  using Steps = StepsByVnni;
};
template <int Width>
struct Plain {
  using Dots = DotsOfEightBits;
  using Steps = StepsOfEightBits<Width>;
};
template <>
struct Plain<8> {
  using Dots = DotsOfSixteenBits;
  using Steps = StepsOfSixteenBits;
};

// A block of tokens [token, end_token) by a tile of `columns` weight rows from `first` on.
struct Block {
  int64_t token, end_token, first, columns;
};

// Scales the sums of a block, [token][kTileColumns], and stores them. With groups, which are the parts, they are added
// to totals, and what the last group leaves there is stored.
template <int Width, typename T>
TADP_AVX2 void finish(const LinearProblem& problem, const Block& block, int64_t part, const int32_t* sums,
                      float* totals) {
  for (int64_t token = block.token; token < block.end_token; ++token) {
    const int64_t place = (token - block.token) * kTileColumns;
    if (problem.groups == 0) {
      finish_token<Width, T>(problem, token, block.first, block.columns, sums + place);
      continue;
    }
    add_group(problem, token, part, block.first, block.columns, sums + place, totals + place);
    if (part == problem.groups - 1) {
      finish_groups<Width, T>(problem, token, block.first, block.columns, totals + place);
    }
  }
}

template <typename Dots, int Width, typename T>
TADP_AVX2 void run_few_tokens(const LinearProblem& problem, int64_t begin, int64_t end) {
  const Planes& planes = problem.planes;
  const int64_t padded = planes.padded, stride = round_up(padded, kScratchAlignment);
  const int64_t parts = problem.groups == 0 ? 1 : problem.groups, part_columns = padded / parts;
  using Weight = typename Dots::Weight;
  constexpr int64_t bytes = sizeof(Weight);
  auto* tile = reinterpret_cast<Weight*>(aligned_scratch(kTileColumns * stride * bytes + 2 * stride));
  auto* natural = reinterpret_cast<uint8_t*>(tile + kTileColumns * stride);
  uint8_t* codes = natural + stride;
  alignas(32) int32_t sums[kFewTokens * kTileColumns];
  float totals[kFewTokens * kTileColumns];
  for (int64_t task = begin; task < end; ++task) {
    const int64_t first = task * kTileColumns, columns = std::min(kTileColumns, planes.rows - first);
    const Block block{.token = 0, .end_token = problem.tokens, .first = first, .columns = columns};
    std::fill_n(totals, kFewTokens * kTileColumns, kNothing);
    for (int64_t part = 0; part < parts; ++part) {
      const int64_t k = part * part_columns;
      for (int64_t row = 0; row < columns; row += kDotRows) {
        // Rows behind the last one keep what the scratch held: their sums are never read.
        for (int64_t r = row; r < std::min(row + kDotRows, columns) && part == 0; ++r) {
          unpack<Width>(problem, first + r, natural, codes, tile + r * stride);
        }
        for (int64_t token = 0; token < problem.tokens; token += Dots::kTokens) {
          const auto tokens = static_cast<size_t>(std::min<int64_t>(Dots::kTokens, problem.tokens - token));
          kMultiplyDots<Dots>[tokens - 1](problem.codes + token* padded + k, padded, part_columns,
                                          tile + row* stride + k, stride, sums + token* kTileColumns + row);
        }
      }
      finish<Width, T>(problem, block, part, sums, totals);
    }
  }
}

// Unpacks weight rows [first, first + columns) into panels, one after the other, of `panel_bytes` each. Lanes behind
// the last row hold what the scratch held: their sums are never read. `rows` is scratch for 17 rows, `stride` bytes
// apart.
template <typename Steps, int Width>
TADP_AVX2 void unpack_panels(const LinearProblem& problem, int64_t first, int64_t columns, uint8_t* rows,
                             int64_t stride, int64_t panel_bytes, uint8_t* panels) {
  for (int64_t lane = 0; lane < columns; lane += 8) {
    for (int64_t r = 0; r < std::min<int64_t>(8, columns - lane); ++r) {
      unpack_weights<Width>(problem, first + lane + r, rows + 8 * stride, rows + r * stride);
    }
    uint8_t* to = panels + lane / kPanelLanes * panel_bytes + lane % kPanelLanes * 4;
    for (int64_t k = 0; k < problem.planes.padded; k += 32) {
      __m256i fours[8];
#pragma GCC unroll 8
      for (int r = 0; r < 8; ++r) fours[r] = load32(rows + r * stride + k);
      transpose(fours);
#pragma GCC unroll 8
      for (int i = 0; i < 8; ++i, to += Steps::kStepsOfFour * kStepBytes) store_steps<Steps>(fours[i], to);
    }
  }
}

// Bytes of kPackRows tokens, packed.
template <typename Steps>
int64_t pack_bytes_of(const LinearProblem& problem) {
  return problem.planes.padded / 4 * Steps::kStepsOfFour * kPackBytes;
}

template <typename Steps, int Width, typename T>
TADP_AVX2 void run_panels(const LinearProblem& problem, int64_t begin, int64_t end) {
  const Planes& planes = problem.planes;
  const int64_t blocks = token_blocks(problem), padded = planes.padded;
  const int64_t stride = round_up(padded, kScratchAlignment);  // transposed 32 bytes at a time, also the last
  const int64_t parts = problem.groups == 0 ? 1 : problem.groups, part_columns = padded / parts;
  constexpr int64_t kFour = Steps::kStepsOfFour;
  const int64_t panel_bytes = stride / 4 * kFour * kStepBytes;
  uint8_t* panels = aligned_scratch(kTileColumns / kPanelLanes * panel_bytes + 9 * stride);
  uint8_t* rows = panels + kTileColumns / kPanelLanes * panel_bytes;
  const int64_t pack_bytes = pack_bytes_of<Steps>(problem);
  alignas(32) int32_t sums[kTileTokens * kTileColumns];
  float totals[kTileTokens * kTileColumns];
  int64_t unpacked_tile = -1;
  for (int64_t task = begin; task < end; ++task) {
    const int64_t index = task / blocks, first = index * kTileColumns;
    const int64_t token = task % blocks * kTileTokens;
    const Block block{.token = token,
                      .end_token = std::min(problem.tokens, token + kTileTokens),
                      .first = first,
                      .columns = std::min(kTileColumns, planes.rows - first)};
    if (index != unpacked_tile) {
      unpack_panels<Steps, Width>(problem, first, block.columns, rows, stride, panel_bytes, panels);
      unpacked_tile = index;
    }
    if (problem.groups != 0) std::fill_n(totals, kTileTokens * kTileColumns, kNothing);
    for (int64_t part = 0; part < parts; ++part) {
      const int64_t begin_column = part * part_columns, end_column = begin_column + part_columns;
      // Once even if there are no columns, whose sums are zero.
      for (int64_t k = begin_column; k == begin_column || k < end_column; k += kPartColumns<Steps>) {
        const int64_t steps = std::min(kPartColumns<Steps>, end_column - k) / 4 * kFour, step = k / 4 * kFour;
        for (int64_t lane = 0; lane < block.columns; lane += kPanelLanes) {
          const uint8_t* panel = panels + lane / kPanelLanes * panel_bytes + step * kStepBytes;
          for (int64_t t = block.token; t < block.end_token; t += kPackRows) {
            const int8_t* codes = problem.packed + t / kPackRows * pack_bytes + step * kPackBytes;
            const auto tokens = static_cast<size_t>(std::min<int64_t>(kPackRows, block.end_token - t));
            int32_t* to = sums + (t - block.token) * kTileColumns + lane;
            kMultiplyPanel<Steps>[tokens - 1](codes, steps, panel, to, kTileColumns, k == begin_column);
          }
        }
      }
      finish<Width, T>(problem, block, part, sums, totals);
    }
  }
}

template <typename Steps>
TADP_AVX2 void pack(const LinearProblem& problem, int64_t begin, int64_t end, int8_t* to) {
  const int64_t padded = problem.planes.padded;
  for (int64_t token = begin * kPackRows; token < end * kPackRows; token += kPackRows) {
    const int64_t tokens = std::min<int64_t>(kPackRows, problem.tokens - token);
    pack_rows<Steps>(problem.codes + token * padded, padded, tokens, padded,
                     to + token / kPackRows * pack_bytes_of<Steps>(problem));
  }
}

template <typename Steps>
Packing packing_of(const LinearProblem& problem) {
  if (are_few(problem)) return {};
  return {.tokens = kPackRows, .bytes = pack_bytes_of<Steps>(problem), .pack = pack<Steps>};
}

template <typename Products, int Width, typename T>
void run(const LinearProblem& problem, int64_t begin, int64_t end) {
  if (are_few(problem)) return run_few_tokens<typename Products::Dots, Width, T>(problem, begin, end);
  run_panels<typename Products::Steps, Width, T>(problem, begin, end);
}

}  // namespace

Packing packing_avx2(const LinearProblem& problem) {
  Packing packing{};
  for_width(problem.planes.width, [&]<int Width>() { packing = packing_of<typename Plain<Width>::Steps>(problem); });
  return packing;
}

Packing packing_avxvnni(const LinearProblem& problem) { return packing_of<Vnni::Steps>(problem); }

void linear_tasks_avx2(const LinearProblem& problem, int64_t begin, int64_t end) {
  for_width_and_type(problem.planes.width, problem.output.type,
                     [&]<int Width, typename T>() { run<Plain<Width>, Width, T>(problem, begin, end); });
}

void linear_tasks_avxvnni(const LinearProblem& problem, int64_t begin, int64_t end) {
  for_width_and_type(problem.planes.width, problem.output.type,
                     [&]<int Width, typename T>() { run<Vnni, Width, T>(problem, begin, end); });
}

}  // namespace tadp
#endif
