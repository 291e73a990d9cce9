// What Python calls: evaluations of fields, and solves in equal steps with their reverse.
#pragma once
#include "splitting.hpp"
#include "tiles.hpp"
#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace {

// Evaluations of a field at given states, and the reverse of each while its records are in the cache.
class Evaluation {
 public:
  Evaluation(const Field& field, int rows, Purpose purpose)
      : field_(field), work_(field, rows, purpose), record_(field, rows), times_(rows), y_(size_t(rows) * field.dimension),
        f_(y_.size()), adjoint_(y_.size()) {}

  void evaluate(int rows, Real t, const Real* y) {
    copy(size_t(rows) * field_.dimension, y, y_.get());
    for (int m = 0; m < rows; ++m) times_.get()[m] = t;
    work_.evaluate(rows, times_.get(), y_.get(), record_, f_.get());
  }
  void reverse(int rows, Real* y_adjoint) {
    adjoint_.clear();
    work_.reverse(rows, record_, f_.get(), adjoint_.get());
    copy(size_t(rows) * field_.dimension, adjoint_.get(), y_adjoint);
  }
  Real* f() { return f_.get(); }
  void finish() { work_.finish(); }

 private:
  const Field& field_;
  FieldWork work_;
  FieldRecord record_;
  Buffer times_, y_, f_, adjoint_;
};

template <class Body>
int evaluations(const FieldSpec* spec, int rows, Purpose purpose, int threads, Body body) {
  const Field field(*spec);
  return in_tiles(rows, tile_rows(field, rows, 1), threads,
                  [&](int tile) { return Worker<Evaluation, Body>{Evaluation(field, tile, purpose), body}; });
}

// Asks for large pages, so that the first use of memory costs little.
void in_large_pages(Real* memory, size_t numbers) {
#if defined(MADV_HUGEPAGE)
  constexpr uintptr_t page = 1 << 21;
  const uintptr_t begin = (uintptr_t(memory) + page - 1) / page * page, end = uintptr_t(memory + numbers) / page * page;
  if (begin < end) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
#endif
}

// With a tape, tiles are those of one evaluation at a time, forwards and in reverse: the tape is written by tiles.
template <class Solver, class Method, class Body>
int solves(const FieldSpec* spec, const Method* method, const Grid* grid, int rows, int records, Purpose purpose,
           Real* tape, int threads, Body body) {
  const Field field(*spec);
  if (purpose == Purpose::kState && tape != nullptr)
    in_large_pages(tape, rows * FieldRecord(field).numbers() * Solver::evaluations(*method, *grid));
  const bool one = purpose == Purpose::kForward || tape != nullptr;
  return in_tiles(rows, tile_rows(field, rows, one ? 1 : records), threads, [&](int tile) {
    return Worker<Solver, Body>{Solver(field, *method, *grid, tile, purpose, tape), body};
  });
}

}  // namespace

// All return 0, or 1 where memory was not enough. Gradients of weights are added to the caller's.
extern "C" {

int diffsim_evaluate(const FieldSpec* spec, int rows, double t, const Real* y, Real* f, int threads) {
  return guarded([&] {
    const int d = spec->dimension;
    return evaluations(spec, rows, Purpose::kForward, threads, [=](Evaluation& at, int first, int n) {
      at.evaluate(n, Real(t), y + size_t(first) * d);
      copy(size_t(n) * d, at.f(), f + size_t(first) * d);
    });
  });
}

int diffsim_evaluate_reverse(const FieldSpec* spec, int rows, double t, const Real* y, const Real* adjoint,
                             Real* y_adjoint, int weights, int threads) {
  return guarded([&] {
    const int d = spec->dimension;
    return evaluations(spec, rows, reverse_purpose(weights), threads, [=](Evaluation& at, int first, int n) {
      at.evaluate(n, Real(t), y + size_t(first) * d);
      copy(size_t(n) * d, adjoint + size_t(first) * d, at.f());
      at.reverse(n, y_adjoint + size_t(first) * d);
    });
  });
}

// error [rows] = |f(t, y) - target|^2, and the gradients of half the sum of all.
int diffsim_squared_error(const FieldSpec* spec, int rows, double t, const Real* y, const Real* target, Real* error,
                          Real* y_adjoint, int weights, int threads) {
  return guarded([&] {
    const int d = spec->dimension;
    return evaluations(spec, rows, reverse_purpose(weights), threads, [=](Evaluation& at, int first, int n) {
      at.evaluate(n, Real(t), y + size_t(first) * d);
      for (int m = 0; m < n; ++m) {
        Real sum = 0;
        for (int i = 0; i < d; ++i) {
          Real& f = at.f()[size_t(m) * d + i];
          f -= target[size_t(first + m) * d + i];
          sum += f * f;
        }
        error[first + m] = sum;
      }
      at.reverse(n, y_adjoint + size_t(first) * d);
    });
  });
}

// Numbers that an evaluation leaves for its reverse, a row: those of a tape, which has room for every row and evaluation.
int64_t diffsim_record_numbers(const FieldSpec* spec) {
  int64_t numbers = 0;
  return guarded([&] { return numbers = int64_t(FieldRecord(Field(*spec)).numbers()), 0; }) ? 0 : numbers;
}

int diffsim_runge_kutta(const FieldSpec* spec, const Tableau* tableau, const Grid* grid, int rows, Real* states,
                        Real* tape, int threads) {
  return guarded([&] {
    return solves<RungeKutta>(spec, tableau, grid, rows, tableau->stages, forward_purpose(tape), tape, threads,
                              [=](RungeKutta& solver, int first, int n) { solver.solve(first, n, rows, states); });
  });
}

int diffsim_runge_kutta_reverse(const FieldSpec* spec, const Tableau* tableau, const Grid* grid, int rows,
                                const Real* states, Real* tape, const Real* gradients, Real* initial, int weights,
                                int threads) {
  return guarded([&] {
    return solves<RungeKutta>(spec, tableau, grid, rows, tableau->stages, reverse_purpose(weights), tape, threads,
                              [=](RungeKutta& solver, int first, int n) {
                                solver.reverse(first, n, rows, states, gradients, initial);
                              });
  });
}

int diffsim_splitting(const FieldSpec* spec, const Moves* moves, const Grid* grid, int rows, Real* states, Real* inner,
                      Real* tape, int threads) {
  return guarded([&] {
    return solves<Splitting>(
        spec, moves, grid, rows, moves->n, forward_purpose(tape), tape, threads,
        [=](Splitting& solver, int first, int n) { solver.solve(first, n, rows, states, inner); });
  });
}

int diffsim_splitting_reverse(const FieldSpec* spec, const Moves* moves, const Grid* grid, int rows, const Real* start,
                              const Real* inner, Real* tape, const Real* gradients, Real* initial, int weights,
                              int threads) {
  return guarded([&] {
    return solves<Splitting>(spec, moves, grid, rows, moves->n, reverse_purpose(weights), tape, threads,
                             [=](Splitting& solver, int first, int n) {
                               solver.reverse(first, n, rows, start, inner, gradients, initial);
                             });
  });
}
}
