// Explicit Runge-Kutta methods that choose the steps of every trajectory for itself.
#pragma once
#include <algorithm>
#include <cmath>

#include "runge_kutta.hpp"

// A tableau whose last stage is the first one of the next step.
struct Embedded {
  Tableau tableau;
  int32_t order;
  const double *error, *dense;  // [stages], [stages, 4]
  double rtol, atol;
  int64_t max_steps;
};

// Increasing distances from the start in the direction of time, the first one 0.
struct Outputs {
  double start, sign;
  int32_t n;
  const double* at;
  double time(double s) const { return start + sign * s; }
  double span() const { return at[n - 1]; }
};

// The accepted steps of one trajectory: where each begins, its length and its first state.
struct Path {
  std::vector<double> begins, lengths;
  std::vector<Real> states;
  int64_t rejected = 0;
  int32_t failed = 0;  // 1: the step underflowed, 2: too many steps
};

// Stages of steps of different lengths, a row of the tile for each.
class Stages {
 public:
  Stages(const Field& field, const Embedded& method, const Outputs& outputs, int rows, FieldWork::Purpose purpose)
      : field(field), method(method), outputs(outputs), work(field, rows, purpose), y(size_t(rows) * field.dimension),
        stage(y.size()), times_(rows) {
    for (int i = 0; i < method.tableau.stages; ++i) slopes.emplace_back(y.size());
    const int records = purpose == FieldWork::Purpose::kForward ? 1 : method.tableau.stages;
    for (int i = 0; i < records; ++i) this->records.emplace_back(field, rows);
  }

  // slopes[i] from y and the slopes before, for rows that begin at `begin` with steps `length`.
  void evaluate(int i, int rows, const double* begin, const double* length) {
    const int d = field.dimension, size = rows * d;
    const Tableau& t = method.tableau;
    stage.clear();
    for (int j = 0; j < i; ++j)
      if (t.a[i * t.stages + j] != 0) add_multiple(size, Real(t.a[i * t.stages + j]), slopes[j].get(), stage.get());
    for (int m = 0; m < rows; ++m) {
      scale_row(d, Real(length[m]), stage.get() + size_t(m) * d);
      times_.get()[m] = Real(outputs.time(begin[m] + t.c[i] * length[m]));
    }
    add_multiple(size, 1, y.get(), stage.get());
    slope_at(rows, stage.get(), i, slopes[i].get());
  }

  void slope_at(int rows, const Real* states, int i, Real* slope) {
    work.evaluate(rows, times_.get(), states, records[records.size() == 1 ? 0 : i], slope);
    if (outputs.sign < 0)
      for (size_t k = 0; k < size_t(rows) * field.dimension; k += kWidth) store(slope + k, -load(slope + k));
  }

  Real* times() { return times_.get(); }

  const Field& field;
  Embedded method;
  Outputs outputs;
  FieldWork work;
  Buffer y, stage;
  std::vector<Buffer> slopes;
  std::vector<FieldRecord> records;

 private:
  Buffer times_;
};

class Adaptive {
 public:
  // paths [all]; `keep`: whether they take the states too.
  Adaptive(const Field& field, const Embedded& method, const Outputs& outputs, int lanes, bool keep)
      : s_(field, method, outputs, lanes, FieldWork::Purpose::kForward), lanes_(lanes), keep_(keep), row_(lanes),
        next_(lanes), begin_(lanes), length_(lanes) {
    for (int j = 0; j < 4; ++j) quartics_.emplace_back(s_.y.size());
  }

  // states [T, all, d], the first of them given, of `rows` trajectories from number `first` on.
  void solve(int first, int rows, size_t all, Real* states, Path* paths) {
    const int d = s_.field.dimension, n = s_.method.tableau.stages;
    int active = 0, waiting = first;
    const int last = first + rows;
    while (true) {
      const int old = active;
      for (; active < lanes_ && waiting < last; ++active, ++waiting) {
        row_[active] = waiting, next_[active] = 1, begin_[active] = 0;
        std::memcpy(s_.y.get() + size_t(active) * d, states + size_t(waiting) * d, d * sizeof(Real));
      }
      if (active > old) launch(old, active);
      if (active == 0) return;
      for (int i = 1; i < n; ++i) s_.evaluate(i, active, begin_.data(), length_.data());
      made_ = false;
      for (int m = active - 1; m >= 0; --m)
        if (judge(m, all, states, paths[row_[m]])) move(--active, m);
    }
  }

  void finish() {}

 private:
  // First slopes and first step lengths; Hairer, Norsett and Wanner, 1993, section II.4. The first lanes wait.
  void launch(int from, int to) {
    const int d = s_.field.dimension, rows = to - from;
    const double span = s_.outputs.span();
    Buffer states(size_t(rows) * d), slope(states.size()), trial(states.size()), change(states.size());
    std::memcpy(states.get(), s_.y.get() + size_t(from) * d, states.size() * sizeof(Real));
    for (int m = 0; m < rows; ++m) s_.times()[m] = Real(s_.outputs.time(0));
    s_.slope_at(rows, states.get(), 0, slope.get());
    std::memcpy(s_.slopes[0].get() + size_t(from) * d, slope.get(), slope.size() * sizeof(Real));
    std::vector<double> d1(rows), h(rows);
    for (int m = 0; m < rows; ++m) {
      const Real *y = states.get() + size_t(m) * d, *f = slope.get() + size_t(m) * d;
      const double d0 = size(d, y, nullptr, y);
      d1[m] = size(d, f, nullptr, y) * span;
      h[m] = d0 > 1e-5 && d1[m] > 1e-5 ? std::min(std::max(0.01 * d0 / d1[m], 1e-14), 1.0) : 1e-6;
      for (int i = 0; i < d; ++i) trial.get()[size_t(m) * d + i] = y[i] + Real(h[m] * span) * f[i];
      s_.times()[m] = Real(s_.outputs.time(h[m] * span));
    }
    s_.slope_at(rows, trial.get(), 0, change.get());
    for (int m = 0; m < rows; ++m) {
      const Real *y = states.get() + size_t(m) * d, *f = slope.get() + size_t(m) * d;
      const double d2 = size(d, change.get() + size_t(m) * d, f, y) * span / h[m];
      const double most = std::max(d1[m], d2);
      const double best = most > 1e-15 ? std::pow(0.01 / most, 1.0 / s_.method.order) : 1.0;
      const double first = std::isfinite(d2) ? std::min({100 * h[m], best, 1.0}) : 1e-3 * h[m];
      length_[from + m] = first * span;
    }
  }

  // The root mean square of x - other in units of the tolerance at y.
  double size(int d, const Real* x, const Real* other, const Real* y) const {
    double sum = 0;
    for (int i = 0; i < d; ++i) {
      const double e = (double(x[i]) - (other == nullptr ? 0.0 : double(other[i]))) /
                       (s_.method.atol + s_.method.rtol * std::fabs(double(y[i])));
      sum += e * e;
    }
    return std::sqrt(sum / d);
  }

  // Accepts or rejects the step of a lane; true if its trajectory ends.
  bool judge(int m, size_t all, Real* states, Path& path) {
    const int d = s_.field.dimension, n = s_.method.tableau.stages;
    Real* y = s_.y.get() + size_t(m) * d;
    const Real* end = s_.stage.get() + size_t(m) * d;  // the last stage's state is the step's
    double sum = 0;
    for (int i = 0; i < d; ++i) {
      double error = 0;
      for (int k = 0; k < n; ++k) error += s_.method.error[k] * double(s_.slopes[k].get()[size_t(m) * d + i]);
      const double most = std::max(std::fabs(double(y[i])), std::fabs(double(end[i])));
      const double ratio = error * length_[m] / (s_.method.atol + s_.method.rtol * most);
      sum += ratio * ratio;
    }
    const double ratio = std::sqrt(sum / d), span = s_.outputs.span();
    const bool good = ratio <= 1;
    const double best = ratio > 0 ? 0.9 * std::pow(ratio, -1.0 / s_.method.order) : 10.0;
    const double factor = std::isnan(ratio) ? 0.2 : std::min(10.0, std::max(best, good ? 1.0 : 0.2));
    if (good) {
      const double from = begin_[m], h = length_[m];
      begin_[m] = from + h >= span * (1 - 1e-15) ? span : from + h;
      path.begins.push_back(from), path.lengths.push_back(h);
      if (keep_) path.states.insert(path.states.end(), y, y + d);
      give_out(m, from, h, all, states, end);
      std::memcpy(y, end, d * sizeof(Real));
      std::memcpy(s_.slopes[0].get() + size_t(m) * d, s_.slopes[n - 1].get() + size_t(m) * d,
                  d * sizeof(Real));
    } else {
      ++path.rejected;
    }
    if (begin_[m] >= span) return true;
    length_[m] = std::min(length_[m] * factor, span - begin_[m]);
    if (int64_t(path.begins.size()) + path.rejected >= s_.method.max_steps) path.failed = 2;
    if (!(begin_[m] + length_[m] > begin_[m])) path.failed = 1;
    if (!path.failed) return false;
    for (; next_[m] < s_.outputs.n; ++next_[m])
      for (int i = 0; i < d; ++i) states[(next_[m] * all + row_[m]) * d + i] = NAN;
    return true;
  }

  // States at the outputs that a step has reached, by the quartic through it.
  void give_out(int m, double from, double h, size_t all, Real* states, const Real* end) {
    const int d = s_.field.dimension;
    const Real* y = s_.y.get() + size_t(m) * d;
    for (; next_[m] < s_.outputs.n && s_.outputs.at[next_[m]] <= begin_[m]; ++next_[m]) {
      Real* out = states + (next_[m] * all + row_[m]) * d;
      if (s_.outputs.at[next_[m]] == begin_[m]) {
        copy(d, end, out);
        continue;
      }
      make_quartics();
      const Real x = Real((s_.outputs.at[next_[m]] - from) / h), length = Real(h);
      const Real *c1 = quartics_[0].get() + size_t(m) * d, *c2 = quartics_[1].get() + size_t(m) * d;
      const Real *c3 = quartics_[2].get() + size_t(m) * d, *c4 = quartics_[3].get() + size_t(m) * d;
      for (int i = 0; i < d; ++i) out[i] = y[i] + length * x * (c1[i] + x * (c2[i] + x * (c3[i] + x * c4[i])));
    }
  }

  // The quartics' coefficients of all lanes, once a step.
  void make_quartics() {
    if (made_) return;
    made_ = true;
    for (int j = 0; j < 4; ++j) {
      quartics_[j].clear();
      for (int k = 0; k < s_.method.tableau.stages; ++k)
        if (s_.method.dense[4 * k + j] != 0)
          add_multiple(int(quartics_[j].size()), Real(s_.method.dense[4 * k + j]), s_.slopes[k].get(),
                       quartics_[j].get());
    }
  }

  void move(int from, int to) {
    if (from == to) return;
    const int d = s_.field.dimension;
    row_[to] = row_[from], next_[to] = next_[from], begin_[to] = begin_[from], length_[to] = length_[from];
    for (Real* rows : {s_.y.get(), s_.slopes[0].get()})
      std::memcpy(rows + size_t(to) * d, rows + size_t(from) * d, d * sizeof(Real));
  }

  Stages s_;
  int lanes_;
  bool keep_;
  std::vector<int> row_, next_;
  std::vector<double> begin_, length_;
  bool made_ = false;
  std::vector<Buffer> quartics_;
};
