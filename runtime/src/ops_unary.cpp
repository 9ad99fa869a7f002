// Functions of each entry alone (`vn.exp` is `torch.exp`), and conversions of type.
#include <cmath>

#include "elementwise.h"

namespace vn {

namespace {

// Of whole numbers, a float comes out.
template <class F>
void to_float(Call& call, F f) {
    const DType type = is_floating(call.x().dtype()) ? call.x().dtype() : DType::f32;
    Tensor& out = call.make(type, call.x().shape());
    if (!call.real()) return;
    const Tensor given = cast(call.x(), type);
    with_float_type(type, [&](auto kind) {
        using T = decltype(kind);
        unary_loop<T>(given, out, [&](T x) { return static_cast<T>(f(x)); });
    });
}

// Of whole numbers, whole numbers come out.
template <class F>
void keep_type(Call& call, F f) {
    const DType type = call.x().dtype(), work = compute_type(type);
    Tensor& out = call.make(type, call.x().shape());
    if (!call.real()) return;
    const Tensor given = cast(call.x(), work);
    Tensor wide = work == type ? out : call.scratch(work, out.shape());
    with_compute_type(work, [&](auto kind) {
        using T = decltype(kind);
        unary_loop<T>(given, wide, [&](T x) { return static_cast<T>(f(x)); });
    });
    if (work != type) out = cast(wide, type);
}

template <class F>
void rounding(Call& call, F f) {
    if (is_floating(call.x().dtype())) return keep_type(call, [&](auto x) { return f(static_cast<double>(x)); });
    call.give(call.x());
}

void run_exp(Call& call) { to_float(call, [](auto x) { return std::exp(x); }); }
void run_expm1(Call& call) { to_float(call, [](auto x) { return std::expm1(x); }); }
void run_log(Call& call) { to_float(call, [](auto x) { return std::log(x); }); }
void run_log1p(Call& call) { to_float(call, [](auto x) { return std::log1p(x); }); }
void run_log2(Call& call) { to_float(call, [](auto x) { return std::log2(x); }); }
void run_sqrt(Call& call) { to_float(call, [](auto x) { return std::sqrt(x); }); }
void run_rsqrt(Call& call) { to_float(call, [](auto x) { return 1 / std::sqrt(x); }); }
void run_reciprocal(Call& call) { to_float(call, [](auto x) { return 1 / x; }); }
void run_sin(Call& call) { to_float(call, [](auto x) { return std::sin(x); }); }
void run_cos(Call& call) { to_float(call, [](auto x) { return std::cos(x); }); }
void run_erf(Call& call) { to_float(call, [](auto x) { return std::erf(x); }); }
void run_floor(Call& call) { rounding(call, [](double x) { return std::floor(x); }); }
void run_ceil(Call& call) { rounding(call, [](double x) { return std::ceil(x); }); }
void run_round(Call& call) { rounding(call, [](double x) { return std::nearbyint(x); }); }

void run_square(Call& call) {
    if (call.x().dtype() == DType::boolean) {  // torch makes an int64 of `x ** 2`
        call.give(cast(call.x(), DType::i64));
        return;
    }
    keep_type(call, [](auto x) {
        if constexpr (std::is_integral_v<decltype(x)>) return static_cast<std::uint64_t>(x) * static_cast<std::uint64_t>(x);
        else return x * x;
    });
}

void run_neg(Call& call) {
    require(call.x().dtype() != DType::boolean, "the negative of truth values");
    keep_type(call, [](auto x) {
        if constexpr (std::is_integral_v<decltype(x)>) return 0 - static_cast<std::uint64_t>(x);
        else return -x;
    });
}

void run_abs(Call& call) {
    keep_type(call, [](auto x) {
        if constexpr (std::is_integral_v<decltype(x)>) return x < 0 ? 0 - static_cast<std::uint64_t>(x) : static_cast<std::uint64_t>(x);
        else return std::fabs(x);
    });
}

void run_sign(Call& call) {
    keep_type(call, [](auto x) { return (x > 0) - (x < 0); });
}

void run_not(Call& call) {
    Tensor& out = call.make(DType::boolean, call.x().shape());
    if (!call.real()) return;
    const Tensor truth = cast(call.x(), DType::boolean);
    unary_loop<bool>(truth, out, [](bool x) { return !x; });
}

void build_cast(const Build& build) {
    const Json& dtype = build.params().at("dtype");
    build.demand(dtype.is_null() || dtype_of_torch(*dtype.text()).has_value(), "a type that it does not know");
}

void run_cast(Call& call) {
    const Json& dtype = call.params().at("dtype");
    if (call.arity() > 1) {
        call.give(cast(call.x(), call.x(1).dtype()));
    } else {
        call.give(dtype.is_null() ? call.x() : cast(call.x(), *dtype_of_torch(*dtype.text())));
    }
}

}  // namespace

const std::vector<Op> kUnaryOps = {
    {"vn.exp", "", 1, 1, any_slots, run_exp, 1, true},
    {"vn.expm1", "", 1, 1, any_slots, run_expm1, 1, true},
    {"vn.log", "", 1, 1, any_slots, run_log, 1, true},
    {"vn.log1p", "", 1, 1, any_slots, run_log1p, 1, true},
    {"vn.log2", "", 1, 1, any_slots, run_log2, 1, true},
    {"vn.sqrt", "", 1, 1, any_slots, run_sqrt, 1, true},
    {"vn.rsqrt", "", 1, 1, any_slots, run_rsqrt, 1, true},
    {"vn.reciprocal", "", 1, 1, any_slots, run_reciprocal, 1, true},
    {"vn.sin", "", 1, 1, any_slots, run_sin, 1, true},
    {"vn.cos", "", 1, 1, any_slots, run_cos, 1, true},
    {"vn.erf", "", 1, 1, any_slots, run_erf, 1, true},
    {"vn.floor", "", 1, 1, any_slots, run_floor, 1, true},
    {"vn.ceil", "", 1, 1, any_slots, run_ceil, 1, true},
    {"vn.round", "", 1, 1, any_slots, run_round, 1, true},
    {"vn.square", "", 1, 1, any_slots, run_square},
    {"vn.neg", "", 1, 1, any_slots, run_neg},
    {"vn.abs", "", 1, 1, any_slots, run_abs},
    {"vn.sign", "", 1, 1, any_slots, run_sign},
    {"vn.logical_not", "", 1, 1, any_slots, run_not},
    {"vn.cast", "dtype str|null =null", 1, 2, build_cast, run_cast},
};

}  // namespace vn
