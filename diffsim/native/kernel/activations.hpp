// Activations, and their derivatives from their values.
#pragma once
#include "vectors.hpp"

enum Activation { kTanh, kSigmoid, kSoftplus, kSilu, kRelu };

inline Vector constant(Real x) { return x - Vector{}; }
inline Vector choose(Integers mask, Vector yes, Vector no) { return mask ? yes : no; }
inline Vector magnitude(Vector x) { return choose(x < 0, -x, x); }

// Values a of n numbers z, a multiple of the vectors' width; first and second derivatives where they are asked for.
void activate(int kind, const Real* z, Real* a, Real* first, Real* second, int n);

// Whether an activation's derivatives follow from its value.
constexpr bool follows(int kind) { return kind == kTanh || kind == kSigmoid || kind == kRelu; }

// Derivatives of an activation at the numbers of a layer: from its values, or as they were stored.
template <int Kind>
struct Derivatives {
  const Real *value, *pull, *slope, *bend;

  // a'(z)
  Vector first(int i) const {
    if constexpr (!follows(Kind)) return load(slope + i);
    const Vector a = load(value + i);
    if constexpr (Kind == kTanh) return 1 - a * a;
    if constexpr (Kind == kSigmoid) return a * (1 - a);
    return choose(a > 0, constant(1), Vector{});
  }
  // g a''(z), for the pull g a'(z)
  Vector second(int i) const {
    if constexpr (!follows(Kind)) return load(bend + i);
    if constexpr (Kind == kTanh) return load(pull + i) * (-2 * load(value + i));
    if constexpr (Kind == kSigmoid) return load(pull + i) * (1 - 2 * load(value + i));
    return Vector{};
  }
};
