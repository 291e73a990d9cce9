// Activations with their first and second derivatives, to a few units in the last place.
#include "activations.hpp"

#include <limits>

namespace {

// A polynomial by its coefficients, the constant one first.
inline Vector polynomial(Vector, double c) { return constant(Real(c)); }
template <class... Higher>
inline __attribute__((always_inline)) Vector polynomial(Vector x, double c, Higher... higher) {
  return polynomial(x, higher...) * x + Real(c);
}

// exp(x) = scale (1 + rest), for x within the range of the exponent.
inline void exponential(Vector x, Vector& scale, Vector& rest) {
  constexpr bool single = sizeof(Real) == 4;
  constexpr int mantissa = std::numeric_limits<Real>::digits - 1;
  // Adding this number leaves the nearest whole number in the low bits.
  constexpr Real shift = single ? Real(12582912.0) : Real(6755399441055744.0);
  const Vector shifted = x * Real(1.44269504088896340736) + shift;
  const Vector whole = shifted - shift;
  // ln 2 in two parts, the first with so few digits that its products are exact.
  constexpr Real high = single ? Real(0.693359375) : Real(0.693147180369123816490);
  constexpr Real low = single ? Real(-2.12194440054690583e-4) : Real(1.90821492927058770002e-10);
  const Vector r = (x - whole * high) - whole * low;
  const Integers n = (Integers)shifted - (Integers)constant(shift);
  scale = (Vector)((n << mantissa) + (Integers)constant(1));
  if constexpr (single)
    rest = r * polynomial(r, 1.0, 1.0 / 2, 1.0 / 6, 1.0 / 24, 1.0 / 120, 1.0 / 720, 1.0 / 5040);
  else
    rest = r * polynomial(r, 1.0, 1.0 / 2, 1.0 / 6, 1.0 / 24, 1.0 / 120, 1.0 / 720, 1.0 / 5040, 1.0 / 40320,
                          1.0 / 362880, 1.0 / 3628800, 1.0 / 39916800, 1.0 / 479001600, 1.0 / 6227020800);
}

// a / b for b far from zero and infinity.
inline Vector quotient(Vector a, Vector b) {
#if defined(__AVX512F__)
  if constexpr (sizeof(Real) == 4) {
    typedef float Singles __attribute__((vector_size(64)));
    const Vector r = (Vector)__builtin_ia32_rcp14ps512_mask((Singles)b, Singles{}, (unsigned short)-1);
    return a * (r * (2 - b * r));  // one step of Newton's method
  }
#endif
  return a / b;
}

// A rational function of least relative error on [-8, 8], 2e-8 before rounding; from there on the last value.
inline Vector tanh_single(Vector x) {
  x = choose(x > 8, constant(8), choose(x < -8, constant(-8), x));
  const Vector u = x * x;
  const Vector above = polynomial(u, 0.9999999810898954, 0.1297922394402259, 0.0029858625032486296,
                                  9.878665078465568e-06, -1.4704234537561662e-08, 2.350864263021887e-11);
  const Vector below = polynomial(u, 1.0, 0.4631253998686991, 0.024027926945247583, 0.00023720331187478878);
  return quotient(x * above, below);
}

inline Vector tanh_of(Vector x) {
  if constexpr (sizeof(Real) == 4) return tanh_single(x);
  constexpr Real most = 19.5;  // from here on it is 1
  Vector size = magnitude(x), scale, rest;
  size = choose(size > most, constant(most), size);
  exponential(2 * size, scale, rest);
  const Vector e = scale * rest + (scale - 1);
  const Vector y = e / (e + 2);
  return choose(x < 0, -y, choose(x == x, y, x));
}

// exp(-|x|), which is 0 only where it does not matter; NaN stays NaN.
inline Vector decay(Vector x) {
  constexpr Real most = sizeof(Real) == 4 ? Real(87) : Real(708);
  Vector size = magnitude(x), scale, rest;
  size = choose(size > most, constant(most), size);
  exponential(-size, scale, rest);
  return scale + scale * rest;
}

inline Vector sigmoid_of(Vector x) {
  const Vector e = decay(x);
  return quotient(choose(x < 0, e, constant(1)), 1 + e);
}

inline Vector softplus_of(Vector x) {
  const Vector e = decay(x), s = quotient(e, 2 + e), square = s * s;
  Vector sum;  // of the series of artanh(s) / s, where log(1 + e) = 2 artanh(s)
  if constexpr (sizeof(Real) == 4)
    sum = polynomial(square, 1.0, 1.0 / 3, 1.0 / 5, 1.0 / 7, 1.0 / 9, 1.0 / 11, 1.0 / 13, 1.0 / 15, 1.0 / 17);
  else
    sum = polynomial(square, 1.0, 1.0 / 3, 1.0 / 5, 1.0 / 7, 1.0 / 9, 1.0 / 11, 1.0 / 13, 1.0 / 15, 1.0 / 17, 1.0 / 19,
                     1.0 / 21, 1.0 / 23, 1.0 / 25, 1.0 / 27, 1.0 / 29, 1.0 / 31, 1.0 / 33, 1.0 / 35);
  return choose(x > 0, x, choose(x == x, Vector{}, x)) + 2 * s * sum;
}

template <int Kind, bool Second>
inline void apply(const Real* z, Real* a, Real* first, Real* second, int n) {
  for (int i = 0; i < n; i += kWidth) {
    const Vector x = load(z + i);
    Vector y, d1, d2 = Vector{};
    if constexpr (Kind == kTanh) {
      y = tanh_of(x);
      d1 = 1 - y * y;
      d2 = -2 * y * d1;
    } else if constexpr (Kind == kSigmoid) {
      y = sigmoid_of(x);
      d1 = y * (1 - y);
      d2 = d1 * (1 - 2 * y);
    } else if constexpr (Kind == kSoftplus) {
      y = softplus_of(x);
      d1 = sigmoid_of(x);
      d2 = d1 * (1 - d1);
    } else if constexpr (Kind == kSilu) {
      const Vector s = sigmoid_of(x), slope = s * (1 - s);
      y = x * s;
      d1 = s + x * slope;
      d2 = slope * (2 + x * (1 - 2 * s));
    } else {
      y = choose(x > 0, x, choose(x == x, Vector{}, x));
      d1 = choose(x > 0, constant(1), Vector{});
    }
    store(a + i, y);
    if (first != nullptr) store(first + i, d1);
    if constexpr (Second) store(second + i, d2);
  }
}

}  // namespace

void activate(int kind, const Real* z, Real* a, Real* first, Real* second, int n) {
#define DIFFSIM_CASE(K) \
  case K: second != nullptr ? apply<K, true>(z, a, first, second, n) : apply<K, false>(z, a, first, second, n); return;
  switch (kind) {
    DIFFSIM_CASE(kTanh) DIFFSIM_CASE(kSigmoid) DIFFSIM_CASE(kSoftplus) DIFFSIM_CASE(kSilu) DIFFSIM_CASE(kRelu)
  }
#undef DIFFSIM_CASE
}
