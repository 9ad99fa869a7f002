// Element-wise operations on two operands: tensors, or a tensor and a number.
#include <cmath>

#include "checked.h"
#include "elementwise.h"

namespace vn {

namespace {

// The operands in the order of the operation.
struct Two {
    Operand first, second;
    bool reversed;

    explicit Two(const Call& call) : reversed(call.params().flag("reversed")) {
        first.tensor = &call.x();
        if (call.arity() > 1) {
            second.tensor = &call.x(1);
        } else {
            second.number = &call.params().at("other");
            require(!second.number->is_null(), "it has one operand");
        }
        if (reversed) std::swap(first, second);
    }
    Shape shape() const {
        static const Shape none;
        return broadcast(first.tensor ? first.tensor->shape() : none, second.tensor ? second.tensor->shape() : none);
    }
    DType type() const { return result_type({first, second}); }
};

// out = f(first, second) computed in `compute` and stored in `stored`. A number of more than the type's precision is rounded
// first, as torch does.
template <class F>
void apply(Call& call, const Two& two, DType compute, DType stored, F f) {
    Tensor& out = call.make(stored, two.shape());
    if (!call.real()) return;
    const DType work = compute_type(compute);
    // What wraps in the operands' type (u8, i8, ...) must wrap before it is used.
    const auto read = [&](const Operand& one) { return cast(operand_as(one, compute, true), work); };
    const Tensor a = read(two.first), b = read(two.second);
    if (stored == DType::boolean) {
        with_compute_type(work, [&](auto type) {
            using T = decltype(type);
            binary_loop<T, bool>(a, b, out, [&](T x, T y) { return static_cast<bool>(f(x, y)); });
        });
        return;
    }
    Tensor wide = work == stored ? out : call.scratch(work, out.shape());
    with_compute_type(work, [&](auto type) {
        using T = decltype(type);
        binary_loop<T, T>(a, b, wide, [&](T x, T y) { return static_cast<T>(f(x, y)); });
    });
    if (work != stored) out = cast(wide, stored);
}

// Wrapping, without undefined behaviour.
std::int64_t wrap(std::uint64_t value) { return static_cast<std::int64_t>(value); }
template <class T>
std::uint64_t bits(T value) {
    return static_cast<std::uint64_t>(value);
}

struct Plus {
    const Json& alpha;
    double sign;
    template <class T>
    T operator()(T x, T y) const {
        if constexpr (std::is_integral_v<T>) {
            const std::uint64_t factor = bits(static_cast<std::int64_t>(to_number(alpha)));
            return sign > 0 ? wrap(bits(x) + factor * bits(y)) : wrap(bits(x) - factor * bits(y));
        } else {
            const T factor = static_cast<T>(sign * to_number(alpha));
            return x + factor * y;
        }
    }
};

void check_alpha(const Json& alpha, DType type) {
    require(is_floating(type) || alpha.real() == nullptr, "a fraction times whole numbers");
}

void sum(Call& call, double sign) {
    const Two two(call);
    const DType type = two.type();
    const Json& alpha = call.params().at("alpha");
    if (sign < 0) require(type != DType::boolean, "a difference of truth values");
    check_alpha(alpha, type);
    require(!call.real() || type == DType::boolean || alpha.boolean() == nullptr || *alpha.boolean(), "numbers times a truth value");
    apply(call, two, type, type, Plus{alpha, sign});
}

void run_add(Call& call) { sum(call, 1.0); }
void run_sub(Call& call) { sum(call, -1.0); }

void run_mul(Call& call) {
    const Two two(call);
    apply(call, two, two.type(), two.type(), [](auto x, auto y) {
        if constexpr (std::is_integral_v<decltype(x)>) return wrap(bits(x) * bits(y));
        else return x * y;
    });
}

// Python's quotient rounded down, as torch computes it for floats.
template <class T>
T floor_quotient(T x, T y) {
    if constexpr (std::is_integral_v<T>) {
        return y == -1 ? wrap(0 - bits(x)) : floor_divide(x, y);
    } else {
        if (y == T(0)) return x / y;
        const T rest = std::fmod(x, y);
        T quotient = (x - rest) / y;
        if (rest != T(0) && (y < T(0)) != (rest < T(0))) quotient -= T(1);
        if (quotient == T(0)) return std::copysign(T(0), x / y);
        const T down = std::floor(quotient);
        return quotient - down > T(0.5) ? down + T(1) : down;
    }
}

void run_div(Call& call) {
    const Two two(call);
    const Json& mode = call.params().at("rounding_mode");
    DType type = two.type();
    if (mode.is_null()) {
        if (!is_floating(type)) type = DType::f32;
        apply(call, two, type, type, [](auto x, auto y) {
            if constexpr (std::is_integral_v<decltype(x)>) return x;
            else return x / y;
        });
        return;
    }
    const bool down = *mode.text() == "floor";
    require(type != DType::boolean, "a rounded quotient of truth values");
    apply(call, two, type, type, [down](auto x, auto y) {
        using T = decltype(x);
        if (down) return floor_quotient(x, y);
        if constexpr (std::is_integral_v<T>) {
            require(y != 0, "division by zero");
            return y == -1 ? wrap(0 - bits(x)) : x / y;
        } else {
            return std::trunc(x / y);
        }
    });
}

void run_floor_divide(Call& call) {
    const Two two(call);
    apply(call, two, two.type(), two.type(), [](auto x, auto y) { return floor_quotient(x, y); });
}

void run_remainder(Call& call) {
    const Two two(call);
    apply(call, two, two.type(), two.type(), [](auto x, auto y) {
        using T = decltype(x);
        if constexpr (std::is_integral_v<T>) {
            return modulo(x, y);
        } else {
            const T rest = std::fmod(x, y);
            return rest != T(0) && (rest < T(0)) != (y < T(0)) ? rest + y : rest;
        }
    });
}

std::int64_t whole_power(std::int64_t base, std::int64_t exponent) {
    if (exponent < 0) {
        if (base == 1) return 1;
        return base == -1 ? (exponent % 2 == 0 ? 1 : -1) : 0;
    }
    std::uint64_t result = 1, factor = bits(base);
    for (; exponent > 0; exponent >>= 1, factor *= factor) {
        if (exponent & 1) result *= factor;
    }
    return wrap(result);
}

void run_pow(Call& call) {
    const Two two(call);
    const DType type = two.type();
    const Json* exponent = two.second.number;
    if (!is_floating(type) && exponent != nullptr && exponent->integer() != nullptr) {
        require(*exponent->integer() >= 0, "whole numbers to a negative power");
    }
    const double fixed = exponent == nullptr ? 0.0 : to_number(*exponent);
    apply(call, two, type, type, [fixed](auto x, auto y) {
        using T = decltype(x);
        if constexpr (std::is_integral_v<T>) {
            return whole_power(x, y);
        } else {
            if (fixed == 2.0) return x * x;
            if (fixed == 3.0) return x * x * x;
            if (fixed == 0.5) return std::sqrt(x);
            return static_cast<T>(std::pow(x, y));
        }
    });
}

template <bool larger>
void run_extreme(Call& call) {
    const Two two(call);
    require(two.first.tensor != nullptr && two.second.tensor != nullptr, "it takes two tensors");
    apply(call, two, two.type(), two.type(), [](auto x, auto y) {
        using T = decltype(x);
        if constexpr (std::is_floating_point_v<T>) {
            if (std::isnan(x) || std::isnan(y)) return std::isnan(x) ? x : y;
        }
        return larger ? (x < y ? y : x) : (y < x ? y : x);
    });
}

template <class F>
void compare(Call& call, F f) {
    const Two two(call);
    require(two.first.tensor != nullptr, "a number compared with a tensor");
    apply(call, two, two.type(), DType::boolean, f);
}

void run_eq(Call& call) { compare(call, [](auto x, auto y) { return x == y; }); }
void run_ne(Call& call) { compare(call, [](auto x, auto y) { return x != y; }); }
void run_lt(Call& call) { compare(call, [](auto x, auto y) { return x < y; }); }
void run_le(Call& call) { compare(call, [](auto x, auto y) { return x <= y; }); }
void run_gt(Call& call) { compare(call, [](auto x, auto y) { return x > y; }); }
void run_ge(Call& call) { compare(call, [](auto x, auto y) { return x >= y; }); }

template <class F>
void logical(Call& call, F f) {
    const Two two(call);
    require(two.first.tensor != nullptr && two.second.tensor != nullptr, "it takes two tensors");
    apply(call, two, two.type(), DType::boolean, [&](auto x, auto y) { return f(x != 0, y != 0); });
}

void run_and(Call& call) { logical(call, [](bool x, bool y) { return x && y; }); }
void run_or(Call& call) { logical(call, [](bool x, bool y) { return x || y; }); }
void run_xor(Call& call) { logical(call, [](bool x, bool y) { return x != y; }); }

constexpr char kPlain[] = "other bool|int|float|ref|null =null; reversed bool =false";
constexpr char kSum[] = "other bool|int|float|ref|null =null; reversed bool =false; alpha bool|int|float =1";
constexpr char kQuotient[] = "other bool|int|float|ref|null =null; reversed bool =false; rounding_mode <trunc,floor>|null =null";

}  // namespace

const std::vector<Op> kArithmeticOps = {
    {"vn.add", kSum, 1, 2, no_slots, run_add},
    {"vn.sub", kSum, 1, 2, no_slots, run_sub},
    {"vn.mul", kPlain, 1, 2, no_slots, run_mul},
    {"vn.div", kQuotient, 1, 2, no_slots, run_div},
    {"vn.floor_divide", kPlain, 1, 2, no_slots, run_floor_divide},
    {"vn.remainder", kPlain, 1, 2, no_slots, run_remainder},
    {"vn.pow", kPlain, 1, 2, no_slots, run_pow},
    {"vn.maximum", kPlain, 1, 2, no_slots, run_extreme<true>},
    {"vn.minimum", kPlain, 1, 2, no_slots, run_extreme<false>},
    {"vn.eq", kPlain, 1, 2, any_slots, run_eq},
    {"vn.ne", kPlain, 1, 2, any_slots, run_ne},
    {"vn.lt", kPlain, 1, 2, any_slots, run_lt},
    {"vn.le", kPlain, 1, 2, any_slots, run_le},
    {"vn.gt", kPlain, 1, 2, any_slots, run_gt},
    {"vn.ge", kPlain, 1, 2, any_slots, run_ge},
    {"vn.logical_and", kPlain, 1, 2, any_slots, run_and},
    {"vn.logical_or", kPlain, 1, 2, any_slots, run_or},
    {"vn.logical_xor", kPlain, 1, 2, any_slots, run_xor},
};

}  // namespace vn
