#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <cmath>

#include "attention_kernels.h"
#include "isa.h"
#include "operators.h"
#include "rows.h"

namespace tadp {
namespace {

constexpr int64_t kMaxKeys = 1 << 24;
constexpr int64_t kMinDim = 32, kMaxDim = 256;
constexpr float kLog2e = 1.44269504F;

template <typename T>
AttentionPhases phases_of(Isa isa) {
#if defined(__x86_64__)
  if (isa == Isa::kAvx2) return attention_avx2<T>();
  if (isa == Isa::kAvxVnni) return attention_avxvnni<T>();
  if (isa == Isa::kAvx512Vnni) return attention_avx512vnni<T>();
#endif
  return attention_portable<T>();
}

AttentionPhases phases_of(ScalarType type) {
  const Isa isa = active_isa();
  if (type == ScalarType::Float) return phases_of<float>(isa);
  return type == ScalarType::BFloat16 ? phases_of<BFloat16>(isa) : phases_of<Half>(isa);
}

void check_arguments(const Tensor& q, const Tensor& k, const Tensor& v, int64_t level, const std::string& kernel) {
  TADP_CHECK(kernel.empty() || kernel == "int8", "attention has no kernel '", kernel, "' on the CPU; there is int8");
  TADP_CHECK(level == 8, "attention has kernels for 8 bits, not for ", level);
  check_float("q", q.scalar_type());
  check_cpu_type("k", k, q.scalar_type());
  check_cpu_type("v", v, q.scalar_type());
  TADP_CHECK(q.dim() == 4 && k.dim() == 4 && v.dim() == 4,
             "attention takes tensors of four dimensions: batch, heads, tokens, dim");
  TADP_CHECK(shape_of(k) == shape_of(v), "k and v must have one shape");
  TADP_CHECK(q.size(0) == k.size(0) && q.size(1) == k.size(1) && q.size(3) == k.size(3),
             "q must have batch, heads and dim of k");
  TADP_CHECK(q.size(3) >= kMinDim && q.size(3) <= kMaxDim, "a head dimension of ", q.size(3), "; kernels take ",
             kMinDim, " to ", kMaxDim);
  TADP_CHECK(k.size(2) > 0 && k.size(2) <= kMaxKeys, k.size(2), " keys; kernels take 1 to ", kMaxKeys);
}

// A tensor whose channels lie side by side.
Tensor with_dense_channels(const Tensor& tensor) {
  return tensor.stride(3) == 1 ? tensor : torch::stable::contiguous(tensor);
}

Heads heads_of(const Tensor& tensor) {
  return {.data = tensor.const_data_ptr(),
          .batch_stride = tensor.stride(0),
          .head_stride = tensor.stride(1),
          .token_stride = tensor.stride(2)};
}

// What a mask adds to a score, in kUnits of a factor of two. Minus infinity hides a key, a large negative number only
// ranks it behind all others: queries that see no other keys then see these.
float mask_units(float value) {
  if (value == -std::numeric_limits<float>::infinity()) return value;
  return std::max(value * kLog2e * kUnits, kLowestMask);
}

template <typename T>
void convert_mask(const void* from, int64_t count, float* to) {
  for (int64_t i = 0; i < count; ++i) to[i] = mask_units(static_cast<float>(static_cast<const T*>(from)[i]));
}

// A mask as numbers that are added to scores, of its own size, with strides that broadcast it.
Tensor read_mask(const Tensor& mask, const Tensor& q, AttentionProblem& problem) {
  TADP_CHECK(mask.is_cpu(), "mask must be on the CPU, as the other arguments are");
  const ScalarType type = mask.scalar_type();
  TADP_CHECK(type == ScalarType::Bool || is_supported_float(type), "a mask must be boolean or floating");
  const int64_t wanted[4] = {q.size(0), q.size(1), q.size(2), problem.keys};
  const int64_t missing = 4 - mask.dim();
  TADP_CHECK(missing >= 0, "a mask has at most four dimensions");
  int64_t stride = 1;
  for (int64_t i = 3; i >= 0; --i) {
    const int64_t size = i < missing ? 1 : mask.size(i - missing);
    TADP_CHECK(size == 1 || size == wanted[i], "mask does not broadcast to (batch, heads, queries, keys)");
    problem.mask_strides[i] = size == 1 ? 0 : stride;
    stride *= size;
  }
  const Tensor held = dense(mask);
  Tensor units = torch::stable::new_empty(q, {held.numel()}, ScalarType::Float);
  auto* to = static_cast<float*>(units.mutable_data_ptr());
  if (type == ScalarType::Bool) {
    const auto* seen = static_cast<const bool*>(held.const_data_ptr());
    for (int64_t i = 0; i < held.numel(); ++i) to[i] = seen[i] ? 0.0F : -std::numeric_limits<float>::infinity();
  } else if (type == ScalarType::Float) {
    convert_mask<float>(held.const_data_ptr(), held.numel(), to);
  } else if (type == ScalarType::BFloat16) {
    convert_mask<BFloat16>(held.const_data_ptr(), held.numel(), to);
  } else {
    convert_mask<Half>(held.const_data_ptr(), held.numel(), to);
  }
  problem.mask = to;
  return units;
}

// A map of the parts of keys that blocks of queries see, as dense bytes.
Tensor read_map(const Tensor& map, const Tensor& q, AttentionProblem& problem) {
  TADP_CHECK(map.is_cpu(), "block_map must be on the CPU, as the other arguments are");
  TADP_CHECK(map.scalar_type() == ScalarType::Bool, "block_map must be boolean");
  const int64_t rows = map.dim() == 4 ? map.size(2) : 0;
  problem.map_queries = rows == problem.tiles() ? kTileQueries : 2 * kTileQueries;
  problem.map_rows = (problem.queries + problem.map_queries - 1) / problem.map_queries;
  TADP_CHECK(map.dim() == 4 && map.size(0) == q.size(0) && map.size(1) == q.size(1) && rows == problem.map_rows &&
                 map.size(3) == problem.parts(),
             "block_map must be (batch, heads, blocks of 64 or 128 queries, blocks of 64 keys)");
  Tensor held = dense(map);
  problem.map = static_cast<const bool*>(held.const_data_ptr());
  for (int64_t row = 0; row < problem.pairs * rows; ++row) {
    const bool* from = problem.map + row * problem.parts();
    TADP_CHECK(std::any_of(from, from + problem.parts(), [](bool kept) { return kept; }),
               "block_map keeps no keys for a block of queries");
  }
  return held;
}

}  // namespace

Tensor attention(const Tensor& q, const Tensor& k, const Tensor& v, const std::optional<Tensor>& mask,
                 std::optional<double> scale, int64_t level, std::string kernel,
                 const std::optional<Tensor>& block_map) {
  TADP_CHECK(!mask.has_value() || !block_map.has_value(), "attention takes a mask or a block_map, not both");
  check_arguments(q, k, v, level, kernel);
  const int64_t batch = q.size(0), heads = q.size(1), queries = q.size(2), keys = k.size(2), dim = q.size(3);
  // The heads of a token lie side by side, as the layer behind attention reads them.
  Tensor out = torch::stable::transpose(torch::stable::new_empty(q, {batch, queries, heads, dim}), 1, 2);
  if (out.numel() == 0) return out;
  const Tensor held_q = with_dense_channels(q), held_k = with_dense_channels(k), held_v = with_dense_channels(v);
  AttentionProblem problem{};
  problem.heads = heads;
  problem.pairs = batch * heads;
  problem.queries = queries;
  problem.keys = keys;
  problem.dim = dim;
  problem.padded = round_up(dim, 4);
  problem.q = heads_of(held_q);
  problem.k = heads_of(held_k);
  problem.v = heads_of(held_v);
  problem.out = heads_of(out);
  const double factor = scale.has_value() ? *scale : 1.0 / std::sqrt(static_cast<double>(dim));
  problem.factor = static_cast<float>(factor) * kLog2e * kUnits;

  const int64_t pairs = problem.pairs, blocks = pairs * problem.blocks();
  const AttentionPhases phases = phases_of(q.scalar_type());
  Tensor key_codes = torch::stable::new_empty(q, {pairs * phases.key_bytes(problem)}, ScalarType::Char);
  Tensor value_codes = torch::stable::new_empty(q, {blocks * phases.value_bytes(problem)}, ScalarType::Char);
  Tensor key_offset = torch::stable::new_empty(q, {pairs * keys}, ScalarType::Int);
  Tensor scales = torch::stable::new_empty(q, {pairs * keys + blocks * (dim + 1) + 2 * pairs * dim}, ScalarType::Float);
  problem.key_codes = static_cast<int8_t*>(key_codes.mutable_data_ptr());
  problem.value_codes = static_cast<int8_t*>(value_codes.mutable_data_ptr());
  problem.key_offset = static_cast<int32_t*>(key_offset.mutable_data_ptr());
  problem.key_scale = static_cast<float*>(scales.mutable_data_ptr());
  problem.value_scale = problem.key_scale + pairs * keys;
  problem.key_mean = problem.value_scale + blocks * (dim + 1);
  problem.value_mean = problem.key_mean + pairs * dim;
  std::optional<Tensor> units, map;  // held until all is done
  if (mask.has_value()) units = read_mask(*mask, q, problem);
  if (block_map.has_value()) map = read_map(*block_map, q, problem);

  const auto run = [&](AttentionPhases::Phase phase, int64_t count) {
    torch::stable::parallel_for(0, count, 1, [&](int64_t begin, int64_t end) { phase(problem, begin, end); });
  };
  run(phases.average, pairs);
  run(phases.encode, blocks);
  run(phases.attend, pairs * problem.tiles());
  return out;
}

}  // namespace tadp
