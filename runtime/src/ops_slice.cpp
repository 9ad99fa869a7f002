// Indexing as Python's `x[...]` and writing to `x[...]`: ints, slices, Ellipsis, None, lists and tensors of positions.
#include <algorithm>
#include <cstdlib>
#include <limits>
#include <optional>

#include "checked.h"
#include "elementwise.h"
#include "strided.h"

namespace vn {

namespace {

// One item of an index.
struct Item {
    enum Kind { number, slice, ellipsis, none, positions } kind = slice;
    std::optional<std::int64_t> start, stop, step;
    Tensor tensor;  // of positions, int64
};

std::int64_t whole_number(const std::string& text) {
    char* end = nullptr;
    const long long value = std::strtoll(text.c_str(), &end, 10);
    require(!text.empty() && *end == '\0', "an index that is none");
    return value;
}

// The texts of `index` with their values: `#` an int, `#:#:#` a slice, `...`, `None`, `[3]` a list, `@` the next tensor of the
// layer, `$` the next further tensor of the call.
class Reader {
public:
    Reader(const Call& call, std::size_t first_computed) : call_(call), values_(call.params().integers("values")), computed_(first_computed) {
        for (const auto& [name, tensor] : call.slots()) {
            const std::size_t line = name.rfind('_');
            stored_.emplace_back(std::strtoll(name.c_str() + (line == std::string::npos ? 0 : line + 1), nullptr, 10), tensor);
        }
        std::stable_sort(stored_.begin(), stored_.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
    }

    std::vector<Item> items() {
        std::vector<Item> made;
        for (const std::string& text : call_.params().texts("index")) made.push_back(item(text));
        return made;
    }

private:
    std::int64_t next() {
        require(place_ < values_.size(), "an index without its number");
        return values_[place_++];
    }

    Item of_positions(const Tensor& given) const {
        require(given.dtype() == DType::i64 || given.dtype() == DType::i32, "positions that are not counted by integers");
        Item made;
        made.kind = Item::positions;
        made.tensor = cast(given, DType::i64);
        return made;
    }

    Item item(const std::string& text) {
        Item made;
        if (text == "$") return of_positions(call_.x(computed_++));
        if (text == "@") {
            require(taken_ < stored_.size(), "a tensor of positions is missing");
            return of_positions(stored_[taken_++].second);
        }
        if (!text.empty() && text[0] == '[') {
            const std::int64_t count = whole_number(text.substr(1, text.size() < 2 ? 0 : text.size() - 2));
            const auto left = static_cast<std::int64_t>(values_.size() - place_);
            Tensor list = make_tensor(DType::i64, {std::min(std::max<std::int64_t>(count, 0), left)}, true);
            for (std::int64_t i = 0; i < list.count(); ++i) list.mutable_data<std::int64_t>()[i] = next();
            return of_positions(list);
        }
        if (text == "...") made.kind = Item::ellipsis;
        if (text == "None") made.kind = Item::none;
        if (text == "#") {
            made.kind = Item::number;
            made.start = next();
        }
        if (made.kind != Item::slice) return made;
        std::vector<std::optional<std::int64_t>> parts;
        for (std::size_t from = 0; from <= text.size();) {
            const std::size_t end = std::min(text.find(':', from), text.size());
            parts.push_back(text.substr(from, end - from) == "#" ? std::optional<std::int64_t>(next()) : std::nullopt);
            from = end + 1;
        }
        require(parts.size() <= 3, "an index that is none");
        if (parts.size() > 1) made.start = parts[0];
        made.stop = parts[parts.size() > 1 ? 1 : 0];
        if (parts.size() == 3) made.step = parts[2];
        return made;
    }

    const Call& call_;
    std::vector<std::int64_t> values_;
    std::vector<std::pair<std::int64_t, Tensor>> stored_;
    std::size_t place_ = 0, taken_ = 0, computed_;
};

// What an index takes: a view, and axes of it at which positions are looked up.
struct Region {
    Shape shape, steps;
    std::int64_t start = 0;
    std::vector<std::pair<std::size_t, Tensor>> lookups;  // axis of the view, positions
};

std::int64_t clamped(std::int64_t bound, std::int64_t size) {
    if (bound < 0) bound = bound < -size ? 0 : bound + size;
    return std::min(bound, size);
}

Region region_of(const std::vector<Item>& items, const Shape& shape) {
    const Shape own = strides_of(shape);
    std::size_t used = 0, dots = 0;
    for (const Item& item : items) {
        used += item.kind == Item::number || item.kind == Item::slice || item.kind == Item::positions;
        dots += item.kind == Item::ellipsis;
    }
    require(used <= shape.size() && dots <= 1, "more indices than axes");
    Region made;
    std::size_t axis = 0;
    const auto keep = [&](std::int64_t size, std::int64_t step) {
        made.shape.push_back(size);
        made.steps.push_back(step);
    };
    for (const Item& item : items) {
        switch (item.kind) {
            case Item::none: keep(1, 0); break;
            case Item::ellipsis:
                for (std::size_t left = shape.size() - used; left > 0; --left, ++axis) keep(shape[axis], own[axis]);
                break;
            case Item::number: {
                const std::int64_t size = shape[axis], at = *item.start;
                require(at >= -size && at < size, "an index outside an axis");
                made.start += (at < 0 ? at + size : at) * own[axis++];
                break;
            }
            case Item::slice: {
                const std::int64_t size = shape[axis], step = item.step.value_or(1);
                require(step > 0, "a step that is not positive");
                const std::int64_t first = clamped(item.start.value_or(0), size), last = std::max(first, clamped(item.stop.value_or(size), size));
                const std::int64_t count = first == last ? 0 : (last - first - 1) / step + 1;
                made.start += first * own[axis];
                keep(count, count < 2 ? own[axis] : step * own[axis]);
                ++axis;
                break;
            }
            case Item::positions:
                made.lookups.emplace_back(made.shape.size(), item.tensor);
                keep(shape[axis], own[axis]);
                ++axis;
                break;
        }
    }
    for (; axis < shape.size(); ++axis) keep(shape[axis], own[axis]);
    return made;
}

// The shape of what is taken. Positions in neighbouring places stay there, others come first, as in torch.
struct Result {
    Shape shape, lookup_shape;
    std::size_t lookup_axis = 0;  // where the axes of the positions are

    explicit Result(const Region& region) : shape(region.shape) {
        if (region.lookups.empty()) return;
        for (const auto& one : region.lookups) lookup_shape = broadcast(lookup_shape, one.second.shape());
        const bool together = region.lookups.back().first - region.lookups.front().first + 1 == region.lookups.size();
        lookup_axis = together ? region.lookups.front().first : 0;
        for (std::size_t i = region.lookups.size(); i-- > 0;) shape.erase(shape.begin() + static_cast<std::ptrdiff_t>(region.lookups[i].first));
        shape.insert(shape.begin() + static_cast<std::ptrdiff_t>(lookup_axis), lookup_shape.begin(), lookup_shape.end());
    }
};

// Calls f(place in the result, place in the tensor) for all entries.
template <class F>
void visit(const Region& region, const Result& result, F f) {
    std::vector<Tensor> positions;
    std::vector<std::size_t> looked_up;
    for (const auto& [axis, tensor] : region.lookups) {
        positions.push_back(expanded(tensor, result.lookup_shape, true));
        looked_up.push_back(axis);
    }
    Shape plain;  // the steps of the axes that are left when those of the positions are taken out
    for (std::size_t i = 0; i < region.shape.size(); ++i) {
        if (std::find(looked_up.begin(), looked_up.end(), i) == looked_up.end()) plain.push_back(region.steps[i]);
    }
    const std::size_t first = result.lookup_axis, behind = first + result.lookup_shape.size();
    const std::int64_t count = count_of(result.shape);
    const Shape strides = strides_of(result.shape), inner = strides_of(result.lookup_shape);
    for (std::int64_t i = 0; i < count; ++i) {
        std::int64_t rest = i, from = region.start, entry = 0;
        for (std::size_t axis = 0; axis < result.shape.size(); ++axis) {
            const std::int64_t place = rest / strides[axis];
            rest %= strides[axis];
            if (axis >= first && axis < behind) entry += place * inner[axis - first];
            else from += place * plain[axis < first ? axis : axis - result.lookup_shape.size()];
        }
        for (std::size_t k = 0; k < positions.size(); ++k) {
            const std::int64_t at = positions[k].data<std::int64_t>()[entry], size = region.shape[looked_up[k]];
            require(at >= -size && at < size, "a position outside an axis");
            from += (at < 0 ? at + size : at) * region.steps[looked_up[k]];
        }
        f(i, from);
    }
}

void build_index(const Build& build) {
    for (const auto& one : build.slots()) {
        const std::size_t line = one.first.rfind('_');
        const std::string digits = one.first.substr(line == std::string::npos ? 0 : line + 1);
        build.demand(!digits.empty() && digits.find_first_not_of("0123456789") == std::string::npos, "a tensor without a number");
    }
}

void run_slice(Call& call) {
    const Tensor& given = call.x();
    const Region region = region_of(Reader(call, 1).items(), given.shape());
    if (region.lookups.empty()) return call.give(strided(given, region.shape, region.steps, region.start, call.real()));
    const Result result(region);
    Tensor& out = call.make(given.dtype(), result.shape);
    if (!call.real()) return;
    with_width(given.dtype(), [&](auto width) {
        using T = decltype(width);
        visit(region, result, [&](std::int64_t to, std::int64_t from) { out.mutable_data<T>()[to] = given.data<T>()[from]; });
    });
}

void run_setitem(Call& call) {
    const Tensor& given = call.x();
    const Region region = region_of(Reader(call, std::numeric_limits<std::size_t>::max()).items(), given.shape());
    const Result result(region);
    Tensor value;
    if (call.arity() > 1) {
        value = cast(call.x(1), given.dtype());
        Shape shape = value.shape();
        while (shape.size() > result.shape.size() && shape[0] == 1) shape.erase(shape.begin());
        value = expanded(value.reshaped(shape), result.shape, call.real());
    } else {
        require(!call.params().null("number"), "there is nothing to write");
        value = call.scratch(given.dtype(), result.shape);
        fill(value, call.params().at("number"));
    }
    Tensor& out = call.make(given.dtype(), given.shape());
    if (!call.real()) return;
    with_width(given.dtype(), [&](auto width) {
        using T = decltype(width);
        std::copy_n(given.data<T>(), given.count(), out.mutable_data<T>());
        visit(region, result, [&](std::int64_t from, std::int64_t to) { out.mutable_data<T>()[to] = value.data<T>()[from]; });
    });
}

}  // namespace

const std::vector<Op> kSliceOps = {
    {"vn.slice", "index [str]; values [int|ref] =[]", 1, kAny, build_index, run_slice},
    {"vn.setitem", "index [str]; values [int|ref] =[]; number bool|int|float|null =null", 1, 2, build_index, run_setitem},
};

}  // namespace vn
