// What Python calls: adaptive solves and their reverse.
#pragma once
#include "adaptive_reverse.hpp"
#include "tiles.hpp"

extern "C" {

// Paths of all trajectories, to be asked for their steps and freed; null where memory was not enough.
void* diffsim_adaptive(const FieldSpec* spec, const Embedded* method, const Outputs* outputs, int rows, Real* states,
                       int keep, int64_t* steps, int64_t* rejected, int32_t* failed, int threads) {
  std::unique_ptr<std::vector<Path>> paths;
  const int error = guarded([&] {
    paths = std::make_unique<std::vector<Path>>(rows);
    Path* const first_path = paths->data();
    const Field field(*spec);
    const size_t all = rows;
    const int shared = (rows + threads - 1) / threads, lanes = tile_rows(field, shared, 1);
    auto solve = [=](Adaptive& solver, int first, int n) { solver.solve(first, n, all, states, first_path); };
    return in_tiles(rows, shared, threads, [&](int) {
      return Worker<Adaptive, decltype(solve)>{Adaptive(field, *method, *outputs, lanes, keep), solve};
    });
  });
  if (error) return nullptr;
  for (int r = 0; r < rows; ++r) {
    steps[r] = int64_t((*paths)[r].begins.size());
    rejected[r] = (*paths)[r].rejected;
    failed[r] = (*paths)[r].failed;
  }
  return paths.release();
}

void diffsim_paths_copy(const void* paths, double* begins, double* lengths, Real* states) {
  for (const Path& path : *static_cast<const std::vector<Path>*>(paths)) {
    begins = std::copy(path.begins.begin(), path.begins.end(), begins);
    lengths = std::copy(path.lengths.begin(), path.lengths.end(), lengths);
    states = std::copy(path.states.begin(), path.states.end(), states);
  }
}

void diffsim_paths_free(void* paths) { delete static_cast<std::vector<Path>*>(paths); }

int diffsim_adaptive_reverse(const FieldSpec* spec, const Embedded* method, const Outputs* outputs, int rows,
                             const Steps* steps, const Real* gradients, Real* initial, int weights, int threads) {
  return guarded([&] {
    const Field field(*spec);
    const size_t all = rows;
    const int shared = (rows + threads - 1) / threads, lanes = tile_rows(field, shared, method->tableau.stages);
    auto reverse = [=](AdaptiveReverse& solver, int first, int n) {
      solver.reverse(first, n, all, *steps, gradients, initial);
    };
    return in_tiles(rows, shared, threads, [&](int) {
      return Worker<AdaptiveReverse, decltype(reverse)>{
          AdaptiveReverse(field, *method, *outputs, lanes, reverse_purpose(weights)), reverse};
    });
  });
}
}
