// The exact reverse of adaptive solutions: steps are taken as they were chosen.
#pragma once
#include "adaptive.hpp"

// The accepted steps of all trajectories, one after the other: those of row r are [offsets[r], offsets[r + 1]).
struct Steps {
  const int64_t* offsets;
  const double *begins, *lengths;
  const Real* states;  // [steps, d]
};

class AdaptiveReverse {
 public:
  AdaptiveReverse(const Field& field, const Embedded& method, const Outputs& outputs, int lanes,
                  FieldWork::Purpose purpose)
      : s_(field, method, outputs, lanes, purpose), lanes_(lanes), adjoint_(s_.y.size()), row_(lanes), next_(lanes),
        left_(lanes), begin_(lanes), length_(lanes), start_(s_.y.size()) {
    for (int j = 0; j < 4; ++j) quartics_.emplace_back(s_.y.size());
    for (int i = 0; i < method.tableau.stages; ++i) pulls_.emplace_back(s_.y.size()), given_.emplace_back(s_.y.size());
  }

  // initial [all, d] from the gradients [T, all, d] at the outputs, of `rows` trajectories from number `first` on.
  void reverse(int first, int rows, size_t all, const Steps& steps, const Real* gradients, Real* initial) {
    const int d = s_.field.dimension;
    int active = 0, waiting = first;
    const int last = first + rows;
    while (true) {
      for (; active < lanes_ && waiting < last; ++active, ++waiting) {
        row_[active] = waiting, next_[active] = s_.outputs.n - 1;
        left_[active] = steps.offsets[waiting + 1] - steps.offsets[waiting];
        std::memset(adjoint_.get() + size_t(active) * d, 0, d * sizeof(Real));
      }
      for (int m = active - 1; m >= 0; --m) {
        if (left_[m] > 0) continue;
        Real* a = adjoint_.get() + size_t(m) * d;
        add_row(d, 1, gradients + size_t(row_[m]) * d, a);
        std::memcpy(initial + size_t(row_[m]) * d, a, d * sizeof(Real));
        move(--active, m);
      }
      if (active == 0) {
        if (waiting == last) return;
        continue;
      }
      step(active, all, steps, gradients);
    }
  }

  void finish() { s_.work.finish(); }

 private:
  // One step back for every lane.
  void step(int rows, size_t all, const Steps& steps, const Real* gradients) {
    const int d = s_.field.dimension, n = s_.method.tableau.stages, size = rows * d;
    for (Buffer& given : given_) given.clear();
    for (Buffer& quartic : quartics_) quartic.clear();
    std::memset(s_.y.get(), 0, size * sizeof(Real));
    bool between = false;
    Real* start = start_.get();
    std::memset(start, 0, size * sizeof(Real));
    for (int m = 0; m < rows; ++m) {
      const int64_t i = steps.offsets[row_[m]] + --left_[m];
      begin_[m] = steps.begins[i], length_[m] = steps.lengths[i];
      std::memcpy(s_.y.get() + size_t(m) * d, steps.states + i * d, d * sizeof(Real));
      const bool final = i + 1 == steps.offsets[row_[m] + 1];
      const double end = final ? s_.outputs.span() : steps.begins[i + 1];
      for (; next_[m] > 0 && s_.outputs.at[next_[m]] > begin_[m]; --next_[m]) {
        const Real* g = gradients + (next_[m] * all + row_[m]) * d;
        if (s_.outputs.at[next_[m]] == end) {
          add_row(d, 1, g, adjoint_.get() + size_t(m) * d);
          continue;
        }
        add_row(d, 1, g, start + size_t(m) * d);
        const Real x = Real((s_.outputs.at[next_[m]] - begin_[m]) / length_[m]);
        Real power = Real(length_[m]);
        for (Buffer& quartic : quartics_) {
          power *= x;
          add_row(d, power, g, quartic.get() + size_t(m) * d);
        }
        between = true;
      }
    }
    for (int k = 0; between && k < n; ++k)
      for (int j = 0; j < 4; ++j)
        if (s_.method.dense[4 * k + j] != 0)
          add_multiple(size, Real(s_.method.dense[4 * k + j]), quartics_[j].get(), given_[k].get());
    const int last = between ? n - 1 : n - 2;  // the last stage serves outputs within the step alone
    for (int i = 0; i <= last; ++i) s_.evaluate(i, rows, begin_.data(), length_.data());
    const Tableau& t = s_.method.tableau;
    const Real sign = Real(s_.outputs.sign);
    for (int i = last; i >= 0; --i) {
      Real* k = s_.stage.get();
      std::memset(k, 0, size * sizeof(Real));
      if (t.b[i] != 0) add_multiple(size, Real(t.b[i]), adjoint_.get(), k);
      for (int j = i + 1; j <= last; ++j)
        if (t.a[j * n + i] != 0) add_multiple(size, Real(t.a[j * n + i]), pulls_[j].get(), k);
      for (int m = 0; m < rows; ++m) scale_row(d, Real(length_[m]), k + size_t(m) * d);
      add_multiple(size, 1, given_[i].get(), k);
      if (sign < 0)
        for (int j = 0; j < size; j += kWidth) store(k + j, -load(k + j));
      std::memset(pulls_[i].get(), 0, size * sizeof(Real));
      s_.work.reverse(rows, s_.records[i], k, pulls_[i].get());
    }
    for (int i = 0; i <= last; ++i) add_multiple(size, 1, pulls_[i].get(), adjoint_.get());
    add_multiple(size, 1, start, adjoint_.get());
  }

  void move(int from, int to) {
    if (from == to) return;
    const int d = s_.field.dimension;
    row_[to] = row_[from], next_[to] = next_[from], left_[to] = left_[from];
    std::memcpy(adjoint_.get() + size_t(to) * d, adjoint_.get() + size_t(from) * d, d * sizeof(Real));
  }

  Stages s_;
  int lanes_;
  Buffer adjoint_;
  std::vector<int> row_, next_;
  std::vector<int64_t> left_;
  std::vector<double> begin_, length_;
  Buffer start_;  // adjoints of the steps' first states by the outputs
  std::vector<Buffer> pulls_, given_, quartics_;  // of states and slopes of the stages, and of the quartics
};
