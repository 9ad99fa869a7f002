// Tensors: contiguous, row-major, never written to once an op has made them. One without data has a shape only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <variant>
#include <vector>

#include "document.h"
#include "dtype.h"

namespace vn {

class Tensor {
public:
    Tensor() = default;
    // `data` is null for a tensor that has a shape only. Throws ShapeError for sizes that no memory can have.
    Tensor(DType dtype, Shape shape, std::shared_ptr<const void> owner = nullptr, const void* data = nullptr);

    DType dtype() const { return dtype_; }
    const Shape& shape() const { return shape_; }
    std::int64_t rank() const { return static_cast<std::int64_t>(shape_.size()); }
    std::int64_t size(std::int64_t axis) const { return shape_[static_cast<std::size_t>(axis)]; }
    std::int64_t count() const { return count_; }
    std::int64_t nbytes() const { return count_ * item_size(dtype_); }
    bool has_data() const { return data_ != nullptr; }

    const void* raw() const { return data_; }
    template <class T>
    const T* data() const {
        return static_cast<const T*>(data_);
    }
    // For the op that makes it.
    template <class T>
    T* mutable_data() {
        return static_cast<T*>(const_cast<void*>(data_));
    }

    // The same entries in another shape with as many.
    Tensor reshaped(Shape shape) const;

private:
    DType dtype_ = DType::f32;
    Shape shape_;
    std::int64_t count_ = 1;
    std::shared_ptr<const void> owner_;
    const void* data_ = nullptr;
};

// Memory for entries; `real` false: a shape only. Aligned to 64 bytes, not initialised.
Tensor make_tensor(DType dtype, Shape shape, bool real);

// The entries in another type, as torch converts them.
Tensor cast(const Tensor& given, DType dtype);

// What a node makes or takes.
using Value = std::variant<std::monostate, Tensor, std::int64_t>;

// The number of entries of a shape. Throws ShapeError if it is negative somewhere or does not fit.
std::int64_t count_of(const Shape& shape);

// Steps, in entries, along each axis of a contiguous tensor.
Shape strides_of(const Shape& shape);

// The shape that both broadcast to. Throws ShapeError.
Shape broadcast(const Shape& a, const Shape& b);

// Calls `function(T())` with the C++ type of a dtype; 16-bit floats are not among them.
template <class F>
decltype(auto) with_type(DType dtype, F&& function) {
    switch (dtype) {
        case DType::f32: return function(float());
        case DType::f64: return function(double());
        case DType::i8: return function(std::int8_t());
        case DType::u8: return function(std::uint8_t());
        case DType::i16: return function(std::int16_t());
        case DType::i32: return function(std::int32_t());
        case DType::i64: return function(std::int64_t());
        default: return function(bool());
    }
}

// Calls `function(T())` with an unsigned type as wide as a dtype: for ops that move entries and do not look at them.
template <class F>
decltype(auto) with_width(DType dtype, F&& function) {
    switch (item_size(dtype)) {
        case 1: return function(std::uint8_t());
        case 2: return function(std::uint16_t());
        case 4: return function(std::uint32_t());
        default: return function(std::uint64_t());
    }
}

}  // namespace vn
