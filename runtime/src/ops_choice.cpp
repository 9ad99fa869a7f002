// Element-wise operations on three operands, of which some may be numbers.
#include <cmath>

#include "elementwise.h"

namespace vn {

namespace {

// The operand of a name: a tensor of the call, else the number of that name.
Operand operand(const Call& call, const char* name) {
    Operand found;
    found.tensor = call.role(name);
    if (found.tensor == nullptr) found.number = &call.params().at(name);
    return found;
}

const Tensor& needed(const Call& call, const char* name) {
    const Tensor* found = call.role(name);
    require(found != nullptr, "an input is missing");
    return *found;
}

Shape shape_of(const Operand& one) { return one.tensor != nullptr ? one.tensor->shape() : Shape(); }

// condition ? a : b, of operands that broadcast to the shape of out.
void choose(const Tensor& condition, const Tensor& a, const Tensor& b, Tensor& out) {
    const bool* which = condition.data<bool>();
    with_width(out.dtype(), [&](auto width) {
        using T = decltype(width);
        const T* x = a.data<T>();
        const T* y = b.data<T>();
        T* to = out.mutable_data<T>();
        for (std::int64_t i = 0; i < out.count(); ++i) to[i] = which[i] ? x[i] : y[i];
    });
}

void run_where(Call& call) {
    const Tensor& condition = needed(call, "condition");
    const Operand a = operand(call, "input"), b = operand(call, "other");
    require(condition.dtype() == DType::boolean || condition.dtype() == DType::u8, "a condition that is no truth value");
    const DType type = result_type({a, b});
    Tensor& out = call.make(type, broadcast(condition.shape(), broadcast(shape_of(a), shape_of(b))));
    if (!call.real()) return;
    const Tensor which = expanded(cast(condition, DType::boolean), out.shape(), true);
    choose(which, expanded(operand_as(a, type, true), out.shape(), true), expanded(operand_as(b, type, true), out.shape(), true), out);
}

void run_masked_fill(Call& call) {
    const Tensor& given = needed(call, "input");
    const Tensor& mask = needed(call, "mask");
    const Operand value = operand(call, "value");
    require(mask.dtype() == DType::boolean, "a mask that is no truth value");
    require(value.tensor != nullptr ? value.tensor->rank() == 0 : !value.number->is_null(), "it fills with one number");
    Tensor& out = call.make(given.dtype(), broadcast(given.shape(), mask.shape()));
    if (!call.real()) return;
    const Tensor filling = expanded(operand_as(value, given.dtype(), true), out.shape(), true);
    choose(expanded(mask, out.shape(), true), filling, expanded(given, out.shape(), true), out);
}

void run_clamp(Call& call) {
    Operand given;
    given.tensor = &needed(call, "input");
    const Operand low = operand(call, "min"), high = operand(call, "max");
    const bool has_low = low.tensor != nullptr || !low.number->is_null(), has_high = high.tensor != nullptr || !high.number->is_null();
    require(has_low || has_high, "it has no bound");
    require(!has_low || !has_high || (low.tensor == nullptr) == (high.tensor == nullptr), "one bound is a number, the other a tensor");
    DType type = given.tensor->dtype();
    Shape shape = given.tensor->shape();
    const bool computed = low.tensor != nullptr || high.tensor != nullptr;
    if (has_low && has_high) type = result_type({given, low, high});
    else type = result_type({given, has_low ? low : high});
    if (computed && has_low) shape = broadcast(shape, shape_of(low));
    if (computed && has_high) shape = broadcast(shape, shape_of(high));
    Tensor& out = call.make(type, shape);
    if (!call.real()) return;
    const DType work = compute_type(type);
    Tensor wide = cast(operand_as(given, type, true), work);
    with_compute_type(work, [&](auto kind) {
        using T = decltype(kind);
        const auto bound = [&](const Operand& by, auto pick) {
            Tensor next = call.scratch(work, shape);
            binary_loop<T, T>(wide, cast(operand_as(by, type, true), work), next, [&](T x, T y) {
                if constexpr (std::is_floating_point_v<T>) {
                    if (std::isnan(x) || std::isnan(y)) return std::isnan(x) ? x : y;
                }
                return pick(x, y);
            });
            wide = next;
        };
        if (has_low) bound(low, [](T x, T y) { return x < y ? y : x; });
        if (has_high) bound(high, [](T x, T y) { return y < x ? y : x; });
    });
    out = cast(wide, type);
}

void run_addcmul(Call& call) {
    const Tensor &a = needed(call, "input"), &b = needed(call, "tensor1"), &c = needed(call, "tensor2");
    Operand operands[3];
    operands[0].tensor = &a;
    operands[1].tensor = &b;
    operands[2].tensor = &c;
    const Json& value = call.params().at("value");
    require(!value.is_null(), "a factor is missing");
    const DType type = result_type({operands[0], operands[1], operands[2]});
    require(is_floating(type) || value.real() == nullptr, "a fraction times whole numbers");
    Tensor& out = call.make(type, broadcast(a.shape(), broadcast(b.shape(), c.shape())));
    if (!call.real()) return;
    require_floating(out);
    const DType work = compute_type(type);
    Tensor product = call.scratch(work, broadcast(b.shape(), c.shape())), total = call.scratch(work, out.shape());
    with_float_type(work, [&](auto kind) {
        using T = decltype(kind);
        const T factor = static_cast<T>(to_number(value));
        binary_loop<T, T>(cast(b, work), cast(c, work), product, [factor](T x, T y) { return factor * x * y; });
        binary_loop<T, T>(cast(a, work), product, total, [](T x, T y) { return x + y; });
    });
    out = cast(total, type);
}

}  // namespace

const std::vector<Op> kChoiceOps = {
    {"vn.where", "roles [str]; input bool|int|float|null =null; other bool|int|float|null =null", 0, kAny, no_slots, run_where},
    {"vn.masked_fill", "roles [str]; value bool|int|float|null =null", 0, kAny, no_slots, run_masked_fill},
    {"vn.clamp", "roles [str]; min bool|int|float|null|ref =null; max bool|int|float|null|ref =null", 0, kAny, no_slots, run_clamp},
    {"vn.addcmul", "roles [str]; value bool|int|float|null =1", 0, kAny, no_slots, run_addcmul},
};

}  // namespace vn
