// Attention of one token over slots.
#pragma once
#include <algorithm>
#include <limits>

#include "vectors.h"

namespace treewise {

// what a token sees: slots in the order of their positions, its own last
struct Context {
    const int64_t* slots;
    int64_t count;
};

// NV vectors per head; SH query heads of one key head at once
template <class T, int NV, int SH>
void heads(const T* query, const T* pool, int64_t stride, int64_t values, const int64_t* slots, int64_t count, T scale,
           T* scores, T* out) {
    constexpr int L = WIDTH<T>;
    const int64_t pitch = (count + L - 1) / L * L;
    for (int64_t j = 0; j < pitch; j += L) {
        const T* keys[L];
        for (int i = 0; i < L; i++) keys[i] = pool + slots[std::min(j + i, count - 1)] * stride;
        for (int i = 0; i < L; i++)  // while these are multiplied, the next and the values are on their way
            for (int line = 0; line < NV * BYTES; line += 64) {
                __builtin_prefetch((const char*)(pool + slots[std::min(j + i + L, count - 1)] * stride) + line);
                __builtin_prefetch((const char*)(keys[i] + values) + line);
            }
        for (int h = 0; h < SH; h++) {
            V<T> dots[L];
            for (int i = 0; i < L; i++) {
                dots[i] = at(query + h * NV * L) * at(keys[i]);
                for (int v = 1; v < NV; v++) dots[i] += at(query + (h * NV + v) * L) * at(keys[i] + v * L);
            }
            at(scores + h * pitch + j) = sums<T>(dots) * scale;
        }
    }
    T share[SH];
    for (int h = 0; h < SH; h++) {
        T* s = scores + h * pitch;
        for (int64_t j = count; j < pitch; j++) s[j] = -std::numeric_limits<T>::infinity();
        V<T> best = at(s);
        for (int64_t j = L; j < pitch; j += L) best = at(s + j) > best ? at(s + j) : best;
        T top = best[0];
        for (int i = 1; i < L; i++) top = std::max(top, T(best[i]));
        V<T> total{};
        for (int64_t j = 0; j < pitch; j += L) total += at(s + j) = exponential(at(s + j) - top);
        share[h] = T(1) / sum<T>(total);
    }
    V<T> mix[2][SH][NV] = {};  // even and odd places apart: no sum waits for the one before
    for (int64_t j = 0; j < count; j++) {
        const T* value = pool + slots[j] * stride + values;
        for (int h = 0; h < SH; h++) {
            const V<T> weight = all(scores[h * pitch + j]);
            for (int v = 0; v < NV; v++) mix[j & 1][h][v] += weight * at(value + v * L);
        }
    }
    for (int h = 0; h < SH; h++)
        for (int v = 0; v < NV; v++) at(out + (h * NV + v) * L) = (mix[0][h][v] + mix[1][h][v]) * share[h];
}

template <class T>
using Heads = void (*)(const T*, const T*, int64_t, int64_t, const int64_t*, int64_t, T, T*, T*);

template <class T> Heads<T> kernel(int64_t vectors, int together) {
    switch (10 * vectors + together) {
        case 11: return heads<T, 1, 1>;
        case 12: return heads<T, 1, 2>;
        case 21: return heads<T, 2, 1>;
        case 22: return heads<T, 2, 2>;
        case 41: return heads<T, 4, 1>;
        case 42: return heads<T, 4, 2>;
        case 81: return heads<T, 8, 1>;
        case 82: return heads<T, 8, 2>;
        case 161: return heads<T, 16, 1>;
        case 162: return heads<T, 16, 2>;
    }
    return nullptr;
}

}  // namespace treewise
