// What a whole decode step is given: the same for all sets of instructions. step_kernel.h holds the one
// source of it.
//
// Legend: L layers, C slots, B rows, F fields, D model width, H heads, d width of a head, K features of a
// head, W convolution width, M rows of a matrix (its outputs), N = sum of the vocabularies of all fields, G groups of
// marks.

#pragma once

#include <cstddef>
#include <cstdint>

namespace seqgen {

constexpr int PANEL = 64;   // outputs that one thread computes at a time
constexpr int STRIPE = 16;  // outputs that lie side by side
constexpr int MAX_FIELDS = 32;
constexpr int MAX_FEATURES = 1024;  // of a head
constexpr int MAX_REGISTERS = 8;    // of a grammar

enum class Format { float32 = 0, bf16 = 1, int8 = 2, w8a8 = 3 };
enum class Activation { relu = 0, gelu = 1 };
enum class Features { elu_plus_one = 0, relu = 1, dpfp = 2, hedgehog = 3 };
enum class Positions { none = 0, sinusoidal = 1, learned = 2, anchored = 3 };

// A model's sizes and choices, as Python lays them out in one tensor of int64 (decoding/native.py).
struct Shape {
  int64_t D, L, H, d_ff, W, max_positions, decay_after;
  Format format;
  Activation activation;
  Features features;
  Positions positions;
  int64_t G, marks;  // groups of marks that stay in force, and how many there are, none of them (0) included
  int64_t F;
  int64_t field[MAX_FIELDS];  // ids per field

  int64_t d, K, N, recent;  // d = D / H; features K; N = sum of the fields; recent = W - 1, or 0
};

static inline int64_t rounded_up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

// y = A x + bias with A [M, K] in stripes of outputs: [M / STRIPE][K][STRIPE] numbers, for w8a8
// [M / STRIPE][K / 4][STRIPE][4]. Outputs are padded to whole panels, and w8a8's inputs to fours.
struct Linear {
  int64_t M, K, panels;
  const char* data;
  const float* scale;     // [M]: int8 and w8a8
  const int32_t* sums;    // [M], of a row's numbers: w8a8
  const float* bias;      // [M]
};

struct Norm {
  const float *weight, *bias;  // [D]
};

struct Layer {
  Linear qkv, out;  // queries, keys and values of all heads one after the other
  Norm attention_norm;
  Linear up, down;
  Norm feed_forward_norm;
};

struct Embedding {
  const float* tables[MAX_FIELDS];  // [field, D]
  const float* positions;           // learned [max_positions, D], or the frequencies of sines [D / 2]
  const bool* is_anchor;            // where the index begins anew, for each id of the first field
  const int32_t* holds;             // what ids of the first field put in force [field[0], G]; -1: what was
  const float *marks, *mark_logits;  // added before the layers [marks, D] and after them [marks, N]
  Linear convolution;               // from W embeddings, oldest first, if W > 0
};

// Reads what a model consists of, one block after the other; each begins at a multiple of 64 bytes.
class Weights {
 public:
  Weights(const char* begin, const Shape& shape);
  Embedding embedding();
  Layer layer();                              // L times
  Norm norm();                                // the last one
  Linear linear(int64_t M, int64_t K);        // the output heads of all fields side by side
  int64_t used() const;

 private:
  const char* take(int64_t bytes);
  const float* floats(int64_t n);
  const char *begin_, *at_;
  const Shape& shape_;
};

// What a sampler keeps of the streams in its slots (sampling/sampler.py and rules.py say what each is).
struct Sampling {
  int64_t slots, groups, ring, eos;
  const float* settings;  // [slots, F, 7]; null: nothing is drawn
  const int64_t* top_k;   // [slots, F]
  bool* seen;
  int32_t* counts;
  const float* bias;  // or null
  int64_t* previous;
  bool* has_unit;
  const double* numbers;
  int64_t* drawn;
  const bool* allowed;
  const int64_t* last_group;
  const bool* completes_unit;
  int64_t n_registers;       // of the grammar
  int32_t* registers;        // [slots, n_registers]
  const int32_t *bounds, *changes;  // [n_registers, N]
  const bool* uses;          // whether a field means something with an id of the first [field[0], F]
  const int64_t* fills;      // what it holds otherwise [field[0]]
  const float* chain;        // what ids add to logits of later fields [N - the last, N - field[0]], or null
  double* log_likelihood;  // or null
};

struct Step {
  Shape shape;
  const char* weights;
  int64_t C, B;
  const int64_t* slots;    // [B], all different
  const int64_t* tokens;   // [B, F]
  float *S, *Z;            // [L, C, H, K, d], [L, C, H, K]
  const float* decay;      // of each layer's heads [L, H]; null: 1
  float* recent;           // [C, W - 1, D]
  int64_t *position, *origin;  // [C]
  int64_t* held;           // marks in force [C, G]
  float* logits;           // [B, N], fields side by side
  Sampling sampling;
  int64_t* drawn;          // [B, F], with sampling
  char* scratch;           // of scratch_bytes()
  int threads;
};

// Where the parts of a step keep what they compute: offsets in bytes, and from one thread's copy to the next.
struct Scratch {
  int64_t x, wide, qkv, attended, y;
  int64_t panel, quantized, scale, work;
  int64_t panel_copy, quantized_copy, scale_copy, work_copy;
  int64_t bytes;
  bool shared;  // rows are split among threads; else each computes all rows for itself
};

Scratch lay_out(const Shape& shape, int64_t B, int threads);

// Threads that wait for each other.
struct Team {
  int size;
  int arrived = 0, turn = 0;
  void wait();
};

// Wait until a number is another than this one, and return it.
int wait_for_other(const int* number, int than);

using RunStep = void (*)(const Step&, const Scratch&, Team&, int me);
using RunHeads = void (*)(const Step&, int64_t layer, const float* qkv, float* attended, int64_t begin, int64_t end);

// Draw the token of row b; `work` has room for 4 N floats.
void draw_row(const Step& step, int64_t b, float* work, void (*exponentials)(float*, int64_t));


}  // namespace seqgen
