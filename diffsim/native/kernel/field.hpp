// A vector field made of networks: each gives some derivatives, as its values or as the gradient of its energy.
#pragma once
#include <memory>

#include "network.hpp"

// The description that comes from Python; all pointers belong to the caller.
struct PartSpec {
  int32_t energy;      // 1: the derivatives are the gradient of the net's summed output
  int32_t time;        // 1: the net's first input is the time
  int32_t activation;
  int32_t n_layers;
  const int32_t* widths;           // [n_layers + 1]
  const Real* const* weights;      // [n_layers], each [n_out, n_in]
  const Real* const* biases;       // [n_layers], each [n_out] or null
  Real* const* weight_gradients;   // the same, or null where not asked for
  Real* const* bias_gradients;
  int32_t first;                   // number of the first component of the state that the net sees
  const int32_t* to;               // [n]: to which derivative each of its results goes
  const double* sign;              // [n]
};

struct FieldSpec {
  int32_t dimension;
  int32_t n_parts;
  const PartSpec* parts;
};

struct Part {
  Network net;
  PartSpec spec;
  int n;  // of results

  explicit Part(const PartSpec& s) : spec(s), n(s.energy ? s.widths[0] : s.widths[s.n_layers]) {
    for (int l = 0; l < s.n_layers; ++l)
      net.layers.emplace_back(s.widths[l], s.widths[l + 1], s.weights[l], s.biases[l]);
    net.activation = s.activation;
    net.sum_outputs();
  }
};

struct Field {
  int dimension;
  std::vector<Part> parts;

  explicit Field(const FieldSpec& spec) : dimension(spec.dimension) {
    for (int i = 0; i < spec.n_parts; ++i) parts.emplace_back(spec.parts[i]);
  }
};

// What one evaluation of a field leaves for its reverse, in memory of its own or of others.
class FieldRecord {
 public:
  std::vector<Record> parts;

  explicit FieldRecord(const Field& field) {
    for (const Part& part : field.parts) parts.emplace_back(part.net, part.spec.energy);
  }
  FieldRecord(const Field& field, int rows) : FieldRecord(field) {
    own_ = Buffer(rows * numbers());
    place(rows, own_.get());
  }
  // Numbers a row.
  size_t numbers() const {
    size_t sum = 0;
    for (const Record& part : parts) sum += part.numbers();
    return sum;
  }
  void place(int rows, Real* memory) {
    for (Record& part : parts) part.place(rows, memory), memory += rows * part.numbers();
  }

 private:
  Buffer own_;
};

// Rows of a field at work: one for each thread.
class FieldWork {
 public:
  using Purpose = NetworkWork::Purpose;

  FieldWork(const Field& field, int rows, Purpose purpose) : field_(field) {
    for (const Part& part : field.parts) {
      work_.emplace_back(part.net, rows, part.spec.energy, purpose);
      const int width = part.spec.energy ? part.net.in_width() : part.net.out_width();
      results_.emplace_back(size_t(rows) * width);
      inputs_.emplace_back(size_t(rows) * part.net.in_width());
    }
  }

  // f [rows, d] = the derivatives of y [rows, d] at times t [rows] by the parts [first, last).
  void evaluate(int rows, const Real* t, const Real* y, FieldRecord& record, Real* f, int first, int last) {
    std::memset(f, 0, size_t(rows) * field_.dimension * sizeof(Real));
    for (int i = first; i < last; ++i) {
      const Part& part = field_.parts[i];
      Record& kept = record.parts[i];
      gather(rows, part, t, y, kept.input());
      const bool energy = part.spec.energy;
      energy ? work_[i].energy_gradient(rows, kept, results_[i].get()) : work_[i].value(rows, kept, results_[i].get());
      const int width = energy ? part.net.in_width() : part.net.out_width();
      for (int j = 0; j < part.n; ++j) {
        const Real sign = Real(part.spec.sign[j]);
        const Real* from = results_[i].get() + j;
        Real* to = f + part.spec.to[j];
        for (int m = 0; m < rows; ++m) to[size_t(m) * field_.dimension] += sign * from[size_t(m) * width];
      }
    }
  }
  void evaluate(int rows, const Real* t, const Real* y, FieldRecord& record, Real* f) {
    evaluate(rows, t, y, record, f, 0, int(field_.parts.size()));
  }

  // Adds to y_adjoint [rows, d], for an adjoint of f [rows, d].
  void reverse(int rows, const FieldRecord& record, const Real* adjoint, Real* y_adjoint, int first, int last) {
    for (int i = first; i < last; ++i) {
      const Part& part = field_.parts[i];
      const bool energy = part.spec.energy;
      const int width = energy ? part.net.in_width() : part.net.out_width(), in_width = part.net.in_width();
      for (int j = 0; j < part.n; ++j) {
        const Real sign = Real(part.spec.sign[j]);
        const Real* from = adjoint + part.spec.to[j];
        Real* to = results_[i].get() + j;
        for (int m = 0; m < rows; ++m) to[size_t(m) * width] = sign * from[size_t(m) * field_.dimension];
      }
      Real* input = inputs_[i].get();
      energy ? work_[i].reverse_energy_gradient(rows, record.parts[i], results_[i].get(), input)
             : work_[i].reverse_value(rows, record.parts[i], results_[i].get(), input);
      const int skip = part.spec.time ? 1 : 0;
      for (int j = skip; j < part.net.n_in(); ++j) {
        Real* to = y_adjoint + part.spec.first + j - skip;
        for (int m = 0; m < rows; ++m) to[size_t(m) * field_.dimension] += input[m * in_width + j];
      }
    }
  }
  void reverse(int rows, const FieldRecord& record, const Real* adjoint, Real* y_adjoint) {
    reverse(rows, record, adjoint, y_adjoint, 0, int(field_.parts.size()));
  }

  // Between tiles.
  void settle() {
    for (NetworkWork& work : work_) work.settle();
  }

  // Adds the gradients of the weights to the caller's.
  void finish() {
    for (size_t i = 0; i < work_.size(); ++i) {
      const PartSpec& spec = field_.parts[i].spec;
      work_[i].finish(spec.weight_gradients, spec.bias_gradients);
    }
  }

 private:
  void gather(int rows, const Part& part, const Real* t, const Real* y, Real* input) const {
    const int skip = part.spec.time ? 1 : 0, width = part.net.in_width();
    if (part.net.n_in() < width)
      for (int m = 0; m < rows; ++m) store(input + size_t(m + 1) * width - kWidth, Vector{});
    for (int m = 0; skip && m < rows; ++m) input[m * width] = t[m];
    for (int j = skip; j < part.net.n_in(); ++j) {
      const Real* from = y + part.spec.first + j - skip;
      for (int m = 0; m < rows; ++m) input[m * width + j] = from[size_t(m) * field_.dimension];
    }
  }

  const Field& field_;
  std::vector<NetworkWork> work_;
  std::vector<Buffer> results_, inputs_;
};
