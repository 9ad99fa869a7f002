// Tensors made inside a network, and what is derived from grids, triangles and classes.
#include <algorithm>
#include <cmath>

#include "checked.h"
#include "elementwise.h"

namespace vn {

namespace {

void build_typed(const Build& build) {
    const Json& dtype = build.params().at("dtype");
    build.demand(dtype.is_null() || dtype_of_torch(*dtype.text()).has_value(), "a type that it does not know");
}

DType type_of(const Call& call) { return *dtype_of_torch(call.params().text("dtype")); }

void run_full(Call& call) { fill(call.make(type_of(call), call.params().integers("size")), call.params().at("value")); }

void run_full_like(Call& call) {
    const Params& p = call.params();
    const DType type = p.null("dtype") ? call.x().dtype() : type_of(call);
    fill(call.make(type, p.null("size") ? call.x().shape() : p.integers("size")), p.at("value"));
}

// out[i] = f(i), in double precision or as integers.
template <class F>
void numbered(Call& call, DType type, std::int64_t count, F f) {
    Tensor& out = call.make(type, {count});
    if (!call.real()) return;
    using T = decltype(f(std::int64_t(0)));
    Tensor wide = call.scratch(std::is_integral_v<T> ? DType::i64 : DType::f64, {count});
    for (std::int64_t i = 0; i < count; ++i) wide.template mutable_data<T>()[i] = f(i);
    out = cast(wide, type);
}

void run_arange(Call& call) {
    const Json &start = call.params().at("start"), &end = call.params().at("end"), &step = call.params().at("step");
    const double first = to_number(start), last = to_number(end), by = to_number(step);
    require(std::isfinite(first) && std::isfinite(last) && by != 0.0 && !std::isnan(by), "a range without end");
    require(by > 0.0 ? last >= first : last <= first, "a range in the other direction");
    const DType type = type_of(call);
    if (start.integer() != nullptr && end.integer() != nullptr && step.integer() != nullptr) {
        const std::int64_t from = *start.integer(), stride = *step.integer();
        const std::int64_t count = negate(floor_divide(negate(subtract(*end.integer(), from)), stride));
        return numbered(call, type, count, [=](std::int64_t i) { return from + i * stride; });
    }
    const double count = std::ceil((last - first) / by);
    require(count >= 0.0 && count < 9e18, "a range that no memory can hold");
    numbered(call, type, static_cast<std::int64_t>(count), [=](std::int64_t i) { return first + static_cast<double>(i) * by; });
}

void run_linspace(Call& call) {
    const double first = to_number(call.params().at("start")), last = to_number(call.params().at("end"));
    const std::int64_t count = call.params().integer("steps");
    require(count >= 0, "a negative number of steps");
    const double step = count > 1 ? (last - first) / static_cast<double>(count - 1) : 0.0;
    numbered(call, type_of(call), count, [=](std::int64_t i) {
        return i < count / 2 || count == 1 ? first + static_cast<double>(i) * step : last - static_cast<double>(count - 1 - i) * step;
    });
}

void run_eye(Call& call) {
    const std::int64_t rows = call.params().integer("n"), columns = call.params().integer("m");
    Tensor& out = call.make(type_of(call), {rows, columns});
    if (!call.real()) return;
    fill(out, Json(std::int64_t(0)));
    Tensor one = call.scratch(out.dtype(), {1});
    fill(one, Json(std::int64_t(1)));
    with_width(out.dtype(), [&](auto width) {
        using T = decltype(width);
        for (std::int64_t i = 0; i < std::min(rows, columns); ++i) out.mutable_data<T>()[i * columns + i] = one.data<T>()[0];
    });
}

// The shape of nested lists of numbers, and the numbers in order.
void flatten(const Json& data, std::size_t depth, Shape& shape, std::vector<const Json*>& numbers) {
    if (const List* items = data.list()) {
        const auto size = static_cast<std::int64_t>(items->size());
        require(depth < shape.size() || numbers.empty(), "lists of different depths");
        if (depth == shape.size()) shape.push_back(size);
        require(shape[depth] == size, "lists of different lengths");
        for (const Json& item : *items) flatten(item, depth + 1, shape, numbers);
        return;
    }
    require(depth == shape.size(), "lists of different depths");
    require(data.integer() != nullptr || data.real() != nullptr || data.boolean() != nullptr, "what is no number");
    numbers.push_back(&data);
}

void run_tensor(Call& call) {
    Shape shape;
    std::vector<const Json*> numbers;
    flatten(call.params().at("data"), 0, shape, numbers);
    Tensor& out = call.make(type_of(call), shape);
    if (!call.real()) return;
    for (std::size_t i = 0; i < numbers.size(); ++i) {
        Tensor one = call.scratch(out.dtype(), {1});
        fill(one, *numbers[i]);
        const auto size = item_size(out.dtype());
        std::copy_n(one.data<char>(), size, out.mutable_data<char>() + static_cast<std::int64_t>(i) * size);
    }
}

void run_meshgrid(Call& call) {
    const std::string& indexing = call.params().text("indexing");
    require(indexing == "ij" || indexing == "xy", "an unknown order of axes");
    const std::size_t count = call.arity();
    require(count > 0, "there are no tensors");
    Shape shape;
    for (const Tensor& one : call.inputs()) {
        require(one.rank() <= 1, "a tensor of several axes");
        require_same_type(one, call.x());
        shape.push_back(one.count());
    }
    const bool swap = indexing == "xy" && count > 1;
    if (swap) std::swap(shape[0], shape[1]);
    for (std::size_t i = 0; i < count; ++i) {
        Shape laid(count, 1);
        laid[swap && i < 2 ? 1 - i : i] = call.x(i).count();
        call.give(expanded(call.x(i).reshaped(laid), shape, call.real()));
    }
    if (count > 1) call.give_tuple();
}

template <bool upper>
void run_triangle(Call& call) {
    const Tensor& given = call.x();
    require(given.rank() >= 2, "no matrices");
    const std::int64_t diagonal = call.params().integer("diagonal");
    Tensor& out = call.make(given.dtype(), given.shape());
    if (!call.real()) return;
    fill(out, Json(std::int64_t(0)));
    const std::int64_t rows = given.size(given.rank() - 2), columns = given.size(given.rank() - 1);
    const std::int64_t shift = std::min(std::max(diagonal, -rows), columns);
    with_width(given.dtype(), [&](auto width) {
        using T = decltype(width);
        for (std::int64_t i = 0; i < given.count(); ++i) {
            const std::int64_t distance = i % columns - i / columns % rows;
            if (upper ? distance >= shift : distance <= shift) out.mutable_data<T>()[i] = given.data<T>()[i];
        }
    });
}

void run_one_hot(Call& call) {
    const Tensor& given = call.x();
    const std::int64_t classes = call.params().integer("num_classes");
    require(given.dtype() == DType::i64, "classes that are not counted by integers");
    require(classes > 0, "no classes");
    Shape shape = given.shape();
    shape.push_back(classes);
    Tensor& out = call.make(DType::i64, shape);
    if (!call.real()) return;
    fill(out, Json(std::int64_t(0)));
    for (std::int64_t i = 0; i < given.count(); ++i) {
        const std::int64_t one = given.data<std::int64_t>()[i];
        require(one >= 0 && one < classes, "a class that there is not");
        out.mutable_data<std::int64_t>()[i * classes + one] = 1;
    }
}

}  // namespace

const std::vector<Op> kCreationOps = {
    {"vn.full", "size [int|ref]; value bool|int|float; dtype str", 0, 0, build_typed, run_full},
    {"vn.full_like", "value bool|int|float; size [int|ref]|null =null; dtype str|null =null", 1, 1, build_typed, run_full_like},
    {"vn.arange", "start ref|int|float; end ref|int|float; step ref|int|float; dtype str", 0, 0, build_typed, run_arange},
    {"vn.linspace", "start ref|int|float; end ref|int|float; steps int|ref; dtype str", 0, 0, build_typed, run_linspace},
    {"vn.eye", "n int|ref; m int|ref; dtype str", 0, 0, build_typed, run_eye},
    {"vn.tensor", "data any; dtype str", 0, 0, build_typed, run_tensor},
    {"vn.meshgrid", "indexing str ='ij'", 0, kAny, no_slots, run_meshgrid},
    {"vn.tril", "diagonal int =0", 1, 1, any_slots, run_triangle<false>},
    {"vn.triu", "diagonal int =0", 1, 1, any_slots, run_triangle<true>},
    {"vn.one_hot", "num_classes int", 1, 1, no_slots, run_one_hot},
};

}  // namespace vn
