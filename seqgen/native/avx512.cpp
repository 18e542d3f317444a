#if defined(__x86_64__)

#include <immintrin.h>
#include <stdlib.h>
#include <string.h>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma"))), apply_to = function)
#else
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,prefer-vector-width=512")
#endif

#define SEQGEN_ISA avx512
#define SEQGEN_VECTOR_BYTES 64
#define SEQGEN_VNNI 0
#include "causal_linear_kernel.h"
#include "step_kernel.h"
#include "kernels.h"

namespace seqgen {
const Kernels avx512_kernels = {"avx512", avx512::run_forward, avx512::run_backward, avx512::run_step,
                             avx512::run_heads};
}

#if defined(__clang__)
#pragma clang attribute pop
#endif

#endif
