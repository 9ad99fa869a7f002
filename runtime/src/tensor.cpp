#include "tensor.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <new>

#include "checked.h"

namespace vn {

Tensor::Tensor(DType dtype, Shape shape, std::shared_ptr<const void> owner, const void* data)
    : dtype_(dtype), shape_(std::move(shape)), count_(count_of(shape_)), owner_(std::move(owner)), data_(data) {
    multiply(count_, item_size(dtype_));
}

Tensor Tensor::reshaped(Shape shape) const {
    Tensor made(dtype_, std::move(shape), owner_, data_);
    require(made.count_ == count_, "a shape of another number of entries");
    return made;
}

std::int64_t count_of(const Shape& shape) {
    std::int64_t count = 1;
    bool empty = false;
    for (const std::int64_t dim : shape) {
        require(dim >= 0, "a negative size");
        empty = empty || dim == 0;
        count = multiply(count, dim == 0 ? 1 : dim);
    }
    return empty ? 0 : count;
}

Tensor make_tensor(DType dtype, Shape shape, bool real) {
    if (!real) return Tensor(dtype, std::move(shape));
    const Tensor measured(dtype, shape);
    const auto size = static_cast<std::size_t>(measured.nbytes());
    struct Free {
        void operator()(void* memory) const { ::operator delete(memory, std::align_val_t(64)); }
    };
    // A few bytes more: an empty tensor has an address, and kernels may read whole vectors.
    std::shared_ptr<void> memory(::operator new(size + 64, std::align_val_t(64)), Free());
    const void* data = memory.get();
    return Tensor(dtype, std::move(shape), std::move(memory), data);
}

Shape strides_of(const Shape& shape) {
    Shape strides(shape.size(), 1);
    for (std::size_t i = shape.size(); i-- > 1;) strides[i - 1] = strides[i] * shape[i];
    return strides;
}

Shape broadcast(const Shape& a, const Shape& b) {
    Shape made(std::max(a.size(), b.size()), 1);
    for (std::size_t i = 0; i < made.size(); ++i) {
        const std::int64_t x = i < a.size() ? a[a.size() - 1 - i] : 1, y = i < b.size() ? b[b.size() - 1 - i] : 1;
        require(x == y || x == 1 || y == 1, "shapes that do not broadcast");
        made[made.size() - 1 - i] = x == 1 ? y : x;
    }
    return made;
}

namespace {

// A float outside the integer's range, or NaN, is undefined in C++ and unspecified in torch: the nearest value, and 0.
template <class To, class From>
To convert(From value) {
    if constexpr (std::is_same_v<To, bool>) {
        return value != From(0);
    } else if constexpr (std::is_floating_point_v<From> && std::is_integral_v<To>) {
        if (std::isnan(value)) return To(0);
        const double low = -std::ldexp(1.0, 63), high = std::ldexp(1.0, 63);
        const double wide = static_cast<double>(value);
        const std::int64_t whole = wide < low ? std::numeric_limits<std::int64_t>::min()
                                   : wide >= high ? std::numeric_limits<std::int64_t>::max()
                                                  : static_cast<std::int64_t>(wide);
        return static_cast<To>(whole);
    } else {
        return static_cast<To>(value);
    }
}

Tensor from_half(const Tensor& given) {
    Tensor made = make_tensor(DType::f32, given.shape(), true);
    const auto* from = given.data<std::uint16_t>();
    const bool brain = given.dtype() == DType::bf16;
    float* to = made.mutable_data<float>();
    for (std::int64_t i = 0; i < given.count(); ++i) to[i] = brain ? bfloat_to_float(from[i]) : half_to_float(from[i]);
    return made;
}

Tensor to_half(const Tensor& given, DType dtype) {
    Tensor made = make_tensor(dtype, given.shape(), true);
    const float* from = given.data<float>();
    auto* to = made.mutable_data<std::uint16_t>();
    for (std::int64_t i = 0; i < given.count(); ++i) to[i] = dtype == DType::bf16 ? float_to_bfloat(from[i]) : float_to_half(from[i]);
    return made;
}

}  // namespace

Tensor cast(const Tensor& given, DType dtype) {
    if (given.dtype() == dtype) return given;
    if (!given.has_data()) return Tensor(dtype, given.shape());
    if (is_half(given.dtype())) return cast(from_half(given), dtype);
    if (is_half(dtype)) return to_half(cast(given, DType::f32), dtype);
    Tensor made = make_tensor(dtype, given.shape(), true);
    with_type(given.dtype(), [&](auto from_type) {
        with_type(dtype, [&](auto to_type) {
            using From = decltype(from_type);
            using To = decltype(to_type);
            const From* from = given.data<From>();
            To* to = made.mutable_data<To>();
            for (std::int64_t i = 0; i < given.count(); ++i) to[i] = convert<To>(from[i]);
        });
    });
    return made;
}

}  // namespace vn
