// What a decode step does between its matrices, row by row. Included once for each set of instructions, by
// step_kernel.h.

namespace seqgen {
namespace SEQGEN_ISA {

constexpr float NORM_EPS = 1e-5f;
constexpr float ATTENTION_EPS = 1e-6f;

inline float sum_of(Floats lanes) {
  float sum = 0;
  for (int i = 0; i < FLOATS; i++) sum += lanes[i];
  return sum;
}

// y = the layer norm of x + added (null: of x) over D numbers; `x` and `y` may be one.
inline void normalize(const float* x, const float* added, const Norm& norm, int64_t D, float* y) {
  int64_t whole = D / FLOATS * FLOATS;
  Floats sums{};
  float sum = 0;
  for (int64_t i = 0; i < whole; i += FLOATS) {
    Floats value = *(const Floats*)(x + i);
    if (added) value += *(const Floats*)(added + i);
    *(Floats*)(y + i) = value;
    sums += value;
  }
  for (int64_t i = whole; i < D; i++) sum += y[i] = added ? x[i] + added[i] : x[i];
  float mean = (sum_of(sums) + sum) / D;
  Floats squares{};
  float square = 0;
  for (int64_t i = 0; i < whole; i += FLOATS) {
    Floats off = *(Floats*)(y + i) - mean;
    squares += off * off;
  }
  for (int64_t i = whole; i < D; i++) square += (y[i] - mean) * (y[i] - mean);
  float scale = 1.0f / __builtin_sqrtf((sum_of(squares) + square) / D + NORM_EPS);
  for (int64_t i = 0; i < D; i++) y[i] = (y[i] - mean) * scale * norm.weight[i] + norm.bias[i];
}

// --- feature maps (attention/feature_maps.py has their sources) ------------------------------------------

inline void softmax(const float* x, int64_t d, float sign, float* to) {
  float largest = sign * x[0], sum = 0;
  for (int64_t i = 1; i < d; i++) largest = sign * x[i] > largest ? sign * x[i] : largest;
  for (int64_t i = 0; i < d; i++) to[i] = exp_of_negative(sign * x[i] - largest);
  for (int64_t i = 0; i < d; i++) sum += to[i];
  for (int64_t i = 0; i < d; i++) to[i] /= sum;
}

inline void map_features(Features map, const float* x, int64_t d, float* to) {
  switch (map) {
    case Features::elu_plus_one: {
      int64_t whole = d / FLOATS * FLOATS;
      for (int64_t i = 0; i < whole; i += FLOATS) {
        Floats value = *(const Floats*)(x + i);
        *(Floats*)(to + i) = value > 0.0f ? value + 1.0f : exponential(value > 0.0f ? Floats{} : value);
      }
      for (int64_t i = whole; i < d; i++) to[i] = mapped<FeatureMap::elu_plus_one>(x[i]);
      return;
    }
    case Features::relu:
      for (int64_t i = 0; i < d; i++) to[i] = (x[i] > 0 ? x[i] : 0.0f) + 1e-3f;
      return;
    case Features::dpfp: {
      for (int64_t i = 0; i < d; i++) to[i] = x[i] > 0 ? x[i] : 0.0f;
      for (int64_t i = 0; i < d; i++) to[d + i] = x[i] < 0 ? -x[i] : 0.0f;
      float last = to[2 * d - 1];
      for (int64_t i = 2 * d - 1; i > 0; i--) to[i] *= to[i - 1];
      to[0] *= last;
      return;
    }
    case Features::hedgehog:
      softmax(x, d, 1.0f, to);
      softmax(x, d, -1.0f, to + d);
      return;
  }
}

// --- one head of one row --------------------------------------------------------------------------------

// Columns of S = decay S + k vᵀ and of out = Sᵀ q * scale, VECTORS vectors of them; S is [K, V].
template <int VECTORS, bool DECAYS>
inline __attribute__((always_inline)) void advance_columns(float* S, int64_t V, int64_t K, const float* q,
                                                           const float* k, const float* v, float decay, float scale,
                                                           float* out) {
  Floats sums[VECTORS];
  for (int n = 0; n < VECTORS; n++) sums[n] = Floats{};
  for (int64_t i = 0; i < K; i++) {
    Floats* row = (Floats*)(S + i * V);
    __builtin_prefetch(row + 4 * V / FLOATS, 1);
    for (int n = 0; n < VECTORS; n++) {
      Floats before = DECAYS ? decay * row[n] : row[n];
      Floats sum = before + k[i] * *(const Floats*)(v + n * FLOATS);
      row[n] = sum;
      sums[n] += q[i] * sum;
    }
  }
  for (int n = 0; n < VECTORS; n++) *(Floats*)(out + n * FLOATS) = sums[n] * scale;
}

template <bool DECAYS>
inline void advance_head(float* S, int64_t K, int64_t V, const float* q, const float* k, const float* v, float decay,
                         float scale, float* out) {
  int64_t n = 0;
  for (; n + 8 * FLOATS <= V; n += 8 * FLOATS)
    advance_columns<8, DECAYS>(S + n, V, K, q, k, v + n, decay, scale, out + n);
  for (; n + 4 * FLOATS <= V; n += 4 * FLOATS)
    advance_columns<4, DECAYS>(S + n, V, K, q, k, v + n, decay, scale, out + n);
  for (; n + FLOATS <= V; n += FLOATS) advance_columns<1, DECAYS>(S + n, V, K, q, k, v + n, decay, scale, out + n);
  for (; n < V; n++) {
    float sum = 0;
    for (int64_t i = 0; i < K; i++) {
      float& s = S[i * V + n];
      s = (DECAYS ? decay * s : s) + k[i] * v[n];
      sum += q[i] * s;
    }
    out[n] = sum * scale;
  }
}

inline void attend(float* S, float* Z, int64_t K, int64_t V, const float* q, const float* k, const float* v, float decay,
                   float* out) {
  for (int64_t i = 0; i < K; i++) Z[i] = decay * Z[i] + k[i];
  float normaliser = ATTENTION_EPS;
  int64_t whole = K / FLOATS * FLOATS;
  Floats products{};
  for (int64_t i = 0; i < whole; i += FLOATS) products += *(const Floats*)(q + i) * *(const Floats*)(Z + i);
  normaliser += sum_of(products);
  for (int64_t i = whole; i < K; i++) normaliser += q[i] * Z[i];
  if (decay == 1.0f) advance_head<false>(S, K, V, q, k, v, decay, 1.0f / normaliser, out);
  else advance_head<true>(S, K, V, q, k, v, decay, 1.0f / normaliser, out);
}

inline void exponentials(float* x, int64_t n) {  // of numbers ≤ 0
  for (int64_t i = 0; i < n; i++) x[i] = exp_of_negative(x[i]);
}

}  // namespace SEQGEN_ISA
}  // namespace seqgen
