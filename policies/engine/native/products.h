// Products of some rows with weights: each row's sums are its own, in the order of the inputs.
#pragma once
#include "vectors.h"

namespace treewise {

constexpr int TALL = BYTES == 64 ? 12 : 6;  // rows that are multiplied together, by the registers there are

// weights in panels of two vectors' columns, [panel][in][columns], the last one padded

template <class T> struct Matrix {
    int64_t in, out;
    const T* bias;
    Numbers<T> panels;
    static constexpr int64_t columns = 2 * WIDTH<T>;
    int64_t count() const { return (out + columns - 1) / columns; }
    Matrix(const T* weight, const T* bias, int64_t out, int64_t in) : in(in), out(out), bias(bias) {
        panels.resize(count() * columns * in);
        for (int64_t o = 0; o < out; o++)
            for (int64_t i = 0; i < in; i++)
                panels.data()[(o / columns * in + i) * columns + o % columns] = weight[o * in + i];
    }
};

// MR rows of x by PN panels
template <class T, int MR, int PN>
inline void tile(const Matrix<T>& m, int64_t panel, const T* x, int64_t stride, T* y, int64_t pitch, bool add) {
    constexpr int L = WIDTH<T>;
    const int64_t in = m.in, size = 2 * L * in;
    const T* w = m.panels.data() + panel * size;
    V<T> acc[MR][2 * PN] = {};
    for (int64_t i = 0; i < in; i++)
        for (int p = 0; p < PN; p++) {
            const V<T> left = at(w + p * size + i * 2 * L), right = at(w + p * size + i * 2 * L + L);
            for (int r = 0; r < MR; r++) {
                const V<T> a = all(x[r * stride + i]);
                acc[r][2 * p] += a * left;
                acc[r][2 * p + 1] += a * right;
            }
        }
    for (int p = 0; p < PN; p++)
        for (int r = 0; r < MR; r++)
            for (int k = 0; k < 2; k++) {
                const int64_t first = (panel + p) * 2 * L + k * L;
                T* to = y + r * pitch + first;
                V<T> v = acc[r][2 * p + k];
                if (first + L <= m.out) {
                    if (m.bias) v += at(m.bias + first);
                    if (add) v += at(to);
                    at(to) = v;
                } else {
                    for (int64_t c = 0; c < m.out - first; c++) {
                        const T one = m.bias ? v[c] + m.bias[first + c] : v[c];
                        to[c] = add ? one + to[c] : one;
                    }
                }
            }
}

// columns of the panels from `begin` to `end`
template <class T, int MR>
void rows_by(const Matrix<T>& m, int64_t begin, int64_t end, const T* x, int64_t stride, T* y, int64_t pitch, bool add) {
    constexpr int PN = MR <= 2 ? 4 : MR <= TALL / 3 ? 2 : 1;
    for (; begin + PN <= end; begin += PN) tile<T, MR, PN>(m, begin, x, stride, y, pitch, add);
    for (; begin < end; begin++) tile<T, MR, 1>(m, begin, x, stride, y, pitch, add);
}

template <class T, int MR>
void choose(int rows, const Matrix<T>& m, int64_t begin, int64_t end, const T* x, int64_t stride, T* y, int64_t pitch,
            bool add) {
    if constexpr (MR > 1)
        if (rows < MR) return choose<T, MR - 1>(rows, m, begin, end, x, stride, y, pitch, add);
    rows_by<T, MR>(m, begin, end, x, stride, y, pitch, add);
}

// y [rows, out] = x weight^T + bias, or that added to y; of the columns the part that is `member`'s of `all`
template <class T>
void multiply(const Matrix<T>& m, const T* x, int64_t stride, int64_t rows, T* y, int64_t pitch, bool add,
              int member = 0, int all = 1) {
    const int64_t parts = (rows + TALL - 1) / TALL, count = m.count();
    for (int64_t k = 0; k < parts; k++) {  // parts of like size: none of few rows
        const int64_t first = rows * k / parts, last = rows * (k + 1) / parts;
        choose<T, TALL>(int(last - first), m, count * member / all, count * (member + 1) / all, x + first * stride,
                        stride, y + first * pitch, pitch, add);
    }
}

}  // namespace treewise
