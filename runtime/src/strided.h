// Views that are copied: entries at a start and steps along axes.
#pragma once

#include "op.h"

namespace vn {

// out[i, j, ...] = given[start + i * steps[0] + j * steps[1] + ...]
Tensor strided(const Tensor& given, const Shape& shape, const Shape& steps, std::int64_t start, bool real);

Tensor permuted(const Tensor& given, const std::vector<std::int64_t>& order, bool real);

// The positions `first` to `first + count` of an axis.
Tensor narrowed(const Tensor& given, std::int64_t axis, std::int64_t first, std::int64_t count, bool real);

// The entries of several tensors, one behind the other on an axis.
Tensor joined(const std::vector<Tensor>& parts, std::int64_t axis, bool real);

// A shape in which one size may be -1. Throws ShapeError.
Shape inferred(Shape shape, std::int64_t count);

}  // namespace vn
