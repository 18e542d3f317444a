// Numbers, vectors and small matrices of the kernels. Included once for each set of instructions, by
// causal_linear_kernel.h.

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

// to[m, n] = keep to[m, n] + Σ_k a[m * a_row + k * a_column] b[k, n] for one tile of ROWS rows and VECTORS
// vectors; with keep = 0, whatever was there.
template <int ROWS, int VECTORS, class Real>
inline __attribute__((always_inline)) void multiply_tile(const Real* a, int64_t a_row, int64_t a_column, const Real* b,
                                                         int64_t b_row, Real* to, int64_t to_row, int k_begin,
                                                         int k_end, Real keep) {
  typedef typename VectorOf<Real>::type Vector;
  Vector sums[ROWS][VECTORS];
  for (int m = 0; m < ROWS; m++)
    for (int n = 0; n < VECTORS; n++)
      sums[m][n] = keep != 0 ? keep * *(const Vector*)(to + m * to_row + n * LANES<Real>) : Vector{};
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

// Powers of one head's γ in one chunk, of whose positions the first n_valid decay; all others do not.
template <class Real>
class Decays {
 public:
  void set_head(const Problem& p, int64_t h) {
    used_ = p.decay;
    if (!used_) return;
    double power = 1;
    for (int n = 0; n <= CHUNK; n++, power *= p.decay[h]) powers_[n] = Real(power);
    for (int i = 0; i < 2 * CHUNK; i++) falling_[i] = i < CHUNK ? powers_[CHUNK - 1 - i] : Real(1);
  }
  void set_chunk(int64_t begin, int64_t end, int64_t length) {
    n_valid_ = length < begin ? 0 : length < end ? int(length - begin) : int(end - begin);
    if (!used_) return;
    for (int t = 0; t < CHUNK; t++) since_begin[t] = powers_[t < n_valid_ ? t + 1 : n_valid_];
  }
  operator bool() const { return used_; }

  // From before position t to it: γ, or 1.
  Real of(int t) const { return used_ && t < n_valid_ ? powers_[1] : Real(1); }
  // From each position s to t: [t + 1].
  const Real* until(int t) const { return falling_ + CHUNK - 1 - (t < n_valid_ ? t : n_valid_ > 0 ? n_valid_ - 1 : 0); }
  // From each position to the end of the chunk: [CHUNK].
  const Real* until_end() const { return until(CHUNK - 1); }
  // From before the chunk to its end.
  Real of_chunk() const { return used_ ? powers_[n_valid_] : Real(1); }

  Real since_begin[CHUNK];  // from before the chunk to each position

 private:
  bool used_;
  int n_valid_;
  Real powers_[CHUNK + 1], falling_[2 * CHUNK];
};

enum class Sum { all, up_to_row, from_row };  // which k of Σ_k count for row m: all, k ≤ m, k ≥ m

// to = keep to + a b, with M rows and N columns, over K terms. Triangular sums skip whole tiles of zeros.
template <class Real>
void multiply(Matrix<Real> a, Matrix<Real> b, Matrix<Real> to, int M, int N, int K, Sum sum, Real keep) {
  constexpr int step = 2 * LANES<Real>;
  for (int m = 0; m < M; m += ROWS) {
    int k_begin = sum == Sum::from_row ? m : 0;
    int k_end = sum == Sum::up_to_row ? m + ROWS : K;
    const Real* left = a.data + m * a.row;
    Real* row = to.data + m * to.row;
    int n = 0;
    for (; n + step <= N; n += step)
      multiply_tile<ROWS, 2>(left, a.row, a.column, b.data + n, b.row, row + n, to.row, k_begin, k_end, keep);
    for (; n < N; n += LANES<Real>)
      multiply_tile<ROWS, 1>(left, a.row, a.column, b.data + n, b.row, row + n, to.row, k_begin, k_end, keep);
  }
}

// to[t, s] = (a[t, :]·b[s, :] + shift[t]) * decays.between(s, t) for s ≤ t, else 0; b is given transposed.
template <class Real>
void causal_products(Matrix<Real> a, Matrix<Real> b_transposed, const Real* shift, const Decays<Real>& decays,
                     Matrix<Real> to, int K) {
  constexpr int step = LANES<Real>;
  for (int m = 0; m < CHUNK; m += ROWS) {
    const Real* left = a.data + m * a.row;
    Real* row = to.data + m * to.row;
    int n = 0;
    for (; n + step < m + ROWS && n + 2 * step <= CHUNK; n += 2 * step)
      multiply_tile<ROWS, 2, Real>(left, a.row, a.column, b_transposed.data + n, b_transposed.row, row + n, to.row, 0,
                                   K, 0);
    for (; n < m + ROWS; n += step)
      multiply_tile<ROWS, 1, Real>(left, a.row, a.column, b_transposed.data + n, b_transposed.row, row + n, to.row, 0,
                                   K, 0);
    for (int t = m; t < m + ROWS; t++) {
      Real* __restrict__ at = to.data + t * to.row;
      if (shift)
        for (int s = 0; s <= t; s++) at[s] += shift[t];
      if (decays) {
        const Real* __restrict__ factors = decays.until(t);
        for (int s = 0; s < CHUNK; s++) at[s] *= factors[s];
      }
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

// Multiply the rows of a chunk by factors [CHUNK].
template <class Real>
void scale_rows(Matrix<Real> x, const Real* factors, int width) {
  typedef typename VectorOf<Real>::type Vector;
  for (int t = 0; t < CHUNK; t++) {
    const Real factor = factors[t];
    for (int i = 0; i < width; i += LANES<Real>) *(Vector*)(x.data + t * x.row + i) *= factor;
  }
}

// Add k_t to the decayed Z and return n_t.
template <class Real>
inline Real advance(Real* __restrict__ Z, Real decay, const Real* __restrict__ k, const Real* q, int K, double eps) {
  for (int i = 0; i < K; i++) Z[i] = decay * Z[i] + k[i];
  return dot(q, Z, K) + Real(eps);
}

}  // namespace SEQGEN_ISA
}  // namespace seqgen
