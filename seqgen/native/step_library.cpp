// The operator of a whole decode step, registered with PyTorch.

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/util/Exception.h>

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include <initializer_list>
#include <vector>

#include "kernels.h"

namespace seqgen {
namespace {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

constexpr int64_t FIXED = 14;  // numbers before the sizes of the fields

void check(const Tensor& x, const char* name, ScalarType type, std::initializer_list<int64_t> shape) {
  STD_TORCH_CHECK(x.scalar_type() == type, "decode_step: ", name, " has another dtype than it should");
  bool fits = x.dim() == int64_t(shape.size()) && x.is_contiguous() && x.is_cpu();
  for (int64_t i = 0; fits && i < x.dim(); i++) fits = x.size(i) == shape.begin()[i];
  STD_TORCH_CHECK(fits, "decode_step: ", name, " has another shape than it should, or is not contiguous");
}

Shape read_shape(const Tensor& numbers) {
  int64_t n = numbers.size(0);
  check(numbers, "shape", ScalarType::Long, {n});
  STD_TORCH_CHECK(n > FIXED, "decode_step: the shape is too short");
  const int64_t* at = (const int64_t*)numbers.const_data_ptr();
  Shape s{};
  s.D = at[0], s.L = at[1], s.H = at[2], s.d_ff = at[3], s.W = at[4], s.max_positions = at[5], s.decay_after = at[6];
  STD_TORCH_CHECK(s.D > 0 && s.L > 0 && s.H > 0 && s.D % s.H == 0 && s.d_ff > 0 && s.W >= 0 && s.decay_after >= 0,
                  "decode_step: no model has such sizes");
  STD_TORCH_CHECK(at[7] >= 0 && at[7] < 4 && at[8] >= 0 && at[8] < 2 && at[9] >= 0 && at[9] < 4 && at[10] >= 0 &&
                      at[10] < 4,
                  "decode_step: an unknown choice");
  s.format = Format(at[7]), s.activation = Activation(at[8]), s.features = Features(at[9]);
  s.positions = Positions(at[10]);
  s.G = at[11], s.marks = at[12], s.F = at[13];
  STD_TORCH_CHECK(s.G >= 0 && s.marks >= 0, "decode_step: no model has such marks");
  STD_TORCH_CHECK(s.F > 0 && s.F <= MAX_FIELDS && n == FIXED + s.F, "decode_step: tokens have 1 to 32 fields");
  for (int64_t f = 0; f < s.F; f++) s.N += s.field[f] = at[FIXED + f];
  s.d = s.D / s.H;
  s.K = s.features == Features::dpfp || s.features == Features::hedgehog ? 2 * s.d : s.d;
  STD_TORCH_CHECK(s.K <= MAX_FEATURES, "decode_step: a head has ", s.K, " features, more than ", MAX_FEATURES);
  s.recent = s.W > 1 ? s.W - 1 : 0;
  return s;
}

int64_t weights_bytes(const Shape& shape) {
  Weights weights(nullptr, shape);
  weights.embedding();
  for (int64_t i = 0; i < shape.L; i++) weights.layer();
  weights.norm();
  weights.linear(shape.N, shape.D);
  return weights.used();
}

// Bytes that suffice for steps of any number of rows up to `rows`: few rows may need more than many.
int64_t scratch_bytes(Tensor shape, int64_t rows, int64_t threads) {
  Shape s = read_shape(shape);
  int64_t most = 0;
  for (int64_t B = 1; B <= rows; B++) {
    int64_t bytes = lay_out(s, B, int(threads)).bytes;
    most = bytes > most ? bytes : most;
  }
  return most;
}

// A sampler's tensors, in the order of decoding/native.py; of `bias` and `log_likelihood`, empty ones stand
// for none.
Sampling read_sampling(const std::vector<Tensor>& given, const Shape& shape, int64_t eos) {
  Sampling s{};
  if (given.empty()) return s;
  STD_TORCH_CHECK(given.size() == 19, "decode_step: a sampler has 19 tensors");
  const Tensor* t = given.data();
  int64_t C = s.slots = t[0].size(0), N0 = shape.field[0], N = shape.N;
  bool biased = t[4].numel() > 0, chained = t[17].numel() > 0, scored = t[18].numel() > 0;
  STD_TORCH_CHECK(t[7].dim() == 3 && t[9].dim() == 3, "decode_step: numbers and allowed have three dimensions");
  STD_TORCH_CHECK(t[12].dim() == 2, "decode_step: registers have two dimensions");
  s.ring = t[7].size(1), s.groups = t[9].size(0), s.eos = eos;
  check(t[0], "settings", ScalarType::Float, {C, shape.F, 7});
  check(t[1], "top_k", ScalarType::Long, {C, shape.F});
  check(t[2], "seen", ScalarType::Bool, {C, N});
  check(t[3], "counts", ScalarType::Int, {C, N});
  if (biased) check(t[4], "bias", ScalarType::Float, {C, N});
  check(t[5], "previous", ScalarType::Long, {C});
  check(t[6], "has_unit", ScalarType::Bool, {C});
  check(t[7], "numbers", ScalarType::Double, {C, s.ring, shape.F});
  check(t[8], "drawn", ScalarType::Long, {C});
  check(t[9], "allowed", ScalarType::Bool, {s.groups, 2, N});
  check(t[10], "last_group", ScalarType::Long, {N0});
  check(t[11], "completes_unit", ScalarType::Bool, {N0});
  s.n_registers = t[12].size(1);
  STD_TORCH_CHECK(s.n_registers <= MAX_REGISTERS, "decode_step: a grammar has up to 8 registers");
  check(t[12], "registers", ScalarType::Int, {C, s.n_registers});
  if (s.n_registers) {
    check(t[13], "bounds", ScalarType::Int, {s.n_registers, N});
    check(t[14], "changes", ScalarType::Int, {s.n_registers, N});
  }
  check(t[15], "uses", ScalarType::Bool, {N0, shape.F});
  check(t[16], "fills", ScalarType::Long, {N0});
  if (chained) check(t[17], "chain", ScalarType::Float, {N - shape.field[shape.F - 1], N - N0});
  if (scored) check(t[18], "log_likelihood", ScalarType::Double, {C});
  s.settings = (const float*)t[0].const_data_ptr(), s.top_k = (const int64_t*)t[1].const_data_ptr();
  s.seen = (bool*)t[2].data_ptr(), s.counts = (int32_t*)t[3].data_ptr();
  s.bias = biased ? (const float*)t[4].const_data_ptr() : nullptr;
  s.previous = (int64_t*)t[5].data_ptr(), s.has_unit = (bool*)t[6].data_ptr();
  s.numbers = (const double*)t[7].const_data_ptr(), s.drawn = (int64_t*)t[8].data_ptr();
  s.allowed = (const bool*)t[9].const_data_ptr(), s.last_group = (const int64_t*)t[10].const_data_ptr();
  s.completes_unit = (const bool*)t[11].const_data_ptr();
  s.registers = (int32_t*)t[12].data_ptr();
  s.bounds = (const int32_t*)t[13].const_data_ptr(), s.changes = (const int32_t*)t[14].const_data_ptr();
  s.uses = (const bool*)t[15].const_data_ptr(), s.fills = (const int64_t*)t[16].const_data_ptr();
  s.chain = chained ? (const float*)t[17].const_data_ptr() : nullptr;
  s.log_likelihood = scored ? (double*)t[18].data_ptr() : nullptr;
  return s;
}

// The states of a step, with the decays of the heads: none of them (1), or one for each layer and head.
void take_states(Step& step, const Tensor& S, const Tensor& Z, const Tensor& position, const Tensor& decay) {
  const Shape& s = step.shape;
  int64_t C = step.C = position.size(0);
  check(S, "S", ScalarType::Float, {s.L, C, s.H, s.K, s.d});
  check(Z, "Z", ScalarType::Float, {s.L, C, s.H, s.K});
  check(position, "position", ScalarType::Long, {C});
  if (decay.numel() > 0) check(decay, "decay", ScalarType::Float, {s.L, s.H});
  step.S = (float*)S.data_ptr(), step.Z = (float*)Z.data_ptr(), step.position = (int64_t*)position.data_ptr();
  step.decay = decay.numel() > 0 ? (const float*)decay.const_data_ptr() : nullptr;
}

void check_rows(const Step& step) {
  const Shape& s = step.shape;
  for (int64_t b = 0; b < step.B; b++) {
    int64_t slot = step.slots[b];
    STD_TORCH_CHECK(slot >= 0 && slot < step.C, "decode_step: there is no slot ", slot);
    STD_TORCH_CHECK(!step.sampling.settings || slot < step.sampling.slots, "decode_step: the sampler has no slot ",
                    slot);
    int64_t index = step.position[slot] - step.origin[slot];
    STD_TORCH_CHECK(s.positions != Positions::learned || (index >= 0 && index < s.max_positions),
                    "decode_step: position ", index, " is beyond the ", s.max_positions, " learned ones");
    for (int64_t g = 0; g < s.G; g++) {
      int64_t mark = step.held[slot * s.G + g];
      STD_TORCH_CHECK(mark >= 0 && mark < s.marks, "decode_step: there is no mark ", mark, " to be in force");
    }
    if (step.sampling.settings) {
      int64_t previous = step.sampling.previous[slot];
      STD_TORCH_CHECK(previous >= 0 && previous < s.field[0] && step.sampling.drawn[slot] >= 0,
                      "decode_step: the sampler's memory of slot ", slot, " is spoiled");
    }
    for (int64_t f = 0; f < s.F; f++) {
      int64_t id = step.tokens[b * s.F + f];
      STD_TORCH_CHECK(id >= 0 && id < s.field[f], "decode_step: id ", id, " is not among the ", s.field[f]);
    }
  }
}

// Run a step by a team of threads. A call gets a range of the shares 0 … threads - 1: one each, or more where
// fewer threads come (inside another parallel region, all of them). The first call knows how many at most,
// and so how many calls there are, and tells the others, since all wait for each other.
void run(const Step& step, const Scratch& scratch) {
  RunStep part = kernels().step;
  Team team{0};
  int shares = 0;
  torch::stable::parallel_for(0, step.threads, 1, [&](int64_t begin, int64_t end) {
    if (begin == 0) {
      team.size = int((step.threads + end - 1) / end);
      __atomic_store_n(&shares, int(end), __ATOMIC_RELEASE);
    }
    part(step, scratch, team, int(begin / wait_for_other(&shares, 0)));
  });
}

// One step of B rows in slots of the state. With a sampler, also the draw. Changes the state, the sampler,
// scratch, logits [B, N] and drawn [B, F].
void decode_step(Tensor shape, Tensor weights, Tensor decay, Tensor slots, Tensor tokens, Tensor S, Tensor Z,
                 Tensor recent, Tensor position, Tensor origin, Tensor held, std::vector<Tensor> sampler, int64_t eos,
                 Tensor scratch, Tensor logits, Tensor drawn, int64_t threads) {
  slots = torch::stable::contiguous(slots), tokens = torch::stable::contiguous(tokens);
  Step step{};
  const Shape& s = step.shape = read_shape(shape);
  take_states(step, S, Z, position, decay);
  int64_t B = step.B = slots.size(0), C = step.C;
  check(weights, "weights", ScalarType::Byte, {weights_bytes(s)});
  check(slots, "slots", ScalarType::Long, {B});
  check(tokens, "tokens", ScalarType::Long, {B, s.F});
  check(recent, "recent", ScalarType::Float, {C, s.recent, s.D});
  check(origin, "origin", ScalarType::Long, {C});
  check(held, "held", ScalarType::Long, {C, s.G});
  check(logits, "logits", ScalarType::Float, {B, s.N});
  check(drawn, "drawn", ScalarType::Long, {B, s.F});
  step.threads = threads < 1 ? 1 : int(threads);
  Scratch at = lay_out(s, B, step.threads);
  check(scratch, "scratch", ScalarType::Byte, {scratch.size(0)});
  STD_TORCH_CHECK(scratch.size(0) >= at.bytes, "decode_step: too little scratch");
  step.weights = (const char*)weights.const_data_ptr();
  step.slots = (const int64_t*)slots.const_data_ptr(), step.tokens = (const int64_t*)tokens.const_data_ptr();
  step.recent = (float*)recent.data_ptr(), step.origin = (int64_t*)origin.data_ptr();
  step.held = (int64_t*)held.data_ptr();
  step.sampling = read_sampling(sampler, s, eos);
  step.logits = (float*)logits.data_ptr(), step.drawn = (int64_t*)drawn.data_ptr();
  step.scratch = (char*)scratch.data_ptr();
  check_rows(step);
  if (B > 0) run(step, at);
}

// One layer's attention in a step: takes queries, keys and values [B, 3 D] into the states of slots and
// returns what they attend to [B, D]. The positions are those before the step.
Tensor attend(Tensor shape, Tensor decay, int64_t layer, Tensor qkv, Tensor slots, Tensor S, Tensor Z,
              Tensor position) {
  qkv = torch::stable::contiguous(qkv), slots = torch::stable::contiguous(slots);
  Step step{};
  const Shape& s = step.shape = read_shape(shape);
  take_states(step, S, Z, position, decay);
  int64_t B = step.B = slots.size(0);
  STD_TORCH_CHECK(layer >= 0 && layer < s.L, "attend: there is no layer ", layer);
  check(qkv, "qkv", ScalarType::Float, {B, 3 * s.D});
  check(slots, "slots", ScalarType::Long, {B});
  step.slots = (const int64_t*)slots.const_data_ptr();
  for (int64_t b = 0; b < B; b++)
    STD_TORCH_CHECK(step.slots[b] >= 0 && step.slots[b] < step.C, "attend: there is no slot ", step.slots[b]);
  Tensor attended = torch::stable::new_empty(qkv, {B, s.D});
  const float* from = (const float*)qkv.const_data_ptr();
  float* to = (float*)attended.data_ptr();
  torch::stable::parallel_for(0, B * s.H, 1, [&](int64_t begin, int64_t end) {
    kernels().heads(step, layer, from, to, begin, end);
  });
  return attended;
}

// Ask the system to keep a large tensor in large pages: looking up small ones takes 15% of a step whose
// weights are 150 MB. Before the memory is first written to. Where there is no such thing, nothing happens.
void prefer_large_pages(Tensor x) {
#if defined(__linux__)
  constexpr uintptr_t page = uintptr_t(1) << 21;
  uintptr_t begin = (uintptr_t(x.data_ptr()) + page - 1) / page * page;
  uintptr_t end = (uintptr_t(x.data_ptr()) + x.numel() * x.element_size()) / page * page;
  if (begin < end) madvise((void*)begin, end - begin, MADV_HUGEPAGE);
#endif
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(seqgen, m) {
  m.def("scratch_bytes(Tensor shape, int rows, int threads) -> int");
  m.def(
      "decode_step(Tensor shape, Tensor weights, Tensor decay, Tensor slots, Tensor tokens, Tensor(a!) S,"
      " Tensor(b!) Z, Tensor(c!) recent, Tensor(d!) position, Tensor(i!) origin, Tensor(j!) held, Tensor(e!)[] sampler,"
      " int eos, Tensor(f!) scratch, Tensor(g!) logits, Tensor(h!) drawn, int threads) -> ()");
  m.def(
      "attend(Tensor shape, Tensor decay, int layer, Tensor qkv, Tensor slots, Tensor(a!) S, Tensor(b!) Z,"
      " Tensor position) -> Tensor");
  m.def("prefer_large_pages(Tensor x) -> ()");
}

STABLE_TORCH_LIBRARY_IMPL(seqgen, CPU, m) {
  m.impl("scratch_bytes", TORCH_BOX(&scratch_bytes));
  m.impl("decode_step", TORCH_BOX(&decode_step));
  m.impl("attend", TORCH_BOX(&attend));
  m.impl("prefer_large_pages", TORCH_BOX(&prefer_large_pages));
}

}  // namespace seqgen
