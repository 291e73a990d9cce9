// The implicit midpoint rule in equal steps, and the exact reverse of the computed solution.
#pragma once
#include <cmath>
#include <limits>

#include "runge_kutta.hpp"

// Steps y -> 2 m - y, where m = y + h/2 f(m) by fixed-point iteration to rounding error.
class Midpoint {
 public:
  Midpoint(const Field& field, const Grid& grid, int rows, FieldWork::Purpose purpose)
      : field_(field), grid_(grid), state_(field, rows, FieldWork::Purpose::kState), times_(rows) {
    if (purpose == FieldWork::Purpose::kWeights) weights_.emplace_back(field, rows, purpose);
    record_.emplace_back(field, rows);
    const size_t n = size_t(rows) * field.dimension;
    y_ = Buffer(n), m_ = Buffer(n), f_ = Buffer(n), rise_ = Buffer(n), earlier_ = Buffer(n), adjoint_ = Buffer(n);
    w_ = Buffer(n), pull_ = Buffer(n);
    before_ = Buffer(rows);
  }

  // states [n_nodes, all, d] from the first of them; failed [all] becomes 1 where a midpoint was not found.
  void solve(int first, int rows, size_t all, Real* states, int32_t* failed) {
    const int d = field_.dimension, n = rows * d;
    states += size_t(first) * d;
    copy(n, states, y_.get());
    for (int step = 0, node = 1; node < grid_.n_nodes; ++node) {
      for (; step < grid_.nodes[node]; ++step) {
        // The midpoint's rise over the state is extrapolated from the last two.
        for (int i = 0; i < n; ++i) {
          const Real rise = rise_.get()[i], earlier = step > 1 ? earlier_.get()[i] : rise;
          m_.get()[i] = y_.get()[i] + (step > 0 ? 2 * rise - earlier : 0);
        }
        set_times(rows, step);
        iterate(rows, m_.get(), failed + first, [&] {
          state_.evaluate(rows, times_.get(), m_.get(), record_[0], f_.get());
          for (int i = 0; i < n; ++i) f_.get()[i] = y_.get()[i] + half() * f_.get()[i];
          return f_.get();
        });
        for (int i = 0; i < n; ++i) {
          const Real rise = m_.get()[i] - y_.get()[i];
          earlier_.get()[i] = rise_.get()[i], rise_.get()[i] = rise;
          y_.get()[i] = 2 * m_.get()[i] - y_.get()[i];
        }
      }
      copy(n, y_.get(), states + node * all * d);
    }
  }

  // initial [all, d]: the gradient in the first state, from the gradients [n_nodes, all, d] at the nodes and the states
  // of *all* steps; failed [all] becomes 1 where an adjoint was not found.
  void reverse(int first, int rows, size_t all, const Real* states, const Real* gradients, Real* initial,
               int32_t* failed) {
    const int d = field_.dimension, n = rows * d;
    const size_t at = size_t(first) * d;
    adjoint_.clear();
    int node = grid_.n_nodes - 1;
    for (int step = grid_.last(); step >= 0; --step) {
      if (step < grid_.last()) {
        const Real *begin = states + size_t(step) * all * d + at, *end = begin + all * d;
        for (int i = 0; i < n; ++i) m_.get()[i] = (begin[i] + end[i]) / 2;
        set_times(rows, step);
        FieldWork& work = weights_.empty() ? state_ : weights_[0];
        work.evaluate(rows, times_.get(), m_.get(), record_[0], f_.get());
        // w = 2 a + h/2 J' w for the adjoint a of the step's end.
        for (int i = 0; i < n; ++i) w_.get()[i] = 2 * adjoint_.get()[i];
        iterate(rows, w_.get(), failed + first, [&] {
          for (int i = 0; i < n; ++i) f_.get()[i] = half() * w_.get()[i];
          pull_.clear();
          state_.reverse(rows, record_[0], f_.get(), pull_.get());
          add_multiple(n, 2, adjoint_.get(), pull_.get());
          return pull_.get();
        });
        if (!weights_.empty()) {
          for (int i = 0; i < n; ++i) f_.get()[i] = half() * w_.get()[i];
          pull_.clear();
          weights_[0].reverse(rows, record_[0], f_.get(), pull_.get());
        }
        for (int i = 0; i < n; ++i) adjoint_.get()[i] = w_.get()[i] - adjoint_.get()[i];
      }
      if (node >= 0 && grid_.nodes[node] == step)
        add_row(n, 1, gradients + size_t(node--) * all * d + at, adjoint_.get());
    }
    copy(n, adjoint_.get(), initial + at);
  }

  void finish() {
    for (FieldWork& work : weights_) work.finish();
  }

 private:
  static constexpr int kMost = 200;

  Real half() const { return Real(grid_.step / 2); }
  void set_times(int rows, int step) {
    for (int m = 0; m < rows; ++m) times_.get()[m] = Real(grid_.start + (step + 0.5) * grid_.step);
  }

  // x = map(x) for rows of x, which `map` reads, to rounding error.
  template <class Map>
  void iterate(int rows, Real* x, int32_t* failed, Map map) {
    const int d = field_.dimension;
    constexpr Real rounding = std::numeric_limits<Real>::epsilon();
    for (int k = 0; k < kMost; ++k) {
      const Real* next = map();
      bool all = true;
      for (int m = 0; m < rows; ++m) {
        Real change = 0, size = 0;
        for (int i = m * d; i < (m + 1) * d; ++i) {
          change = larger(change, std::abs(next[i] - x[i]));
          size = larger(size, std::abs(next[i]));
          x[i] = next[i];
        }
        // Changes that no longer shrink are rounding errors of the field.
        const bool stalls = k > 0 && change >= before_.get()[m] && change <= 1000 * rounding * size;
        const bool converged = change <= 8 * rounding * size || stalls;
        before_.get()[m] = change;
        all = all && converged;
        if (k == kMost - 1 && !converged) failed[m] = 1;
      }
      if (all) return;
    }
  }
  // NaN stays NaN.
  static Real larger(Real a, Real b) { return a >= b || a != a ? a : b; }

  const Field& field_;
  Grid grid_;
  FieldWork state_;
  std::vector<FieldWork> weights_;
  Buffer times_, y_, m_, f_, rise_, earlier_, adjoint_, w_, pull_, before_;
  std::vector<FieldRecord> record_;
};
