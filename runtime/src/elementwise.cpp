#include "elementwise.h"

namespace vn {

namespace {

DType number_type(const Json& number) {
    if (number.boolean() != nullptr) return DType::boolean;
    return number.integer() != nullptr ? DType::i64 : DType::f32;
}

std::optional<DType> joined(std::optional<DType> a, DType b) { return a ? promote(*a, b) : b; }

// torch's `combine_categories`.
std::optional<DType> combined(std::optional<DType> higher, std::optional<DType> lower) {
    if (!higher) return lower;
    if (is_floating(*higher) || !lower) return higher;
    if (*higher == DType::boolean || is_floating(*lower)) return promote(*higher, *lower);
    return higher;
}

}  // namespace

DType result_type(std::initializer_list<Operand> operands) {
    std::optional<DType> with_axes, scalars, numbers;
    for (const Operand& one : operands) {
        if (one.tensor != nullptr) {
            std::optional<DType>& category = one.tensor->rank() > 0 ? with_axes : scalars;
            category = joined(category, one.tensor->dtype());
        } else {
            require(one.number != nullptr && !one.number->is_null(), "an operand is missing");
            numbers = joined(numbers, number_type(*one.number));
        }
    }
    return *combined(with_axes, combined(scalars, numbers));
}

DType compute_type(DType dtype) {
    if (is_half(dtype)) return DType::f32;
    return is_floating(dtype) ? dtype : DType::i64;
}

Tensor operand_as(const Operand& operand, DType dtype, bool real) {
    if (operand.tensor != nullptr) return cast(*operand.tensor, dtype);
    Tensor made = make_tensor(dtype, {}, real);
    fill(made, *operand.number);
    return made;
}

Tensor expanded(const Tensor& given, const Shape& shape, bool real) {
    if (given.shape() == shape) return given;
    require(broadcast(given.shape(), shape) == shape, "a tensor does not expand to the shape");
    Tensor made = make_tensor(given.dtype(), shape, real);
    if (!real) return made;
    with_width(given.dtype(), [&](auto width) {
        using T = decltype(width);
        binary_loop<T, T>(given, given, made, [](T one, T) { return one; });
    });
    return made;
}

}  // namespace vn
