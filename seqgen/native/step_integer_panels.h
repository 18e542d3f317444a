// Products of matrices and rows in whole numbers (w8a8). Included once for each set of instructions, by
// step_kernel.h.

namespace seqgen {
namespace SEQGEN_ISA {

// --- tiles of integers --------------------------------------------------------------------------------

// Four inputs at a time, as one number of 32 bits each; activations are signed or, where the instruction
// wants that, shifted by 128 into the unsigned ones. Products of signed bytes with one sign taken over to
// the other stay below 2 * 127 * 127 in pairs, which 16 bits hold: nothing saturates.
#if SEQGEN_VNNI
typedef int32_t Integers __attribute__((vector_size(64), aligned(4), may_alias));
constexpr int SHIFT = 128;
inline __attribute__((always_inline)) Integers add_products(Integers sums, Integers x, Integers a) {
  return (Integers)_mm512_dpbusd_epi32((__m512i)sums, (__m512i)x, (__m512i)a);
}
#elif SEQGEN_VECTOR_BYTES >= 32
typedef int32_t Integers __attribute__((vector_size(32), aligned(4), may_alias));
constexpr int SHIFT = 0;
inline __attribute__((always_inline)) Integers add_products(Integers sums, Integers x, Integers a) {
  __m256i pairs = _mm256_maddubs_epi16(_mm256_abs_epi8((__m256i)x), _mm256_sign_epi8((__m256i)a, (__m256i)x));
  return sums + (Integers)_mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
}
#else
typedef int32_t Integers __attribute__((vector_size(16), aligned(4), may_alias));
constexpr int SHIFT = 0;
inline Integers add_products(Integers sums, Integers x, Integers a) {
  const int8_t *left = (const int8_t*)&x, *right = (const int8_t*)&a;
  for (int i = 0; i < 4; i++)
    for (int j = 0; j < 4; j++) sums[i] += left[4 * i + j] * right[4 * i + j];
  return sums;
}
#endif
typedef int32_t FourBytes __attribute__((aligned(1), may_alias));
constexpr int INTEGERS = sizeof(Integers) / 4;
// What the registers hold: rows at a time, and vectors of outputs, of whole stripes.
constexpr int INTEGER_TILE = SEQGEN_VNNI ? 6 : 4;
constexpr int INTEGER_WIDE = INTEGERS == 8 ? 2 : 4;

template <int ROWS, int VECTORS>
inline __attribute__((always_inline)) void integer_tile(const char* a, const int8_t* x, int64_t x_row, int64_t K4,
                                                        const int32_t* a_sums, int32_t* to) {
  constexpr int each = STRIPE / INTEGERS;  // vectors of a stripe
  Integers sums[ROWS][VECTORS];
  for (int r = 0; r < ROWS; r++)
    for (int n = 0; n < VECTORS; n++) sums[r][n] = Integers{};
  for (int64_t k = 0; k < K4; k++) {
    Integers right[VECTORS];
    for (int n = 0; n < VECTORS; n++)
      right[n] = *(const Integers*)(a + ((n / each * K4 + k) * STRIPE + n % each * INTEGERS) * 4);
    for (int r = 0; r < ROWS; r++) {
      Integers left = Integers{} + *(const FourBytes*)(x + r * x_row + 4 * k);
      for (int n = 0; n < VECTORS; n++) sums[r][n] = add_products(sums[r][n], left, right[n]);
    }
  }
  for (int r = 0; r < ROWS; r++)
    for (int n = 0; n < VECTORS; n++) {
      int32_t* row = to + r * PANEL + n * INTEGERS;
      *(Integers*)row = sums[r][n];
      for (int i = 0; i < INTEGERS; i++) row[i] -= SHIFT * a_sums[n * INTEGERS + i];
    }
}

template <int ROWS>
void rows_of_integer_tile(const char* a, const int8_t* x, int64_t x_row, int64_t K4, const int32_t* a_sums,
                          int32_t* to) {
  constexpr int vectors = ROWS == 1 && PANEL / INTEGERS < 8 ? PANEL / INTEGERS : ROWS == 1 ? 8 : INTEGER_WIDE;
  for (int n = 0; n < PANEL; n += vectors * INTEGERS)
    integer_tile<ROWS, vectors>(a + n * K4 * 4, x, x_row, K4, a_sums + n, to + n);
}

inline void integer_tile_of(int rows, const char* a, const int8_t* x, int64_t x_row, int64_t K4, const int32_t* a_sums,
                            int32_t* to) {
  switch (rows) {
    case 1: return rows_of_integer_tile<1>(a, x, x_row, K4, a_sums, to);
    case 2: return rows_of_integer_tile<2>(a, x, x_row, K4, a_sums, to);
    case 3: return rows_of_integer_tile<3>(a, x, x_row, K4, a_sums, to);
#if SEQGEN_VNNI
    case 4: return rows_of_integer_tile<4>(a, x, x_row, K4, a_sums, to);
    case 5: return rows_of_integer_tile<5>(a, x, x_row, K4, a_sums, to);
#endif
    default: return rows_of_integer_tile<INTEGER_TILE>(a, x, x_row, K4, a_sums, to);
  }
}

// Many rows against one panel, where four products of bytes are no single instruction: in 16 bits, whose
// products two by two are. The panel is expanded first, in blocks of as many outputs as a vector has lanes,
// which pays for many rows.
#if SEQGEN_VECTOR_BYTES >= 32 && !SEQGEN_VNNI
constexpr bool EXPANDS_INTEGERS = true;
constexpr int SHORT_TILE = 5;
constexpr int MANY_ROWS = 16;

inline void expand_integers(const char* a, int64_t K4, int16_t* to) {
  for (int n = 0; n < PANEL; n += INTEGERS)
    for (int64_t k = 0; k < K4; k++)
      for (int half = 0; half < 2; half++, to += 16) {
        const char* from = a + ((n / STRIPE * K4 + k) * STRIPE + n % STRIPE) * 4 + half * 16;
        *(__m256i_u*)to = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i*)from));
      }
}

template <int ROWS>
void short_tile(const int16_t* a, const int16_t* x, int64_t x_row, int64_t K4, int32_t* to) {
  typedef int64_t FourShorts __attribute__((aligned(2), may_alias));
  for (int n = 0; n < PANEL; n += INTEGERS, a += K4 * 4 * INTEGERS) {
    Integers sums[ROWS][2];
    for (int r = 0; r < ROWS; r++) sums[r][0] = sums[r][1] = Integers{};
    for (int64_t k = 0; k < K4; k++) {
      __m256i right0 = *(const __m256i_u*)(a + k * 32), right1 = *(const __m256i_u*)(a + k * 32 + 16);
      for (int r = 0; r < ROWS; r++) {
        __m256i left = _mm256_set1_epi64x(*(const FourShorts*)(x + r * x_row + 4 * k));
        sums[r][0] += (Integers)_mm256_madd_epi16(left, right0);
        sums[r][1] += (Integers)_mm256_madd_epi16(left, right1);
      }
    }
    for (int r = 0; r < ROWS; r++) {
      __m256i mixed = _mm256_hadd_epi32((__m256i)sums[r][0], (__m256i)sums[r][1]);
      *(Integers*)(to + r * PANEL + n) = (Integers)_mm256_permute4x64_epi64(mixed, 0b11011000);
    }
  }
}

inline void short_tile_of(int rows, const int16_t* a, const int16_t* x, int64_t x_row, int64_t K4, int32_t* to) {
  switch (rows) {
    case 1: return short_tile<1>(a, x, x_row, K4, to);
    case 2: return short_tile<2>(a, x, x_row, K4, to);
    case 3: return short_tile<3>(a, x, x_row, K4, to);
    case 4: return short_tile<4>(a, x, x_row, K4, to);
    default: return short_tile<SHORT_TILE>(a, x, x_row, K4, to);
  }
}
#else
constexpr bool EXPANDS_INTEGERS = false;
constexpr int SHORT_TILE = 1;
constexpr int MANY_ROWS = 1;
inline void expand_integers(const char*, int64_t, int16_t*) {}
inline void short_tile_of(int, const int16_t*, const int16_t*, int64_t, int64_t, int32_t*) {}
#endif

inline bool as_shorts(int64_t B) { return EXPANDS_INTEGERS && B >= MANY_ROWS; }

// Round a row of n numbers to ±127, scaled so that the largest becomes 127; pad to a multiple of 4.
template <class Number>
void quantize(const float* x, int64_t n, int shift, Number* to, float* scale) {
  float largest = 0;
  int32_t strange = 0;  // NaN or infinity is among them, and shall not vanish
  for (int64_t i = 0; i < n; i++) {
    float size = __builtin_fabsf(x[i]);
    largest = size > largest ? size : largest;
    int32_t bits;
    memcpy(&bits, &size, 4);
    strange |= bits >= 0x7f800000;
  }
  float inverse = largest > 0 ? 127.0f / largest : 0.0f;
  *scale = strange ? __builtin_nanf("") : largest / 127.0f;
  for (int64_t i = 0; i < n; i++) {
    float shifted = x[i] * inverse + ROUNDER;
    int32_t bits;
    memcpy(&bits, &shifted, 4);
    to[i] = Number(bits - ROUNDER_BITS + shift);
  }
  for (int64_t i = n; i < rounded_up(n, 4); i++) to[i] = Number(shift);
}

// --- rows against a matrix ---------------------------------------------------------------------------

inline void integer_panels(const Linear& A, const Inputs& in, int64_t B, int64_t begin, int64_t end, int16_t* expanded,
                           float* y, int64_t y_row, Finish finish) {
  constexpr int most = SHORT_TILE > INTEGER_TILE ? SHORT_TILE : INTEGER_TILE;
  alignas(64) int32_t sums[most * PANEL];
  alignas(64) float values[PANEL];
  bool shorts = as_shorts(B);
  int64_t tile = even_share(B, shorts ? SHORT_TILE : INTEGER_TILE);
  int64_t K4 = rounded_up(A.K, 4) / 4;
  for (int64_t p = begin; p < end; p++) {
    const char* a = A.data + p * K4 * 4 * PANEL;
    if (shorts) expand_integers(a, K4, expanded);
    int columns = A.M - p * PANEL < PANEL ? A.M - p * PANEL : PANEL;
    for (int64_t b = 0; b < B; b += tile) {
      int rows = B - b < tile ? B - b : tile;
      if (shorts) short_tile_of(rows, expanded, (const int16_t*)in.quantized + b * in.row, in.row, K4, sums);
      else integer_tile_of(rows, a, (const int8_t*)in.quantized + b * in.row, in.row, K4, A.sums + p * PANEL, sums);
      for (int r = 0; r < rows; r++) {
        for (int n = 0; n < PANEL; n++) values[n] = float(sums[r * PANEL + n]) * in.scale[b + r];
        finish_panel(values, A.scale + p * PANEL, A.bias + p * PANEL, finish, columns, y + (b + r) * y_row + p * PANEL);
      }
    }
  }
}

}  // namespace SEQGEN_ISA
}  // namespace seqgen
