// A whole decode step: embedding, short convolution, all layers, output head and the draw, by a team of threads that
// wait for each other between its parts. Included once for each set of instructions, after
// causal_linear_kernel.h, with SEQGEN_VNNI defined as 0 or 1.

#include "step.h"
// In this order: each builds on the ones before.
#include "step_vectors.h"
#include "step_linear.h"
#include "step_parts.h"

namespace seqgen {
namespace SEQGEN_ISA {

// Advance the states of one layer by queries, keys and values [B, 3 D] and attend to them: [B, D]. Heads of
// rows are numbered 0 … B H - 1.
void run_heads(const Step& step, int64_t layer, const float* qkv, float* attended, int64_t begin, int64_t end) {
  const Shape& s = step.shape;
  float features[2 * MAX_FEATURES];
  for (int64_t i = begin; i < end; i++) {
    int64_t b = i / s.H, h = i % s.H, slot = step.slots[b], state = (layer * step.C + slot) * s.H + h;
    const float* row = qkv + b * 3 * s.D + h * s.d;
    map_features(s.features, row, s.d, features);
    map_features(s.features, row + s.D, s.d, features + s.K);
    float decay = step.decay ? step.decay[layer * s.H + h] : 1.0f;
    if (s.decay_after > 0 && step.position[slot] >= s.decay_after) decay *= 1.0f - 1.0f / s.decay_after;
    attend(step.S + state * s.K * s.d, step.Z + state * s.K, s.K, s.d, features, features + s.K, row + 2 * s.D,
           decay, attended + i * s.d);
  }
}

// One thread's part of a step.
class Worker {
 public:
  Worker(const Step& step, const Scratch& at, Team& team, int me)
      : step_(step), s_(step.shape), at_(at), team_(team), me_(me), weights_(step.weights, step.shape) {}

  void run() {
    Embedding embedding = weights_.embedding();
    embed(embedding);
    for (int64_t layer = 0; layer < s_.L; layer++) run_layer(layer, weights_.layer());
    Norm norm = weights_.norm();
    for_my_rows([&](int64_t b) { normalize(x(b), nullptr, norm, s_.D, x(b)); });
    Linear lm_head = weights_.linear(s_.N, s_.D);
    multiply(lm_head, prepared(x(0), s_.D), step_.logits, s_.N, Finish::nothing);
    team_.wait();
    if (s_.G > 0) {
      Range rows = my_share(step_.B);
      for (int64_t b = rows.begin; b < rows.end; b++) add_marks(b, embedding.mark_logits, s_.N, step_.logits + b * s_.N);
      team_.wait();
    }
    if (me_ == 0)
      for (int64_t b = 0; b < step_.B; b++) step_.position[step_.slots[b]]++;
    if (step_.sampling.settings) draw();
  }

 private:
  struct Range {
    int64_t begin, end;
  };
  Range my_share(int64_t n) const { return {n * me_ / team_.size, n * (me_ + 1) / team_.size}; }

  template <class T>
  T* scratch(int64_t offset) const {
    return (T*)(step_.scratch + offset);
  }
  // Rows that are computed by every thread for itself, or each by one thread.
  float* x(int64_t b) const { return scratch<float>(at_.x) + ((at_.shared ? 0 : me_ * step_.B) + b) * s_.D; }
  template <class Function>
  void for_my_rows(Function function) const {
    Range rows = at_.shared ? my_share(step_.B) : Range{0, step_.B};
    for (int64_t b = rows.begin; b < rows.end; b++) function(b);
  }
  void wait_for_rows() {
    if (at_.shared) team_.wait();
  }

  // Make rows [B, K] ready for a product: quantize them if need be, and have those of the other threads.
  Inputs prepared(const float* rows, int64_t K) {
    Inputs in{rows, nullptr, nullptr, rounded_up(K, 4)};
    if (s_.format == Format::w8a8) {
      int64_t copy = at_.shared ? 0 : me_;
      char* quantized = scratch<char>(at_.quantized + copy * at_.quantized_copy);
      float* scale = scratch<float>(at_.scale + copy * at_.scale_copy);
      for_my_rows([&](int64_t b) {
        if (as_shorts(step_.B)) quantize(rows + b * K, K, 0, (int16_t*)quantized + b * in.row, scale + b);
        else quantize(rows + b * K, K, SHIFT, (int8_t*)quantized + b * in.row, scale + b);
      });
      in.quantized = quantized, in.scale = scale;
    }
    wait_for_rows();
    return in;
  }

  void multiply(const Linear& A, const Inputs& in, float* y, int64_t y_row, Finish finish) {
    Range panels = my_share(A.panels);
    int16_t* expanded = scratch<int16_t>(at_.panel + me_ * at_.panel_copy);
    multiply_panels(s_.format, A, in, step_.B, panels.begin, panels.end, expanded, y, y_row, finish);
  }

  // Add the vectors [n] of the marks that are in force in row b to x.
  void add_marks(int64_t b, const float* vectors, int64_t n, float* x) const {
    for (int64_t g = 0; g < s_.G; g++) {
      int64_t mark = step_.held[step_.slots[b] * s_.G + g];
      if (mark == 0) continue;
      for (int64_t i = 0; i < n; i++) x[i] += vectors[mark * n + i];
    }
  }

  void embed(const Embedding& e) {
    float *wide = scratch<float>(at_.wide), *y = scratch<float>(at_.y);
    int64_t D = s_.D, R = s_.recent, width = (R + 1) * D;
    Range rows = my_share(step_.B);
    for (int64_t b = rows.begin; b < rows.end; b++) {
      float *row = wide + b * width, *raw = row + R * D;
      float* recent = step_.recent + step_.slots[b] * R * D;
      if (R) memcpy(row, recent, R * D * sizeof(float));
      const int64_t *token = step_.tokens + b * s_.F, slot = step_.slots[b];
      if (e.is_anchor && e.is_anchor[token[0]]) step_.origin[slot] = step_.position[slot];
      for (int64_t g = 0; g < s_.G; g++) {
        int32_t mark = e.holds[token[0] * s_.G + g];
        if (mark >= 0) step_.held[slot * s_.G + g] = mark;
      }
      memcpy(raw, e.tables[0] + token[0] * D, D * sizeof(float));
      for (int64_t f = 1; f < s_.F; f++)
        for (int64_t i = 0; i < D; i++) raw[i] += e.tables[f][token[f] * D + i];
      if (R) memcpy(recent, row + D, R * D * sizeof(float));
    }
    team_.wait();
    if (s_.W > 0) {
      multiply(e.convolution, prepared(wide, width), y, D, Finish::nothing);
      team_.wait();
    }
    for_my_rows([&](int64_t b) {
      const float* raw = wide + b * width + R * D;
      for (int64_t i = 0; i < D; i++) x(b)[i] = s_.W > 0 ? raw[i] + y[b * D + i] : raw[i];
      add_marks(b, e.marks, D, x(b));
      add_position(step_.position[step_.slots[b]] - step_.origin[step_.slots[b]], e.positions, x(b));
    });
  }

  void add_position(int64_t index, const float* table, float* x) const {
    if (s_.positions == Positions::none) return;
    if (s_.positions == Positions::learned) {
      for (int64_t i = 0; i < s_.D; i++) x[i] += table[index * s_.D + i];
      return;
    }
    int64_t half = s_.D / 2;
    for (int64_t i = 0; i < half; i++) {
      float angle = float(index) * table[i];
      x[i] += __builtin_sinf(angle);
      x[half + i] += __builtin_cosf(angle);
    }
  }

  void run_layer(int64_t layer, const Layer& weights) {
    float *qkv = scratch<float>(at_.qkv), *attended = scratch<float>(at_.attended), *y = scratch<float>(at_.y),
          *wide = scratch<float>(at_.wide);
    int64_t D = s_.D;
    multiply(weights.qkv, prepared(x(0), D), qkv, 3 * D, Finish::nothing);
    team_.wait();
    Range heads = my_share(step_.B * s_.H);
    run_heads(step_, layer, qkv, attended, heads.begin, heads.end);
    team_.wait();
    multiply(weights.out, prepared(attended, D), y, D, Finish::nothing);
    team_.wait();
    for_my_rows([&](int64_t b) { normalize(x(b), y + b * D, weights.attention_norm, D, x(b)); });
    Finish finish = s_.activation == Activation::gelu ? Finish::gelu : Finish::relu;
    multiply(weights.up, prepared(x(0), D), wide, s_.d_ff, finish);
    team_.wait();
    multiply(weights.down, prepared(wide, s_.d_ff), y, D, Finish::nothing);
    team_.wait();
    for_my_rows([&](int64_t b) { normalize(x(b), y + b * D, weights.feed_forward_norm, D, x(b)); });
  }

  void draw() {
    Range rows = my_share(step_.B);
    float* work = scratch<float>(at_.work + me_ * at_.work_copy);
    for (int64_t b = rows.begin; b < rows.end; b++) draw_row(step_, b, work, exponentials);
  }

  const Step& step_;
  const Shape& s_;
  const Scratch& at_;
  Team& team_;
  int me_;
  Weights weights_;
};

void run_step(const Step& step, const Scratch& scratch, Team& team, int me) { Worker(step, scratch, team, me).run(); }

}  // namespace SEQGEN_ISA
}  // namespace seqgen
