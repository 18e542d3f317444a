// How the kernels read and write the sequence of one head. Included by causal_linear_kernel.h.

namespace seqgen {
namespace SEQGEN_ISA {

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

// Memory of one thread, zeroed: the padding of what is read stays zero. That of the running sums would
// not where a number is infinite (0 times infinity), so they are cleared for each head.
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

inline bool is_boundary(const Problem& p, int64_t b, int64_t t) { return p.boundaries && p.boundaries[b * p.T + t]; }

// Where the chunk from t on ends: after CHUNK positions, or before the next boundary.
inline int64_t chunk_end(const Problem& p, int64_t b, int64_t t) {
  int64_t last = t + CHUNK < p.T ? t + CHUNK : p.T, end = t + 1;
  while (end < last && !is_boundary(p, b, end)) end++;
  return end;
}

template <class Real>
void clear(Matrix<Real> matrix, int rows) {
  memset(matrix.data, 0, rows * matrix.row * sizeof(Real));
}

}  // namespace SEQGEN_ISA
}  // namespace seqgen
