// Leapfrog and its compositions for separable energies, and the exact reverse of the computed solution.
#pragma once
#include "runge_kutta.hpp"

// The first part of the field moves the positions, the second one the momenta. In a step, move i drifts by
// drifts[i] and kicks by kicks[i], in steps; the last kick goes on into the next step by half_kick, which is taken
// back from the states that are given out.
struct Moves {
  int32_t n;
  const double *drifts, *kicks;
  double half_kick;
};

class Splitting {
 public:
  Splitting(const Field& field, const Moves& moves, const Grid& grid, int rows, FieldWork::Purpose purpose, Real* tape)
      : field_(field), moves_(moves), grid_(grid), tape_(field, evaluations(moves, grid), tape),
        work_(field, rows, purpose), times_(rows) {
    const size_t n = size_t(rows) * field.dimension;
    y_ = Buffer(n), drift_ = Buffer(n), force_ = Buffer(n), adjoint_ = Buffer(n), given_ = Buffer(n), pull_ = Buffer(n);
    for (int i = 0; !tape_ && i <= moves.n; ++i) records_.emplace_back(field, rows);
  }
  // One more than there are moves: the force at the start.
  static size_t evaluations(const Moves& moves, const Grid& grid) { return size_t(moves.n) * grid.last() + 1; }

  // states [n_nodes, all, d] from the first; `inner` [steps + 1, all, d], if any, takes what the reverse needs where
  // there is no tape.
  void solve(int first, int rows, size_t all, Real* states, Real* inner) {
    const int d = field_.dimension, n = rows * d;
    const size_t at = size_t(first) * d;
    copy(n, states + at, y_.get());
    force(rows, start(first, rows));
    add_multiple(n, scaled(moves_.half_kick), force_.get(), y_.get());
    if (inner != nullptr) copy(n, y_.get(), inner + at);
    for (int step = 0, node = 1; node < grid_.n_nodes; ++node) {
      for (; step < grid_.nodes[node]; ++step) {
        advance(first, rows, step);
        if (inner != nullptr) copy(n, y_.get(), inner + size_t(step + 1) * all * d + at);
      }
      std::memcpy(given_.get(), y_.get(), n * sizeof(Real));
      add_multiple(n, -scaled(moves_.half_kick), force_.get(), given_.get());
      copy(n, given_.get(), states + size_t(node) * all * d + at);
    }
  }

  void reverse(int first, int rows, size_t all, const Real* states, const Real* inner, const Real* gradients,
               Real* initial) {
    const int d = field_.dimension, n = rows * d;
    const size_t at = size_t(first) * d;
    if (begun_) work_.settle();
    begun_ = true;
    adjoint_.clear();
    int node = grid_.n_nodes - 1;
    for (int step = grid_.last() - 1; step >= 0; --step) {
      given_.clear();
      if (grid_.nodes[node] == step + 1)
        add_row(n, 1, gradients + size_t(node--) * all * d + at, given_.get());
      add_multiple(n, 1, given_.get(), adjoint_.get());
      if (!tape_) {
        copy(n, inner + size_t(step) * all * d + at, y_.get());
        advance(first, rows, step);
      }
      for (int i = moves_.n - 1; i >= 0; --i) {
        // Adjoints of the force: of this kick, and of the half kick that was taken back from what was given out.
        pull_.clear();
        add_multiple(n, scaled(moves_.kicks[i]), adjoint_.get(), pull_.get());
        if (i == moves_.n - 1) add_multiple(n, -scaled(moves_.half_kick), given_.get(), pull_.get());
        work_.reverse(rows, record(first, rows, step, i), pull_.get(), adjoint_.get(), 1, 2);
        pull_.clear();
        add_multiple(n, scaled(moves_.drifts[i]), adjoint_.get(), pull_.get());
        work_.reverse(rows, record(first, rows, step, i), pull_.get(), adjoint_.get(), 0, 1);
      }
    }
    if (!tape_) {
      copy(n, states + at, y_.get());
      force(rows, start(first, rows));
    }
    pull_.clear();
    add_multiple(n, scaled(moves_.half_kick), adjoint_.get(), pull_.get());
    work_.reverse(rows, start(first, rows), pull_.get(), adjoint_.get(), 1, 2);
    add_row(n, 1, gradients + at, adjoint_.get());
    copy(n, adjoint_.get(), initial + at);
  }

  void finish() { work_.finish(); }

 private:
  Real scaled(double share) const { return Real(share * grid_.step); }

  void force(int rows, FieldRecord& record) {
    work_.evaluate(rows, times_.get(), y_.get(), record, force_.get(), 1, 2);
  }

  FieldRecord& record(int first, int rows, int step, int move) {
    return tape_ ? tape_.at(first, rows, size_t(step) * moves_.n + move + 1) : records_[move];
  }
  FieldRecord& start(int first, int rows) { return tape_ ? tape_.at(first, rows, 0) : records_.back(); }

  void advance(int first, int rows, int step) {
    const int n = rows * field_.dimension;
    for (int i = 0; i < moves_.n; ++i) {
      FieldRecord& kept = record(first, rows, step, i);
      work_.evaluate(rows, times_.get(), y_.get(), kept, drift_.get(), 0, 1);
      add_multiple(n, scaled(moves_.drifts[i]), drift_.get(), y_.get());
      force(rows, kept);
      add_multiple(n, scaled(moves_.kicks[i]), force_.get(), y_.get());
    }
  }

  const Field& field_;
  Moves moves_;
  Grid grid_;
  Tape tape_;
  FieldWork work_;
  bool begun_ = false;  // a reverse
  Buffer times_, y_, drift_, force_, adjoint_, given_, pull_;
  std::vector<FieldRecord> records_;
};
