#include "strided.h"

#include <algorithm>

#include "checked.h"

namespace vn {

Tensor strided(const Tensor& given, const Shape& shape, const Shape& steps, std::int64_t start, bool real) {
    Tensor made = make_tensor(given.dtype(), shape, real);
    if (!real || made.count() == 0) return made;
    with_width(given.dtype(), [&](auto width) {
        using T = decltype(width);
        const T* from = given.data<T>() + start;
        T* to = made.mutable_data<T>();
        const std::size_t rank = shape.size();
        if (rank == 0) {
            *to = *from;
            return;
        }
        Shape place(rank, 0);
        const std::int64_t inner = shape[rank - 1], step = steps[rank - 1];
        for (std::int64_t done = 0; done < made.count(); done += inner, to += inner) {
            if (step == 1) std::copy_n(from, inner, to);
            else for (std::int64_t i = 0; i < inner; ++i) to[i] = from[i * step];
            for (std::size_t axis = rank - 1; axis-- > 0;) {
                from += steps[axis];
                if (++place[axis] < shape[axis]) break;
                from -= steps[axis] * shape[axis];
                place[axis] = 0;
            }
        }
    });
    return made;
}

Tensor permuted(const Tensor& given, const std::vector<std::int64_t>& order, bool real) {
    const Shape own = strides_of(given.shape());
    Shape shape, steps;
    for (const std::int64_t axis : order) {
        shape.push_back(given.size(axis));
        steps.push_back(own[static_cast<std::size_t>(axis)]);
    }
    return strided(given, shape, steps, 0, real);
}

Tensor narrowed(const Tensor& given, std::int64_t axis, std::int64_t first, std::int64_t count, bool real) {
    Shape shape = given.shape();
    const Shape steps = strides_of(shape);
    const auto at = static_cast<std::size_t>(axis);
    require(first >= 0 && count >= 0 && first <= shape[at] && count <= shape[at] - first, "positions outside an axis");
    shape[at] = count;
    return strided(given, shape, steps, first * steps[at], real);
}

Tensor joined(const std::vector<Tensor>& parts, std::int64_t axis, bool real) {
    Shape shape = parts[0].shape();
    const auto at = static_cast<std::size_t>(axis);
    for (std::size_t i = 1; i < parts.size(); ++i) {
        require(parts[i].rank() == parts[0].rank(), "tensors of different numbers of axes");
        for (std::size_t k = 0; k < shape.size(); ++k) require(k == at || parts[i].shape()[k] == shape[k], "tensors of different sizes");
        shape[at] = add(shape[at], parts[i].shape()[at]);
    }
    Tensor made = make_tensor(parts[0].dtype(), shape, real);
    if (!real || made.count() == 0) return made;
    const Along along(shape, axis);
    const std::int64_t unit = along.inner * item_size(made.dtype());
    std::int64_t first = 0;
    for (const Tensor& part : parts) {
        const std::int64_t block = part.shape()[at] * unit;
        for (std::int64_t i = 0; i < along.outer; ++i) {
            std::copy_n(part.data<char>() + i * block, block, made.mutable_data<char>() + i * along.size * unit + first * unit);
        }
        first += part.shape()[at];
    }
    return made;
}

Shape inferred(Shape shape, std::int64_t count) {
    std::int64_t known = 1;
    std::size_t open = shape.size();
    for (std::size_t i = 0; i < shape.size(); ++i) {
        if (shape[i] == -1) {
            require(open == shape.size(), "two sizes to find out");
            open = i;
        } else {
            require(shape[i] >= 0, "a negative size");
            known = multiply(known, shape[i]);
        }
    }
    if (open < shape.size()) {
        require(known != 0 && count % known == 0, "a size that cannot be found out");
        shape[open] = count / known;
    }
    require(count_of(shape) == count, "a shape of another number of entries");
    return shape;
}

}  // namespace vn
