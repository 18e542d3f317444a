#if defined(__x86_64__)

#include <immintrin.h>
#include <stdlib.h>
#include <string.h>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC target("avx2,fma")
#endif

#define SEQGEN_ISA avx2
#define SEQGEN_VECTOR_BYTES 32
#define SEQGEN_VNNI 0
#include "causal_linear_kernel.h"
#include "step_kernel.h"
#include "kernels.h"

namespace seqgen {
const Kernels avx2_kernels = {"avx2", avx2::run_forward, avx2::run_backward, avx2::run_step,
                             avx2::run_heads};
}

#if defined(__clang__)
#pragma clang attribute pop
#endif

#endif
