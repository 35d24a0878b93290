// The forward of Llama-like models on a CPU: packed tokens, keys and values in slots, few and large steps.
//
// A number that is computed for a token depends on that token, its context and its position alone: every sum has an
// order of its own, whoever else is in the forward, in however many parts a prompt comes, by however many threads.
#include "draws.h"
#include "heads.h"
#include "products.h"
#include "team.h"
#include "vectors.h"

namespace treewise {

constexpr int BLOCK = 48;            // tokens whose numbers stay in the cache from one step to the next
constexpr int FEW = 12;              // tokens that are not worth another thread of their own
constexpr int64_t LARGE = 4 << 20;  // bytes of weights from which threads share them where tokens are few

template <class T> struct Layer {
    const T *norm, *norm2;
    Matrix<T> qkv, out, gate_up, down;
    int64_t window;
    T scale;
};

template <class T> struct Model {
    int64_t size, queries, shared, width, inner, words, span;  // ids and positions that there are
    T eps;
    const T *embed, *norm, *cos, *sin;
    std::vector<Layer<T>> layers;
    std::unique_ptr<Team> team;
    Numbers<T> x, query;                     // of all tokens of a forward
    std::vector<Numbers<T>> spaces, scores;  // of each thread
    std::mutex door;                         // one forward at a time
    int64_t mixed() const { return queries * width; }
    int64_t stride() const { return 2 * shared * width; }  // of a slot
    int64_t parts() const { return mixed() + stride(); }
    int64_t bytes() const { return int64_t(layers.size()) * size * (parts() + mixed() + 3 * inner) * sizeof(T); }
};

template <class T> struct Space {  // numbers of a block of tokens
    T *normed, *parts, *mixed, *gates;
    Space(const Model<T>& m, Numbers<T>& memory, int64_t tokens) {
        memory.resize(tokens * (m.size + m.parts() + m.mixed() + 2 * m.inner));
        normed = memory.data();
        parts = normed + tokens * m.size;
        mixed = parts + tokens * m.parts();
        gates = mixed + tokens * m.mixed();
    }
};

// what a forward is asked for; the steps below do `some` tokens from the `first` on
template <class T> struct Pass {
    Model<T>& m;
    int64_t count;
    const int64_t *ids, *positions, *write;
    const Context* contexts;
    T* pool;
    int64_t slots;
    T* hidden;

    T* x(int64_t n) const { return m.x.data() + n * m.size; }
    T* place(size_t layer) const { return pool + int64_t(layer) * slots * m.stride(); }

    void norm(const T* weight, int64_t first, int64_t some, T* to) const {
        for (int64_t n = 0; n < some; n++) {
            const T* from = x(first + n);
            V<T> squares{};
            for (int64_t i = 0; i < m.size; i += WIDTH<T>) squares += at(from + i) * at(from + i);
            const T scale = T(1) / std::sqrt(sum<T>(squares) / T(m.size) + m.eps);
            for (int64_t i = 0; i < m.size; i += WIDTH<T>)
                at(to + n * m.size + i) = at(from + i) * scale * at(weight + i);
        }
    }
    // rotates queries and keys of `parts`; queries are kept aside, keys and values go to their slots
    void keep(size_t layer, int64_t first, int64_t some, T* parts) const {
        const int64_t half = m.width / 2;
        for (int64_t n = first; n < first + some; n++, parts += m.parts()) {
            const T *cos = m.cos + positions[n] * m.width, *sin = m.sin + positions[n] * m.width;
            for (T* head = parts; head < parts + m.mixed() + m.stride() / 2; head += m.width)
                for (int64_t i = 0; i < half; i++) {
                    const T a = head[i], b = head[i + half];
                    head[i] = a * cos[i] + b * sin[i];
                    head[i + half] = b * cos[i + half] + a * sin[i + half];
                }
            std::memcpy(m.query.data() + n * m.mixed(), parts, m.mixed() * sizeof(T));
            std::memcpy(place(layer) + write[n] * m.stride(), parts + m.mixed(), m.stride() * sizeof(T));
        }
    }
    void look(size_t layer, int64_t first, int64_t some, T* to, T* scores) const {
        const int64_t share = m.queries / m.shared, together = share % 2 ? 1 : 2, window = m.layers[layer].window;
        const Heads<T> heads = kernel<T>(m.width / WIDTH<T>, int(together));
        for (int64_t n = first; n < first + some; n++, to += m.mixed()) {
            const int64_t all = contexts[n].count, seen = window ? std::min(window, all) : all;
            for (int64_t h = 0; h < m.queries; h += together)
                heads(m.query.data() + n * m.mixed() + h * m.width, place(layer) + h / share * m.width, m.stride(),
                      m.stride() / 2, contexts[n].slots + all - seen, seen, m.layers[layer].scale, scores,
                      to + h * m.width);
        }
    }
    void gate(int64_t some, T* gates) const {
        for (int64_t n = 0; n < some; n++, gates += 2 * m.inner)
            for (int64_t i = 0; i < m.inner; i += WIDTH<T>) {
                const V<T> g = at(gates + i);
                at(gates + i) = g / (T(1) + exponential(-g)) * at(gates + m.inner + i);
            }
    }
    // Threads have tokens of their own, which meet once a layer: a token may see what another brings in this forward.
    // Where a large model has few tokens, threads have columns of the weights, which then are read but once.
    void run(int member, int all, bool wide) const {
        const int64_t begin = count * member / all, end = count * (member + 1) / all;
        const int64_t block = wide ? std::max<int64_t>(count, 1) : BLOCK;
        const Space<T> own(m, m.spaces[wide ? 0 : member], block);
        const int64_t longest = 1 + *std::max_element(positions, positions + count);
        Numbers<T>& scores = m.scores[member];
        scores.resize(2 * (longest + WIDTH<T>));
        const int part = wide ? member : 0, parts = wide ? all : 1;
        const auto step = [&] { if (wide) m.team->meet(all); };
        for (int64_t n = begin; n < end; n++) std::memcpy(x(n), m.embed + ids[n] * m.size, m.size * sizeof(T));
        // tokens of a block, and of these the ones that are this thread's
        const auto blocks = [&](const auto& work) {
            if (wide) return work(int64_t(0), count, begin, end - begin);
            for (int64_t n = begin; n < end; n += block) work(n, std::min(block, end - n), n, std::min(block, end - n));
        };
        for (size_t l = 0; l < m.layers.size(); l++) {
            const Layer<T>& layer = m.layers[l];
            blocks([&](int64_t first, int64_t some, int64_t mine, int64_t few) {
                const int64_t skip = mine - first;
                norm(layer.norm, mine, few, own.normed + skip * m.size);
                step();
                multiply(layer.qkv, own.normed, m.size, some, own.parts, m.parts(), false, part, parts);
                step();
                keep(l, mine, few, own.parts + skip * m.parts());
            });
            m.team->meet(all);
            blocks([&](int64_t first, int64_t some, int64_t mine, int64_t few) {
                const int64_t skip = mine - first;
                look(l, mine, few, own.mixed + skip * m.mixed(), scores.data());
                step();
                multiply(layer.out, own.mixed, m.mixed(), some, x(first), m.size, true, part, parts);
                step();
                norm(layer.norm2, mine, few, own.normed + skip * m.size);
                step();
                multiply(layer.gate_up, own.normed, m.size, some, own.gates, 2 * m.inner, false, part, parts);
                step();
                gate(few, own.gates + skip * 2 * m.inner);
                step();
                multiply(layer.down, own.gates, 2 * m.inner, some, x(first), m.size, true, part, parts);
                step();
            });
        }
        norm(m.norm, begin, end - begin, hidden + begin * m.size);
    }
};

// whether it was done: not where a token's id, position or slot is none that there is
template <class T> bool forward(const Pass<T>& pass, int64_t threads) {
    Model<T>& m = pass.m;
    for (int64_t n = 0; n < pass.count; n++)
        if (pass.ids[n] < 0 || pass.ids[n] >= m.words || pass.positions[n] < 0 || pass.positions[n] >= m.span ||
            pass.write[n] < 0 || pass.write[n] >= pass.slots)
            return false;
    const std::lock_guard<std::mutex> alone(m.door);
    const bool wide = threads > 1 && pass.count < FEW * threads && m.bytes() > LARGE;
    const int members = int(wide ? threads : std::min(threads, (pass.count + FEW - 1) / FEW));
    m.x.resize(pass.count * m.size);
    m.query.resize(pass.count * m.mixed());
    if (!m.team || m.team->size() < members) {
        m.team = std::make_unique<Team>(members);
        m.spaces.resize(members);
        m.scores.resize(members);
    }
    // room for all before they start: threads that share columns share the first one's space
    Space<T>(m, m.spaces[0], std::max<int64_t>(BLOCK, pass.count < FEW * threads ? pass.count : 0));
    m.team->run(members, [&](int member, int all) { pass.run(member, all, wide); });
    return true;
}

// a matrix by itself, with threads for its columns
template <class T> struct Product {
    Matrix<T> matrix;
    std::unique_ptr<Team> team;
    std::mutex door;
    void run(const T* x, int64_t rows, int64_t threads, T* y) {
        const std::lock_guard<std::mutex> alone(door);
        const int members = int(matrix.in * matrix.out * int64_t(sizeof(T)) > LARGE ? threads : 1);
        if (!team || team->size() < members) team = std::make_unique<Team>(members);
        team->run(members, [&](int member, int all) {
            multiply(matrix, x, matrix.in, rows, y, matrix.out, false, member, all);
        });
    }
};

}  // namespace treewise

// ---- what Python calls; F is f for float and d for double ----

using namespace treewise;

#define EXPORTED(T, F)                                                                                               \
    extern "C" void* model_##F(int64_t size, int64_t queries, int64_t shared, int64_t width, int64_t inner,          \
                               int64_t words, int64_t span, double eps, const T* embed, const T* norm, const T* cos, \
                               const T* sin) {                                                                       \
        return new Model<T>{size, queries, shared, width, inner, words, span, T(eps), embed, norm,                   \
                            cos, sin, {}, {}, {}, {}, {}, {}, {}};                                                   \
    }                                                                                                                \
    extern "C" void layer_##F(void* model, const T* norm, const T* norm2, const T* qkv, const T* qkv_bias,           \
                              const T* out, const T* out_bias, const T* gate_up, const T* down, int64_t window,      \
                              double scale) {                                                                        \
        auto& m = *static_cast<Model<T>*>(model);                                                                    \
        m.layers.push_back({norm, norm2, {qkv, qkv_bias, m.parts(), m.size}, {out, out_bias, m.size, m.mixed()},     \
                            {gate_up, nullptr, 2 * m.inner, m.size}, {down, nullptr, m.size, m.inner}, window,       \
                            T(scale)});                                                                              \
    }                                                                                                                \
    extern "C" void free_##F(void* model) { delete static_cast<Model<T>*>(model); }                                  \
    extern "C" bool forward_##F(void* model, int64_t count, const int64_t* ids, const int64_t* positions,            \
                                const int64_t* write, const Context* contexts, T* pool, int64_t slots,               \
                                int64_t threads, T* hidden) {                                                        \
        return forward(Pass<T>{*static_cast<Model<T>*>(model), count, ids, positions, write, contexts, pool, slots,  \
                               hidden}, threads);                                                                    \
    }                                                                                                                \
    extern "C" void* matrix_##F(const T* weight, const T* bias, int64_t out, int64_t in) {                           \
        return new Product<T>{{weight, bias, out, in}, nullptr, {}};                                                 \
    }                                                                                                                \
    extern "C" void unmatrix_##F(void* product) { delete static_cast<Product<T>*>(product); }                        \
    extern "C" void multiply_##F(void* product, const T* x, int64_t rows, int64_t threads, T* y) {                   \
        static_cast<Product<T>*>(product)->run(x, rows, threads, y);                                                 \
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
