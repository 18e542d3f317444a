// One row's draw: what seqgen/sampling does with tensors, in the same order and on the same memory.

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "step.h"

namespace seqgen {
namespace {

constexpr float REMOVED = -std::numeric_limits<float>::infinity();
constexpr int32_t RESET = -1, FOLLOW = -3, LESS = -4;  // of a register, as in seqgen/vocabulary.py
constexpr float LOWEST = -1e30f, HIGHEST = 1e30f, SMALL = 1e-6f;

struct Settings {
  float temperature, top_p, min_p, typical_p, repetition_penalty, frequency_penalty, grammar;
};

// The scores of one field of one row while they are filtered; `exponentials` is of numbers ≤ 0.
class Field {
 public:
  Field(float* work, int64_t n, void (*exponentials)(float*, int64_t))
      : scores(work), shares_(work + n), distances_(work + 2 * n), order_((int32_t*)(work + 3 * n)), n_(n),
        exponentials_(exponentials) {}

  float* scores;

  // Remove ids that a register of the grammar is not below; `bounds` are [n_registers, N].
  void keep_order(const int32_t* bounds, int64_t N, const int32_t* registers, int64_t n_registers) {
    for (int64_t r = 0; r < n_registers; r++) {
      const int32_t *of_ids = bounds + r * N, now = registers[r];
      remove([=](int64_t i) { return of_ids[i] <= now; });
    }
  }

  int64_t best() const { return std::max_element(scores, scores + n_) - scores; }

  void keep_top(int64_t k, float p) {
    bool by_k = k > 0 && k < n_, by_p = p < 1;
    if (!by_k && !by_p) return;
    float* ordered = shares_;
    std::copy(scores, scores + n_, ordered);
    float last = REMOVED;
    if (by_k) {
      std::nth_element(ordered, ordered + k - 1, ordered + n_, std::greater<float>());
      last = ordered[k - 1];
    }
    if (by_p) {
      float* end = std::partition(ordered, ordered + n_, [=](float x) { return x >= last && x != REMOVED; });
      std::sort(ordered, end, std::greater<float>());
      int64_t left = end - ordered;
      for (int64_t i = 0; i < left; i++) distances_[i] = ordered[i] - ordered[0];
      exponentials_(distances_, left);
      float sum = std::accumulate(distances_, distances_ + left, 0.0f), before = 0;
      for (int64_t i = 0; i < left && before < p; i++) {
        last = ordered[i];
        before += distances_[i] / sum;
      }
    }
    remove([=, this](int64_t i) { return scores[i] < last; });
  }

  void keep_min_p(float min_p) {
    if (min_p <= 0) return;
    float least = scores[best()] + std::log(min_p);
    remove([=, this](int64_t i) { return scores[i] < least; });
  }

  // Locally typical sampling (Meister et al. 2022, section 3).
  void keep_typical(float p) {
    if (p >= 1) return;
    float largest = scores[best()];
    for (int64_t i = 0; i < n_; i++) shares_[i] = scores[i] - largest;
    exponentials_(shares_, n_);
    float sum = std::accumulate(shares_, shares_ + n_, 0.0f), log_sum = std::log(sum), entropy = 0;
    for (int64_t i = 0; i < n_; i++) {
      shares_[i] /= sum;
      distances_[i] = scores[i] - largest - log_sum;
      if (shares_[i] > 0) entropy -= shares_[i] * std::log(shares_[i]);
    }
    for (int64_t i = 0; i < n_; i++) distances_[i] = std::fabs(distances_[i] + entropy);
    std::iota(order_, order_ + n_, 0);
    std::sort(order_, order_ + n_, [this](int32_t a, int32_t b) { return distances_[a] < distances_[b]; });
    float before = 0, last = 0;
    for (int64_t i = 0; i < n_ && before < p; i++) {
      last = distances_[order_[i]];
      before += shares_[order_[i]];
    }
    remove([=, this](int64_t i) { return distances_[i] > last; });
  }

  // The id at which the sum of probabilities, in order of the vocabulary, goes beyond `number` of the whole.
  int64_t draw(double number) {
    float largest = scores[best()];
    for (int64_t i = 0; i < n_; i++) shares_[i] = scores[i] - largest;
    exponentials_(shares_, n_);
    double whole = 0, reached = 0;
    for (int64_t i = 0; i < n_; i++) whole += shares_[i];
    int64_t last = 0;
    for (int64_t i = 0; i < n_; i++) {
      if (shares_[i] <= 0) continue;
      reached += shares_[last = i];
      if (reached > number * whole) break;
    }
    return last;
  }

  // log p of an id under the softmax of logits [n].
  double log_share(const float* logits, int64_t id) {
    float largest = *std::max_element(logits, logits + n_);
    for (int64_t i = 0; i < n_; i++) shares_[i] = logits[i] - largest;
    exponentials_(shares_, n_);
    return double(logits[id]) - largest - std::log(std::accumulate(shares_, shares_ + n_, 0.0));
  }

 private:
  template <class Condition>
  void remove(Condition condition) {
    for (int64_t i = 0; i < n_; i++)
      if (condition(i)) scores[i] = REMOVED;
  }

  float *shares_, *distances_;
  int32_t* order_;
  int64_t n_;
  void (*exponentials_)(float*, int64_t);
};

// A logit after penalties and bias, within bounds; `at`: where the row's id is among those of all slots.
float weighed(float x, const Settings& asked, const Sampling& s, int64_t at) {
  if (asked.repetition_penalty != 1 && s.seen[at])
    x = x > 0 ? x / asked.repetition_penalty : x * asked.repetition_penalty;
  x -= asked.frequency_penalty * s.counts[at];
  if (s.bias) x += s.bias[at];
  return x >= LOWEST ? std::min(x, HIGHEST) : LOWEST;  // NaN too
}

// Set the registers of the grammar as an id does; `place` is the id's among those of all fields.
void change(int32_t* registers, const Sampling& s, int64_t N, int64_t place) {
  bool changed = false;
  for (int64_t r = 0; r < s.n_registers; r++) {
    int32_t made = s.changes[r * N + place], before = registers[r];
    if (made >= RESET || (made == FOLLOW && changed)) registers[r] = made >= RESET ? made : RESET;
    if (made == LESS) registers[r]--;
    changed |= registers[r] != before;
  }
}

}  // namespace

void draw_row(const Step& step, int64_t b, float* work, void (*exponentials)(float*, int64_t)) {
  const Shape& shape = step.shape;
  const Sampling& s = step.sampling;
  int64_t slot = step.slots[b], N = shape.N, R = s.n_registers;
  const Settings* settings = (const Settings*)s.settings + slot * shape.F;  // of each field
  bool follows = settings[0].grammar;
  int64_t group = follows ? s.last_group[s.previous[slot]] : 0;
  const bool* allowed = s.allowed + (group * 2 + s.has_unit[slot]) * N;
  const double* numbers = s.numbers + (slot * s.ring + s.drawn[slot] % s.ring) * shape.F;
  float* logits = step.logits + b * N;
  int64_t* drawn = step.drawn + b * shape.F;
  int32_t registers[MAX_REGISTERS];
  std::copy(s.registers + slot * R, s.registers + (slot + 1) * R, registers);
  bool stuck = false;  // a later field has nothing left, so that the token is EOS
  for (int64_t f = 0, start = 0; f < shape.F; start += shape.field[f++]) {
    int64_t n = shape.field[f];
    const Settings& asked = settings[f];
    if (f > 0 && !s.uses[drawn[0] * shape.F + f]) {
      drawn[f] = s.fills[drawn[0]];
    } else {
      Field field(work, n, exponentials);
      auto score = [&](int64_t i) { return weighed(logits[start + i], asked, s, slot * N + start + i); };
      for (int64_t i = 0; i < n; i++) field.scores[i] = allowed[start + i] ? score(i) : REMOVED;
      if (R && follows) field.keep_order(s.bounds + start, N, registers, R);
      drawn[f] = field.best();
      if (field.scores[drawn[f]] == REMOVED) {
        stuck = f > 0;
        if (stuck) break;
        field.scores[drawn[f] = s.eos] = score(s.eos);
      }
      if (asked.temperature != 0) {
        for (int64_t i = 0; i < n; i++) field.scores[i] /= std::max(asked.temperature, SMALL);
        field.keep_top(s.top_k[slot * shape.F + f], asked.top_p);
        field.keep_min_p(asked.min_p);
        field.keep_typical(asked.typical_p);
        drawn[f] = field.draw(numbers[f]);
      }
    }
    change(registers, s, N, start + drawn[f]);
    if (s.chain && f + 1 < shape.F) {
      const float* row = s.chain + (start + drawn[f]) * (N - shape.field[0]);
      for (int64_t i = start + n; i < N; i++) logits[i] += row[i - shape.field[0]];
    }
  }
  if (stuck) std::fill(drawn, drawn + shape.F, s.eos);  // a special token is so in every field
  else std::copy(registers, registers + R, s.registers + slot * R);
  for (int64_t f = 0, start = 0; f < shape.F; start += shape.field[f++]) {
    int64_t at = slot * N + start + drawn[f];
    if (s.log_likelihood && s.uses[drawn[0] * shape.F + f])
      s.log_likelihood[slot] += Field(work, shape.field[f], exponentials).log_share(logits + start, drawn[f]);
    s.seen[at] = true;
    s.counts[at]++;
  }
  s.previous[slot] = drawn[0];
  s.has_unit[slot] |= s.completes_unit[drawn[0]];
  s.drawn[slot]++;
}

}  // namespace seqgen
