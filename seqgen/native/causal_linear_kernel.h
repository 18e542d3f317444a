// Causal linear attention over chunks of positions, forward and backward. Included once for each set
// of instructions, with SEQGEN_ISA (a namespace) and SEQGEN_VECTOR_BYTES defined.
//
// With φ(q), φ(k) the queries and keys after the feature map (Katharopoulos et al. 2020, equations
// 9 to 15), and a gradient g of the output:
//
//   S_t = γ S_{t-1} + φ(k_t) v_tᵀ   Z_t = γ Z_{t-1} + φ(k_t)   n_t = φ(q_t)·Z_t + eps
//   out_t = S_tᵀ φ(q_t) / n_t
//
//   w_t  = g_t / n_t                u_t = S_t w_t              d_t = -φ(q_t)·u_t / n_t
//   dφ(q_t) = u_t + d_t Z_t
//   R_t = γ R_{t+1} + φ(q_t) w_tᵀ   r_t = γ r_{t+1} + d_t φ(q_t)   (from the gradients of S and Z on)
//   dφ(k_t) = R_t v_t + r_t         dv_t = R_tᵀ φ(k_t)
//
// γ is 1, or the decay of the head; at and after a row's length it is 1. The gradient of ln γ is Σ_t G_t over the
// valid positions, with G_t = γ (R_t·S_{t-1} + r_t·Z_{t-1}), products summed over all elements. Since γ R_t·S_{t-1}
// = R_t·(S_t - φ(k_t) v_tᵀ), and R_t·S_t = φ(q_t)·S_t w_t + γ R_{t+1}·S_t, and likewise for r and Z,
//
//   G_t = G_{t+1} + φ(q_t)·dφ(q_t) - φ(k_t)·dφ(k_t)       φ(q_t)·dφ(q_t) = -eps d_t
//
// from what S and Z after the last position and their gradients give. So the sums before each position are not
// needed. Powers of γ are those from one position of a chunk to a later one: no number grows, none is divided by.
//
// The backward pass goes over the sequence twice, forwards for S and backwards for R, and keeps two
// numbers for each position between the two: nothing is stored by the forward pass.
//
// No function of the standard library is instantiated here: the linker would keep one copy for all
// sets of instructions, perhaps the one that this processor does not have.

#include <stdlib.h>
#include <string.h>

#include "causal_linear.h"
// In this order: each builds on the ones before.
#include "causal_linear_matrix.h"
#include "causal_linear_line.h"
#include "causal_linear_forward.h"
#include "causal_linear_backward.h"

namespace seqgen {
namespace SEQGEN_ISA {

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
  if (p.feature_map == FeatureMap::none) forward_of<FeatureMap::none>(p, begin, end);
  if (p.feature_map == FeatureMap::elu_plus_one) forward_of<FeatureMap::elu_plus_one>(p, begin, end);
}

void run_backward(const Problem& p, int64_t begin, int64_t end) {
  if (p.feature_map == FeatureMap::none) backward_of<FeatureMap::none>(p, begin, end);
  if (p.feature_map == FeatureMap::elu_plus_one) backward_of<FeatureMap::elu_plus_one>(p, begin, end);
}

}  // namespace SEQGEN_ISA
}  // namespace seqgen
