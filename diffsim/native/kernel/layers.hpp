// A network's layers as the products want them, and what one evaluation leaves for its reverse.
#pragma once
#include <vector>

#include "activations.hpp"

// Weights as torch holds them, [n_out, n_in], packed in both orders.
struct Layer {
  int n_in, n_out, in_width, out_width;
  Buffer forward, backward, bias;  // [n_in, out_width], [n_out, in_width], [out_width]

  Layer(int n_in_, int n_out_, const Real* weight, const Real* bias_)
      : n_in(n_in_), n_out(n_out_), in_width(padded(n_in_)), out_width(padded(n_out_)),
        forward(size_t(n_in_) * out_width), backward(size_t(n_out_) * in_width), bias(out_width) {
    for (int o = 0; o < n_out; ++o) copy(n_in, weight + size_t(o) * n_in, backward.get() + size_t(o) * in_width);
    constexpr int block = 16;  // columns at a time, so that the lines they go to stay in the cache
    for (int first = 0; first < n_in; first += block)
      for (int o = 0; o < n_out; ++o)
        for (int i = first; i < n_in && i < first + block; ++i)
          forward.get()[size_t(i) * out_width + o] = weight[size_t(o) * n_in + i];
    if (bias_ != nullptr) copy(n_out, bias_, bias.get());
  }
};

struct Network {
  std::vector<Layer> layers;
  int activation;
  Buffer summed;  // the gradient of the summed outputs in the last hidden layer, [width]

  int hidden() const { return int(layers.size()) - 1; }
  int n_in() const { return layers.front().n_in; }
  int in_width() const { return layers.front().in_width; }
  int out_width() const { return layers.back().out_width; }
  int widest() const {
    int most = in_width();
    for (const Layer& layer : layers) most = most > layer.out_width ? most : layer.out_width;
    return most;
  }
  void sum_outputs() {
    const Layer& last = layers.back();
    summed = Buffer(last.in_width);
    for (int o = 0; o < last.n_out; ++o)
      for (int i = 0; i < last.n_in; ++i) summed.get()[i] += last.backward.get()[size_t(o) * last.in_width + i];
  }
};

// What one evaluation of some rows leaves for its reverse: the input [in_width] and, of each hidden layer, the values a
// and with an energy of gradient g in a the pulls g a'(z). Only where a' does not follow from a: a'(z) and g a''(z) too.
class Record {
 public:
  Record(const Network& net, bool energy) : net_(net), energy_(energy) {
    size_t numbers = net.in_width();
    for (int l = 0; l < net.hidden(); ++l) {
      at_.push_back(numbers);
      numbers += size_t(net.layers[l].out_width) * ((energy ? 2 : 1) + (follows(net.activation) ? 0 : energy ? 2 : 1));
    }
    numbers_ = numbers;
  }
  // Numbers a row.
  size_t numbers() const { return numbers_; }
  void place(int rows, Real* memory) { rows_ = rows, memory_ = memory; }

  Real* input() const { return memory_; }
  Real* value(int l) const { return array(l, 0); }
  Real* pull(int l) const { return energy_ ? array(l, 1) : nullptr; }
  Real* slope(int l) const { return follows(net_.activation) ? nullptr : array(l, energy_ ? 2 : 1); }
  Real* bend(int l) const { return follows(net_.activation) || !energy_ ? nullptr : array(l, 3); }

  // Calls `body` with the derivatives of the activation in a hidden layer.
  template <class Body>
  void derivatives(int l, Body body) const {
    switch (net_.activation) {
      case kTanh: body(Derivatives<kTanh>{value(l), pull(l), nullptr, nullptr}); return;
      case kSigmoid: body(Derivatives<kSigmoid>{value(l), pull(l), nullptr, nullptr}); return;
      case kRelu: body(Derivatives<kRelu>{value(l), pull(l), nullptr, nullptr}); return;
      default: body(Derivatives<kSoftplus>{value(l), pull(l), slope(l), bend(l)});
    }
  }

 private:
  Real* array(int l, int number) const {
    return memory_ + rows_ * (at_[l] + size_t(number) * net_.layers[l].out_width);
  }

  const Network& net_;
  bool energy_;
  std::vector<size_t> at_;
  size_t numbers_ = 0, rows_ = 0;
  Real* memory_ = nullptr;
};
