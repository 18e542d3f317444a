// The forward pass of the kernels. Included by causal_linear_kernel.h.

namespace seqgen {
namespace SEQGEN_ISA {

template <class Scalar, class Real, FeatureMap map>
void forward(const Problem& p, int64_t begin, int64_t end) {
  const int K = padded<Real>(p.K), V = padded<Real>(p.V);
  Workspace space(sizeof(Real) * (size_t(3 * CHUNK) * K + 2 * CHUNK * V + K * V + K + CHUNK * CHUNK) + 64 * 10);
  Matrix<Real> q = space.matrix<Real>(CHUNK, K), k = space.matrix<Real>(CHUNK, K), kT = space.matrix<Real>(K, CHUNK),
               v = space.matrix<Real>(CHUNK, V), out = space.matrix<Real>(CHUNK, V), S = space.matrix<Real>(K, V),
               Z = space.matrix<Real>(1, K), scores = space.matrix<Real>(CHUNK, CHUNK);
  Decays<Real> decays;
  Real scale[CHUNK];
  for (int64_t head = begin; head < end; head++) {
    const int64_t b = head / p.H, h = head % p.H, length = valid_length(p, b);
    Line<Scalar> q_line(p.q, b, h), k_line(p.k, b, h), v_line(p.v, b, h), out_line(p.out, b, h);
    decays.set_head(p, h);
    clear(S, K), clear(Z, 1);
    copy_in(p.initial_S, S, head, p.K, p.V);
    copy_in(p.initial_Z, Z, head, 1, p.K);
    for (int64_t t0 = 0, t1; t0 < p.T; t0 = t1) {
      t1 = chunk_end(p, b, t0);
      if (is_boundary(p, b, t0)) clear(S, K), clear(Z, 1);
      const int64_t valid = t1 < length ? t1 : length;
      load<map>(q_line, t0, t1, p.K, q, CHUNK);
      load<map>(k_line, t0, valid, p.K, k, CHUNK);
      load<FeatureMap::none>(v_line, t0, valid, p.V, v, CHUNK);
      decays.set_chunk(t0, t1, length);
      transpose(k, kT, CHUNK, K);
      causal_products<Real>(q, kT, nullptr, decays, scores, K);
      for (int t = 0; t < t1 - t0; t++)
        scale[t] = 1 / advance(Z.data, decays.of(t), k.data + t * k.row, q.data + t * q.row, K, p.eps);
      multiply<Real>(scores, v, out, CHUNK, V, CHUNK, Sum::up_to_row, 0);
      if (decays) scale_rows(q, decays.since_begin, K), scale_rows(k, decays.until_end(), K);
      multiply<Real>(q, S, out, CHUNK, V, K, Sum::all, 1);
      for (int t = 0; t < t1 - t0; t++) {
        Real* row = out.data + t * out.row;
        for (int i = 0; i < V; i++) row[i] *= scale[t];
        store(row, out_line.data + (t0 + t) * out_line.step, p.V);
      }
      multiply(k.transposed(), v, S, K, V, CHUNK, Sum::all, decays.of_chunk());
    }
    copy_out(S, p.S, head, p.K, p.V);
    copy_out(Z, p.Z, head, 1, p.K);
  }
}

}  // namespace SEQGEN_ISA
}  // namespace seqgen
