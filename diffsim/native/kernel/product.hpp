// Products of small matrices: rows of trajectories times weights that stay in the cache.
#pragma once
#include "vectors.hpp"

// A matrix read number by number: element (m, k) is data[m * row + k * step].
struct Left {
  const Real* data;
  ptrdiff_t row, step;
};

// c = start + a b for `columns` numbers a row; no start is zero, a row of 0 repeats it. Rows of b, start and c are
// whole vectors, of which b's and start's end in zeros.
void product(int rows, int columns, int inner, Left a, const Real* b, ptrdiff_t b_row, const Real* start,
             ptrdiff_t start_row, Real* c, ptrdiff_t c_row);

// c[m, o] = start[o] + sum_k a[m, k] b[o, k] for few outputs: rows of both are whole vectors, b's end in zeros.
void dots(int rows, int outputs, int inner_width, const Real* a, const Real* b, const Real* start, Real* c,
          ptrdiff_t c_row);
