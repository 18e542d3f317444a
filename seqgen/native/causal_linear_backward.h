// The backward pass of the kernels. Included by causal_linear_kernel.h.

namespace seqgen {
namespace SEQGEN_ISA {

template <class Scalar, class Real, FeatureMap map>
class Backward {
 public:
  explicit Backward(const Problem& p)
      : p_(p),
        K(padded<Real>(p.K)),
        V(padded<Real>(p.V)),
        n_kept_(p.T + CHUNK),
        space_(sizeof(Real) * (size_t(6 * CHUNK) * K + 4 * CHUNK * V + 3 * K * V + 2 * K + 2 * CHUNK * CHUNK +
                               2 * n_kept_) + sizeof(int64_t) * p.T +
               64 * 24),
        q(space_.matrix<Real>(CHUNK, K)),
        k(space_.matrix<Real>(CHUNK, K)),
        kT(space_.matrix<Real>(K, CHUNK)),
        Z_at(space_.matrix<Real>(CHUNK, K)),
        dq(space_.matrix<Real>(CHUNK, K)),
        dk(space_.matrix<Real>(CHUNK, K)),
        v(space_.matrix<Real>(CHUNK, V)),
        vT(space_.matrix<Real>(V, CHUNK)),
        w(space_.matrix<Real>(CHUNK, V)),
        dv(space_.matrix<Real>(CHUNK, V)),
        ST(space_.matrix<Real>(V, K)),
        R(space_.matrix<Real>(K, V)),
        RT(space_.matrix<Real>(V, K)),
        Z(space_.matrix<Real>(1, K)),
        r(space_.matrix<Real>(1, K)),
        scores(space_.matrix<Real>(CHUNK, CHUNK)),
        value_scores(space_.matrix<Real>(CHUNK, CHUNK)),
        norms(space_.matrix<Real>(1, n_kept_)),
        slopes(space_.matrix<Real>(1, n_kept_)),
        begins_(space_.matrix<int64_t>(1, p.T).data) {}

  void run(int64_t head) {
    const int64_t b = head / p_.H, h = head % p_.H, length = valid_length(p_, b);
    decays_.set_head(p_, h);
    clear(ST, V), clear(Z, 1), clear(R, K), clear(r, 1);
    copy_in(p_.initial_S, ST.transposed(), head, p_.K, p_.V);
    copy_in(p_.initial_Z, Z, head, 1, p_.K);
    int64_t n_chunks = 0;
    for (int64_t t0 = 0, t1; t0 < p_.T; t0 = t1) {
      t1 = chunk_end(p_, b, t0);
      begins_[n_chunks++] = t0;
      if (is_boundary(p_, b, t0)) clear(ST, V), clear(Z, 1);
      query_gradients(b, h, t0, t1, length);
    }
    copy_in(p_.S_gradient, R, head, p_.K, p_.V);
    copy_in(p_.Z_gradient, r, head, 1, p_.K);
    of_decay_ = sum_of_decays_ = 0;
    if (p_.log_decay_gradient && p_.S_gradient) of_final_S();
    if (p_.log_decay_gradient && p_.Z_gradient) of_decay_ += dot(r.data, Z.data, K);
    for (int64_t t1 = p_.T; n_chunks--; t1 = begins_[n_chunks]) {
      key_and_value_gradients(b, h, begins_[n_chunks], t1, length);
      if (is_boundary(p_, b, begins_[n_chunks])) clear(R, K), clear(r, 1), of_decay_ = 0;
    }
    if (p_.log_decay_gradient) p_.log_decay_gradient[head] = sum_of_decays_;
    copy_out(R, p_.initial_S_gradient, head, p_.K, p_.V);
    copy_out(r, p_.initial_Z_gradient, head, 1, p_.K);
  }

 private:
  void load_chunk(int64_t b, int64_t h, int64_t t0, int64_t t1, int64_t length, int ahead) {
    decays_.set_chunk(t0, t1, length);
    const int64_t valid = t1 < length ? t1 : length;
    load<map>(Line<Scalar>(p_.q, b, h), t0, t1, p_.K, q, ahead);
    load<map>(Line<Scalar>(p_.k, b, h), t0, valid, p_.K, k, ahead);
    load<FeatureMap::none>(Line<Scalar>(p_.v, b, h), t0, valid, p_.V, v, ahead);
    load<FeatureMap::none>(Line<Scalar>(p_.out_gradient, b, h), t0, t1, p_.V, w, ahead);
    transpose(v, vT, CHUNK, V);
  }

  void divide_by_norms(int64_t t0) {
    for (int t = 0; t < CHUNK; t++) {
      Real scale = 1 / norms.data[t0 + t];
      for (int i = 0; i < p_.V; i++) w.data[t * w.row + i] *= scale;
    }
  }

  void query_gradients(int64_t b, int64_t h, int64_t t0, int64_t t1, int64_t length) {
    load_chunk(b, h, t0, t1, length, CHUNK);
    for (int t = 0; t < CHUNK; t++) {
      Real norm = advance(Z.data, decays_.of(t), k.data + t * k.row, q.data + t * q.row, K, p_.eps);
      norms.data[t0 + t] = t0 + t < t1 ? norm : Real(1);
      memcpy(Z_at.data + t * Z_at.row, Z.data, K * sizeof(Real));
    }
    divide_by_norms(t0);
    causal_products<Real>(w, vT, nullptr, decays_, value_scores, V);
    if (decays_) scale_rows(w, decays_.since_begin, V), scale_rows(v, decays_.until_end(), V);
    multiply<Real>(value_scores, k, dq, CHUNK, K, CHUNK, Sum::up_to_row, 0);
    multiply<Real>(w, ST, dq, CHUNK, K, V, Sum::all, 1);
    Line<Scalar> to(p_.q_gradient, b, h);
    for (int t = 0; t < t1 - t0; t++) {
      Real* __restrict__ row = dq.data + t * dq.row;
      const Real *__restrict__ features = q.data + t * q.row, *__restrict__ at = Z_at.data + t * Z_at.row;
      Real d = slopes.data[t0 + t] = -dot(features, row, K) / norms.data[t0 + t];
      for (int i = 0; i < K; i++) row[i] = (row[i] + d * at[i]) * slope<map>(features[i]);
      store(row, to.data + (t0 + t) * to.step, p_.K);
    }
    multiply(v.transposed(), k, ST, V, K, CHUNK, Sum::all, decays_.of_chunk());
  }

  void key_and_value_gradients(int64_t b, int64_t h, int64_t t0, int64_t t1, int64_t length) {
    load_chunk(b, h, t0, t1, length, -CHUNK);
    divide_by_norms(t0);
    transpose(k, kT, CHUNK, K);
    transpose(R, RT, K, V);
    causal_products<Real>(q, kT, nullptr, decays_, scores, K);
    causal_products<Real>(w, vT, slopes.data + t0, decays_, value_scores, V);
    if (decays_) scale_rows(v, decays_.until_end(), V);
    multiply<Real>(value_scores.transposed(), q, dk, CHUNK, K, CHUNK, Sum::from_row, 0);
    multiply<Real>(v, RT, dk, CHUNK, K, V, Sum::all, 1);
    Line<Scalar> k_to(p_.k_gradient, b, h), v_to(p_.v_gradient, b, h);
    for (int t = int(t1 - t0) - 1; t >= 0; t--) {
      Real* __restrict__ row = dk.data + t * dk.row;
      const Real *__restrict__ features = k.data + t * k.row, *__restrict__ later = r.data;
      const Real factor = decays_ ? decays_.until_end()[t] : Real(1);
      if (p_.log_decay_gradient)
        add_of_decay(t0 + t, length, dot(features, row, K) + factor * dot(features, later, K));
      for (int i = 0; i < K; i++) row[i] = (row[i] + factor * later[i]) * slope<map>(features[i]);
      if (t0 + t >= length) memset(row, 0, K * sizeof(Real));
      store(row, k_to.data + (t0 + t) * k_to.step, p_.K);
    }
    if (decays_) scale_rows(k, decays_.until_end(), K);
    multiply<Real>(scores.transposed(), w, dv, CHUNK, V, CHUNK, Sum::from_row, 0);
    multiply<Real>(k, R, dv, CHUNK, V, K, Sum::all, 1);
    for (int t = 0; t < t1 - t0; t++) {
      if (t0 + t >= length) memset(dv.data + t * dv.row, 0, V * sizeof(Real));
      store(dv.data + t * dv.row, v_to.data + (t0 + t) * v_to.step, p_.V);
    }
    if (decays_) scale_rows(w, decays_.since_begin, V);
    multiply(q.transposed(), w, R, K, V, CHUNK, Sum::all, decays_.of_chunk());
    if (decays_)
      for (int i = 0; i < K; i++) r.data[i] *= decays_.of_chunk();
    for (int t = 0; t < t1 - t0; t++) {
      const Real d = decays_ ? slopes.data[t0 + t] * decays_.since_begin[t] : slopes.data[t0 + t];
      for (int i = 0; i < K; i++) r.data[i] += d * q.data[t * q.row + i];
    }
  }

  // What S after the last position and its gradient add to G after it.
  void of_final_S() {
    for (int i = 0; i < p_.K; i++)
      for (int j = 0; j < p_.V; j++) of_decay_ += double(R.data[i * R.row + j]) * ST.data[j * ST.row + i];
  }

  // From G_{t+1} to G_t, whose key and its gradient have this product.
  void add_of_decay(int64_t t, int64_t length, double product) {
    of_decay_ -= product + p_.eps * slopes.data[t];
    if (t < length) sum_of_decays_ += of_decay_;
  }

  const Problem& p_;
  const int K, V;
  const int64_t n_kept_;
  Workspace space_;
  // Of one chunk; w holds the gradient of the output, divided by the norm.
  Matrix<Real> q, k, kT, Z_at, dq, dk, v, vT, w, dv;
  // Running sums, some of them transposed.
  Matrix<Real> ST, R, RT, Z, r;
  Matrix<Real> scores, value_scores;
  // Of every position: n_t and d_t.
  Matrix<Real> norms, slopes;
  int64_t* begins_;  // of the chunks
  Decays<Real> decays_;
  double of_decay_, sum_of_decays_;  // G_t, and Σ G_s over s ≥ t
};

template <class Scalar, class Real, FeatureMap map>
void backward(const Problem& p, int64_t begin, int64_t end) {
  Backward<Scalar, Real, map> run(p);
  for (int64_t head = begin; head < end; head++) run.run(head);
}

}  // namespace SEQGEN_ISA
}  // namespace seqgen
