// Activations.
#include <algorithm>
#include <cmath>
#include <limits>

#include "elementwise.h"

namespace vn {

namespace {

constexpr std::int64_t kLine = 16;  // entries that threads do not share

// f of each entry of a tensor of floats. A network that has others is sound as a file, but does not run.
template <class F>
void each(Call& call, F f) {
    const Tensor& given = call.x();
    Tensor& out = call.make(given.dtype(), given.shape());
    if (!call.real()) return;
    with_float_type(given.dtype(), [&](auto kind) {
        using T = decltype(kind);
        const T* from = given.data<T>();
        T* to = out.mutable_data<T>();
        call.workers().run(given.count(), kLine, static_cast<double>(given.count()), [=](std::int64_t begin, std::int64_t end) {
            for (std::int64_t i = begin; i < end; ++i) to[i] = static_cast<T>(f(from[i]));
        });
    });
}

// NaN stays what it is: no comparison with it holds.
template <class T>
T clamped(T x, T low, T high) {
    const T above = x < low ? low : x;
    return above > high ? high : above;
}

template <class T>
T sigmoid(T x) {
    return 1 / (1 + std::exp(-x));
}

// log(1 + exp(x)) without overflow.
template <class T>
T log_one_plus_exp(T x) {
    return std::max(x, T(0)) + std::log1p(std::exp(-std::fabs(x)));
}

void run_relu(Call& call) {
    if (is_floating(call.x().dtype())) return each(call, [](auto x) { return x < 0 ? decltype(x)(0) : x; });
    Tensor& out = call.make(call.x().dtype(), call.x().shape());
    if (!call.real()) return;
    require(call.x().dtype() != DType::boolean, "the positive part of truth values");
    Tensor wide = cast(call.x(), DType::i64), kept = call.scratch(DType::i64, wide.shape());
    unary_loop<std::int64_t>(wide, kept, [](std::int64_t x) { return std::max<std::int64_t>(x, 0); });
    out = cast(kept, out.dtype());
}

void run_relu6(Call& call) {
    require(call.x().dtype() != DType::boolean, "truth values cut to a range");
    each(call, [](auto x) { return clamped(x, decltype(x)(0), decltype(x)(6)); });
}

void run_leaky_relu(Call& call) {
    const double slope = call.params().number("negative_slope");
    require_floating(call.x());
    each(call, [slope](auto x) { return x > 0 ? x : static_cast<decltype(x)>(slope) * x; });
}

void elu(Call& call, double alpha, double scale, double inner) {
    require_floating(call.x());
    each(call, [=](auto x) {
        using T = decltype(x);
        return x > 0 ? static_cast<T>(scale) * x : static_cast<T>(alpha * scale) * std::expm1(x * static_cast<T>(inner));
    });
}

void run_elu(Call& call) { elu(call, call.params().number("alpha"), 1.0, 1.0); }
void run_selu(Call& call) { elu(call, 1.6732632423543772848170429916717, 1.0507009873554804934193349852946, 1.0); }

void run_celu(Call& call) {
    const double alpha = call.params().number("alpha");
    require(alpha != 0.0 || !call.real(), "a scale of 0");
    elu(call, alpha, 1.0, 1.0 / alpha);
}

void run_silu(Call& call) {
    each(call, [](auto x) { return x * sigmoid(x); });
}

void run_gelu(Call& call) {
    const std::string& form = call.params().text("approximate");
    require(form == "none" || form == "tanh", "an unknown approximation");
    if (form == "tanh") {
        each(call, [](auto x) {
            using T = decltype(x);
            return T(0.5) * x * (1 + std::tanh(T(0.7978845608028654) * (x + T(0.044715) * x * x * x)));
        });
    } else {
        each(call, [](auto x) { return decltype(x)(0.5) * x * (1 + std::erf(x * decltype(x)(0.7071067811865476))); });
    }
}

template <class T>
T hard_sigmoid(T x) {
    return clamped(x + 3, T(0), T(6)) / 6;
}

void run_hardswish(Call& call) {
    each(call, [](auto x) { return x * hard_sigmoid(x); });
}
void run_hardsigmoid(Call& call) {
    each(call, [](auto x) { return hard_sigmoid(x); });
}

void build_hardtanh(const Build& build) {
    build.demand(build.params().number("max_val") > build.params().number("min_val"), "an empty range");
    no_slots(build);
}

void run_hardtanh(Call& call) {
    require(call.x().dtype() != DType::boolean, "truth values cut to a range");
    const double low = call.params().number("min_val"), high = call.params().number("max_val");
    each(call, [=](auto x) {
        using T = decltype(x);
        return clamped(x, static_cast<T>(low), static_cast<T>(high));
    });
}

// Of whole numbers, floats come out.
template <class F>
void each_as_float(Call& call, F f) {
    if (is_floating(call.x().dtype())) return each(call, f);
    Tensor& out = call.make(DType::f32, call.x().shape());
    if (call.real()) unary_loop<float>(cast(call.x(), DType::f32), out, [&](float x) { return f(x); });
}

void run_tanh(Call& call) {
    each_as_float(call, [](auto x) { return std::tanh(x); });
}
void run_sigmoid(Call& call) {
    each_as_float(call, [](auto x) { return sigmoid(x); });
}

void run_mish(Call& call) {
    each(call, [](auto x) { return x * std::tanh(log_one_plus_exp(x)); });
}

void run_softplus(Call& call) {
    const double beta = call.params().number("beta"), threshold = call.params().number("threshold");
    each(call, [=](auto x) {
        using T = decltype(x);
        const T scaled = static_cast<T>(beta) * x;
        return scaled > static_cast<T>(threshold) ? x : std::log1p(std::exp(scaled)) / static_cast<T>(beta);
    });
}

void run_softsign(Call& call) {
    each(call, [](auto x) { return x / (1 + std::fabs(x)); });
}
void run_logsigmoid(Call& call) {
    each(call, [](auto x) { return std::min(x, decltype(x)(0)) - std::log1p(std::exp(-std::fabs(x))); });
}
void run_tanhshrink(Call& call) {
    each(call, [](auto x) { return x - std::tanh(x); });
}

void run_hardshrink(Call& call) {
    const double edge = call.params().number("lambd");
    each(call, [edge](auto x) { return x >= -edge && x <= edge ? decltype(x)(0) : x; });
}

void run_softshrink(Call& call) {
    const double edge = call.params().number("lambd");
    require(edge >= 0.0 && edge <= std::numeric_limits<float>::max(), "an edge that is no positive number");
    each(call, [edge](auto x) {
        using T = decltype(x);
        const T by = static_cast<T>(edge);
        return x > by ? x - by : x < -by ? x + by : x * T(0);
    });
}

void run_glu(Call& call) {
    const Tensor& given = call.x();
    require(given.rank() > 0, "a scalar has no halves");
    const std::int64_t axis = axis_of(call.params().integer("dim"), given.rank());
    require(given.size(axis) % 2 == 0, "an axis that cannot be halved");
    Shape shape = given.shape();
    shape[static_cast<std::size_t>(axis)] /= 2;
    Tensor& out = call.make(given.dtype(), shape);
    if (!call.real() || given.count() == 0) return;
    const Along along(given.shape(), axis);
    const std::int64_t half = along.size / 2 * along.inner;
    with_float_type(given.dtype(), [&](auto kind) {
        using T = decltype(kind);
        const T* x = given.data<T>();
        T* to = out.mutable_data<T>();
        for (std::int64_t i = 0; i < along.outer; ++i) {
            for (std::int64_t k = 0; k < half; ++k) to[i * half + k] = x[2 * i * half + k] * sigmoid(x[(2 * i + 1) * half + k]);
        }
    });
}

void build_prelu(const Build& build) { build.expect({{"weight", {build.params().integer("num_parameters")}}}); }

void run_prelu(Call& call) {
    const Tensor& given = call.x();
    const Tensor& weight = *call.slot("weight");
    const std::int64_t channels = given.rank() > 1 ? given.size(1) : 1;
    require(weight.count() == 1 || weight.count() == channels, "another number of slopes than channels");
    require_same_type(given, weight);
    Tensor& out = call.make(given.dtype(), given.shape());
    if (!call.real() || given.count() == 0) return;
    const Along along(given.shape(), given.rank() > 1 ? 1 : 0);
    with_float_type(given.dtype(), [&](auto kind) {
        using T = decltype(kind);
        const T *x = given.data<T>(), *slopes = weight.data<T>();
        T* to = out.mutable_data<T>();
        for (std::int64_t i = 0; i < along.outer * along.size; ++i) {
            const T slope = weight.count() == 1 ? slopes[0] : slopes[i % along.size];
            for (std::int64_t k = i * along.inner; k < (i + 1) * along.inner; ++k) to[k] = x[k] > 0 ? x[k] : slope * x[k];
        }
    });
}

template <bool logarithm>
void run_softmax(Call& call) {
    const Tensor& given = call.x();
    const std::int64_t axis = axis_of(call.params().integer("dim"), given.rank());
    Tensor& out = call.make(given.dtype(), given.shape());
    if (!call.real() || given.count() == 0) return;
    const Along along(given.shape(), axis);
    with_float_type(given.dtype(), [&](auto kind) {
        using T = decltype(kind);
        for (std::int64_t i = 0; i < along.outer; ++i) {
            for (std::int64_t k = 0; k < along.inner; ++k) {
                const T* x = given.data<T>() + i * along.size * along.inner + k;
                T* to = out.mutable_data<T>() + i * along.size * along.inner + k;
                T most = x[0];
                for (std::int64_t j = 1; j < along.size; ++j) most = std::max(most, x[j * along.inner]);
                double total = 0.0;
                for (std::int64_t j = 0; j < along.size; ++j) {
                    const T power = std::exp(x[j * along.inner] - most);
                    to[j * along.inner] = power;
                    total += power;
                }
                const T logarithm_of_total = static_cast<T>(std::log(total)), factor = static_cast<T>(1.0 / total);
                for (std::int64_t j = 0; j < along.size; ++j) {
                    if (logarithm) to[j * along.inner] = x[j * along.inner] - most - logarithm_of_total;
                    else to[j * along.inner] *= factor;
                }
            }
        }
    });
}

void build_dropout(const Build& build) {
    const double share = build.params().number("p");
    build.demand(!(share < 0.0 || share > 1.0), "a share outside 0 to 1");
    no_slots(build);
}

void run_same(Call& call) { call.give(call.x()); }

void build_fake_quantize(const Build& build) { build.expect({{"scale", {}}, {"zero", {}}}); }

void run_fake_quantize(Call& call) {
    const Tensor &scale = *call.slot("scale"), &zero = *call.slot("zero");
    const double high = static_cast<double>((std::int64_t(1) << call.params().integer("bits")) - 1);
    if (!call.real()) return each(call, [](auto x) { return x; });
    const double step = cast(scale, DType::f64).data<double>()[0], origin = cast(zero, DType::f64).data<double>()[0];
    each(call, [=](auto x) {
        using T = decltype(x);
        const T inside = std::min(std::max(x / static_cast<T>(step) + static_cast<T>(origin), T(0)), static_cast<T>(high));
        return (std::nearbyint(inside) - static_cast<T>(origin)) * static_cast<T>(step);
    });
}

}  // namespace

const std::vector<Op> kActivationOps = {
    {"vn.relu", "", 1, 1, no_slots, run_relu, 1, true},
    {"vn.relu6", "", 1, 1, no_slots, run_relu6, 1, true},
    {"vn.leaky_relu", "negative_slope float =0.01", 1, 1, no_slots, run_leaky_relu, 1, true},
    {"vn.elu", "alpha float =1.0", 1, 1, no_slots, run_elu, 1, true},
    {"vn.selu", "", 1, 1, no_slots, run_selu, 1, true},
    {"vn.celu", "alpha float =1.0", 1, 1, no_slots, run_celu, 1, true},
    {"vn.silu", "", 1, 1, no_slots, run_silu, 1, true},
    {"vn.gelu", "approximate str ='none'", 1, 1, no_slots, run_gelu, 1, true},
    {"vn.hardswish", "", 1, 1, no_slots, run_hardswish, 1, true},
    {"vn.hardsigmoid", "", 1, 1, no_slots, run_hardsigmoid, 1, true},
    {"vn.hardtanh", "min_val float =-1.0; max_val float =1.0", 1, 1, build_hardtanh, run_hardtanh, 1, true},
    {"vn.tanh", "", 1, 1, no_slots, run_tanh, 1, true},
    {"vn.sigmoid", "", 1, 1, no_slots, run_sigmoid, 1, true},
    {"vn.mish", "", 1, 1, no_slots, run_mish, 1, true},
    {"vn.softplus", "beta float =1.0; threshold float =20.0", 1, 1, no_slots, run_softplus, 1, true},
    {"vn.softsign", "", 1, 1, no_slots, run_softsign, 1, true},
    {"vn.logsigmoid", "", 1, 1, no_slots, run_logsigmoid, 1, true},
    {"vn.tanhshrink", "", 1, 1, no_slots, run_tanhshrink, 1, true},
    {"vn.hardshrink", "lambd float =0.5", 1, 1, no_slots, run_hardshrink, 1, true},
    {"vn.softshrink", "lambd float =0.5", 1, 1, no_slots, run_softshrink, 1, true},
    {"vn.glu", "dim int =-1", 1, 1, no_slots, run_glu, 1, true},
    {"vn.prelu", "num_parameters int =1", 1, 1, build_prelu, run_prelu, 1, true},
    {"vn.softmax", "dim int", 1, 1, no_slots, run_softmax<false>, 1, true},
    {"vn.log_softmax", "dim int", 1, 1, no_slots, run_softmax<true>, 1, true},
    {"vn.dropout", "p float =0.5; spatial bool =false; rank <1,2,3> =2", 1, 1, build_dropout, run_same},
    {"vn.identity", "effect <none,contiguous,detach> ='none'", 1, 1, no_slots, run_same},
    {"vn.fake_quantize", "bits int:2:8", 1, 1, build_fake_quantize, run_fake_quantize, 1, true},
};

}  // namespace vn
