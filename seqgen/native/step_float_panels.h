// Products with matrices of floats, or of numbers that are widened to floats on the way. Included once for
// each set of instructions, by step_kernel.h.

namespace seqgen {
namespace SEQGEN_ISA {

// What the registers hold: rows at a time, and vectors of outputs, of whole stripes.
constexpr int TILE = SEQGEN_VECTOR_BYTES == 16 ? 3 : 6;
constexpr int WIDE = SEQGEN_VECTOR_BYTES == 32 ? 2 : 4;
constexpr int MOST_VECTORS = PANEL / FLOATS < 8 ? PANEL / FLOATS : 8;  // for one row

// --- how numbers of a panel become floats -------------------------------------------------------------

struct Float32 {
  static constexpr int bytes = 4;
  static inline __attribute__((always_inline)) Floats load(const char* at) { return *(const Floats*)at; }
};

#if SEQGEN_VECTOR_BYTES == 64
struct Bfloat16 {
  static constexpr int bytes = 2;
  static inline __attribute__((always_inline)) Floats load(const char* at) {
    return (Floats)_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i*)at)), 16);
  }
};
struct Int8 {
  static constexpr int bytes = 1;
  static inline __attribute__((always_inline)) Floats load(const char* at) {
    return (Floats)_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i*)at)));
  }
};
#elif SEQGEN_VECTOR_BYTES == 32
struct Bfloat16 {
  static constexpr int bytes = 2;
  static inline __attribute__((always_inline)) Floats load(const char* at) {
    return (Floats)_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i*)at)), 16);
  }
};
struct Int8 {
  static constexpr int bytes = 1;
  static inline __attribute__((always_inline)) Floats load(const char* at) {
    return (Floats)_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i*)at)));
  }
};
#else
struct Bfloat16 {
  static constexpr int bytes = 2;
  static inline Floats load(const char* at) {
    Floats x;
    for (int i = 0; i < FLOATS; i++) x[i] = widen(((const bfloat16*)at)[i]);
    return x;
  }
};
struct Int8 {
  static constexpr int bytes = 1;
  static inline Floats load(const char* at) {
    Floats x;
    for (int i = 0; i < FLOATS; i++) x[i] = ((const int8_t*)at)[i];
    return x;
  }
};
#endif

// --- tiles of floats ----------------------------------------------------------------------------------

// to[r, n] = Σ_k x[r, k] a[k, n] for ROWS rows and VECTORS vectors, from the first of a stripe on.
template <class Number, int ROWS, int VECTORS>
inline __attribute__((always_inline)) void tile(const char* a, const float* x, int64_t x_row, int64_t K, float* to) {
  constexpr int each = STRIPE / FLOATS;  // vectors of a stripe
  Floats sums[ROWS][VECTORS];
  for (int r = 0; r < ROWS; r++)
    for (int n = 0; n < VECTORS; n++) sums[r][n] = Floats{};
  for (int64_t k = 0; k < K; k++) {
    Floats right[VECTORS];
    for (int n = 0; n < VECTORS; n++)
      right[n] = Number::load(a + ((n / each * K + k) * STRIPE + n % each * FLOATS) * Number::bytes);
    for (int r = 0; r < ROWS; r++) {
      float left = x[r * x_row + k];
      for (int n = 0; n < VECTORS; n++) sums[r][n] += left * right[n];
    }
  }
  for (int r = 0; r < ROWS; r++)
    for (int n = 0; n < VECTORS; n++) *(Floats*)(to + r * PANEL + n * FLOATS) = sums[r][n];
}

template <class Number, int ROWS>
void rows_of_tile(const char* a, const float* x, int64_t x_row, int64_t K, float* to) {
  constexpr int outputs = (ROWS == 1 ? MOST_VECTORS : WIDE) * FLOATS;
  for (int n = 0; n < PANEL; n += outputs)
    tile<Number, ROWS, outputs / FLOATS>(a + n * K * Number::bytes, x, x_row, K, to + n);
}

template <class Number>
void tile_of(int rows, const char* a, const float* x, int64_t x_row, int64_t K, float* to) {
  switch (rows) {
    case 1: return rows_of_tile<Number, 1>(a, x, x_row, K, to);
    case 2: return rows_of_tile<Number, 2>(a, x, x_row, K, to);
#if SEQGEN_VECTOR_BYTES >= 32
    case 3: return rows_of_tile<Number, 3>(a, x, x_row, K, to);
    case 4: return rows_of_tile<Number, 4>(a, x, x_row, K, to);
    case 5: return rows_of_tile<Number, 5>(a, x, x_row, K, to);
#endif
    default: return rows_of_tile<Number, TILE>(a, x, x_row, K, to);
  }
}

// --- rows against a matrix ---------------------------------------------------------------------------

// Panels begin … end - 1 of y [B, y_row] = A x + bias.
template <class Number>
void float_panels(const Linear& A, const float* x, int64_t B, int64_t begin, int64_t end, float* y, int64_t y_row,
                  Finish finish) {
  alignas(64) float sums[TILE * PANEL];
  int64_t most = even_share(B, TILE);
  for (int64_t p = begin; p < end; p++) {
    int columns = A.M - p * PANEL < PANEL ? A.M - p * PANEL : PANEL;
    const float *bias = A.bias + p * PANEL, *scale = A.scale ? A.scale + p * PANEL : nullptr;
    for (int64_t b = 0; b < B; b += most) {
      int rows = B - b < most ? B - b : most;
      tile_of<Number>(rows, A.data + p * A.K * PANEL * Number::bytes, x + b * A.K, A.K, A.K, sums);
      for (int r = 0; r < rows; r++)
        finish_panel(sums + r * PANEL, scale, bias, finish, columns, y + (b + r) * y_row + p * PANEL);
    }
  }
}

}  // namespace SEQGEN_ISA
}  // namespace seqgen
