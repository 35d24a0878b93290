// The forward of Llama-like models on a CPU: packed tokens, keys and values in slots, few and large steps.
//
// A number that is computed for a token depends on that token, its context and its position alone: every sum has an
// order of its own, whoever else is in the forward, in however many parts a prompt comes, and however many threads work.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <condition_variable>
#include <cstdint>
#include <cstring>
#include <functional>
#include <limits>
#include <memory>
#include <mutex>
#include <thread>
#include <type_traits>
#include <vector>

namespace {

#if defined(__AVX512F__)
constexpr int BYTES = 64, TALL = 12;  // of a vector; rows that are multiplied together
#elif defined(__AVX__)
constexpr int BYTES = 32, TALL = 6;
#else
constexpr int BYTES = 16, TALL = 6;
#endif
constexpr int BLOCK = 48;  // tokens whose numbers stay in the cache from one step to the next
constexpr int FEW = 12;    // tokens that are not worth another thread

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

// ---- products: weights lie in panels of two vectors' columns, [panel][in][columns], the last one padded ----

template <class T> struct Matrix {
    int64_t in, out;
    const T* bias;
    Numbers<T> panels;
    Matrix(const T* weight, const T* bias, int64_t out, int64_t in) : in(in), out(out), bias(bias) {
        const int64_t columns = 2 * WIDTH<T>, count = (out + columns - 1) / columns;
        panels.resize(count * columns * in);
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

template <class T, int MR>
void rows_by(const Matrix<T>& m, const T* x, int64_t stride, T* y, int64_t pitch, bool add) {
    constexpr int PN = MR <= 2 ? 4 : MR <= TALL / 3 ? 2 : 1;
    const int64_t count = (m.out + 2 * WIDTH<T> - 1) / (2 * WIDTH<T>);
    int64_t panel = 0;
    for (; panel + PN <= count; panel += PN) tile<T, MR, PN>(m, panel, x, stride, y, pitch, add);
    for (; panel < count; panel++) tile<T, MR, 1>(m, panel, x, stride, y, pitch, add);
}

template <class T, int MR>
void choose(int rows, const Matrix<T>& m, const T* x, int64_t stride, T* y, int64_t pitch, bool add) {
    if constexpr (MR > 1)
        if (rows < MR) return choose<T, MR - 1>(rows, m, x, stride, y, pitch, add);
    rows_by<T, MR>(m, x, stride, y, pitch, add);
}

// y [rows, out] = x weight^T + bias, or that added to y
template <class T>
void multiply(const Matrix<T>& m, const T* x, int64_t stride, int64_t rows, T* y, int64_t pitch, bool add) {
    const int64_t parts = (rows + TALL - 1) / TALL;
    for (int64_t k = 0; k < parts; k++) {  // parts of like size: none of few rows
        const int64_t first = rows * k / parts, last = rows * (k + 1) / parts;
        choose<T, TALL>(int(last - first), m, x + first * stride, stride, y + first * pitch, pitch, add);
    }
}

// ---- the parts of a layer ----

template <class T> void normed(const T* x, const T* weight, T eps, int64_t size, T* y) {
    V<T> squares{};
    for (int64_t i = 0; i < size; i += WIDTH<T>) squares += at(x + i) * at(x + i);
    const T scale = T(1) / std::sqrt(sum<T>(squares) / T(size) + eps);
    for (int64_t i = 0; i < size; i += WIDTH<T>) at(y + i) = at(x + i) * scale * at(weight + i);
}

template <class T> void turned(T* head, const T* cos, const T* sin, int64_t width) {
    const int64_t half = width / 2;
    for (int64_t i = 0; i < half; i++) {
        const T a = head[i], b = head[i + half];
        head[i] = a * cos[i] + b * sin[i];
        head[i + half] = b * cos[i + half] + a * sin[i + half];
    }
}

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

// ---- draws ----

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

// ---- threads: some that sleep between forwards, and meet within one ----

class Team {
  public:
    explicit Team(int size) {
        for (int i = 1; i < size; i++) threads_.emplace_back([this, i] { serve(i); });
    }
    ~Team() {
        {
            std::lock_guard<std::mutex> lock(door_);
            over_ = true;
        }
        news_.notify_all();
        for (auto& thread : threads_) thread.join();
    }
    int size() const { return int(threads_.size()) + 1; }
    // `work` of (member, members) by `members` threads, the caller's among them
    void run(int members, const std::function<void(int, int)>& work) {
        if (members == 1) return work(0, 1);
        {
            std::lock_guard<std::mutex> lock(door_);
            work_ = &work, members_ = members, round_++;
            left_.store(members - 1);
        }
        news_.notify_all();
        work(0, members);
        wait([this] { return left_.load(std::memory_order_acquire) == 0; });
    }
    // nobody goes on before all are here
    void meet(int members) {
        if (members == 1) return;
        const int turn = turn_.load();
        if (here_.fetch_add(1) + 1 == members) {
            here_.store(0);
            turn_.store(turn + 1, std::memory_order_release);
        } else {
            wait([this, turn] { return turn_.load(std::memory_order_acquire) != turn; });
        }
    }

  private:
    template <class F> static void wait(F done) {
        for (int i = 0; !done(); i++)
            if (i > 2000) std::this_thread::yield();  // others may need this core
    }
    void serve(int member) {
        int64_t seen = 0;
        for (;;) {
            const std::function<void(int, int)>* work;
            int members;
            {
                std::unique_lock<std::mutex> lock(door_);
                news_.wait(lock, [&] { return over_ || round_ != seen; });
                if (over_) return;
                seen = round_, work = work_, members = members_;
            }
            if (member < members) {
                (*work)(member, members);
                left_.fetch_sub(1, std::memory_order_release);
            }
        }
    }
    std::vector<std::thread> threads_;
    std::mutex door_;
    std::condition_variable news_;
    const std::function<void(int, int)>* work_ = nullptr;
    int members_ = 1;
    int64_t round_ = 0;
    bool over_ = false;
    std::atomic<int> left_{0}, here_{0}, turn_{0};
};

// ---- the model ----

template <class T> struct Layer {
    const T *norm, *norm2;
    Matrix<T> qkv, out, gate_up, down;
    int64_t window;
    T scale;
};

template <class T> struct Model {
    int64_t size, queries, shared, width, inner;
    T eps;
    const T *embed, *norm, *cos, *sin;
    std::vector<Layer<T>> layers;
    std::unique_ptr<Team> team;
    Numbers<T> x, query;              // of all tokens of a forward
    std::vector<Numbers<T>> spaces;  // of each thread
};

template <class T> struct Space {  // a thread's own numbers, of a block of tokens
    T *normed, *parts, *mixed, *gates, *scores;
    Space(const Model<T>& m, Numbers<T>& memory, int64_t longest) {
        const int64_t parts_size = (m.queries + 2 * m.shared) * m.width, mixed_size = m.queries * m.width;
        memory.resize(BLOCK * (m.size + parts_size + mixed_size + 2 * m.inner) + 2 * (longest + WIDTH<T>));
        normed = memory.data();
        parts = normed + BLOCK * m.size;
        mixed = parts + BLOCK * parts_size;
        gates = mixed + BLOCK * mixed_size;
        scores = gates + BLOCK * 2 * m.inner;
    }
};

template <class T>
void forward(Model<T>& m, int64_t count, const int64_t* ids, const int64_t* positions, const int64_t* write,
             const Context* contexts, T* pool, int64_t slots, int64_t threads, T* hidden) {
    const int64_t width = m.width, mixed = m.queries * width, stride = 2 * m.shared * width;
    const int64_t parts = mixed + stride, share = m.queries / m.shared, longest =
        1 + *std::max_element(positions, positions + count);
    const int together = share % 2 ? 1 : 2;
    const Heads<T> attend = kernel<T>(width / WIDTH<T>, together);
    m.x.resize(count * m.size);
    m.query.resize(count * mixed);
    const int members = int(std::min(threads, (count + FEW - 1) / FEW));
    if (!m.team || m.team->size() < members) {
        m.team = std::make_unique<Team>(members);
        m.spaces.resize(members);
    }
    m.team->run(members, [&](int member, int all) {
        const int64_t begin = count * member / all, end = count * (member + 1) / all;
        Space<T> own(m, m.spaces[member], longest);
        for (int64_t n = begin; n < end; n++)
            std::memcpy(m.x.data() + n * m.size, m.embed + ids[n] * m.size, m.size * sizeof(T));
        for (size_t l = 0; l < m.layers.size(); l++) {
            const Layer<T>& layer = m.layers[l];
            T* place = pool + int64_t(l) * slots * stride;
            for (int64_t first = begin; first < end; first += BLOCK) {
                const int64_t some = std::min<int64_t>(BLOCK, end - first);
                T* x = m.x.data() + first * m.size;
                for (int64_t n = 0; n < some; n++)
                    normed(x + n * m.size, layer.norm, m.eps, m.size, own.normed + n * m.size);
                multiply(layer.qkv, own.normed, m.size, some, own.parts, parts, false);
                for (int64_t n = 0; n < some; n++) {
                    T* part = own.parts + n * parts;
                    const int64_t angle = positions[first + n] * width;
                    for (int64_t h = 0; h < m.queries + m.shared; h++)
                        turned(part + h * width, m.cos + angle, m.sin + angle, width);
                    std::memcpy(m.query.data() + (first + n) * mixed, part, mixed * sizeof(T));
                    std::memcpy(place + write[first + n] * stride, part + mixed, stride * sizeof(T));
                }
            }
            m.team->meet(all);  // a token may see what another brings in this forward
            for (int64_t first = begin; first < end; first += BLOCK) {
                const int64_t some = std::min<int64_t>(BLOCK, end - first);
                T* x = m.x.data() + first * m.size;
                for (int64_t n = 0; n < some; n++) {
                    const Context& context = contexts[first + n];
                    const int64_t seen = layer.window ? std::min(layer.window, context.count) : context.count;
                    for (int64_t h = 0; h < m.queries; h += together)
                        attend(m.query.data() + (first + n) * mixed + h * width, place + h / share * width, stride,
                               m.shared * width, context.slots + context.count - seen, seen, layer.scale, own.scores,
                               own.mixed + n * mixed + h * width);
                }
                multiply(layer.out, own.mixed, mixed, some, x, m.size, true);
                for (int64_t n = 0; n < some; n++)
                    normed(x + n * m.size, layer.norm2, m.eps, m.size, own.normed + n * m.size);
                multiply(layer.gate_up, own.normed, m.size, some, own.gates, 2 * m.inner, false);
                for (int64_t n = 0; n < some; n++) {
                    T *gate = own.gates + n * 2 * m.inner, *up = gate + m.inner;
                    for (int64_t i = 0; i < m.inner; i += WIDTH<T>) {
                        const V<T> g = at(gate + i);
                        at(gate + i) = g / (T(1) + exponential(-g)) * at(up + i);
                    }
                }
                multiply(layer.down, own.gates, 2 * m.inner, some, x, m.size, true);
            }
        }
        for (int64_t n = begin; n < end; n++)
            normed(m.x.data() + n * m.size, m.norm, m.eps, m.size, hidden + n * m.size);
    });
}

}  // namespace

// ---- what Python calls; F is f for float and d for double ----

#define EXPORTED(T, F)                                                                                                 \
    extern "C" void* model_##F(int64_t size, int64_t queries, int64_t shared, int64_t width, int64_t inner, double eps, \
                               const T* embed, const T* norm, const T* cos, const T* sin) {                            \
        return new Model<T>{size, queries, shared, width, inner, T(eps), embed, norm, cos, sin, {}, {}, {}, {}, {}};   \
    }                                                                                                                  \
    extern "C" void layer_##F(void* model, const T* norm, const T* norm2, const T* qkv, const T* qkv_bias,             \
                              const T* out, const T* out_bias, const T* gate_up, const T* down, int64_t window,        \
                              double scale) {                                                                          \
        auto& m = *static_cast<Model<T>*>(model);                                                                      \
        const int64_t mixed = m.queries * m.width, parts = mixed + 2 * m.shared * m.width;                             \
        m.layers.push_back({norm, norm2, Matrix<T>(qkv, qkv_bias, parts, m.size),                                      \
                            Matrix<T>(out, out_bias, m.size, mixed),                                                   \
                            Matrix<T>(gate_up, nullptr, 2 * m.inner, m.size),                                          \
                            Matrix<T>(down, nullptr, m.size, m.inner), window, T(scale)});                             \
    }                                                                                                                  \
    extern "C" void free_##F(void* model) { delete static_cast<Model<T>*>(model); }                                    \
    extern "C" void forward_##F(void* model, int64_t count, const int64_t* ids, const int64_t* positions,              \
                                const int64_t* write, const Context* contexts, T* pool, int64_t slots,                 \
                                int64_t threads, T* hidden) {                                                          \
        forward(*static_cast<Model<T>*>(model), count, ids, positions, write, contexts, pool, slots, threads, hidden); \
    }                                                                                                                  \
    extern "C" void* matrix_##F(const T* weight, const T* bias, int64_t out, int64_t in) {                             \
        return new Matrix<T>(weight, bias, out, in);                                                                   \
    }                                                                                                                  \
    extern "C" void unmatrix_##F(void* matrix) { delete static_cast<Matrix<T>*>(matrix); }                             \
    extern "C" void multiply_##F(void* matrix, const T* x, int64_t rows, T* y) {                                       \
        auto& m = *static_cast<Matrix<T>*>(matrix);                                                                    \
        multiply(m, x, m.in, rows, y, m.out, false);                                                                   \
    }

EXPORTED(float, f)
EXPORTED(double, d)

// a token and its log-probability for each row of logits; heat 0 takes the likeliest
extern "C" void draw(const float* logits, int64_t rows, int64_t size, const int64_t* seeds, const int64_t* positions,
                     const float* heat, int64_t* tokens, double* logprobs) {
    std::vector<float> share(size + WIDTH<float>);
    for (int64_t r = 0; r < rows; r++)
        tokens[r] = drawn(logits + r * size, size, seeds[r], positions[r], heat[r], share.data(), logprobs[r]);
}

// numbers in a vector: sizes of a model must be multiples of it
extern "C" int64_t lanes_f() { return WIDTH<float>; }
extern "C" int64_t lanes_d() { return WIDTH<double>; }
