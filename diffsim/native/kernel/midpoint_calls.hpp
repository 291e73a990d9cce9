// What Python calls: solves by the implicit midpoint rule and their reverse.
#pragma once
#include "midpoint.hpp"
#include "tiles.hpp"

namespace {

template <class Body>
int midpoints(const FieldSpec* spec, const Grid* grid, int rows, Purpose purpose, int threads, Body body) {
  const Field field(*spec);
  return in_tiles(rows, tile_rows(field, rows, 1), threads, [&](int tile) {
    return Worker<Midpoint, Body>{Midpoint(field, *grid, tile, purpose), body};
  });
}

}  // namespace

extern "C" {

int diffsim_midpoint(const FieldSpec* spec, const Grid* grid, int rows, Real* states, int32_t* failed, int threads) {
  return guarded([&] {
    return midpoints(spec, grid, rows, Purpose::kForward, threads,
                     [=](Midpoint& solver, int first, int n) { solver.solve(first, n, rows, states, failed); });
  });
}

int diffsim_midpoint_reverse(const FieldSpec* spec, const Grid* grid, int rows, const Real* states,
                             const Real* gradients, Real* initial, int32_t* failed, int weights, int threads) {
  return guarded([&] {
    return midpoints(spec, grid, rows, reverse_purpose(weights), threads, [=](Midpoint& solver, int first, int n) {
      solver.reverse(first, n, rows, states, gradients, initial, failed);
    });
  });
}
}
