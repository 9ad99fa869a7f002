// Walking over entries and the place of the result that each belongs to.
#pragma once

#include <algorithm>

#include "op.h"

namespace vn {

// The shape without `axes`, or with size 1 there.
inline Shape reduced_shape(const Shape& shape, const std::vector<std::int64_t>& axes, bool keep) {
    Shape made;
    for (std::size_t i = 0; i < shape.size(); ++i) {
        const bool gone = std::find(axes.begin(), axes.end(), static_cast<std::int64_t>(i)) != axes.end();
        if (!gone) made.push_back(shape[i]);
        else if (keep) made.push_back(1);
    }
    return made;
}

// Calls f(slot, entry) for each entry in order; `slot` counts through the result.
template <class T, class F>
void visit_reduced(const Tensor& given, const std::vector<std::int64_t>& axes, F f) {
    const Shape& shape = given.shape();
    Shape kept = reduced_shape(shape, axes, true);
    Shape steps = strides_of(kept);
    for (const std::int64_t axis : axes) steps[static_cast<std::size_t>(axis)] = 0;
    const T* x = given.data<T>();
    const std::size_t rank = shape.size();
    if (given.count() == 0) return;
    if (rank == 0) {
        f(std::int64_t(0), x[0]);
        return;
    }
    Shape place(rank, 0);
    std::int64_t slot = 0;
    const std::int64_t inner = shape[rank - 1], inner_step = steps[rank - 1];
    for (std::int64_t done = 0; done < given.count(); done += inner) {
        for (std::int64_t i = 0; i < inner; ++i) f(slot + i * inner_step, x[done + i]);
        for (std::size_t axis = rank - 1; axis-- > 0;) {
            slot += steps[axis];
            if (++place[axis] < shape[axis]) break;
            slot -= steps[axis] * shape[axis];
            place[axis] = 0;
        }
    }
}

// The number of entries of each result.
inline std::int64_t reduced_count(const Tensor& given, const std::vector<std::int64_t>& axes) {
    std::int64_t count = 1;
    for (const std::int64_t axis : axes) count *= given.size(axis);
    return count;
}

}  // namespace vn
