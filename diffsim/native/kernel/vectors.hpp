// Vectors as wide as the processor's registers, and aligned memory for rows of them.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>
#include <utility>

using Real = REAL;

#if defined(__AVX512F__)
constexpr int kBytes = 64, kMaxColumns = 4;  // a product's tile: 24 of 32 registers
#else
constexpr int kBytes = 32, kMaxColumns = 2;  // 12 of 16
#endif
constexpr int kMaxRows = kMaxColumns == 4 ? 8 : 6;
constexpr int kTile = kMaxColumns == 4 ? 24 : 12;
constexpr int kWidth = kBytes / sizeof(Real);

typedef Real Vector __attribute__((vector_size(kBytes), aligned(kBytes)));
typedef Real HalfVector __attribute__((vector_size(kBytes / 2), aligned(kBytes / 2)));

template <class T> struct IntegerOf;
template <> struct IntegerOf<float> { typedef int32_t type; };
template <> struct IntegerOf<double> { typedef int64_t type; };
typedef IntegerOf<Real>::type Integer;
typedef Integer Integers __attribute__((vector_size(kBytes), aligned(kBytes)));

inline int padded(int n) { return (n + kWidth - 1) / kWidth * kWidth; }
template <class V = Vector>
inline V load(const Real* p) { return *reinterpret_cast<const V*>(p); }
template <class V>
inline void store(Real* p, V v) { *reinterpret_cast<V*>(p) = v; }

inline void copy(size_t n, const Real* from, Real* to) { std::memcpy(to, from, n * sizeof(Real)); }

// sum += factor * x for n numbers anywhere in memory.
inline void add_row(int n, Real factor, const Real* x, Real* sum) {
  typedef Real Loose __attribute__((vector_size(kBytes), aligned(sizeof(Real)), may_alias));
  int i = 0;
  for (; i + kWidth <= n; i += kWidth)
    *reinterpret_cast<Loose*>(sum + i) += factor * *reinterpret_cast<const Loose*>(x + i);
  for (; i < n; ++i) sum[i] += factor * x[i];
}

inline void scale_row(int n, Real factor, Real* x) {
  for (int i = 0; i < n; ++i) x[i] *= factor;
}

// Numbers in aligned memory, zero at first.
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(size_t n) : size_(n) {
    if (n == 0) return;
    const size_t bytes = (n * sizeof(Real) + 63) / 64 * 64;
    data_ = static_cast<Real*>(std::aligned_alloc(64, bytes));
    if (data_ == nullptr) throw std::bad_alloc();
    clear();
  }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  Buffer(Buffer&& other) noexcept : data_(other.data_), size_(other.size_) { other.data_ = nullptr; }
  Buffer& operator=(Buffer&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
  }
  ~Buffer() { std::free(data_); }
  void clear() { if (data_ != nullptr) std::memset(data_, 0, size_ * sizeof(Real)); }
  Real* get() const { return data_; }
  size_t size() const { return size_; }

 private:
  Real* data_ = nullptr;
  size_t size_ = 0;
};
