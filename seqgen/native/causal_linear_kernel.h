// Causal linear attention over chunks of positions, forward and backward. Included once for each set
// of instructions, with SEQGEN_ISA (a namespace) and SEQGEN_VECTOR_BYTES defined.
//
// With φ(q), φ(k) the queries and keys after the feature map (Katharopoulos et al. 2020, equations
// 9 to 15), and a gradient g of the output:
//
//   S_t = S_{t-1} + φ(k_t) v_tᵀ     Z_t = Z_{t-1} + φ(k_t)     n_t = φ(q_t)·Z_t + eps
//   out_t = S_tᵀ φ(q_t) / n_t
//
//   w_t  = g_t / n_t                u_t = S_t w_t              d_t = -φ(q_t)·u_t / n_t
//   dφ(q_t) = u_t + d_t Z_t
//   R_t = R_{t+1} + φ(q_t) w_tᵀ     r_t = r_{t+1} + d_t φ(q_t)     (from the gradients of S and Z on)
//   dφ(k_t) = R_t v_t + r_t         dv_t = R_tᵀ φ(k_t)
//
// The backward pass goes over the sequence twice, forwards for S and backwards for R, and keeps two
// numbers for each position between the two: nothing is stored by the forward pass.
//
// No function of the standard library is instantiated here: the linker would keep one copy for all
// sets of instructions, perhaps the one that this processor does not have.

#include <stdlib.h>
#include <string.h>

#include "causal_linear.h"

namespace seqgen {
namespace SEQGEN_ISA {

constexpr int CHUNK = 32;       // positions handled as one product of matrices
constexpr int MIN_PADDING = 8;  // widths are padded to whole vectors, and to whole tiles

template <class Real>
constexpr int LANES = SEQGEN_VECTOR_BYTES / sizeof(Real);

template <class Real>
struct VectorOf {
  typedef Real type __attribute__((vector_size(SEQGEN_VECTOR_BYTES), aligned(alignof(Real)), may_alias));
};

template <class Real>
int padded(int64_t width) {
  constexpr int to = LANES<Real> > MIN_PADDING ? LANES<Real> : MIN_PADDING;
  return (width + to - 1) / to * to;
}

// Four numbers, and the indices by which they are shuffled.
template <class Real>
struct Four;
template <>
struct Four<float> {
  typedef float type __attribute__((vector_size(16), aligned(4), may_alias));
  typedef int32_t indices __attribute__((vector_size(16)));
};
template <>
struct Four<double> {
  typedef double type __attribute__((vector_size(32), aligned(8), may_alias));
  typedef int64_t indices __attribute__((vector_size(32)));
};

struct bfloat16 {
  uint16_t bits;
};

// --- one number in, one number out ------------------------------------------------------------------

inline float widen(float x) { return x; }
inline double widen(double x) { return x; }
inline float widen(bfloat16 x) {
  uint32_t bits = uint32_t(x.bits) << 16;
  float value;
  memcpy(&value, &bits, 4);
  return value;
}

inline void narrow(float x, float& to) { to = x; }
inline void narrow(double x, double& to) { to = x; }
inline void narrow(float x, bfloat16& to) {
  uint32_t bits;
  memcpy(&bits, &x, 4);
  uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  to.bits = (bits & 0x7fffffff) > 0x7f800000 ? 0x7fc0 : rounded;  // NaN stays NaN
}

// e^x for x ≤ 0, to 2 units in the last place; 0 below -87. Written without branches, for vectors.
inline float exp_of_negative(float x) {
  float clamped = x < -87.0f ? -87.0f : x;
  float n = __builtin_floorf(clamped * 1.44269504f + 0.5f);
  float r = clamped - n * 0.693359375f + n * 2.12194440e-4f;
  float p = 1.98756915e-4f;  // the minimax polynomial of Cephes' expf
  p = p * r + 1.39819995e-3f;
  p = p * r + 8.33345190e-3f;
  p = p * r + 4.16657959e-2f;
  p = p * r + 1.66666655e-1f;
  p = p * r + 5.00000012e-1f;
  p = p * r * r + r + 1.0f;
  uint32_t bits = (uint32_t(int32_t(n)) + 127) << 23;
  float scale;
  memcpy(&scale, &bits, 4);
  return x < -87.0f ? 0.0f : p * scale;
}
inline double exp_of_negative(double x) { return __builtin_exp(x); }

template <FeatureMap map, class Real>
inline Real mapped(Real x) {
  if (map == FeatureMap::none) return x;
  Real e = exp_of_negative(x > 0 ? Real(0) : x);
  return x > 0 ? x + 1 : e;
}

// The slope of the feature map, from its value: for elu + 1 it is e^x = φ below 0, and 1 above.
template <FeatureMap map, class Real>
inline Real slope(Real value) {
  return map == FeatureMap::none || value > 1 ? Real(1) : value;
}

// --- small matrices, rows padded to whole vectors -----------------------------------------------------

// to[m, n] (+)= Σ_k a[m * a_row + k * a_column] b[k, n] for one tile of ROWS rows and VECTORS vectors.
template <int ROWS, int VECTORS, class Real>
inline __attribute__((always_inline)) void multiply_tile(const Real* a, int64_t a_row, int64_t a_column, const Real* b,
                                                         int64_t b_row, Real* to, int64_t to_row, int k_begin,
                                                         int k_end, bool add) {
  typedef typename VectorOf<Real>::type Vector;
  Vector sums[ROWS][VECTORS];
  for (int m = 0; m < ROWS; m++)
    for (int n = 0; n < VECTORS; n++)
      sums[m][n] = add ? *(const Vector*)(to + m * to_row + n * LANES<Real>) : Vector{};
  for (int k = k_begin; k < k_end; k++) {
    Vector right[VECTORS];
    for (int n = 0; n < VECTORS; n++) right[n] = *(const Vector*)(b + k * b_row + n * LANES<Real>);
    for (int m = 0; m < ROWS; m++) {
      Real left = a[m * a_row + k * a_column];
      for (int n = 0; n < VECTORS; n++) sums[m][n] += left * right[n];
    }
  }
  for (int m = 0; m < ROWS; m++)
    for (int n = 0; n < VECTORS; n++) *(Vector*)(to + m * to_row + n * LANES<Real>) = sums[m][n];
}

constexpr int ROWS = SEQGEN_VECTOR_BYTES == 64 ? 8 : 4;  // what fits the registers: 32 or 16

template <class Real>
struct Matrix {
  Real* data;
  int64_t row, column;  // strides; the column's is 1 except in a transposed view
  Matrix transposed() const { return {data, column, row}; }
};

enum class Sum { all, up_to_row, from_row };  // which k of Σ_k count for row m: all, k ≤ m, k ≥ m

// to (+)= a b, with M rows and N columns, over K terms. Triangular sums skip whole tiles of zeros.
template <class Real>
void multiply(Matrix<Real> a, Matrix<Real> b, Matrix<Real> to, int M, int N, int K, Sum sum, bool add) {
  constexpr int step = 2 * LANES<Real>;
  for (int m = 0; m < M; m += ROWS) {
    int k_begin = sum == Sum::from_row ? m : 0;
    int k_end = sum == Sum::up_to_row ? m + ROWS : K;
    const Real* left = a.data + m * a.row;
    Real* row = to.data + m * to.row;
    int n = 0;
    for (; n + step <= N; n += step)
      multiply_tile<ROWS, 2>(left, a.row, a.column, b.data + n, b.row, row + n, to.row, k_begin, k_end, add);
    for (; n < N; n += LANES<Real>)
      multiply_tile<ROWS, 1>(left, a.row, a.column, b.data + n, b.row, row + n, to.row, k_begin, k_end, add);
  }
}

// to[t, s] = a[t, :]·b[s, :] + shift[t] for s ≤ t, else 0; b is given transposed.
template <class Real>
void causal_products(Matrix<Real> a, Matrix<Real> b_transposed, const Real* shift, Matrix<Real> to, int K) {
  constexpr int step = LANES<Real>;
  for (int m = 0; m < CHUNK; m += ROWS) {
    const Real* left = a.data + m * a.row;
    Real* row = to.data + m * to.row;
    int n = 0;
    for (; n + step < m + ROWS && n + 2 * step <= CHUNK; n += 2 * step)
      multiply_tile<ROWS, 2>(left, a.row, a.column, b_transposed.data + n, b_transposed.row, row + n, to.row, 0, K,
                             false);
    for (; n < m + ROWS; n += step)
      multiply_tile<ROWS, 1>(left, a.row, a.column, b_transposed.data + n, b_transposed.row, row + n, to.row, 0, K,
                             false);
    for (int t = m; t < m + ROWS; t++) {
      Real* at = to.data + t * to.row;
      if (shift)
        for (int s = 0; s <= t; s++) at[s] += shift[t];
      for (int s = t + 1; s < CHUNK; s++) at[s] = 0;
    }
  }
}

#if defined(__clang__)
#define SEQGEN_SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define SEQGEN_SHUFFLE(a, b, ...) __builtin_shuffle(a, b, (typename Four<Real>::indices){__VA_ARGS__})
#endif

// to[n, m] = from[m, n], in blocks of 4 by 4; M and N are multiples of 4.
template <class Real>
void transpose(Matrix<Real> from, Matrix<Real> to, int M, int N) {
  typedef typename Four<Real>::type Row;
  for (int m = 0; m < M; m += 4) {
    for (int n = 0; n < N; n += 4) {
      const Real* a = from.data + m * from.row + n;
      Row a0 = *(const Row*)a, a1 = *(const Row*)(a + from.row), a2 = *(const Row*)(a + 2 * from.row),
           a3 = *(const Row*)(a + 3 * from.row);
      Row low01 = SEQGEN_SHUFFLE(a0, a1, 0, 4, 1, 5), high01 = SEQGEN_SHUFFLE(a0, a1, 2, 6, 3, 7);
      Row low23 = SEQGEN_SHUFFLE(a2, a3, 0, 4, 1, 5), high23 = SEQGEN_SHUFFLE(a2, a3, 2, 6, 3, 7);
      Real* b = to.data + n * to.row + m;
      *(Row*)b = SEQGEN_SHUFFLE(low01, low23, 0, 1, 4, 5);
      *(Row*)(b + to.row) = SEQGEN_SHUFFLE(low01, low23, 2, 3, 6, 7);
      *(Row*)(b + 2 * to.row) = SEQGEN_SHUFFLE(high01, high23, 0, 1, 4, 5);
      *(Row*)(b + 3 * to.row) = SEQGEN_SHUFFLE(high01, high23, 2, 3, 6, 7);
    }
  }
}

template <class Real>
inline Real dot(const Real* a, const Real* b, int n) {
  typedef typename VectorOf<Real>::type Vector;
  Vector sums = {};
  for (int i = 0; i < n; i += LANES<Real>) sums += *(const Vector*)(a + i) * *(const Vector*)(b + i);
  Real sum = 0;
  for (int i = 0; i < LANES<Real>; i++) sum += sums[i];
  return sum;
}

// Add k_t to Z and return n_t.
template <class Real>
inline Real advance(Real* Z, const Real* k, const Real* q, int K, double eps) {
  for (int i = 0; i < K; i++) Z[i] += k[i];
  return dot(q, Z, K) + Real(eps);
}

// --- one head of one row -----------------------------------------------------------------------------

// The sequence of one head: a pointer to its first position and the step to the next.
template <class Scalar>
struct Line {
  Scalar* data;
  int64_t step;
  Line(const Sequence& s, int64_t b, int64_t h)
      : data((Scalar*)s.data + b * s.row_stride + h * s.head_stride), step(s.position_stride) {}
};

// Read positions begin … begin + CHUNK through the feature map; those at `end` and after it are zeros.
// `ahead`: how many positions further the next call will read.
template <FeatureMap map, class Scalar, class Real>
void load(Line<Scalar> from, int64_t begin, int64_t end, int width, Matrix<Real> to, int ahead) {
  for (int t = 0; t < CHUNK; t++) {
    Real* __restrict__ row = to.data + t * to.row;
    if (begin + t < end) {
      const Scalar* source = from.data + (begin + t) * from.step;
      const Scalar* later = source + ahead * from.step;  // heads lie apart: the processor cannot guess
      for (int i = 0; i < width; i += 64 / sizeof(Scalar)) __builtin_prefetch(later + i);
      for (int i = 0; i < width; i++) row[i] = mapped<map>(Real(widen(source[i])));
    } else {
      memset(row, 0, width * sizeof(Real));
    }
  }
}

template <class Scalar, class Real>
void store(const Real* row, Scalar* to, int width) {
  for (int i = 0; i < width; i++) narrow(row[i], to[i]);
}

// Memory of one thread, zeroed, so that padding is zero and stays so.
class Workspace {
 public:
  explicit Workspace(size_t bytes) : memory_((char*)aligned_alloc(64, (bytes + 63) / 64 * 64)), used_(0) {
    if (!memory_) abort();
    memset(memory_, 0, bytes);
  }
  ~Workspace() { free(memory_); }
  Workspace(const Workspace&) = delete;
  template <class Real>
  Matrix<Real> matrix(int rows, int columns) {
    Real* data = (Real*)(memory_ + used_);
    used_ += (rows * columns * sizeof(Real) + 63) / 64 * 64;
    return {data, columns, 1};
  }

 private:
  char* memory_;
  size_t used_;
};

template <class Real>
void copy_in(const void* from, Matrix<Real> to, int64_t head, int M, int N) {
  const Real* source = from ? (const Real*)from + head * M * N : nullptr;
  for (int m = 0; m < M; m++)
    for (int n = 0; n < N; n++) to.data[m * to.row + n * to.column] = source ? source[m * N + n] : Real(0);
}

template <class Real>
void copy_out(Matrix<Real> from, void* to, int64_t head, int M, int N) {
  if (!to) return;
  for (int m = 0; m < M; m++)
    for (int n = 0; n < N; n++) ((Real*)to)[(head * M + m) * N + n] = from.data[m * from.row + n * from.column];
}

inline int64_t valid_length(const Problem& p, int64_t b) {
  if (!p.lengths) return p.T;
  return p.lengths[b] < 0 ? 0 : p.lengths[b] > p.T ? p.T : p.lengths[b];
}

inline bool begins_anew(const Problem& p, int64_t b, int64_t t) { return p.starts && p.starts[b * p.T + t]; }

// Where the chunk from t on ends: after CHUNK positions, or before the next start.
inline int64_t chunk_end(const Problem& p, int64_t b, int64_t t) {
  int64_t last = t + CHUNK < p.T ? t + CHUNK : p.T, end = t + 1;
  while (end < last && !begins_anew(p, b, end)) end++;
  return end;
}

template <class Real>
void clear(Matrix<Real> matrix, int rows) {
  memset(matrix.data, 0, rows * matrix.row * sizeof(Real));
}

template <class Scalar, class Real, FeatureMap map>
void forward(const Problem& p, int64_t begin, int64_t end) {
  const int K = padded<Real>(p.K), V = padded<Real>(p.V);
  Workspace space(sizeof(Real) * (size_t(3 * CHUNK) * K + 2 * CHUNK * V + K * V + K + CHUNK * CHUNK) + 64 * 10);
  Matrix<Real> q = space.matrix<Real>(CHUNK, K), k = space.matrix<Real>(CHUNK, K), kT = space.matrix<Real>(K, CHUNK),
               v = space.matrix<Real>(CHUNK, V), out = space.matrix<Real>(CHUNK, V), S = space.matrix<Real>(K, V),
               Z = space.matrix<Real>(1, K), scores = space.matrix<Real>(CHUNK, CHUNK);
  for (int64_t head = begin; head < end; head++) {
    const int64_t b = head / p.H, h = head % p.H, length = valid_length(p, b);
    Line<Scalar> q_line(p.q, b, h), k_line(p.k, b, h), v_line(p.v, b, h), out_line(p.out, b, h);
    copy_in(p.initial_S, S, head, p.K, p.V);
    copy_in(p.initial_Z, Z, head, 1, p.K);
    for (int64_t t0 = 0, t1; t0 < p.T; t0 = t1) {
      t1 = chunk_end(p, b, t0);
      if (begins_anew(p, b, t0)) clear(S, K), clear(Z, 1);
      const int64_t valid = t1 < length ? t1 : length;
      load<map>(q_line, t0, t1, p.K, q, CHUNK);
      load<map>(k_line, t0, valid, p.K, k, CHUNK);
      load<FeatureMap::none>(v_line, t0, valid, p.V, v, CHUNK);
      transpose(k, kT, CHUNK, K);
      causal_products<Real>(q, kT, nullptr, scores, K);
      multiply(scores, v, out, CHUNK, V, CHUNK, Sum::up_to_row, false);
      multiply(q, S, out, CHUNK, V, K, Sum::all, true);
      for (int t = 0; t < t1 - t0; t++) {
        Real scale = 1 / advance(Z.data, k.data + t * k.row, q.data + t * q.row, K, p.eps);
        Real* row = out.data + t * out.row;
        for (int i = 0; i < V; i++) row[i] *= scale;
        store(row, out_line.data + (t0 + t) * out_line.step, p.V);
      }
      multiply(k.transposed(), v, S, K, V, CHUNK, Sum::all, true);
    }
    copy_out(S, p.S, head, p.K, p.V);
    copy_out(Z, p.Z, head, 1, p.K);
  }
}

template <class Scalar, class Real, FeatureMap map>
class Backward {
 public:
  explicit Backward(const Problem& p)
      : p_(p),
        K(padded<Real>(p.K)),
        V(padded<Real>(p.V)),
        n_kept_(p.T + CHUNK),
        space_(sizeof(Real) * (size_t(6 * CHUNK) * K + 4 * CHUNK * V + 3 * K * V + 2 * K + 2 * CHUNK * CHUNK +
                               2 * n_kept_) + sizeof(int64_t) * p.T +
               64 * 24),
        q(space_.matrix<Real>(CHUNK, K)),
        k(space_.matrix<Real>(CHUNK, K)),
        kT(space_.matrix<Real>(K, CHUNK)),
        Z_at(space_.matrix<Real>(CHUNK, K)),
        dq(space_.matrix<Real>(CHUNK, K)),
        dk(space_.matrix<Real>(CHUNK, K)),
        v(space_.matrix<Real>(CHUNK, V)),
        vT(space_.matrix<Real>(V, CHUNK)),
        w(space_.matrix<Real>(CHUNK, V)),
        dv(space_.matrix<Real>(CHUNK, V)),
        ST(space_.matrix<Real>(V, K)),
        R(space_.matrix<Real>(K, V)),
        RT(space_.matrix<Real>(V, K)),
        Z(space_.matrix<Real>(1, K)),
        r(space_.matrix<Real>(1, K)),
        scores(space_.matrix<Real>(CHUNK, CHUNK)),
        value_scores(space_.matrix<Real>(CHUNK, CHUNK)),
        norms(space_.matrix<Real>(1, n_kept_)),
        slopes(space_.matrix<Real>(1, n_kept_)),
        begins_(space_.matrix<int64_t>(1, p.T).data) {}

  void run(int64_t head) {
    const int64_t b = head / p_.H, h = head % p_.H, length = valid_length(p_, b);
    copy_in(p_.initial_S, ST.transposed(), head, p_.K, p_.V);
    copy_in(p_.initial_Z, Z, head, 1, p_.K);
    int64_t n_chunks = 0;
    for (int64_t t0 = 0, t1; t0 < p_.T; t0 = t1) {
      t1 = chunk_end(p_, b, t0);
      begins_[n_chunks++] = t0;
      if (begins_anew(p_, b, t0)) clear(ST, V), clear(Z, 1);
      query_gradients(b, h, t0, t1, length);
    }
    copy_in(p_.S_gradient, R, head, p_.K, p_.V);
    copy_in(p_.Z_gradient, r, head, 1, p_.K);
    for (int64_t t1 = p_.T; n_chunks--; t1 = begins_[n_chunks]) {
      key_and_value_gradients(b, h, begins_[n_chunks], t1, length);
      if (begins_anew(p_, b, begins_[n_chunks])) clear(R, K), clear(r, 1);
    }
    copy_out(R, p_.initial_S_gradient, head, p_.K, p_.V);
    copy_out(r, p_.initial_Z_gradient, head, 1, p_.K);
  }

 private:
  void load_chunk(int64_t b, int64_t h, int64_t t0, int64_t t1, int64_t length, int ahead) {
    const int64_t valid = t1 < length ? t1 : length;
    load<map>(Line<Scalar>(p_.q, b, h), t0, t1, p_.K, q, ahead);
    load<map>(Line<Scalar>(p_.k, b, h), t0, valid, p_.K, k, ahead);
    load<FeatureMap::none>(Line<Scalar>(p_.v, b, h), t0, valid, p_.V, v, ahead);
    load<FeatureMap::none>(Line<Scalar>(p_.out_gradient, b, h), t0, t1, p_.V, w, ahead);
    transpose(v, vT, CHUNK, V);
  }

  void divide_by_norms(int64_t t0) {
    for (int t = 0; t < CHUNK; t++) {
      Real scale = 1 / norms.data[t0 + t];
      for (int i = 0; i < V; i++) w.data[t * w.row + i] *= scale;
    }
  }

  void query_gradients(int64_t b, int64_t h, int64_t t0, int64_t t1, int64_t length) {
    load_chunk(b, h, t0, t1, length, CHUNK);
    for (int t = 0; t < CHUNK; t++) {
      Real norm = advance(Z.data, k.data + t * k.row, q.data + t * q.row, K, p_.eps);
      norms.data[t0 + t] = t0 + t < t1 ? norm : Real(1);
      memcpy(Z_at.data + t * Z_at.row, Z.data, K * sizeof(Real));
    }
    divide_by_norms(t0);
    causal_products<Real>(w, vT, nullptr, value_scores, V);
    multiply(value_scores, k, dq, CHUNK, K, CHUNK, Sum::up_to_row, false);
    multiply(w, ST, dq, CHUNK, K, V, Sum::all, true);
    Line<Scalar> to(p_.q_gradient, b, h);
    for (int t = 0; t < t1 - t0; t++) {
      Real* __restrict__ row = dq.data + t * dq.row;
      const Real *__restrict__ features = q.data + t * q.row, *__restrict__ at = Z_at.data + t * Z_at.row;
      Real d = slopes.data[t0 + t] = -dot(features, row, K) / norms.data[t0 + t];
      for (int i = 0; i < K; i++) row[i] = (row[i] + d * at[i]) * slope<map>(features[i]);
      store(row, to.data + (t0 + t) * to.step, p_.K);
    }
    multiply(v.transposed(), k, ST, V, K, CHUNK, Sum::all, true);
  }

  void key_and_value_gradients(int64_t b, int64_t h, int64_t t0, int64_t t1, int64_t length) {
    load_chunk(b, h, t0, t1, length, -CHUNK);
    divide_by_norms(t0);
    transpose(k, kT, CHUNK, K);
    transpose(R, RT, K, V);
    causal_products<Real>(q, kT, nullptr, scores, K);
    causal_products<Real>(w, vT, slopes.data + t0, value_scores, V);
    multiply(value_scores.transposed(), q, dk, CHUNK, K, CHUNK, Sum::from_row, false);
    multiply(v, RT, dk, CHUNK, K, V, Sum::all, true);
    multiply(scores.transposed(), w, dv, CHUNK, V, CHUNK, Sum::from_row, false);
    multiply(k, R, dv, CHUNK, V, K, Sum::all, true);
    Line<Scalar> k_to(p_.k_gradient, b, h), v_to(p_.v_gradient, b, h);
    for (int t = 0; t < t1 - t0; t++) {
      Real* __restrict__ row = dk.data + t * dk.row;
      const Real* __restrict__ features = k.data + t * k.row;
      const Real *__restrict__ later = r.data, valid = t0 + t < length;
      for (int i = 0; i < K; i++) row[i] = valid * (row[i] + later[i]) * slope<map>(features[i]);
      store(row, k_to.data + (t0 + t) * k_to.step, p_.K);
      store(dv.data + t * dv.row, v_to.data + (t0 + t) * v_to.step, p_.V);
    }
    multiply(q.transposed(), w, R, K, V, CHUNK, Sum::all, true);
    for (int t = 0; t < t1 - t0; t++)
      for (int i = 0; i < K; i++) r.data[i] += slopes.data[t0 + t] * q.data[t * q.row + i];
  }

  const Problem& p_;
  const int K, V;
  const int64_t n_kept_;
  Workspace space_;
  // Of one chunk; w holds the gradient of the output, divided by the norm.
  Matrix<Real> q, k, kT, Z_at, dq, dk, v, vT, w, dv;
  // Running sums, some of them transposed.
  Matrix<Real> ST, R, RT, Z, r;
  Matrix<Real> scores, value_scores;
  // Of every position: n_t and d_t.
  Matrix<Real> norms, slopes;
  int64_t* begins_;  // of the chunks
};

template <class Scalar, class Real, FeatureMap map>
void backward(const Problem& p, int64_t begin, int64_t end) {
  Backward<Scalar, Real, map> run(p);
  for (int64_t head = begin; head < end; head++) run.run(head);
}

// --- the choice of types -------------------------------------------------------------------------------

template <FeatureMap map>
void forward_of(const Problem& p, int64_t begin, int64_t end) {
  if (p.dtype == Dtype::float32) forward<float, float, map>(p, begin, end);
  if (p.dtype == Dtype::float64) forward<double, double, map>(p, begin, end);
  if (p.dtype == Dtype::bfloat16) forward<bfloat16, float, map>(p, begin, end);
}

template <FeatureMap map>
void backward_of(const Problem& p, int64_t begin, int64_t end) {
  if (p.dtype == Dtype::float32) backward<float, float, map>(p, begin, end);
  if (p.dtype == Dtype::float64) backward<double, double, map>(p, begin, end);
  if (p.dtype == Dtype::bfloat16) backward<bfloat16, float, map>(p, begin, end);
}

void run_forward(const Problem& p, int64_t begin, int64_t end) {
  (p.feature_map == FeatureMap::none ? forward_of<FeatureMap::none> : forward_of<FeatureMap::elu_plus_one>)(p, begin,
                                                                                                           end);
}

void run_backward(const Problem& p, int64_t begin, int64_t end) {
  (p.feature_map == FeatureMap::none ? backward_of<FeatureMap::none> : backward_of<FeatureMap::elu_plus_one>)(p, begin,
                                                                                                             end);
}

}  // namespace SEQGEN_ISA
}  // namespace seqgen
