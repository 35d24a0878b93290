// A draw of the rule that policies/engine/sampler.py states.
#pragma once
#include <limits>

#include "vectors.h"

namespace treewise {

typedef double D __attribute__((vector_size(BYTES), aligned(8), may_alias));
typedef uint64_t U __attribute__((vector_size(BYTES)));
typedef int64_t Flags __attribute__((vector_size(BYTES)));
typedef float F __attribute__((vector_size(BYTES / 2), aligned(4), may_alias));  // as many as a D has

template <class X> inline X mixed(X x) {  // splitmix64
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ull;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBull;
    return x ^ (x >> 31);
}

inline D whole(U x) { return (D)(x | 0x4330000000000000ull) - 4503599627370496.0; }  // below 2^52

// natural logarithm of normal numbers, within an ulp: x = 2^e (1 + f), log(1 + f) by a series in f / (2 + f)
inline D logarithm(D x) {
    U bits = (U)x + (0x3FF0000000000000ull - 0x3FE6A09E667F3BCDull);
    const D e = whole(bits >> 52) - 1023.0;
    const D f = (D)((bits & 0x000FFFFFFFFFFFFFull) + 0x3FE6A09E667F3BCDull) - 1.0;
    const D s = f / (2.0 + f), z = s * s, w = z * z, half = 0.5 * f * f;
    const D odd = w * (0.3999999999940941908 + w * (0.2222219843214978396 + w * 0.1531383769920937332));
    const D even = z * (0.6666666666666735130 + w * (0.2857142874366239149 + w * (0.1818357216161805012 +
                   w * 0.1479819860511658591)));
    const D low = e * 1.90821492927058770002e-10, high = e * 6.93147180369123816490e-01;
    return high - ((half - (s * (half + odd + even) + low)) - f);
}

// the first arrival in a race at the rates softmax(logits / heat), or the largest logit where heat is 0
int64_t drawn(const float* logits, int64_t size, uint64_t seed, uint64_t position, float heat, float* share,
              double& logprob) {
    constexpr int L = WIDTH<float>, H = WIDTH<double>;
    const int64_t pitch = (size + L - 1) / L * L;
    const float by = heat > 0 ? heat : 1.0f;
    float top = -std::numeric_limits<float>::infinity();
    int64_t best = 0;
    for (int64_t i = 0; i < size; i++) {
        share[i] = logits[i] / by;
        if (share[i] > top) top = share[i], best = i;
    }
    for (int64_t i = size; i < pitch; i++) share[i] = -std::numeric_limits<float>::infinity();
    V<float> total{};
    for (int64_t i = 0; i < pitch; i += L) total += at(share + i) = exponential(at(share + i) - top);
    const float sum_ = sum<float>(total);
    if (heat > 0) {
        const uint64_t gamma = 0x9E3779B97F4A7C15ull;
        const uint64_t key = mixed(mixed(seed + gamma) + (position + 1) * gamma);
        U number{};
        for (int i = 0; i < H; i++) number[i] = i + 1;
        D first = D{} + std::numeric_limits<double>::infinity();
        U who{};
        for (int64_t i = 0; i < pitch; i += H, number += H) {
            const U random = mixed(number * gamma + key) >> 12;
            const D rate = __builtin_convertvector(*(const F*)(share + i), D) / sum_;
            const D time = -logarithm((whole(random) + 0.5) * 0x1p-52) / rate;
            const Flags sooner = time < first;
            first = sooner ? time : first;
            who = sooner ? number : who;
        }
        for (int i = 1; i < H; i++)
            if (first[i] < first[0] || (first[i] == first[0] && who[i] < who[0])) first[0] = first[i], who[0] = who[i];
        best = who[0] ? int64_t(who[0]) - 1 : 0;
    }
    logprob = std::log(share[best] / sum_);
    return best;
}

}  // namespace treewise
