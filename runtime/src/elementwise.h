// Loops over entries, with broadcasting, and the type that torch computes in.
#pragma once

#include <optional>

#include "op.h"

namespace vn {

// An operand is a tensor or a number (bool, integer or float).
struct Operand {
    const Tensor* tensor = nullptr;
    const Json* number = nullptr;
};

// `torch.result_type` of operands: tensors with axes weigh more than scalars, scalars more than numbers.
DType result_type(std::initializer_list<Operand> operands);

// The type in which kernels compute values of `dtype`: float, double, or int64 for whole numbers and bools.
DType compute_type(DType dtype);

// A tensor in a type; a number as a tensor of no axes.
Tensor operand_as(const Operand& operand, DType dtype, bool real);

// A copy with the entries repeated along axes of size 1 and new leading ones.
Tensor expanded(const Tensor& given, const Shape& shape, bool real);

// Calls `function(T())` with float, double or int64.
template <class F>
void with_compute_type(DType dtype, F&& function) {
    if (dtype == DType::f32) return function(float());
    if (dtype == DType::f64) return function(double());
    function(std::int64_t());
}

template <class F>
void with_float_type(DType dtype, F&& function) {
    if (dtype == DType::f64) return function(double());
    require(dtype == DType::f32, "an op of floating-point numbers was given others");
    function(float());
}

// out[i] = f(a[i], b[i]), where a and b broadcast to the shape of out.
template <class T, class R, class F>
void binary_loop(const Tensor& a, const Tensor& b, Tensor& out, F f) {
    const T* x = a.data<T>();
    const T* y = b.data<T>();
    R* to = out.mutable_data<R>();
    const std::int64_t count = out.count();
    if (count == 0) return;
    if (a.shape() == out.shape() && b.shape() == out.shape()) {
        for (std::int64_t i = 0; i < count; ++i) to[i] = f(x[i], y[i]);
        return;
    }
    if (b.count() == 1) {
        const T one = y[0];
        for (std::int64_t i = 0; i < count && a.count() == count; ++i) to[i] = f(x[i], one);
        if (a.count() == count) return;
    }
    if (a.count() == 1 && b.count() == count) {
        const T one = x[0];
        for (std::int64_t i = 0; i < count; ++i) to[i] = f(one, y[i]);
        return;
    }
    const Shape& shape = out.shape();
    const std::size_t rank = shape.size();
    const auto steps = [&](const Tensor& given) {
        Shape made(rank, 0);
        const Shape own = strides_of(given.shape());
        for (std::size_t i = 0; i < own.size(); ++i) {
            if (given.shape()[i] != 1) made[rank - own.size() + i] = own[i];
        }
        return made;
    };
    const Shape xs = steps(a), ys = steps(b);
    const std::int64_t inner = shape[rank - 1], xi = xs[rank - 1], yi = ys[rank - 1];
    Shape place(rank, 0);
    for (std::int64_t done = 0; done < count; done += inner, to += inner) {
        for (std::int64_t i = 0; i < inner; ++i) to[i] = f(x[i * xi], y[i * yi]);
        for (std::size_t axis = rank - 1; axis-- > 0;) {
            x += xs[axis];
            y += ys[axis];
            if (++place[axis] < shape[axis]) break;
            x -= xs[axis] * shape[axis];
            y -= ys[axis] * shape[axis];
            place[axis] = 0;
        }
    }
}

template <class T, class F>
void unary_loop(const Tensor& given, Tensor& out, F f) {
    const T* x = given.data<T>();
    T* to = out.mutable_data<T>();
    for (std::int64_t i = 0; i < given.count(); ++i) to[i] = f(x[i]);
}

}  // namespace vn
