#define SEQGEN_ISA baseline
#define SEQGEN_VECTOR_BYTES 16
#define SEQGEN_VNNI 0
#include "causal_linear_kernel.h"
#include "step_kernel.h"
#include "kernels.h"

namespace seqgen {
const Kernels baseline_kernels = {"baseline", baseline::run_forward, baseline::run_backward, baseline::run_step,
                             baseline::run_heads};
}
