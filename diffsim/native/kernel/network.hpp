// A multi-layer perceptron on tiles of rows: its values or the gradient of its sum, and the reverse of both.
#pragma once
#include "layers.hpp"
#include "product.hpp"

// Sums of outer products left' right, collected over many rows before they are added to a weight's gradient.
class OuterProducts {
 public:
  OuterProducts(int n_out, int n_in, int rows)
      : n_out_(n_out), n_in_(n_in), left_width_(padded(n_out)), right_width_(padded(n_in)), rows_(rows),
        left_(size_t(rows) * left_width_), right_(size_t(rows) * right_width_), sum_(size_t(n_out) * right_width_) {}

  void add(int rows, const Real* left, const Real* right) {
    if (count_ + rows > rows_) flush();
    std::memcpy(left_.get() + size_t(count_) * left_width_, left, size_t(rows) * left_width_ * sizeof(Real));
    std::memcpy(right_.get() + size_t(count_) * right_width_, right, size_t(rows) * right_width_ * sizeof(Real));
    count_ += rows;
  }
  void flush() {
    if (count_ == 0) return;
    product(n_out_, n_in_, count_, {left_.get(), 1, left_width_}, right_.get(), right_width_, sum_.get(),
            right_width_, sum_.get(), right_width_);
    count_ = 0;
  }
  // The sum so far goes to wider numbers: a long sum in single precision loses digits.
  void settle() {
    flush();
    total_.resize(sum_.size());
    for (size_t i = 0; i < sum_.size(); ++i) total_[i] += double(sum_.get()[i]);
    sum_.clear();
  }
  Real at(int o, int i) const {
    const size_t place = size_t(o) * right_width_ + i;
    return total_.empty() ? sum_.get()[place] : Real(total_[place] + double(sum_.get()[place]));
  }

 private:
  int n_out_, n_in_, left_width_, right_width_, rows_, count_ = 0;
  Buffer left_, right_, sum_;
  std::vector<double> total_;
};

// Rows to work in and, where asked for, the gradients of a network's weights: one for each thread.
class NetworkWork {
 public:
  enum Purpose { kForward, kState, kWeights };  // no reverse, one in the input alone, or one in the weights too

  NetworkWork(const Network& net, int rows, bool energy, Purpose purpose)
      : net_(net), purpose_(purpose), one_(size_t(rows) * net.widest()), two_(one_.size()) {
    if (purpose != kForward && energy)
      for (int l = 0; l < 2 * net.hidden(); ++l) tangents_.emplace_back(one_.size());
    if (purpose != kWeights) return;
    for (const Layer& layer : net.layers) {
      outer_.emplace_back(layer.n_out, layer.n_in, rows > kHeld ? rows : kHeld);
      bias_.emplace_back(layer.out_width);
    }
    ones_ = Buffer(size_t(rows) * net.out_width());
    for (int m = 0; m < rows; ++m)
      for (int o = 0; o < net.layers.back().n_out; ++o) ones_.get()[m * net.out_width() + o] = 1;
  }

  // out [rows, out_width] = net(input).
  void value(int rows, Record& record, Real* out) {
    const Real* a = forward(rows, record);
    const Layer& last = net_.layers.back();
    if (last.n_out <= kFew)
      dots(rows, last.n_out, last.in_width, a, last.backward.get(), last.bias.get(), out, last.out_width);
    else
      product(rows, last.n_out, last.n_in, {a, last.in_width, 1}, last.forward.get(), last.out_width,
              last.bias.get(), 0, out, last.out_width);
  }

  // out [rows, in_width] = the gradient of the net's summed output in its input.
  void energy_gradient(int rows, Record& record, Real* out) {
    forward(rows, record);
    Real *g = one_.get(), *next = two_.get();
    const int h = net_.hidden();
    const int top = net_.layers.back().in_width;
    for (int m = 0; m < rows; ++m) std::memcpy((h ? g : out) + size_t(m) * top, net_.summed.get(), top * sizeof(Real));
    for (int l = h - 1; l >= 0; --l) {
      const Layer& layer = net_.layers[l];
      const int n = rows * layer.out_width;
      Real *pull = record.pull(l), *bend = record.bend(l);
      record.derivatives(l, [&](auto derivatives) {
        for (int i = 0; i < n; i += kWidth) store(pull + i, load(g + i) * derivatives.first(i));
      });
      if (bend != nullptr && purpose_ != kForward) multiply(n, bend, g);
      Real* to = l == 0 ? out : next;
      back(rows, layer, pull, to);
      std::swap(g, next);
    }
  }

  // input_adjoint [rows, in_width], for an adjoint [rows, out_width] of `value`.
  void reverse_value(int rows, const Record& record, const Real* adjoint, Real* input_adjoint) {
    Real *now = one_.get(), *next = two_.get();
    const Real* z = adjoint;
    for (int l = net_.hidden(); l >= 0; --l) {
      const Layer& layer = net_.layers[l];
      const Real* input = l == 0 ? record.input() : record.value(l - 1);
      collect(rows, l, z, input);
      collect_bias(rows, l, z);
      Real* to = l == 0 ? input_adjoint : now;
      back(rows, layer, z, to);
      if (l == 0) return;
      record.derivatives(l - 1, [&](auto derivatives) {
        for (int i = 0; i < rows * layer.in_width; i += kWidth) store(to + i, load(to + i) * derivatives.first(i));
      });
      z = to;
      std::swap(now, next);
    }
  }

  // input_adjoint [rows, in_width], for an adjoint [rows, in_width] of `energy_gradient`: the reverse of the
  // derivative of the energy along the adjoint.
  void reverse_energy_gradient(int rows, const Record& record, const Real* adjoint, Real* input_adjoint) {
    const int h = net_.hidden();
    const Real* along = adjoint;
    for (int l = 0; l < h; ++l) {
      const Layer& layer = net_.layers[l];
      Real *z = tangents_[2 * l].get(), *a = tangents_[2 * l + 1].get();
      product(rows, layer.n_out, layer.n_in, {along, layer.in_width, 1}, layer.forward.get(), layer.out_width,
              nullptr, 0, z, layer.out_width);
      record.derivatives(l, [&](auto derivatives) {
        for (int i = 0; i < rows * layer.out_width; i += kWidth) {
          const Vector x = load(z + i);
          store(a + i, x * derivatives.first(i));
          store(z + i, x * derivatives.second(i));
        }
      });
      collect(rows, l, record.pull(l), along);
      along = a;
    }
    if (purpose_ == kWeights) outer_.back().add(rows, ones_.get(), along);
    if (h == 0) {
      std::memset(input_adjoint, 0, size_t(rows) * net_.in_width() * sizeof(Real));
      return;
    }
    Real *now = one_.get(), *next = two_.get();
    const Real* z = tangents_[2 * (h - 1)].get();
    for (int l = h - 1; l >= 0; --l) {
      const Layer& layer = net_.layers[l];
      collect(rows, l, z, l == 0 ? record.input() : record.value(l - 1));
      collect_bias(rows, l, z);
      Real* to = l == 0 ? input_adjoint : now;
      back(rows, layer, z, to);
      if (l == 0) return;
      const Real* other = tangents_[2 * (l - 1)].get();
      record.derivatives(l - 1, [&](auto derivatives) {
        for (int i = 0; i < rows * layer.in_width; i += kWidth)
          store(to + i, load(to + i) * derivatives.first(i) + load(other + i));
      });
      z = to;
      std::swap(now, next);
    }
  }

  // Adds the gradients, as torch holds them.
  void finish(Real* const* weights, Real* const* biases) {
    for (size_t l = 0; l < outer_.size(); ++l) {
      const Layer& layer = net_.layers[l];
      outer_[l].flush();
      if (weights[l] != nullptr)
        for (int o = 0; o < layer.n_out; ++o)
          for (int i = 0; i < layer.n_in; ++i) weights[l][size_t(o) * layer.n_in + i] += outer_[l].at(o, i);
      if (biases[l] != nullptr)
        for (int o = 0; o < layer.n_out; ++o)
          biases[l][o] += Real(double(bias_[l].get()[o]) + (settled_.empty() ? 0.0 : settled_[l][o]));
    }
  }

  // Before the next rows: what was summed over those before goes to wider numbers.
  void settle() {
    settled_.resize(bias_.size());
    for (size_t l = 0; l < outer_.size(); ++l) {
      outer_[l].settle();
      settled_[l].resize(bias_[l].size());
      for (size_t i = 0; i < bias_[l].size(); ++i) settled_[l][i] += double(bias_[l].get()[i]);
      bias_[l].clear();
    }
  }

 private:
  static constexpr int kHeld = 96;
  static constexpr int kFew = kWidth / 4;  // numbers a row for which products of rows are faster than of columns

  // The hidden layers' values; returns the last ones.
  const Real* forward(int rows, Record& record) {
    const Real* a = record.input();
    for (int l = 0; l < net_.hidden(); ++l) {
      const Layer& layer = net_.layers[l];
      Real* z = record.value(l);
      product(rows, layer.n_out, layer.n_in, {a, layer.in_width, 1}, layer.forward.get(), layer.out_width,
              layer.bias.get(), 0, z, layer.out_width);
      activate(net_.activation, z, z, record.slope(l), record.bend(l), rows * layer.out_width);
      a = record.value(l);
    }
    return a;
  }

  static void back(int rows, const Layer& layer, const Real* z, Real* out) {
    if (layer.n_in <= kFew)
      dots(rows, layer.n_in, layer.out_width, z, layer.forward.get(), nullptr, out, layer.in_width);
    else
      product(rows, layer.n_in, layer.n_out, {z, layer.out_width, 1}, layer.backward.get(), layer.in_width, nullptr,
              0, out, layer.in_width);
  }

  static void multiply(int n, Real* x, const Real* y) {
    for (int i = 0; i < n; i += kWidth) store(x + i, load(x + i) * load(y + i));
  }

  void collect(int rows, int l, const Real* left, const Real* right) {
    if (purpose_ == kWeights) outer_[l].add(rows, left, right);
  }

  void collect_bias(int rows, int l, const Real* z) {
    if (purpose_ != kWeights) return;
    const int width = net_.layers[l].out_width;
    for (int m = 0; m < rows; ++m)
      for (int i = 0; i < width; i += kWidth)
        store(bias_[l].get() + i, load(bias_[l].get() + i) + load(z + size_t(m) * width + i));
  }

  const Network& net_;
  Purpose purpose_;
  Buffer one_, two_, ones_;
  std::vector<Buffer> tangents_, bias_;
  std::vector<OuterProducts> outer_;
  std::vector<std::vector<double>> settled_;  // of the biases' gradients
};
