// What a decode step needs of the machine and does not depend on its instructions.

#include "step.h"

#include <sched.h>

namespace seqgen {

Weights::Weights(const char* begin, const Shape& shape) : begin_(begin), at_(begin), shape_(shape) {}

const char* Weights::take(int64_t bytes) {
  const char* here = at_;
  at_ += rounded_up(bytes, 64);
  return here;
}

const float* Weights::floats(int64_t n) { return (const float*)take(n * 4); }

Linear Weights::linear(int64_t M, int64_t K) {
  Linear m{M, K, rounded_up(M, PANEL) / PANEL, nullptr, nullptr, nullptr, nullptr};
  Format format = shape_.format;
  int64_t padded = m.panels * PANEL;
  int64_t inputs = format == Format::w8a8 ? rounded_up(K, 4) : K;
  int64_t bytes = format == Format::float32 ? 4 : format == Format::bf16 ? 2 : 1;
  m.data = take(padded * inputs * bytes);
  if (format == Format::int8 || format == Format::w8a8) m.scale = floats(padded);
  if (format == Format::w8a8) m.sums = (const int32_t*)take(padded * 4);
  m.bias = floats(padded);
  return m;
}

Norm Weights::norm() {
  const float* weight = floats(shape_.D);
  return {weight, floats(shape_.D)};
}

Embedding Weights::embedding() {
  const Shape& s = shape_;
  Embedding e{};
  for (int64_t f = 0; f < s.F; f++) e.tables[f] = floats(s.field[f] * s.D);
  if (s.positions == Positions::learned) e.positions = floats(s.max_positions * s.D);
  if (s.positions == Positions::sinusoidal || s.positions == Positions::anchored) e.positions = floats(s.D / 2);
  if (s.positions == Positions::anchored) e.is_anchor = (const bool*)take(s.field[0]);
  if (s.G > 0) e.holds = (const int32_t*)take(s.field[0] * s.G * 4);
  if (s.G > 0) e.marks = floats(s.marks * s.D);
  if (s.G > 0) e.mark_logits = floats(s.marks * s.N);
  if (s.W > 0) e.convolution = linear(s.D, s.W * s.D);
  return e;
}

Layer Weights::layer() {
  const Shape& s = shape_;
  Layer l;
  l.qkv = linear(3 * s.D, s.D);
  l.out = linear(s.D, s.D);
  l.attention_norm = norm();
  l.up = linear(s.d_ff, s.D);
  l.down = linear(s.D, s.d_ff);
  l.feed_forward_norm = norm();
  return l;
}

int64_t Weights::used() const { return at_ - begin_; }

constexpr int64_t FEW_ROWS = 2;

Scratch lay_out(const Shape& s, int64_t B, int threads) {
  Scratch at{};
  // Few rows are computed by every thread for itself: that takes less time than to wait for the others.
  at.shared = threads > 1 && B > FEW_ROWS;
  int64_t copies = at.shared ? 1 : threads, used = 0;
  auto take = [&](int64_t bytes) {
    int64_t here = used;
    used += rounded_up(bytes, 64);
    return here;
  };
  int64_t context = (s.recent + 1) * s.D, widest = context > s.d_ff ? context : s.d_ff;
  at.x = take(copies * B * s.D * 4);
  at.wide = take(B * widest * 4);
  at.qkv = take(B * 3 * s.D * 4);
  at.attended = take(B * s.D * 4);
  at.y = take(B * s.D * 4);
  at.panel_copy = s.format == Format::w8a8 ? rounded_up(widest, 4) * PANEL * 2 : 0;
  at.panel = take(threads * at.panel_copy);
  at.quantized_copy = s.format == Format::w8a8 ? rounded_up(B * rounded_up(widest, 4) * 2, 64) : 0;
  at.quantized = take(copies * at.quantized_copy);
  at.scale_copy = rounded_up(B * 4, 64);
  at.scale = take(copies * at.scale_copy);
  at.work_copy = rounded_up(4 * s.N * 4, 64);
  at.work = take(threads * at.work_copy);
  at.bytes = used;
  return at;
}

void Team::wait() {
  if (size == 1) return;
  int now = __atomic_load_n(&turn, __ATOMIC_ACQUIRE);
  if (__atomic_add_fetch(&arrived, 1, __ATOMIC_ACQ_REL) == size) {
    __atomic_store_n(&arrived, 0, __ATOMIC_RELAXED);
    __atomic_store_n(&turn, now + 1, __ATOMIC_RELEASE);
    return;
  }
  wait_for_other(&turn, now);
}

int wait_for_other(const int* number, int than) {
  int now;
  for (int spins = 0; (now = __atomic_load_n(number, __ATOMIC_ACQUIRE)) == than; spins++) {
    if (spins > 4000) sched_yield();  // another program has the core of the one that is awaited
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
  }
  return now;
}

}  // namespace seqgen
