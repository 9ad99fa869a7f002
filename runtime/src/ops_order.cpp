// Largest entries and their places, running totals, sorting.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "checked.h"
#include "elementwise.h"

namespace vn {

namespace {

// NaN is larger than all other entries.
template <class T>
bool before(T a, T b) {
    if constexpr (std::is_floating_point_v<T>) {
        if (std::isnan(a) || std::isnan(b)) return !std::isnan(a) && std::isnan(b);
    }
    return a < b;
}

// Calls f(entries, step, number of the line) for each line along an axis.
template <class T, class F>
void lines(const Tensor& given, const Along& along, F f) {
    for (std::int64_t i = 0; i < along.outer && given.count() > 0; ++i) {
        for (std::int64_t k = 0; k < along.inner; ++k) f(given.data<T>() + i * along.size * along.inner + k, along.inner, i, k);
    }
}

// The places of a line's entries in order; equal entries stay in theirs.
template <class T>
std::vector<std::int64_t> ordered(const T* x, std::int64_t step, std::int64_t size, bool descending) {
    std::vector<std::int64_t> places(static_cast<std::size_t>(size));
    std::iota(places.begin(), places.end(), 0);
    std::stable_sort(places.begin(), places.end(), [&](std::int64_t a, std::int64_t b) {
        return descending ? before(x[b * step], x[a * step]) : before(x[a * step], x[b * step]);
    });
    return places;
}

Shape with_size(Shape shape, std::int64_t axis, std::int64_t size) {
    if (!shape.empty()) shape[static_cast<std::size_t>(axis)] = size;
    return shape;
}

// The best entry of each line, and its place.
void find_best(Call& call, const Tensor& given, std::int64_t axis, bool larger, bool keep, bool values, bool places) {
    const Along along(given.shape(), axis);
    require(along.size > 0, "the largest of no entries");
    Shape shape = with_size(given.shape(), axis, 1);
    if (!keep && !shape.empty()) shape.erase(shape.begin() + axis);
    Tensor best = make_tensor(given.dtype(), shape, call.real()), where = make_tensor(DType::i64, shape, call.real());
    if (call.real()) {
        const DType work = compute_type(given.dtype());
        Tensor wide = make_tensor(work, shape, true);
        with_compute_type(work, [&](auto kind) {
            using T = decltype(kind);
            lines<T>(cast(given, work), along, [&](const T* x, std::int64_t step, std::int64_t i, std::int64_t k) {
                std::int64_t at = 0;
                for (std::int64_t j = 1; j < along.size; ++j) {
                    const T one = x[j * step], most = x[at * step];
                    bool nan = false, other_nan = false;
                    if constexpr (std::is_floating_point_v<T>) nan = std::isnan(one), other_nan = std::isnan(most);
                    if (!other_nan && (nan || (larger ? one > most : one < most))) at = j;
                }
                wide.mutable_data<T>()[i * along.inner + k] = x[at * step];
                where.mutable_data<std::int64_t>()[i * along.inner + k] = at;
            });
        });
        best = cast(wide, given.dtype());
    }
    if (values) call.give(best);
    if (places) call.give(where);
}

template <bool larger>
void run_extreme(Call& call) {
    const Tensor& given = call.x();
    const Json& dim = call.params().at("dim");
    if (call.arity() > 1) {
        Operand a, b;
        a.tensor = &given;
        b.tensor = &call.x(1);
        const DType type = result_type({a, b}), work = compute_type(type);
        const Shape shape = broadcast(given.shape(), call.x(1).shape());
        Tensor& out = call.make(type, shape);
        if (!call.real()) return;
        Tensor wide = call.scratch(work, shape);
        with_compute_type(work, [&](auto kind) {
            using T = decltype(kind);
            binary_loop<T, T>(cast(given, work), cast(call.x(1), work), wide, [](T x, T y) {
                if constexpr (std::is_floating_point_v<T>) {
                    if (std::isnan(x) || std::isnan(y)) return std::isnan(x) ? x : y;
                }
                return larger ? std::max(x, y) : std::min(x, y);
            });
        });
        out = cast(wide, type);
        return;
    }
    if (dim.is_null()) return find_best(call, given.reshaped({given.count()}), 0, larger, false, true, false);
    find_best(call, given, axis_of(to_integer(dim), given.rank()), larger, call.params().flag("keepdim"), true, true);
    call.give_tuple();
}

template <bool larger>
void run_place(Call& call) {
    const Tensor& given = call.x();
    const Json& dim = call.params().at("dim");
    const bool keep = call.params().flag("keepdim");
    if (!dim.is_null()) return find_best(call, given, axis_of(to_integer(dim), given.rank()), larger, keep, false, true);
    find_best(call, given.reshaped({given.count()}), 0, larger, false, false, true);
    if (keep) {
        Tensor& made = std::get<Tensor>(call.outputs().back());
        made = made.reshaped(Shape(given.shape().size(), 1));
    }
}

void build_cumulate(const Build& build) {
    const Json& dtype = build.params().at("dtype");
    build.demand(dtype.is_null() || dtype_of_torch(*dtype.text()).has_value(), "a type that it does not know");
}

template <bool product>
void run_cumulate(Call& call) {
    const Json& dtype = call.params().at("dtype");
    const DType own = call.x().dtype();
    const DType type = !dtype.is_null() ? *dtype_of_torch(*dtype.text()) : is_floating(own) ? own : DType::i64;
    const Along along(call.x().shape(), axis_of(call.params().integer("dim"), call.x().rank()));
    Tensor& out = call.make(type, call.x().shape());
    if (!call.real()) return;
    const DType work = compute_type(type);
    Tensor given = cast(cast(call.x(), type), work), wide = call.scratch(work, out.shape());
    with_compute_type(work, [&](auto kind) {
        using T = decltype(kind);
        using Sum = std::conditional_t<std::is_integral_v<T>, std::uint64_t, double>;
        lines<T>(given, along, [&](const T* x, std::int64_t step, std::int64_t i, std::int64_t k) {
            Sum total = product ? 1 : 0;
            T* to = wide.mutable_data<T>() + i * along.size * along.inner + k;
            for (std::int64_t j = 0; j < along.size; ++j) {
                if (product) total *= static_cast<Sum>(x[j * step]);
                else total += static_cast<Sum>(x[j * step]);
                to[j * step] = static_cast<T>(total);
            }
        });
    });
    out = cast(wide, type);
}

// The first `count` entries of each line in order, and their places.
void give_ordered(Call& call, std::int64_t axis, std::int64_t count, bool descending, bool values) {
    const Tensor& given = call.x();
    const Shape shape = with_size(given.shape(), axis, count);
    Tensor sorted = make_tensor(given.dtype(), shape, call.real()), where = make_tensor(DType::i64, shape, call.real());
    if (call.real()) {
        const Along along(given.shape(), axis);
        const DType work = compute_type(given.dtype());
        Tensor wide = make_tensor(work, shape, true);
        with_compute_type(work, [&](auto kind) {
            using T = decltype(kind);
            lines<T>(cast(given, work), along, [&](const T* x, std::int64_t step, std::int64_t i, std::int64_t k) {
                const auto places = ordered(x, step, along.size, descending);
                for (std::int64_t j = 0; j < count; ++j) {
                    const std::int64_t to = (i * count + j) * along.inner + k, at = places[static_cast<std::size_t>(j)];
                    wide.mutable_data<T>()[to] = x[at * step];
                    where.mutable_data<std::int64_t>()[to] = at;
                }
            });
        });
        sorted = cast(wide, given.dtype());
    }
    if (values) call.give(sorted);
    call.give(where);
    if (values) call.give_tuple();
}

template <bool values>
void run_sort(Call& call) {
    const std::int64_t axis = axis_of(call.params().integer("dim"), call.x().rank());
    give_ordered(call, axis, call.x().rank() == 0 ? 1 : call.x().size(axis), call.params().flag("descending"), values);
}

void run_topk(Call& call) {
    const std::int64_t axis = axis_of(call.params().integer("dim"), call.x().rank()), count = call.params().integer("k");
    const std::int64_t size = call.x().rank() == 0 ? 1 : call.x().size(axis);
    require(count >= 0 && count <= size && (call.x().rank() > 0 || count == 1), "more entries than there are");
    give_ordered(call, axis, count, call.params().flag("largest"), true);
}

constexpr char kExtreme[] = "dim int|null =null; keepdim bool =false";
constexpr char kOrder[] = "dim int =-1; descending bool =false; stable bool =false";

}  // namespace

const std::vector<Op> kOrderOps = {
    {"vn.max", kExtreme, 1, 2, any_slots, run_extreme<true>},
    {"vn.min", kExtreme, 1, 2, any_slots, run_extreme<false>},
    {"vn.argmax", kExtreme, 1, 1, any_slots, run_place<true>},
    {"vn.argmin", kExtreme, 1, 1, any_slots, run_place<false>},
    {"vn.cumsum", "dim int; dtype str|null =null", 1, 1, build_cumulate, run_cumulate<false>},
    {"vn.cumprod", "dim int; dtype str|null =null", 1, 1, build_cumulate, run_cumulate<true>},
    {"vn.sort", kOrder, 1, 1, any_slots, run_sort<true>},
    {"vn.argsort", kOrder, 1, 1, any_slots, run_sort<false>},
    {"vn.topk", "k int|ref; dim int =-1; largest bool =true; sorted bool =true", 1, 1, any_slots, run_topk},
};

}  // namespace vn
