#define SEQGEN_ISA baseline
#define SEQGEN_VECTOR_BYTES 16
#include "causal_linear_kernel.h"

namespace seqgen {
const Kernels baseline_kernels = {"baseline", baseline::run_forward, baseline::run_backward};
}
