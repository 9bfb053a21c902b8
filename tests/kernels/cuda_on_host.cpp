// The arithmetic of csrc/cuda, run lane after lane on the host in the order in which a warp combines its lanes.
// Compiled and called by test_cuda_on_host.py.
#include <cstring>
#include <vector>

#include "../nonlinearity.h"
#include "few_tokens_steps.h"
#include "quantize_steps.h"

namespace {

using namespace tadp;
using namespace tadp::cuda;

constexpr int kWarp = 32, kStep = kWarp * kChunk;

struct Problem {
  const int8_t* codes;
  const float* scale;
  const int32_t* sum;
  int32_t tokens, columns;
  const uint8_t *high, *mid, *low;
  int32_t rows, quarter;
  const float* weight_scale;
  int32_t groups;
  float* out;
};

template <int Width, int Rows, int Tokens, bool Whole>
void run_warp(const Problem& p, int32_t first_row, int32_t first_token) {
  const PlaneRows<Rows> rows(p.high, p.mid, p.low, p.quarter, first_row, p.rows);
  const TokenCodes<Tokens> tokens(p.codes, p.columns, first_token, p.tokens);
  const int32_t bytes = p.groups == 0 ? p.quarter : p.quarter / p.groups;
  int32_t products[Tokens][Rows] = {};
  float totals[Tokens][Rows];
  for (auto& token : totals) {
    for (float& total : token) total = -0.0F;
  }
  for (int32_t start = 0; start < p.quarter; start += kStep) {
    for (int lane = 0; lane < kWarp; ++lane) {
      const int32_t byte = start + lane * kChunk;
      if (byte >= p.quarter) continue;
      multiply_chunk<Width, Rows, Tokens, Whole>(rows, tokens, byte, products);
      if (p.groups == 0 || (byte + kChunk) % bytes != 0) continue;
      for (int t = 0; t < Tokens && first_token + t < p.tokens; ++t) {
        for (int r = 0; r < Rows && first_row + r < p.rows; ++r) {
          const int32_t group = byte / bytes, sum = p.sum[(first_token + t) * p.groups + group];
          const float scale = p.weight_scale[group * p.rows + first_row + r];
          totals[t][r] = add(totals[t][r], multiply(centred<Width>(products[t][r], sum), scale));
        }
      }
      memset(products, 0, sizeof(products));
    }
  }
  for (int t = 0; t < Tokens && first_token + t < p.tokens; ++t) {
    for (int r = 0; r < Rows && first_row + r < p.rows; ++r) {
      const int32_t token = first_token + t, row = first_row + r;
      float value = totals[t][r];
      if (p.groups == 0) {
        value = multiply(centred<Width>(products[t][r], p.sum[token]), p.scale[token]);
        value = multiply(value, p.weight_scale[row]);
      } else {
        value = multiply(value, p.scale[token]);
      }
      p.out[token * p.rows + row] = value;
    }
  }
}

template <int Width, int Rows, int Tokens, bool Whole>
void run(const Problem& p) {
  for (int32_t row = 0; row < p.rows; row += Rows) {
    for (int32_t token = 0; token < p.tokens; token += Tokens) run_warp<Width, Rows, Tokens, Whole>(p, row, token);
  }
}

template <int Width>
void run(const Problem& p) {
  if (p.columns % (4 * kChunk) != 0) return run<Width, 1, 1, false>(p);
  if (p.tokens <= 2) return run<Width, 2, 2, true>(p);
  p.tokens <= 8 ? run<Width, 4, 8, true>(p) : run<Width, 2, 16, true>(p);
}

}  // namespace

extern "C" {

void few_tokens(const int8_t* codes, const float* scale, const int32_t* sum, int32_t tokens, int32_t columns,
                const uint8_t* high, const uint8_t* mid, const uint8_t* low, int32_t rows, const float* weight_scale,
                int32_t groups, float* out) {
  const Problem problem{codes,        scale,  sum, tokens, columns, high, mid, low, rows, (columns + 3) / 4,
                        weight_scale, groups, out};
  if (low != nullptr) return run<8>(problem);
  mid != nullptr ? run<6>(problem) : run<4>(problem);
}

void quantize(const float* x, int32_t tokens, int32_t columns, int8_t* codes, float* scale, int32_t* sum) {
  for (int32_t token = 0; token < tokens; ++token, x += columns, codes += columns) {
    uint32_t peak = 0;
    for (int32_t k = 0; k < columns; ++k) peak = magnitude_bits(x[k]) > peak ? magnitude_bits(x[k]) : peak;
    const TokenStep step = step_of(peak);
    sum[token] = 0;
    for (int32_t k = 0; k < columns; k += 4) {
      float values[4] = {};
      const int32_t count = columns - k < 4 ? columns - k : 4;
      for (int32_t i = 0; i < count; ++i) values[i] = x[k + i];
      const uint32_t four = quantize4(values, step);
      sum[token] = add_codes(four, sum[token]);
      memcpy(codes + k, &four, static_cast<size_t>(count));
    }
    scale[token] = step.scale;
  }
}

void apply(int32_t which, float* values, int32_t count) {
  for (int32_t i = 0; i < count; ++i) {
    values[i] = which == 0 ? gelu(values[i]) : which == 1 ? gelu_tanh(values[i]) : silu(values[i]);
  }
}
}
