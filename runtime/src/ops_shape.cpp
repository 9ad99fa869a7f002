// Changes of shape, and axes in another order, repeated, rotated or reversed.
#include <algorithm>
#include <numeric>

#include "checked.h"
#include "elementwise.h"
#include "strided.h"

namespace vn {

namespace {

void run_reshape(Call& call) {
    if (call.arity() > 1) return call.give(call.x().reshaped(call.x(1).shape()));
    require(!call.params().null("shape"), "a shape is missing");
    call.give(call.x().reshaped(inferred(call.params().integers("shape"), call.x().count())));
}

void run_flatten(Call& call) {
    const Shape& shape = call.x().shape();
    const std::int64_t first = axis_of(call.params().integer("start_dim"), call.x().rank()), last = axis_of(call.params().integer("end_dim"), call.x().rank());
    require(first <= last, "the first axis is behind the last");
    if (shape.empty()) return call.give(call.x().reshaped({1}));
    Shape made(shape.begin(), shape.begin() + first);
    made.push_back(count_of(Shape(shape.begin() + first, shape.begin() + last + 1)));
    made.insert(made.end(), shape.begin() + last + 1, shape.end());
    call.give(call.x().reshaped(made));
}

void run_unflatten(Call& call) {
    Shape shape = call.x().shape();
    require(!shape.empty(), "a scalar has no axis");
    const std::int64_t axis = axis_of(call.params().integer("dim"), call.x().rank());
    const Shape sizes = call.params().integers("sizes");
    require(!sizes.empty(), "no sizes");
    const Shape made = inferred(sizes, shape[static_cast<std::size_t>(axis)]);
    shape.erase(shape.begin() + axis);
    shape.insert(shape.begin() + axis, made.begin(), made.end());
    call.give(call.x().reshaped(shape));
}

void run_permute(Call& call) {
    const Json& dims = call.params().at("dims");
    require(static_cast<std::int64_t>(dims.list()->size()) == call.x().rank(), "another number of axes");
    std::vector<std::int64_t> order;
    for (const std::int64_t dim : call.params().integers("dims")) {
        order.push_back(axis_of(dim, call.x().rank()));
        require(std::count(order.begin(), order.end(), order.back()) == 1, "an axis twice");
    }
    call.give(permuted(call.x(), order, call.real()));
}

void run_transpose(Call& call) {
    const std::int64_t rank = call.x().rank(), a = axis_of(call.params().integer("dim0"), rank), b = axis_of(call.params().integer("dim1"), rank);
    std::vector<std::int64_t> order(static_cast<std::size_t>(rank));
    std::iota(order.begin(), order.end(), 0);
    if (rank > 0) std::swap(order[static_cast<std::size_t>(a)], order[static_cast<std::size_t>(b)]);
    call.give(permuted(call.x(), order, call.real()));
}

void run_squeeze(Call& call) {
    const Tensor& given = call.x();
    const Json& dims = call.params().at("dim");
    std::vector<std::int64_t> axes;
    if (dims.is_null() || !dims.list()->empty()) axes = axes_of(dims, given.rank());
    Shape shape;
    for (std::int64_t i = 0; i < given.rank(); ++i) {
        if (given.size(i) != 1 || std::find(axes.begin(), axes.end(), i) == axes.end()) shape.push_back(given.size(i));
    }
    call.give(given.reshaped(shape));
}

void run_unsqueeze(Call& call) {
    Shape shape = call.x().shape();
    shape.insert(shape.begin() + axis_of(call.params().integer("dim"), call.x().rank() + 1), 1);
    call.give(call.x().reshaped(shape));
}

void run_expand(Call& call) {
    const Tensor& given = call.x();
    Shape shape;
    if (call.arity() > 1) {
        shape = call.x(1).shape();
    } else {
        require(!call.params().null("shape"), "a shape is missing");
        shape = call.params().integers("shape");
    }
    require(shape.size() >= given.shape().size(), "fewer axes than there are");
    const std::size_t more = shape.size() - given.shape().size();
    for (std::size_t i = 0; i < shape.size(); ++i) {
        if (shape[i] != -1) continue;
        require(i >= more, "the size of a new axis is missing");
        shape[i] = given.shape()[i - more];
    }
    count_of(shape);
    call.give(expanded(given, shape, call.real()));
}

void run_repeat(Call& call) {
    const std::vector<std::int64_t> times = call.params().integers("repeats");
    Shape shape = call.x().shape();
    require(times.size() >= shape.size(), "fewer numbers than axes");
    shape.insert(shape.begin(), times.size() - shape.size(), 1);
    Shape made = shape;
    for (std::size_t i = 0; i < made.size(); ++i) {
        require(times[i] >= 0, "a negative number of times");
        made[i] = multiply(made[i], times[i]);
    }
    if (!call.real()) {
        call.make(call.x().dtype(), made);
        return;
    }
    // (a, b) as (1, a, 1, b) expands to (times, a, times, b).
    Shape steps, split;
    const Shape own = strides_of(shape);
    for (std::size_t i = 0; i < made.size(); ++i) {
        split.insert(split.end(), {times[i], shape[i]});
        steps.insert(steps.end(), {0, own[i]});
    }
    call.give(strided(call.x(), split, steps, 0, true).reshaped(made));
}

void run_repeat_interleave(Call& call) {
    const Tensor& given = call.x();
    const std::int64_t times = call.params().integer("repeats"), axis = axis_of(call.params().integer("dim"), given.rank());
    require(times >= 0 && given.rank() > 0, "a negative number of times");
    Shape made = given.shape(), split = given.shape(), steps = strides_of(given.shape());
    made[static_cast<std::size_t>(axis)] = multiply(made[static_cast<std::size_t>(axis)], times);
    split.insert(split.begin() + axis + 1, times);
    steps.insert(steps.begin() + axis + 1, 0);
    call.give(strided(given, split, steps, 0, call.real()).reshaped(made));
}

void run_roll(Call& call) {
    const std::vector<std::int64_t> shifts = call.params().integers("shifts"), dims = call.params().integers("dims");
    require(!shifts.empty() && shifts.size() == dims.size(), "another number of shifts than axes");
    Tensor given = call.x();
    for (std::size_t i = 0; i < dims.size(); ++i) {
        const std::int64_t axis = axis_of(dims[i], given.rank());
        if (given.count() == 0 || given.rank() == 0) continue;
        const std::int64_t size = given.size(axis), first = modulo(negate(modulo(shifts[i], size)), size);
        if (first == 0) continue;
        given = joined({narrowed(given, axis, first, size - first, call.real()), narrowed(given, axis, 0, first, call.real())}, axis, call.real());
    }
    call.give(given);
}

void run_flip(Call& call) {
    const Tensor& given = call.x();
    Shape steps = strides_of(given.shape());
    std::int64_t start = 0;
    if (!call.params().at("dims").list()->empty()) {
        for (const std::int64_t axis : axes_of(call.params().at("dims"), given.rank())) {
            auto& step = steps[static_cast<std::size_t>(axis)];
            start += step * (given.size(axis) - 1);
            step = -step;
        }
    }
    call.give(strided(given, given.shape(), steps, start, call.real()));
}

void run_windows(Call& call) {
    const Tensor& given = call.x();
    const std::int64_t size = call.params().integer("size"), step = call.params().integer("step");
    const std::int64_t axis = axis_of(call.params().integer("dim"), given.rank());
    const std::int64_t length = given.rank() == 0 ? 1 : given.size(axis);
    require(size >= 0 && size <= length && step > 0, "windows that do not fit");
    Shape shape = given.shape(), steps = strides_of(given.shape());
    shape.push_back(size);
    steps.push_back(given.rank() == 0 ? 1 : steps[static_cast<std::size_t>(axis)]);
    if (given.rank() > 0) {
        shape[static_cast<std::size_t>(axis)] = (length - size) / step + 1;
        steps[static_cast<std::size_t>(axis)] = multiply(steps[static_cast<std::size_t>(axis)], std::min(step, length));
        if (step > length) steps[static_cast<std::size_t>(axis)] = 0;  // there is one window
    }
    call.give(strided(given, shape, steps, 0, call.real()));
}

void run_gather(Call& call) {
    const Tensor &given = call.x(), &index = call.x(1);
    require(index.dtype() == DType::i64 || index.dtype() == DType::i32, "places that are not counted by integers");
    const std::int64_t rank = std::max<std::int64_t>(given.rank(), 1), axis = axis_of(call.params().integer("dim"), given.rank());
    require(std::max<std::int64_t>(index.rank(), 1) == rank || index.count() == 0, "places of another number of axes");
    for (std::int64_t i = 0; i < index.rank() && index.count() > 0 && given.rank() > 0; ++i) require(i == axis || index.size(i) <= given.size(i), "more places than entries");
    Tensor& out = call.make(given.dtype(), index.shape());
    if (!call.real() || out.count() == 0) return;
    const Tensor places = cast(index, DType::i64);
    const Shape own = strides_of(given.shape()), theirs = strides_of(index.shape());
    const std::int64_t length = given.rank() == 0 ? 1 : given.size(axis);
    with_width(given.dtype(), [&](auto width) {
        using T = decltype(width);
        for (std::int64_t i = 0; i < out.count(); ++i) {
            const std::int64_t place = places.data<std::int64_t>()[i];
            require(place >= 0 && place < length, "a place outside an axis");
            std::int64_t from = 0, rest = i;
            for (std::size_t k = 0; k < own.size() && k < theirs.size(); ++k) {
                from += (static_cast<std::int64_t>(k) == axis ? place : rest / theirs[k]) * own[k];
                rest %= theirs[k];
            }
            out.mutable_data<T>()[i] = given.data<T>()[from];
        }
    });
}

}  // namespace

const std::vector<Op> kShapeOps = {
    {"vn.reshape", "shape [int|ref]|null =null", 1, 2, no_slots, run_reshape},
    {"vn.flatten", "start_dim int =0; end_dim int =-1", 1, 1, no_slots, run_flatten},
    {"vn.unflatten", "dim int; sizes [int|ref]", 1, 1, no_slots, run_unflatten},
    {"vn.permute", "dims [int]", 1, 1, no_slots, run_permute},
    {"vn.transpose", "dim0 int; dim1 int", 1, 1, no_slots, run_transpose},
    {"vn.squeeze", "dim [int]|null =null", 1, 1, no_slots, run_squeeze},
    {"vn.unsqueeze", "dim int", 1, 1, no_slots, run_unsqueeze},
    {"vn.expand", "shape [int|ref]|null =null", 1, 2, no_slots, run_expand},
    {"vn.repeat", "repeats [int|ref]", 1, 1, no_slots, run_repeat},
    {"vn.repeat_interleave", "repeats int|ref; dim int", 1, 1, no_slots, run_repeat_interleave},
    {"vn.roll", "shifts [int|ref]; dims [int]", 1, 1, no_slots, run_roll},
    {"vn.flip", "dims [int]", 1, 1, no_slots, run_flip},
    {"vn.windows", "dim int; size int; step int", 1, 1, no_slots, run_windows},
    {"vn.gather", "dim int", 2, 2, no_slots, run_gather},
};

}  // namespace vn
