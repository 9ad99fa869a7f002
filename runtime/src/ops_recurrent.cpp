// Recurrent layers: `nn.RNN`, `nn.GRU` (K. Cho et al., EMNLP 2014) and `nn.LSTM` (S. Hochreiter and J. Schmidhuber, Neural
// Computation 1997) as torch computes them.
#include <algorithm>
#include <cmath>

#include "elementwise.h"
#include "product.h"
#include "strided.h"

namespace vn {

namespace {

enum class Kind { rnn, gru, lstm };

constexpr std::int64_t gates(Kind kind) { return kind == Kind::lstm ? 4 : kind == Kind::gru ? 3 : 1; }

struct Sizes {
    std::int64_t in, hidden, layers, directions, made;

    Sizes(const Params& p, Kind kind)
        : in(p.integer("input_size")), hidden(p.integer("hidden_size")), layers(p.integer("num_layers")), directions(p.flag("bidirectional") ? 2 : 1), made(hidden) {
        if (kind == Kind::lstm && p.integer("proj_size") > 0) made = p.integer("proj_size");
    }
};

std::string slot_name(const char* stem, std::int64_t layer, std::int64_t direction) {
    return std::string("layer.") + stem + "_l" + std::to_string(layer) + (direction == 1 ? "_reverse" : "");
}

template <Kind kind>
void build_recurrent(const Build& build) {
    const Params& p = build.params();
    const Sizes s(p, kind);
    build.demand(p.number("dropout") >= 0.0 && p.number("dropout") <= 1.0, "a share outside 0 to 1");
    build.demand(s.hidden < (std::int64_t(1) << 60), "a width that no memory can have");
    const bool projects = s.made != s.hidden || (kind == Kind::lstm && p.integer("proj_size") > 0);
    if (projects) build.demand(s.made < s.hidden, "a projection that is not smaller");
    build.demand_slots(s.layers <= static_cast<std::int64_t>(build.slots().size()), "a tensor is missing");
    std::vector<std::pair<std::string, Shape>> slots;
    for (std::int64_t layer = 0; layer < s.layers; ++layer) {
        for (std::int64_t direction = 0; direction < s.directions; ++direction) {
            const std::int64_t read = layer == 0 ? s.in : s.directions * s.made, wide = gates(kind) * s.hidden;
            slots.emplace_back(slot_name("weight_ih", layer, direction), Shape{wide, read});
            slots.emplace_back(slot_name("weight_hh", layer, direction), Shape{wide, s.made});
            if (p.flag("bias")) {
                slots.emplace_back(slot_name("bias_ih", layer, direction), Shape{wide});
                slots.emplace_back(slot_name("bias_hh", layer, direction), Shape{wide});
            }
            if (projects) slots.emplace_back(slot_name("weight_hr", layer, direction), Shape{s.made, s.hidden});
        }
    }
    build.expect(slots);
}

template <class T>
T sigmoid(T x) {
    return 1 / (1 + std::exp(-x));
}

// One step of one sample: `from_x` and `from_h` are the gates of input and state; h and c become the next ones.
template <Kind kind, class T>
void advance(const T* from_x, const T* from_h, std::int64_t size, bool rectified, T* h, T* c) {
    for (std::int64_t i = 0; i < size; ++i) {
        const auto sum = [&](std::int64_t gate) { return from_x[gate * size + i] + from_h[gate * size + i]; };
        if constexpr (kind == Kind::rnn) {
            h[i] = rectified ? std::max(sum(0), T(0)) : std::tanh(sum(0));
        } else if constexpr (kind == Kind::gru) {
            const T reset = sigmoid(sum(0)), update = sigmoid(sum(1));
            const T fresh = std::tanh(from_x[2 * size + i] + reset * from_h[2 * size + i]);
            h[i] = (h[i] - fresh) * update + fresh;
        } else {
            c[i] = sigmoid(sum(1)) * c[i] + sigmoid(sum(0)) * std::tanh(sum(2));
            h[i] = sigmoid(sum(3)) * std::tanh(c[i]);
        }
    }
}

template <Kind kind>
class Recurrent {
public:
    explicit Recurrent(Call& call) : call_(call), s_(call.params(), kind) {}

    void run() {
        const Params& p = call_.params();
        const Tensor& x = call_.x();
        batched_ = x.rank() == 3;
        require(batched_ || x.rank() == 2, "sequences of another number of axes");
        require(x.size(x.rank() - 1) == s_.in, "inputs of another width");
        first_ = batched_ && p.flag("batch_first");
        const std::size_t states = call_.arity() - 1;
        require(states == 0 || states == (kind == Kind::lstm ? 2 : 1), "another number of states");
        steps_ = x.size(first_ ? 1 : 0);
        samples_ = !batched_ ? 1 : x.size(first_ ? 0 : 1);
        for (std::size_t i = 0; i < states; ++i) {
            require(call_.x(i + 1).shape() == state_shape(i == 1 ? s_.hidden : s_.made), "states of another shape");
        }
        call_.give_tuple();
        Shape shape{steps_, samples_, s_.directions * s_.made};
        if (!call_.real()) {
            if (first_) std::swap(shape[0], shape[1]);
            if (!batched_) shape.erase(shape.begin() + 1);
            call_.make(x.dtype(), shape);
            call_.make(x.dtype(), state_shape(s_.made));
            if (kind == Kind::lstm) call_.make(x.dtype(), state_shape(s_.hidden));
            return;
        }
        require(steps_ > 0, "a sequence without entries");
        for (const auto& slot : call_.slots()) require_same_type(x, slot.second);
        for (std::size_t i = 0; i < states; ++i) require_same_type(x, call_.x(i + 1));
        with_float_type(x.dtype(), [&](auto type) { compute<decltype(type)>(); });
    }

private:
    Shape state_shape(std::int64_t width) const {
        Shape shape{s_.layers * s_.directions, samples_, width};
        if (!batched_) shape.erase(shape.begin() + 1);
        return shape;
    }

    Tensor state(std::size_t input, std::int64_t width) const {
        const Shape shape{s_.layers * s_.directions, samples_, width};
        Tensor made = make_tensor(call_.x().dtype(), shape, true);
        if (call_.arity() > input) std::copy_n(call_.x(input).template data<char>(), made.nbytes(), made.mutable_data<char>());
        else fill(made, Json(std::int64_t(0)));
        return made;
    }

    template <class T>
    void compute() {
        Tensor x = call_.x();
        if (first_) x = permuted(x, {1, 0, 2}, true);
        if (!batched_) x = x.reshaped({steps_, 1, s_.in});
        Tensor h = state(1, s_.made), c = state(2, s_.hidden);
        for (std::int64_t layer = 0; layer < s_.layers; ++layer) {
            Tensor y = make_tensor(x.dtype(), {steps_, samples_, s_.directions * s_.made}, true);
            for (std::int64_t direction = 0; direction < s_.directions; ++direction) pass<T>(layer, direction, x, y, h, c);
            x = y;
        }
        if (first_) x = permuted(x, {1, 0, 2}, true);
        call_.give(batched_ ? x : x.reshaped({steps_, s_.directions * s_.made}));
        call_.give(h.reshaped(state_shape(s_.made)));
        if (kind == Kind::lstm) call_.give(c.reshaped(state_shape(s_.hidden)));
    }

    template <class T>
    void pass(std::int64_t layer, std::int64_t direction, const Tensor& x, Tensor& y, Tensor& h, Tensor& c) {
        const auto slot = [&](const char* stem) { return call_.slot(slot_name(stem, layer, direction)); };
        const std::int64_t wide = gates(kind) * s_.hidden, place = layer * s_.directions + direction;
        const bool rectified = kind == Kind::rnn && call_.params().text("nonlinearity") == "relu";
        Tensor from_x = make_tensor(x.dtype(), {steps_, samples_, wide}, true), from_h = make_tensor(x.dtype(), {samples_, wide}, true);
        linear(x, *slot("weight_ih"), slot("bias_ih"), from_x, call_.workers());
        Tensor hidden = make_tensor(x.dtype(), {samples_, s_.made}, true), full = make_tensor(x.dtype(), {samples_, s_.hidden}, true);
        T* start = h.mutable_data<T>() + place * samples_ * s_.made;
        T* cell = c.mutable_data<T>() + place * samples_ * s_.hidden;
        std::copy_n(start, hidden.count(), hidden.mutable_data<T>());
        const Tensor* projection = slot("weight_hr");
        for (std::int64_t k = 0; k < steps_; ++k) {
            const std::int64_t step = direction == 0 ? k : steps_ - 1 - k;
            linear(hidden, *slot("weight_hh"), slot("bias_hh"), from_h, call_.workers());
            T* next = projection == nullptr ? hidden.mutable_data<T>() : full.mutable_data<T>();
            for (std::int64_t n = 0; n < samples_; ++n) {
                advance<kind, T>(from_x.data<T>() + (step * samples_ + n) * wide, from_h.data<T>() + n * wide, s_.hidden, rectified, next + n * s_.hidden,
                                 cell + n * s_.hidden);
            }
            if (projection != nullptr) linear(full, *projection, nullptr, hidden, call_.workers());
            for (std::int64_t n = 0; n < samples_; ++n) {
                std::copy_n(hidden.data<T>() + n * s_.made, s_.made, y.mutable_data<T>() + (step * samples_ + n) * s_.directions * s_.made + direction * s_.made);
            }
        }
        std::copy_n(hidden.data<T>(), hidden.count(), start);
    }

    Call& call_;
    Sizes s_;
    bool batched_ = true, first_ = false;
    std::int64_t steps_ = 0, samples_ = 0;
};

template <Kind kind>
void run_recurrent(Call& call) {
    Recurrent<kind>(call).run();
}

#define VN_RECURRENT \
    "input_size int+; hidden_size int+; num_layers int+ =1; bias bool =true; batch_first bool =false; dropout float =0.0; bidirectional bool =false"

}  // namespace

const std::vector<Op> kRecurrentOps = {
    {"vn.rnn", VN_RECURRENT "; nonlinearity <tanh,relu> ='tanh'", 1, kAny, build_recurrent<Kind::rnn>, run_recurrent<Kind::rnn>, 1, true},
    {"vn.gru", VN_RECURRENT, 1, kAny, build_recurrent<Kind::gru>, run_recurrent<Kind::gru>, 1, true},
    {"vn.lstm", VN_RECURRENT "; proj_size int0 =0", 1, kAny, build_recurrent<Kind::lstm>, run_recurrent<Kind::lstm>, 1, true},
};

}  // namespace vn
