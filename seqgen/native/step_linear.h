// y = A x + bias for the rows of a batch, in the four formats that weights are kept in. Included once for
// each set of instructions, by step_kernel.h.
//
// Every output is summed over its inputs one after the other, in a lane of its own: a row's outputs are
// the same, to the last bit, however many rows and threads there are. Sums of integers are exact anyway.

namespace seqgen {
namespace SEQGEN_ISA {

// The inputs of a product: floats [B, ·], or for w8a8 whole numbers [B, ·] with a scale for each row, in
// 8 bits or (as_shorts) in 16.
struct Inputs {
  const float* x;
  const void* quantized;
  const float* scale;
  int64_t row;  // from one row of `quantized` to the next
};

// Rows of one tile, at most `most`, where n rows are divided evenly.
inline int64_t even_share(int64_t n, int64_t most) {
  int64_t tiles = (n + most - 1) / most;
  return (n + tiles - 1) / tiles;
}

enum class Finish { nothing, relu, gelu };

// to = finish(values * scale + bias) for the columns of one panel; scale: null for 1.
inline void finish_panel(float* values, const float* scale, const float* bias, Finish finish, int columns, float* to) {
  for (int n = 0; n < PANEL; n += FLOATS) {
    Floats x = *(Floats*)(values + n);
    x = scale ? x * *(const Floats*)(scale + n) + *(const Floats*)(bias + n) : x + *(const Floats*)(bias + n);
    if (finish == Finish::relu) x = x < 0.0f ? Floats{} : x;  // NaN stays
    if (finish == Finish::gelu) x = gelu(x);
    *(Floats*)(values + n) = x;
  }
  memcpy(to, values, columns * sizeof(float));
}

}  // namespace SEQGEN_ISA
}  // namespace seqgen

#include "step_float_panels.h"
#include "step_integer_panels.h"

namespace seqgen {
namespace SEQGEN_ISA {

inline void multiply_panels(Format format, const Linear& A, const Inputs& in, int64_t B, int64_t begin, int64_t end,
                            int16_t* expanded, float* y, int64_t y_row, Finish finish) {
  if (format == Format::float32) float_panels<Float32>(A, in.x, B, begin, end, y, y_row, finish);
  if (format == Format::bf16) float_panels<Bfloat16>(A, in.x, B, begin, end, y, y_row, finish);
  if (format == Format::int8) float_panels<Int8>(A, in.x, B, begin, end, y, y_row, finish);
  if (format == Format::w8a8) integer_panels(A, in, B, begin, end, expanded, y, y_row, finish);
}

}  // namespace SEQGEN_ISA
}  // namespace seqgen
