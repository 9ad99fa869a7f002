// Attention (A. Vaswani et al., Attention Is All You Need, NIPS 2017, equation 1 and section 3.2.2).
#include <algorithm>
#include <cmath>
#include <limits>

#include "checked.h"
#include "elementwise.h"
#include "gemm.h"
#include "product.h"

namespace vn {

namespace {

// Each row becomes its softmax; a row of nothing but -inf becomes zeros where `safe`, else NaN.
template <class T>
void softmax_rows(T* scores, std::int64_t rows, std::int64_t columns, bool safe) {
    for (std::int64_t i = 0; i < rows && columns > 0; ++i, scores += columns) {
        const T most = *std::max_element(scores, scores + columns);
        if (safe && most == -std::numeric_limits<T>::infinity()) {
            std::fill_n(scores, columns, T(0));
            continue;
        }
        double total = 0.0;
        for (std::int64_t j = 0; j < columns; ++j) {
            scores[j] = std::exp(scores[j] - most);
            total += scores[j];
        }
        const T factor = static_cast<T>(1.0 / total);
        for (std::int64_t j = 0; j < columns; ++j) scores[j] *= factor;
    }
}

// A mask as numbers to add; truth values keep where they are `kept`.
Tensor additive(const Tensor& mask, DType type, bool kept) {
    if (mask.dtype() != DType::boolean) return cast(mask, type);
    Tensor made = make_tensor(type, mask.shape(), true);
    with_float_type(type, [&](auto kind) {
        using T = decltype(kind);
        for (std::int64_t i = 0; i < mask.count(); ++i) {
            made.mutable_data<T>()[i] = mask.data<bool>()[i] == kept ? T(0) : -std::numeric_limits<T>::infinity();
        }
    });
    return made;
}

Shape leading(const Tensor& given) { return Shape(given.shape().begin(), given.shape().end() - 2); }

Tensor expanded_stack(const Tensor& given, const Shape& batch) {
    Shape shape = batch;
    shape.insert(shape.end(), given.shape().end() - 2, given.shape().end());
    return expanded(given, shape, true);
}

// Heads of keys and values, each so many times in a row.
Tensor repeated_heads(const Tensor& given, std::int64_t times) {
    Shape shape = given.shape();
    const std::int64_t size = given.size(given.rank() - 1) * given.size(given.rank() - 2) * item_size(given.dtype());
    const std::int64_t heads = size == 0 ? 0 : given.nbytes() / size;
    shape[shape.size() - 3] *= times;
    Tensor made = make_tensor(given.dtype(), shape, true);
    for (std::int64_t i = 0; i < heads * times; ++i) {
        std::copy_n(given.data<char>() + i / times * size, size, made.mutable_data<char>() + i * size);
    }
    return made;
}

void run_attention(Call& call) {
    const Tensor *q = call.role("query"), *k = call.role("key"), *v = call.role("value"), *mask = call.role("attn_mask");
    require(q != nullptr && k != nullptr && v != nullptr, "queries, keys or values are missing");
    require(q->rank() >= 2 && k->rank() >= 2 && v->rank() >= 2, "matrices are needed");
    require_same_type(*q, *k);
    require_same_type(*q, *v);
    require_floating(*q);
    const Params& p = call.params();
    const bool causal = p.flag("is_causal");
    require(!causal || mask == nullptr, "a mask beside the causal one");
    require(mask == nullptr || mask->dtype() == DType::boolean || mask->dtype() == q->dtype(), "a mask of another type");
    const std::int64_t rows = q->size(q->rank() - 2), width = q->size(q->rank() - 1), keys = k->size(k->rank() - 2), made = v->size(v->rank() - 1);
    require(k->size(k->rank() - 1) == width && v->size(v->rank() - 2) == keys, "queries, keys and values that do not fit each other");
    Shape key_batch = leading(*k), value_batch = leading(*v);
    std::int64_t times = 1;
    if (p.flag("enable_gqa")) {
        require(q->rank() >= 3 && k->rank() >= 3 && v->rank() >= 3, "there are no heads");
        const std::int64_t heads = q->size(q->rank() - 3), shared = key_batch.back();
        require(shared > 0 && heads % shared == 0 && value_batch.back() == shared, "heads that cannot be shared");
        times = heads / shared;
        key_batch.back() = value_batch.back() = heads;
    }
    const Shape batch = broadcast(leading(*q), broadcast(key_batch, value_batch));
    Shape scores_shape = batch;
    scores_shape.insert(scores_shape.end(), {rows, keys});
    if (mask != nullptr) require(broadcast(mask->shape(), scores_shape) == scores_shape, "a mask of another shape");
    Shape shape = batch;
    shape.insert(shape.end(), {rows, made});
    Tensor& out = call.make(q->dtype(), shape);
    if (!call.real() || out.count() == 0) return;
    const Tensor queries = expanded_stack(*q, batch);
    const Tensor all_keys = expanded_stack(times > 1 ? repeated_heads(*k, times) : *k, batch);
    const Tensor values = expanded_stack(times > 1 ? repeated_heads(*v, times) : *v, batch);
    Tensor added;
    if (mask != nullptr) added = expanded(additive(*mask, q->dtype(), true), scores_shape, true);
    const double scale = p.null("scale") ? 1.0 / std::sqrt(static_cast<double>(width)) : p.number("scale");
    with_float_type(q->dtype(), [&](auto type) {
        using T = decltype(type);
        constexpr std::int64_t block = 64;  // queries at a time
        std::vector<T> scores(static_cast<std::size_t>(std::min(block, rows) * keys));
        for (std::int64_t i = 0; i < count_of(batch); ++i) {
            for (std::int64_t row = 0; row < rows; row += block) {
                const std::int64_t here = std::min(block, rows - row);
                gemm(here, keys, width, {queries.data<T>() + (i * rows + row) * width, width, 1}, {all_keys.data<T>() + i * keys * width, 1, width},
                     scores.data(), keys, false);
                for (std::int64_t y = 0; y < here; ++y) {
                    for (std::int64_t x = 0; x < keys; ++x) {
                        T& one = scores[static_cast<std::size_t>(y * keys + x)];
                        one *= static_cast<T>(scale);
                        if (mask != nullptr) one += added.data<T>()[(i * rows + row + y) * keys + x];
                        if (causal && x > row + y) one = -std::numeric_limits<T>::infinity();
                    }
                }
                softmax_rows(scores.data(), here, keys, true);
                gemm(here, made, keys, {scores.data(), keys, 1}, {values.data<T>() + i * keys * made, made, 1},
                     out.mutable_data<T>() + (i * rows + row) * made, made, false);
            }
        }
    });
}

// --- nn.MultiheadAttention ---

struct Widths {
    std::int64_t embed, heads, query, key, value, out;
    explicit Widths(const Params& p)
        : embed(p.integer("embed_dim")), heads(p.integer("num_heads")), query(p.integer("query_dim")), key(p.integer("kdim")),
          value(p.integer("vdim")), out(p.integer("out_dim")) {}
};

void build_multihead(const Build& build) {
    const Params& p = build.params();
    const Widths w(p);
    const bool whole = w.query == w.embed && w.out == w.embed, packed = p.flag("packed");
    const bool plain = whole && packed == (w.key == w.embed && w.value == w.embed);
    const auto sized = [](std::int64_t a, std::int64_t b) { return Shape{a, b}; };
    if (plain) build.demand(w.embed % w.heads == 0, "heads that do not divide the width");
    build.demand(w.embed <= std::numeric_limits<std::int64_t>::max() / 3, "a width that no memory can have");
    std::vector<std::pair<std::string, Shape>> slots;
    if (packed) {
        slots.emplace_back("attention.in_proj_weight", sized(3 * w.embed, plain ? w.embed : w.query));
    } else {
        slots.emplace_back("attention.q_proj_weight", sized(w.embed, plain ? w.embed : w.query));
        slots.emplace_back("attention.k_proj_weight", sized(w.embed, w.key));
        slots.emplace_back("attention.v_proj_weight", sized(w.embed, w.value));
    }
    if (p.flag("bias")) slots.emplace_back("attention.in_proj_bias", Shape{3 * w.embed});
    slots.emplace_back("attention.out_proj.weight", sized(w.out, w.embed));
    if (p.flag("bias")) slots.emplace_back("attention.out_proj.bias", Shape{w.out});
    if (plain && p.flag("add_bias_kv")) {
        slots.emplace_back("attention.bias_k", Shape{1, 1, w.embed});
        slots.emplace_back("attention.bias_v", Shape{1, 1, w.embed});
    }
    build.expect(slots);
}

// A tensor (a, b, ...) as (b, a, ...).
Tensor swapped(const Tensor& given) {
    Shape shape = given.shape();
    std::swap(shape[0], shape[1]);
    Tensor made = make_tensor(given.dtype(), shape, given.has_data());
    if (!given.has_data() || given.count() == 0) return made;
    const std::int64_t size = given.nbytes() / (shape[0] * shape[1]);
    for (std::int64_t i = 0; i < shape[0]; ++i) {
        for (std::int64_t j = 0; j < shape[1]; ++j) {
            std::copy_n(given.data<char>() + (j * shape[0] + i) * size, size, made.mutable_data<char>() + (i * shape[1] + j) * size);
        }
    }
    return made;
}

// The rows of a matrix or vector from `first` on.
Tensor part(const Tensor& whole, std::int64_t first, std::int64_t count) {
    Shape shape = whole.shape();
    const std::int64_t row = count_of(Shape(shape.begin() + 1, shape.end()));
    shape[0] = count;
    Tensor made = make_tensor(whole.dtype(), shape, true);
    std::copy_n(whole.data<char>() + first * row * item_size(whole.dtype()), made.nbytes(), made.mutable_data<char>());
    return made;
}

class Multihead {
public:
    explicit Multihead(Call& call) : call_(call), p_(call.params()), w_(p_) {}

    void run() {
        const Tensor *q = call_.role("query"), *k = call_.role("key"), *v = call_.role("value");
        require(q != nullptr && k != nullptr && v != nullptr, "queries, keys or values are missing");
        batched_ = q->rank() == 3;
        require((batched_ || q->rank() == 2) && k->rank() == q->rank() && v->rank() == q->rank(), "queries, keys and values of other numbers of axes");
        const bool plain = w_.query == w_.embed && w_.out == w_.embed;
        require(w_.embed % w_.heads == 0, "heads that do not divide the width");
        const Tensor queries = samples_first(*q), keys = samples_first(*k), values = samples_first(*v);
        count_ = queries.size(0);
        rows_ = queries.size(1);
        given_ = keys.size(1);
        require(keys.size(0) == count_ && values.size(0) == count_ && values.size(1) == given_, "keys and values that do not fit each other");
        const bool packed = p_.flag("packed");
        require(queries.size(2) == w_.query && keys.size(2) == (packed ? w_.query : w_.key) && values.size(2) == (packed ? w_.query : w_.value),
                "inputs of another width");
        require_same_type(*q, *k);
        require_same_type(*q, *v);
        require_same_type(*q, *call_.slot("attention.out_proj.weight"));
        extra_ = plain ? (p_.flag("add_bias_kv") ? 1 : 0) + (p_.flag("add_zero_attn") ? 1 : 0) : 0;
        keys_ = given_ + extra_;
        check_masks();
        Shape out_shape{count_, rows_, w_.out}, weights_shape{count_, w_.heads, rows_, keys_};
        if (!call_.real()) {
            finish(Tensor(q->dtype(), out_shape), Tensor(q->dtype(), weights_shape));
            return;
        }
        with_float_type(q->dtype(), [&](auto type) { compute<decltype(type)>(queries, keys, values, out_shape, weights_shape); });
    }

private:
    Tensor samples_first(const Tensor& given) const {
        if (!batched_) return given.reshaped({1, given.size(0), given.size(1)});
        return p_.flag("batch_first") ? given : swapped(given);
    }

    void check_masks() const {
        const Tensor *mask = call_.role("attn_mask"), *padding = call_.role("key_padding_mask");
        require(!p_.flag("is_causal") || mask != nullptr, "the causal hint needs its mask");
        if (mask != nullptr) {
            require(mask->dtype() == DType::boolean || is_floating(mask->dtype()), "a mask that is neither truth values nor numbers");
            const Shape plain{rows_, given_}, per_head{count_ * w_.heads, rows_, given_};
            require(mask->shape() == plain || mask->shape() == per_head, "a mask of another shape");
        }
        if (padding != nullptr) {
            require(padding->dtype() == DType::boolean || is_floating(padding->dtype()), "a mask that is neither truth values nor numbers");
            require(padding->shape() == (batched_ ? Shape{count_, given_} : Shape{given_}), "a mask of another shape");
        }
    }

    // The projection of an input, (N, tokens, embed).
    template <class T>
    Tensor projected(const Tensor& given, int place) const {
        const char* const names[] = {"attention.q_proj_weight", "attention.k_proj_weight", "attention.v_proj_weight"};
        const Tensor weight = p_.flag("packed") ? part(*call_.slot("attention.in_proj_weight"), place * w_.embed, w_.embed) : *call_.slot(names[place]);
        const Tensor* all = call_.slot("attention.in_proj_bias");
        Tensor bias;
        if (all != nullptr) bias = part(*all, place * w_.embed, w_.embed);
        Tensor made = make_tensor(given.dtype(), {given.size(0), given.size(1), w_.embed}, true);
        linear(given, weight, all == nullptr ? nullptr : &bias, made, call_.workers());
        return made;
    }

    // Keys or values with those that the layer adds at the end.
    template <class T>
    Tensor extended(const Tensor& given, const char* bias_name) const {
        if (extra_ == 0) return given;
        Tensor made = make_tensor(given.dtype(), {count_, keys_, w_.embed}, true);
        std::fill_n(made.mutable_data<T>(), made.count(), T(0));
        const Tensor* bias = call_.slot(bias_name);
        for (std::int64_t i = 0; i < count_; ++i) {
            T* to = made.mutable_data<T>() + i * keys_ * w_.embed;
            std::copy_n(given.data<T>() + i * given_ * w_.embed, given_ * w_.embed, to);
            if (bias != nullptr) std::copy_n(bias->data<T>(), w_.embed, to + given_ * w_.embed);
        }
        return made;
    }

    template <class T>
    void compute(const Tensor& queries, const Tensor& keys, const Tensor& values, const Shape& out_shape, const Shape& weights_shape) {
        const std::int64_t width = w_.embed / w_.heads;
        const Tensor q = projected<T>(queries, 0), k = extended<T>(projected<T>(keys, 1), "attention.bias_k");
        const Tensor v = extended<T>(projected<T>(values, 2), "attention.bias_v");
        const Tensor *mask = call_.role("attn_mask"), *padding = call_.role("key_padding_mask");
        Tensor mask_numbers, padding_numbers;
        if (mask != nullptr) mask_numbers = additive(*mask, queries.dtype(), false);
        if (padding != nullptr) padding_numbers = additive(*padding, queries.dtype(), false);
        Tensor weights = make_tensor(queries.dtype(), weights_shape, true), mixed = make_tensor(queries.dtype(), {count_, rows_, w_.embed}, true);
        const T scale = static_cast<T>(1.0 / std::sqrt(static_cast<double>(width)));
        for (std::int64_t i = 0; i < count_ * w_.heads; ++i) {
            const std::int64_t sample = i / w_.heads, head = i % w_.heads;
            T* scores = weights.mutable_data<T>() + i * rows_ * keys_;
            gemm(rows_, keys_, width, {q.data<T>() + sample * rows_ * w_.embed + head * width, w_.embed, 1},
                 {k.data<T>() + sample * keys_ * w_.embed + head * width, 1, w_.embed}, scores, keys_, false);
            for (std::int64_t y = 0; y < rows_; ++y) {
                for (std::int64_t x = 0; x < keys_; ++x) {
                    T& one = scores[y * keys_ + x];
                    one *= scale;
                    if (x >= given_) continue;
                    if (mask != nullptr) one += mask_numbers.data<T>()[((mask->rank() == 3 ? i * rows_ : 0) + y) * given_ + x];
                    if (padding != nullptr) one += padding_numbers.data<T>()[sample * given_ + x];
                }
            }
            softmax_rows(scores, rows_, keys_, false);
            gemm(rows_, width, keys_, {scores, keys_, 1}, {v.data<T>() + sample * keys_ * w_.embed + head * width, w_.embed, 1},
                 mixed.mutable_data<T>() + sample * rows_ * w_.embed + head * width, w_.embed, false);
        }
        Tensor out = make_tensor(queries.dtype(), out_shape, true);
        linear(mixed, *call_.slot("attention.out_proj.weight"), call_.slot("attention.out_proj.bias"), out, call_.workers());
        if (p_.flag("need_weights") && p_.flag("average_attn_weights")) weights = averaged<T>(weights);
        finish(out, weights);
    }

    template <class T>
    Tensor averaged(const Tensor& weights) const {
        Tensor made = make_tensor(weights.dtype(), {count_, rows_, keys_}, true);
        const std::int64_t size = rows_ * keys_;
        for (std::int64_t i = 0; i < count_ * size; ++i) {
            double sum = 0.0;
            for (std::int64_t head = 0; head < w_.heads; ++head) sum += weights.data<T>()[(i / size * w_.heads + head) * size + i % size];
            made.mutable_data<T>()[i] = static_cast<T>(sum / static_cast<double>(w_.heads));
        }
        return made;
    }

    // The outputs as the caller's inputs were laid out.
    void finish(const Tensor& out, const Tensor& weights) {
        if (!batched_) call_.give(out.reshaped({rows_, w_.out}));
        else call_.give(p_.flag("batch_first") ? out : swapped(out));
        if (!p_.flag("need_weights")) return;
        call_.give_tuple();
        Shape shape{count_, w_.heads, rows_, keys_};
        if (p_.flag("average_attn_weights")) shape.erase(shape.begin() + 1);
        if (!batched_) shape.erase(shape.begin());
        call_.give(weights.count() == count_of(shape) ? weights.reshaped(shape) : Tensor(weights.dtype(), shape));
    }

    Call& call_;
    const Params& p_;
    Widths w_;
    bool batched_ = true;
    std::int64_t count_ = 0, rows_ = 0, given_ = 0, keys_ = 0, extra_ = 0;
};

void run_multihead(Call& call) { Multihead(call).run(); }

constexpr char kMultihead[] =
    "roles [str]; embed_dim int+; num_heads int+; query_dim int+; kdim int+; vdim int+; out_dim int+; packed bool =true; dropout float =0.0; "
    "bias bool =true; add_bias_kv bool =false; add_zero_attn bool =false; batch_first bool =false; need_weights bool =true; "
    "average_attn_weights bool =true; is_causal bool =false";

}  // namespace

const std::vector<Op> kAttentionOps = {
    {"vn.attention", "roles [str]; dropout_p float =0.0; is_causal bool =false; scale float|null =null; enable_gqa bool =false", 0, kAny, no_slots,
     run_attention, 1, true},
    {"vn.multihead_attention", kMultihead, 0, kAny, build_multihead, run_multihead, 1, true},
};

}  // namespace vn
