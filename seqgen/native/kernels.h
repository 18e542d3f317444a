// The compiled kernels, once for each set of instructions, and the choice among them.

#pragma once

#include "causal_linear.h"
#include "step.h"

namespace seqgen {

struct Kernels {
  const char* name;
  Run forward, backward;  // of causal linear attention
  RunStep step;           // one thread's part of a decode step
  RunHeads heads;         // its attention alone
};

extern const Kernels baseline_kernels, avx2_kernels, avx512_kernels, avx512_vnni_kernels;

// Those with the widest instructions of this processor; SEQGEN_CPU asks for less.
const Kernels& kernels();

}  // namespace seqgen
