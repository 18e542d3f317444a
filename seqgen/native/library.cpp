// Registers the compiled operators with PyTorch, through its stable interface: one build of this file
// works with later versions of torch too. The threads are torch's own.

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/util/Exception.h>

#include <initializer_list>
#include <optional>
#include <string>
#include <tuple>

#include "kernels.h"

namespace seqgen {
namespace {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;
using OptionalTensor = std::optional<Tensor>;

// Raised with every change of a signature below; native/__init__.py says which one it was written for.
constexpr int64_t INTERFACE = 6;

std::string instructions() { return kernels().name; }
int64_t interface() { return INTERFACE; }

ScalarType state_type(const Tensor& x) {
  return x.scalar_type() == ScalarType::Double ? ScalarType::Double : ScalarType::Float;
}

// Own what the kernels read: sequences with a contiguous last dimension, states contiguous.
Tensor readable(const Tensor& x) {
  STD_TORCH_CHECK(x.dim() == 4, "causal_linear: q, k, v and their gradients have four dimensions");
  return x.size(3) < 2 || x.stride(3) == 1 ? x : torch::stable::contiguous(x);
}
OptionalTensor readable(const OptionalTensor& x) {
  if (!x) return x;
  return torch::stable::contiguous(*x);
}

const void* data(const OptionalTensor& x) { return x ? x->const_data_ptr() : nullptr; }
Sequence sequence(const Tensor& x) { return {x.data_ptr(), x.stride(0), x.stride(1), x.stride(2)}; }

void check(const Tensor& x, const char* name, ScalarType type, std::initializer_list<int64_t> shape) {
  STD_TORCH_CHECK(x.scalar_type() == type, "causal_linear: ", name, " has another dtype than it should");
  bool fits = x.dim() == int64_t(shape.size());
  for (int64_t i = 0; fits && i < x.dim(); i++) fits = x.size(i) == shape.begin()[i];
  STD_TORCH_CHECK(fits, "causal_linear: ", name, " has another shape than it should");
}

void check_state(const OptionalTensor& S, const OptionalTensor& Z, const Problem& p, ScalarType type) {
  STD_TORCH_CHECK(S.has_value() == Z.has_value(), "causal_linear: S and Z come together");
  if (S) check(*S, "S", type, {p.B, p.H, p.K, p.V});
  if (Z) check(*Z, "Z", type, {p.B, p.H, p.K});
}

// What both directions are given. The tensors must outlive the problem.
Problem problem(const Tensor& q, const Tensor& k, const Tensor& v, const OptionalTensor& lengths,
                const OptionalTensor& boundaries, const OptionalTensor& S, const OptionalTensor& Z,
                const OptionalTensor& decay, double eps, int64_t feature_map) {
  Problem p{};
  p.B = q.size(0), p.T = q.size(1), p.H = q.size(2), p.K = q.size(3), p.V = v.size(3);
  STD_TORCH_CHECK(p.K > 0 && p.V > 0, "causal_linear: heads have a width");
  ScalarType type = q.scalar_type();
  STD_TORCH_CHECK(type == ScalarType::Float || type == ScalarType::Double || type == ScalarType::BFloat16,
                  "causal_linear: q, k and v are float32, float64 or bfloat16");
  check(k, "k", type, {p.B, p.T, p.H, p.K});
  check(v, "v", type, {p.B, p.T, p.H, p.V});
  if (lengths) check(*lengths, "lengths", ScalarType::Long, {p.B});
  if (boundaries) check(*boundaries, "boundaries", ScalarType::Bool, {p.B, p.T});
  check_state(S, Z, p, state_type(q));
  if (decay) check(*decay, "decay", ScalarType::Double, {p.H});
  STD_TORCH_CHECK(feature_map == 0 || feature_map == 1, "causal_linear: no such feature map");
  p.dtype = type == ScalarType::Float ? Dtype::float32 : type == ScalarType::Double ? Dtype::float64 : Dtype::bfloat16;
  p.feature_map = FeatureMap(feature_map);
  p.eps = eps;
  p.q = sequence(q), p.k = sequence(k), p.v = sequence(v);
  p.lengths = (const int64_t*)data(lengths);
  p.boundaries = (const bool*)data(boundaries);
  p.initial_S = data(S), p.initial_Z = data(Z), p.decay = (const double*)data(decay);
  return p;
}

void run(Run part, const Problem& p) {
  torch::stable::parallel_for(0, p.B * p.H, 1, [&](int64_t begin, int64_t end) { part(p, begin, end); });
}

std::tuple<Tensor, Tensor, Tensor> causal_linear(Tensor q, Tensor k, Tensor v, OptionalTensor lengths,
                                                 OptionalTensor boundaries, OptionalTensor S, OptionalTensor Z,
                                                 OptionalTensor decay, double eps, int64_t feature_map) {
  q = readable(q), k = readable(k), v = readable(v);
  lengths = readable(lengths), boundaries = readable(boundaries), S = readable(S), Z = readable(Z);
  decay = readable(decay);
  Problem p = problem(q, k, v, lengths, boundaries, S, Z, decay, eps, feature_map);
  Tensor out = torch::stable::new_empty(v, {p.B, p.T, p.H, p.V});
  Tensor S_end = torch::stable::new_empty(v, {p.B, p.H, p.K, p.V}, state_type(q));
  Tensor Z_end = torch::stable::new_empty(v, {p.B, p.H, p.K}, state_type(q));
  p.out = sequence(out), p.S = S_end.data_ptr(), p.Z = Z_end.data_ptr();
  run(kernels().forward, p);
  return {out, S_end, Z_end};
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> causal_linear_backward(
    Tensor out_gradient, OptionalTensor S_gradient, OptionalTensor Z_gradient, Tensor q, Tensor k, Tensor v,
    OptionalTensor lengths, OptionalTensor boundaries, OptionalTensor S, OptionalTensor Z, OptionalTensor decay,
    double eps, int64_t feature_map, bool learns_decay) {
  q = readable(q), k = readable(k), v = readable(v);
  lengths = readable(lengths), boundaries = readable(boundaries), S = readable(S), Z = readable(Z);
  decay = readable(decay);
  out_gradient = readable(out_gradient), S_gradient = readable(S_gradient), Z_gradient = readable(Z_gradient);
  Problem p = problem(q, k, v, lengths, boundaries, S, Z, decay, eps, feature_map);
  STD_TORCH_CHECK(decay || !learns_decay, "causal_linear: there is no decay to learn");
  check(out_gradient, "the gradient of out", v.scalar_type(), {p.B, p.T, p.H, p.V});
  if (S_gradient) check(*S_gradient, "the gradient of S", state_type(q), {p.B, p.H, p.K, p.V});
  if (Z_gradient) check(*Z_gradient, "the gradient of Z", state_type(q), {p.B, p.H, p.K});
  Tensor dq = torch::stable::new_empty(q, {p.B, p.T, p.H, p.K});
  Tensor dk = torch::stable::new_empty(k, {p.B, p.T, p.H, p.K});
  Tensor dv = torch::stable::new_empty(v, {p.B, p.T, p.H, p.V});
  Tensor dS = torch::stable::new_empty(v, {p.B, p.H, p.K, p.V}, state_type(q));
  Tensor dZ = torch::stable::new_empty(v, {p.B, p.H, p.K}, state_type(q));
  p.out_gradient = sequence(out_gradient), p.S_gradient = data(S_gradient), p.Z_gradient = data(Z_gradient);
  p.q_gradient = sequence(dq), p.k_gradient = sequence(dk), p.v_gradient = sequence(dv);
  p.initial_S_gradient = dS.data_ptr(), p.initial_Z_gradient = dZ.data_ptr();
  Tensor of_decay = torch::stable::new_empty(v, {learns_decay ? p.B : 0, p.H}, ScalarType::Double);
  if (learns_decay) p.log_decay_gradient = (double*)of_decay.data_ptr();
  run(kernels().backward, p);
  return {dq, dk, dv, dS, dZ, of_decay};
}

}  // namespace

STABLE_TORCH_LIBRARY(seqgen, m) {
  m.def("interface() -> int");
  m.def("instructions() -> str");
  m.def(
      "causal_linear(Tensor q, Tensor k, Tensor v, Tensor? lengths, Tensor? boundaries, Tensor? S, Tensor? Z,"
      " Tensor? decay, float eps, int feature_map) -> (Tensor, Tensor, Tensor)");
  m.def(
      "causal_linear_backward(Tensor out_gradient, Tensor? S_gradient, Tensor? Z_gradient, Tensor q, Tensor k,"
      " Tensor v, Tensor? lengths, Tensor? boundaries, Tensor? S, Tensor? Z, Tensor? decay, float eps,"
      " int feature_map, bool learns_decay) -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)");
}

STABLE_TORCH_LIBRARY_IMPL(seqgen, CompositeExplicitAutograd, m) {
  m.impl("interface", TORCH_BOX(&interface));
  m.impl("instructions", TORCH_BOX(&instructions));
}

STABLE_TORCH_LIBRARY_IMPL(seqgen, CPU, m) {
  m.impl("causal_linear", TORCH_BOX(&causal_linear));
  m.impl("causal_linear_backward", TORCH_BOX(&causal_linear_backward));
}

}  // namespace seqgen
