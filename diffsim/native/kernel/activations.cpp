// Activations with their first and second derivatives, to a few units in the last place.
#include "activations.hpp"

#include <limits>
#if defined(__AVX512F__)
#include <immintrin.h>
#endif

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
    const Vector r = (Vector)_mm512_rcp14_ps((__m512)b);
    return a * (r * (2 - b * r));  // one step of Newton's method
  }
#endif
  return a / b;
}

#if defined(__AVX512F__)
// Sixteen intervals of [0, 9], finer near 0: their centers, and coefficients in the distance from there, the constant
// one first, of least relative error, 2e-8 before rounding. A register holds one number of all intervals.
constexpr int kDegree = 5;
alignas(64) constexpr Real kTanhTable[kDegree + 2][16] = {
    {0, 0.224999994, 0.375, 0.524999976, 0.75, 1.04999995, 1.35000002, 1.64999998, 2.0999999, 2.70000005, 3.29999995,
     3.9000001, 4.80000019, 6, 7.19999981, 8.39999962},
    {0, 0.221278459, 0.3583574, 0.48154977, 0.635148942, 0.78180635, 0.874053299, 0.928857625, 0.970451891, 0.991007447,
     0.997282982, 0.999180853, 0.999864519, 0.999987721, 0.999998868, 0.999999881},
    {1, 0.951035857, 0.871580005, 0.768109798, 0.59658587, 0.388778836, 0.236030817, 0.137223512, 0.0582230017,
     0.0179042406, 0.00542670581, 0.00163760013, 0.00027090931, 2.45793963e-05, 2.22981862e-06, 2.02284852e-07},
    {1.09810856e-06, -0.210442588, -0.312335908, -0.369882315, -0.378920555, -0.303955227, -0.20630689, -0.127462149,
     -0.0565005653, -0.0177405681, -0.00541093899, -0.0016359298, -0.000269932731, -2.44934399e-05, -2.22204244e-06,
     -2.01579596e-07},
    {-0.333387196, -0.270450264, -0.178602189, -0.0779220313, 0.041797094, 0.108039871, 0.101647258, 0.0726538524,
     0.0354289673, 0.0116145266, 0.00358778937, 0.00108885788, 0.00017996681, 1.63338864e-05, 1.48184029e-06,
     1.34430095e-07},
    {0.00088254927, 0.129436165, 0.167528659, 0.1604352, 0.099713482, 0.0175003521, -0.01967532, -0.0248741545,
     -0.0156087289, -0.00567533029, -0.0018046269, -0.000552382029, -9.68747336e-05, -8.79896925e-06, -7.98312783e-07,
     -7.24220541e-08},
    {0.128328532, 0.0831019804, 0.0192810614, -0.0338590331, -0.0630868152, -0.0406524949, -0.0113440333, 0.00192234502,
     0.00450353138, 0.0020918278, 0.000704679755, 0.000219247057, 3.85698841e-05, 3.50735831e-06, 3.18249334e-07,
     2.88715061e-08},
};

inline Vector tanh_single(Vector x) {
  const Integers sign = (Integers)x & std::numeric_limits<Integer>::min();
  const Vector size = (Vector)_mm512_min_ps((__m512)constant(9), (__m512)((Integers)x ^ sign));  // NaN stays NaN
  // Four intervals in each octave of a number in [2, 32): its exponent and first bits are the interval's number.
  const Integers interval = (Integers)(size * Real(3.33333) + 2) >> 21;
  const auto entry = [&](int row) { return __builtin_shuffle(load(kTanhTable[row]), interval); };
  const Vector r = size - entry(0);
  Vector y = entry(kDegree + 1);
#pragma GCC unroll 8
  for (int k = kDegree; k > 0; --k) y = y * r + entry(k);
  return (Vector)((Integers)y | sign);
}
#else
// A rational function of least relative error on [-8, 8], 2e-8 before rounding; from there on the last value.
inline Vector tanh_single(Vector x) {
  x = choose(x > 8, constant(8), choose(x < -8, constant(-8), x));
  const Vector u = x * x;
  const Vector above = polynomial(u, 0.9999999810898954, 0.1297922394402259, 0.0029858625032486296,
                                  9.878665078465568e-06, -1.4704234537561662e-08, 2.350864263021887e-11);
  const Vector below = polynomial(u, 1.0, 0.4631253998686991, 0.024027926945247583, 0.00023720331187478878);
  return quotient(x * above, below);
}
#endif

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
