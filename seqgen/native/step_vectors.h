// Vectors of floats, and what is computed with them. Included once for each set of instructions, by
// step_kernel.h.

namespace seqgen {
namespace SEQGEN_ISA {

typedef VectorOf<float>::type Floats;
constexpr int FLOATS = LANES<float>;

constexpr float ROUNDER = 12582912.0f;  // 1.5 * 2^23: added to a number, it leaves no room for fractions
constexpr int32_t ROUNDER_BITS = 0x4b400000;

typedef int32_t Bits __attribute__((vector_size(SEQGEN_VECTOR_BYTES), aligned(4), may_alias));

// e^x for x ≤ 0, as exp_of_negative in causal_linear_matrix.h, for vectors.
inline __attribute__((always_inline)) Floats exponential(Floats x) {
  Floats clamped = x < -87.0f ? Floats{} - 87.0f : x;
  Floats shifted = clamped * 1.44269504f + ROUNDER;
  Floats n = shifted - ROUNDER;
  Floats r = clamped - n * 0.693359375f + n * 2.12194440e-4f;
  Floats p = r * 1.98756915e-4f + 1.39819995e-3f;
  p = p * r + 8.33345190e-3f;
  p = p * r + 4.16657959e-2f;
  p = p * r + 1.66666655e-1f;
  p = p * r + 5.00000012e-1f;
  p = p * r * r + r + 1.0f;
  Bits exponent = (Bits)shifted - ROUNDER_BITS + 127;
  return x < -87.0f ? Floats{} : p * (Floats)(exponent << 23);
}

// x Φ(x), with the error function to 1.5e-7 (Abramowitz and Stegun 1964, 7.1.26).
inline __attribute__((always_inline)) Floats gelu(Floats x) {
  Floats scaled = x * 0.70710678f;
  Floats size = scaled < 0.0f ? -scaled : scaled;
  Floats t = 1.0f / (1.0f + 0.3275911f * size);
  Floats p = ((((1.061405429f * t - 1.453152027f) * t + 1.421413741f) * t - 0.284496736f) * t + 0.254829592f) * t;
  Floats tail = 0.5f * p * exponential(-size * size);
  return x * (x < 0.0f ? tail : 1.0f - tail);
}

}  // namespace SEQGEN_ISA
}  // namespace seqgen
