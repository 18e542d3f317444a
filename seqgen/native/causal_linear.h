// What the compiled forms of causal linear attention are given. They differ in the instructions they
// use and mean the same; causal_linear_kernel.h holds the one source of all of them.
//
// Legend: B rows, T positions, H heads, K key width, V value width.

#pragma once

#include <cstdint>

namespace seqgen {

enum class Dtype { float32, float64, bfloat16 };
enum class FeatureMap { none = 0, elu_plus_one = 1 };

// A tensor [B, T, H, ·] whose last dimension is contiguous.
struct Sequence {
  void* data;
  int64_t row_stride, position_stride, head_stride;
};

// Tensors of state [B, H, ·] are contiguous, in float32 or, for float64 inputs, in float64.
struct Problem {
  int64_t B, T, H, K, V;
  Dtype dtype;  // of all sequences
  FeatureMap feature_map;
  double eps;
  Sequence q, k, v;
  const int64_t* lengths;                  // [B], or null: every position counts
  const bool* boundaries;                  // [B, T], true where a segment begins; null: nowhere
  const void *initial_S, *initial_Z;       // both null: zeros
  const double* decay;                     // γ of each head [H]; null: 1
  Sequence out;                            // forward: result; unused in backward
  void *S, *Z;                             // forward: results
  Sequence out_gradient;                   // backward: given
  const void *S_gradient, *Z_gradient;     // backward: given; null: zeros
  Sequence q_gradient, k_gradient, v_gradient;      // backward: results
  void *initial_S_gradient, *initial_Z_gradient;    // backward: results, or null: not wanted
  double* log_decay_gradient;              // backward: result [B, H], of ln γ; null: not wanted
};

// One head of one row after the other: those numbered begin … end - 1 of B * H.
using Run = void (*)(const Problem&, int64_t begin, int64_t end);


}  // namespace seqgen
