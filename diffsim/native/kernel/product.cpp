// The products: tiles in registers, and sums over rows where there are few outputs.
#include "product.hpp"

namespace {

// One tile in registers: c[m, :] = start[m, :] + sum_k a(m, k) b[k, :], Rows x (Columns vectors).
template <class V, int Rows, int Columns>
inline __attribute__((always_inline)) void tile(int inner, Left a, const Real* b, ptrdiff_t b_row, const Real* start,
                                                ptrdiff_t start_row, Real* c, ptrdiff_t c_row) {
  // Few rows: several sums at once hide the latency of the additions.
  constexpr int Parallel = Rows * Columns >= 8 ? 1 : Rows * Columns >= 4 ? 2 : 4;
  constexpr int width = sizeof(V) / sizeof(Real);
  V sums[Parallel][Rows][Columns];
#pragma GCC unroll 4
  for (int p = 0; p < Parallel; ++p)
#pragma GCC unroll 8
    for (int m = 0; m < Rows; ++m)
#pragma GCC unroll 16
      for (int j = 0; j < Columns; ++j)
        sums[p][m][j] = p == 0 && start != nullptr ? load<V>(start + m * start_row + j * width) : V{};
  int k = 0;
  for (; k + Parallel <= inner; k += Parallel)
#pragma GCC unroll 4
    for (int p = 0; p < Parallel; ++p) {
      V columns[Columns];
#pragma GCC unroll 16
      for (int j = 0; j < Columns; ++j) columns[j] = load<V>(b + (k + p) * b_row + j * width);
#pragma GCC unroll 8
      for (int m = 0; m < Rows; ++m) {
        const Real x = a.data[m * a.row + (k + p) * a.step];
#pragma GCC unroll 16
        for (int j = 0; j < Columns; ++j) sums[p][m][j] += x * columns[j];
      }
    }
  for (; Parallel > 1 && k < inner; ++k)
#pragma GCC unroll 8
    for (int m = 0; m < Rows; ++m)
#pragma GCC unroll 16
      for (int j = 0; j < Columns; ++j)
        sums[0][m][j] += a.data[m * a.row + k * a.step] * load<V>(b + k * b_row + j * width);
#pragma GCC unroll 8
  for (int m = 0; m < Rows; ++m)
#pragma GCC unroll 16
    for (int j = 0; j < Columns; ++j) {
      V total = sums[0][m][j];
#pragma GCC unroll 4
      for (int p = 1; p < Parallel; ++p) total += sums[p][m][j];
      store(c + m * c_row + j * width, total);
    }
}

template <class V, int Columns>
inline void column_block(int rows, int inner, Left a, const Real* b, ptrdiff_t b_row, const Real* start,
                         ptrdiff_t start_row, Real* c, ptrdiff_t c_row) {
  constexpr int most = kMaxColumns == 4 ? (Columns == 4 ? 6 : 8) : 6;
  const int blocks = (rows + most - 1) / most;
  for (int block = 0, m = 0; block < blocks; ++block) {
    const int count = (rows - m + blocks - block - 1) / (blocks - block);
    const Left part{a.data + m * a.row, a.row, a.step};
    const Real* from = start == nullptr ? nullptr : start + m * start_row;
    Real* to = c + m * c_row;
    switch (count) {
#define DIFFSIM_CASE(R) \
  case R: \
    if constexpr (R <= most) tile<V, R, Columns>(inner, part, b, b_row, from, start_row, to, c_row); \
    break;
      DIFFSIM_CASE(1) DIFFSIM_CASE(2) DIFFSIM_CASE(3) DIFFSIM_CASE(4)
      DIFFSIM_CASE(5) DIFFSIM_CASE(6) DIFFSIM_CASE(7) DIFFSIM_CASE(8)
#undef DIFFSIM_CASE
    }
    m += count;
  }
}

// One row: all of its columns at once, so that the weights are read as they lie in memory. Returns whether it was done.
inline bool single_row(int vectors, int inner, Left a, const Real* b, ptrdiff_t b_row, const Real* start, Real* c) {
  switch (vectors) {
#define DIFFSIM_CASE(C) \
  case C: tile<Vector, 1, C>(inner, a, b, b_row, start, 0, c, 0); return true;
    DIFFSIM_CASE(1) DIFFSIM_CASE(2) DIFFSIM_CASE(3) DIFFSIM_CASE(4) DIFFSIM_CASE(5) DIFFSIM_CASE(6) DIFFSIM_CASE(7)
    DIFFSIM_CASE(8)
#if defined(__AVX512F__)
    DIFFSIM_CASE(9) DIFFSIM_CASE(10) DIFFSIM_CASE(11) DIFFSIM_CASE(12) DIFFSIM_CASE(13) DIFFSIM_CASE(14)
#endif
#undef DIFFSIM_CASE
    default: return false;
  }
}

// Half of the sums of each of two vectors, beside each other: sums of neighbouring blocks of `Half` numbers.
template <int Half>
inline Vector halved(Vector a, Vector b) {
  Integers low, high;
  for (int i = 0; i < kWidth; ++i) {
    const int from = i % Half + 2 * Half * (i / Half);  // in a and b, one after the other
    low[i] = from, high[i] = from + Half;
  }
  return __builtin_shuffle(a, b, low) + __builtin_shuffle(a, b, high);
}

// The sums of kWidth vectors, as one vector.
template <int Half = kWidth / 2>
inline Vector sums_of(const Vector* v) {
  if constexpr (Half == 0) {
    return v[0];
  } else {
    Vector half[Half];
#pragma GCC unroll 8
    for (int i = 0; i < Half; ++i) half[i] = halved<Half>(v[2 * i], v[2 * i + 1]);
    return sums_of<Half / 2>(half);
  }
}

inline Real sum_of(Vector v) {
#pragma GCC unroll 4
  for (int half = kWidth / 2; half > 0; half /= 2) {
    Integers other;
    for (int i = 0; i < kWidth; ++i) other[i] = i ^ half;
    v += __builtin_shuffle(v, other);
  }
  return v[0];
}

// All rows, in blocks of columns.
template <class V>
inline void columns_of(int vectors, int rows, int inner, Left a, const Real* b, ptrdiff_t b_row, const Real* start,
                       ptrdiff_t start_row, Real* c, ptrdiff_t c_row) {
  const int blocks = (vectors + kMaxColumns - 1) / kMaxColumns;
  for (int block = 0, j = 0; block < blocks; ++block) {
    const int count = (vectors - j + blocks - block - 1) / (blocks - block);
    const ptrdiff_t at = ptrdiff_t(j) * (sizeof(V) / sizeof(Real));
    const Real* from = start == nullptr ? nullptr : start + at;
    switch (count) {
      case 1: column_block<V, 1>(rows, inner, a, b + at, b_row, from, start_row, c + at, c_row); break;
      case 2: column_block<V, 2>(rows, inner, a, b + at, b_row, from, start_row, c + at, c_row); break;
#if defined(__AVX512F__)
      case 3: column_block<V, 3>(rows, inner, a, b + at, b_row, from, start_row, c + at, c_row); break;
      case 4: column_block<V, 4>(rows, inner, a, b + at, b_row, from, start_row, c + at, c_row); break;
#endif
    }
    j += count;
  }
}

}  // namespace

void product(int rows, int columns, int inner, Left a, const Real* b, ptrdiff_t b_row, const Real* start,
             ptrdiff_t start_row, Real* c, ptrdiff_t c_row) {
  const int vectors = padded(columns) / kWidth;
  if (rows == 1 && single_row(vectors, inner, a, b, b_row, start, c)) return;
#if defined(__AVX512F__)
  // Where the last vector is half empty, vectors half as wide do less work at the same rate.
  constexpr int half = kWidth / 2;
  const int halves = (columns + half - 1) / half;
  if (halves < 2 * vectors) {
    columns_of<HalfVector>(halves, rows, inner, a, b, b_row, start, start_row, c, c_row);
    for (int m = 0; m < rows; ++m) store(c + m * c_row + halves * half, HalfVector{});
    return;
  }
#endif
  columns_of<Vector>(vectors, rows, inner, a, b, b_row, start, start_row, c, c_row);
}

namespace {

// As many rows as give a vector of sums: all of them at once.
template <int Outputs>
int dots_of_blocks(int rows, int inner_width, const Real* a, const Real* b, const Real* start, Real* c,
                   ptrdiff_t c_row) {
  constexpr int Rows = kWidth / Outputs;
  int m = 0;
  for (; m + Rows <= rows; m += Rows) {
    Vector sums[kWidth] = {};
    for (int k = 0; k < inner_width; k += kWidth)
#pragma GCC unroll 16
      for (int i = 0; i < Rows; ++i) {
        const Vector x = load(a + ptrdiff_t(m + i) * inner_width + k);
#pragma GCC unroll 4
        for (int o = 0; o < Outputs; ++o) sums[i * Outputs + o] += x * load(b + ptrdiff_t(o) * inner_width + k);
      }
    const Vector totals = sums_of(sums);
    for (int i = 0; i < Rows; ++i)
      for (int o = 0; o < Outputs; ++o)
        c[(m + i) * c_row + o] = totals[i * Outputs + o] + (start == nullptr ? 0 : start[o]);
  }
  return m;
}

}  // namespace

void dots(int rows, int outputs, int inner_width, const Real* a, const Real* b, const Real* start, Real* c,
          ptrdiff_t c_row) {
  int m = 0;
  switch (outputs) {
#define DIFFSIM_CASE(O) \
  case O: \
    if constexpr (O <= kWidth) m = dots_of_blocks<O>(rows, inner_width, a, b, start, c, c_row); \
    break;
    DIFFSIM_CASE(1) DIFFSIM_CASE(2) DIFFSIM_CASE(3) DIFFSIM_CASE(4)
#undef DIFFSIM_CASE
  }
  for (; m < rows; ++m)
    for (int o = 0; o < outputs; ++o) {
      const Real *x = a + ptrdiff_t(m) * inner_width, *y = b + ptrdiff_t(o) * inner_width;
      Vector sum{}, other{};
      int k = 0;
      for (; k + 2 * kWidth <= inner_width; k += 2 * kWidth) {
        sum += load(x + k) * load(y + k);
        other += load(x + k + kWidth) * load(y + k + kWidth);
      }
      if (k < inner_width) sum += load(x + k) * load(y + k);
      c[m * c_row + o] = sum_of(sum + other) + (start == nullptr ? 0 : start[o]);
    }
}
