#include "kernels.h"

#include <stdlib.h>
#include <string.h>

#include <torch/headeronly/util/Exception.h>

namespace seqgen {
namespace {

const char* const NAMES[] = {"baseline", "avx2", "avx512", "avx512_vnni"};

// How far down NAMES this processor goes.
int widest() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return 0;
  if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512dq") ||
      !__builtin_cpu_supports("avx512bw") || !__builtin_cpu_supports("avx512vl"))
    return 1;
  return __builtin_cpu_supports("avx512vnni") ? 3 : 2;
#else
  return 0;
#endif
}

const Kernels& choose_kernels() {
  int chosen = widest();
  const char* asked = getenv("SEQGEN_CPU");
  if (asked && *asked) {
    int most = -1;
    for (int i = 0; i < 4; i++)
      if (!strcmp(asked, NAMES[i])) most = i;
    STD_TORCH_CHECK(most >= 0, "SEQGEN_CPU=", asked, ": known are avx512_vnni, avx512, avx2 and baseline");
    chosen = most < chosen ? most : chosen;
  }
#if defined(__x86_64__)
  if (chosen == 3) return avx512_vnni_kernels;
  if (chosen == 2) return avx512_kernels;
  if (chosen == 1) return avx2_kernels;
#endif
  return baseline_kernels;
}

}  // namespace

const Kernels& kernels() {
  static const Kernels& chosen = choose_kernels();
  return chosen;
}

}  // namespace seqgen
