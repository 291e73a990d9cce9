// Explicit Runge-Kutta methods in equal steps, and the exact reverse of the computed solution.
#pragma once
#include "field.hpp"

// a [stages, stages] below its diagonal, b [stages] and c [stages].
struct Tableau {
  int32_t stages;
  const double *a, *b, *c;
};

// sum += factor * x for n numbers of whole tiles, whose memory ends in a whole vector.
inline void add_multiple(int n, Real factor, const Real* x, Real* sum) {
  for (int i = 0; i < n; i += kWidth) store(sum + i, load(sum + i) + factor * load(x + i));
}

// The uniform grid: states are known, or asked for, at `nodes`, increasing step numbers that begin with 0.
struct Grid {
  double start, step;
  int32_t n_nodes;
  const int32_t* nodes;
  int last() const { return nodes[n_nodes - 1]; }
};

// Records of all evaluations of a solve, for all trajectories: memory [all, evaluations, numbers] of the caller's or null,
// tile by tile.
class Tape {
 public:
  Tape(const Field& field, size_t evaluations, Real* memory)
      : record_(field), evaluations_(evaluations), memory_(memory) {}
  explicit operator bool() const { return memory_ != nullptr; }
  // The record of an evaluation of `rows` trajectories from number `first` on.
  FieldRecord& at(size_t first, int rows, size_t evaluation) {
    record_.place(rows, memory_ + record_.numbers() * (first * evaluations_ + rows * evaluation));
    return record_;
  }

 private:
  FieldRecord record_;
  size_t evaluations_;
  Real* memory_;
};

class RungeKutta {
 public:
  RungeKutta(const Field& field, const Tableau& tableau, const Grid& grid, int rows, FieldWork::Purpose purpose,
             Real* tape)
      : field_(field), tableau_(tableau), grid_(grid), tape_(field, evaluations(tableau, grid), tape),
        work_(field, rows, purpose), times_(rows) {
    const size_t n = size_t(rows) * field.dimension;
    for (int i = 0; i < tableau.stages; ++i) slopes_.emplace_back(n);
    y_ = Buffer(n), stage_ = Buffer(n), adjoint_ = Buffer(n);
    const int records = tape_ ? 0 : purpose == FieldWork::Purpose::kForward ? 1 : tableau.stages;
    for (int i = 0; i < records; ++i) records_.emplace_back(field, rows);
  }
  static size_t evaluations(const Tableau& tableau, const Grid& grid) { return size_t(tableau.stages) * grid.last(); }

  // states [n_nodes, all, d] from the first of them, for `rows` trajectories from number `first` on.
  void solve(int first, int rows, size_t all, Real* states) {
    const int d = field_.dimension, n = rows * d;
    states += size_t(first) * d;
    copy(n, states, y_.get());
    for (int step = 0, node = 1; node < grid_.n_nodes; ++node) {
      for (; step < grid_.nodes[node]; ++step) {
        stages(first, rows, step);
        for (int i = 0; i < tableau_.stages; ++i)
          if (tableau_.b[i] != 0) add_multiple(n, weight(tableau_.b[i]), slopes_[i].get(), y_.get());
      }
      copy(n, y_.get(), states + node * all * d);
    }
  }

  // initial [all, d]: the gradient in the first state, from the gradients [n_nodes, all, d] at the nodes, and from the
  // records on the tape or else the states of *all* steps.
  void reverse(int first, int rows, size_t all, const Real* states, const Real* gradients, Real* initial) {
    const int d = field_.dimension, n = rows * d, s = tableau_.stages;
    gradients += size_t(first) * d;
    std::vector<Buffer> pulls;
    for (int i = 0; i < s; ++i) pulls.emplace_back(size_t(n));
    if (begun_) work_.settle();
    begun_ = true;
    adjoint_.clear();
    int node = grid_.n_nodes - 1;
    for (int step = grid_.last(); step >= 0; --step) {
      if (step < grid_.last()) {
        if (!tape_) {
          copy(n, states + (size_t(step) * all + first) * d, y_.get());
          stages(first, rows, step);
        }
        // Stage i reaches the step's end by b, and every later stage by a.
        for (int i = s - 1; i >= 0; --i) {
          Real* k = stage_.get();
          std::memset(k, 0, n * sizeof(Real));
          add_multiple(n, weight(tableau_.b[i]), adjoint_.get(), k);
          for (int j = i + 1; j < s; ++j)
            if (tableau_.a[j * s + i] != 0) add_multiple(n, weight(tableau_.a[j * s + i]), pulls[j].get(), k);
          std::memset(pulls[i].get(), 0, n * sizeof(Real));
          work_.reverse(rows, record(first, rows, step, i), k, pulls[i].get());
        }
        for (int i = 0; i < s; ++i) add_multiple(n, 1, pulls[i].get(), adjoint_.get());
      }
      if (node >= 0 && grid_.nodes[node] == step)
        add_row(n, 1, gradients + size_t(node--) * all * d, adjoint_.get());
    }
    copy(n, adjoint_.get(), initial + size_t(first) * d);
  }

  void finish() { work_.finish(); }

 private:
  Real weight(double coefficient) const { return Real(coefficient * grid_.step); }

  // The slopes of all stages of a step from y_.
  void stages(int first, int rows, int step) {
    const int n = rows * field_.dimension, s = tableau_.stages;
    for (int i = 0; i < s; ++i) {
      const Real* y = y_.get();
      if (i > 0) {
        std::memcpy(stage_.get(), y, n * sizeof(Real));
        for (int j = 0; j < i; ++j)
          if (tableau_.a[i * s + j] != 0) add_multiple(n, weight(tableau_.a[i * s + j]), slopes_[j].get(), stage_.get());
        y = stage_.get();
      }
      const Real t = Real(grid_.start + (step + tableau_.c[i]) * grid_.step);
      for (int m = 0; m < rows; ++m) times_.get()[m] = t;
      work_.evaluate(rows, times_.get(), y, record(first, rows, step, i), slopes_[i].get());
    }
  }

  FieldRecord& record(int first, int rows, int step, int stage) {
    if (tape_) return tape_.at(first, rows, size_t(step) * tableau_.stages + stage);
    return records_[records_.size() == 1 ? 0 : stage];
  }

  const Field& field_;
  Tableau tableau_;
  Grid grid_;
  Tape tape_;
  FieldWork work_;
  bool begun_ = false;  // a reverse
  Buffer times_, y_, stage_, adjoint_;
  std::vector<Buffer> slopes_;
  std::vector<FieldRecord> records_;
};
