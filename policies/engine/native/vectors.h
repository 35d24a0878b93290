// Vectors of the widest kind that the compiler was told of, sums whose order does not change, exp and log.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <type_traits>

namespace treewise {

#if defined(__AVX512F__)
constexpr int BYTES = 64;  // of a vector
#elif defined(__AVX__)
constexpr int BYTES = 32;
#else
constexpr int BYTES = 16;
#endif

template <class T> struct Vector {
    typedef T type __attribute__((vector_size(BYTES), aligned(sizeof(T)), may_alias));
};
template <class T> using V = typename Vector<T>::type;
template <class T> constexpr int WIDTH = BYTES / int(sizeof(T));

template <class T> inline const V<T>& at(const T* p) { return *reinterpret_cast<const V<T>*>(p); }
template <class T> inline V<T>& at(T* p) { return *reinterpret_cast<V<T>*>(p); }
template <class T> inline V<T> all(T x) { return V<T>{} + x; }

template <class T> inline T sum(V<T> v) {
    T lane[WIDTH<T>];
    std::memcpy(lane, &v, sizeof v);
    for (int half = WIDTH<T> / 2; half; half /= 2)
        for (int i = 0; i < half; i++) lane[i] += lane[i + half];
    return lane[0];
}

// lane i: the sum of v[i]; the same sum as of any other of them (changes v)
template <class T, int S = WIDTH<T> / 2> inline V<T> sums(V<T>* v) {
    typedef std::conditional_t<sizeof(T) == 4, int32_t, int64_t> Whole;
    typedef Whole Places __attribute__((vector_size(BYTES)));
    Places near, far;
    for (int i = 0; i < WIDTH<T>; i++) {  // of each 2 S lanes the first S are of v[i], the others of v[i + S]
        near[i] = i / S % 2 ? i - S + WIDTH<T> : i;
        far[i] = near[i] + S;
    }
    for (int i = 0; i < S; i++) v[i] = __builtin_shuffle(v[i], v[i + S], near) + __builtin_shuffle(v[i], v[i + S], far);
    if constexpr (S > 1) return sums<T, S / 2>(v);
    return v[0];
}

// ---- exp, within an ulp or two; of less than the smallest normal number 0 ----

inline V<float> exponential(V<float> x) {
    typedef int32_t I __attribute__((vector_size(BYTES)));
    const V<float> low = all(-87.33654f), high = all(88.37626f);
    V<float> clipped = x < low ? low : x;
    clipped = clipped > high ? high : clipped;
    V<float> n = clipped * 1.44269504088896341f + 12582912.0f;  // rounds to the nearest whole number
    I power = (I)n - 0x4B400000;
    n = n - 12582912.0f;
    V<float> r = clipped - n * 0.693359375f;
    r = r + n * 2.12194440e-4f;
    V<float> p = all(1.9875691500e-4f);
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * (r * r) + r + 1.0f;
    V<float> scale = (V<float>)((power + 127) << 23);
    return x < low ? V<float>{} : p * scale;
}

inline V<double> exponential(V<double> x) {
    for (int i = 0; i < WIDTH<double>; i++) x[i] = std::exp(x[i]);
    return x;
}

// numbers that begin where a line of the cache does: what lies across two is read twice as slowly
template <class T> class Numbers {
  public:
    T* data() const { return data_; }
    void resize(int64_t count) {
        if (count <= count_) return;
        memory_.reset(new char[count * sizeof(T) + 64]());
        data_ = reinterpret_cast<T*>((reinterpret_cast<uintptr_t>(memory_.get()) + 63) / 64 * 64);
        count_ = count;
    }

  private:
    std::unique_ptr<char[]> memory_;
    T* data_ = nullptr;
    int64_t count_ = 0;
};

}  // namespace treewise
