#include "op.h"

#include <algorithm>
#include <memory>

#include "checked.h"

namespace vn {

const Tensor* Layer::slot(std::string_view name) const {
    for (const auto& [slot, tensor] : slots) {
        if (slot == name) return &tensor;
    }
    return nullptr;
}

void Build::demand(bool holds, const char* what) const {
    if (!holds) refuse("PARAM_RANGE", who_ + ": " + what, where_);
}

void Build::demand_slots(bool holds, const char* what) const {
    if (!holds) refuse("SLOT_MISMATCH", who_ + ": " + what, where_);
}

void Build::expect(const std::vector<std::pair<std::string, Shape>>& slots) const {
    for (const auto& [name, shape] : slots) {
        try {
            Tensor(DType::f32, shape);
        } catch (const ShapeError& error) {
            demand(false, error.what());
        }
    }
    demand_slots(slots.size() == layer_.slots.size(), "tensors that it does not have, or too few");
    for (const auto& [name, shape] : slots) demand_slots(layer_.slot(name) != nullptr, "a tensor is missing");
    for (const auto& [name, shape] : slots) demand_slots(layer_.slot(name)->shape() == shape, "a tensor has another shape than its parameters say");
}

const Tensor* Call::role(std::string_view name) const {
    const List& roles = *params_.at("roles").list();
    const Tensor* found = nullptr;  // of several, the last
    for (std::size_t i = 0; i < roles.size() && i < inputs_.size(); ++i) {
        if (roles[i].text() != nullptr && *roles[i].text() == name) found = &inputs_[i];
    }
    return found;
}

Tensor& Call::make(DType dtype, Shape shape) {
    outputs_.push_back(make_tensor(dtype, std::move(shape), real_));
    return std::get<Tensor>(outputs_.back());
}

namespace {

using Table = std::map<std::string, std::unique_ptr<KnownOp>, std::less<>>;

const Table& table() {
    static const Table made = [] {
        Table all;
        for (const auto* family :
             {&kActivationOps, &kArithmeticOps, &kUnaryOps, &kChoiceOps, &kConvOps, &kPoolingOps, &kNormOps, &kProductOps, &kReduceOps, &kOrderOps,
              &kShapeOps, &kSliceOps, &kJoinOps, &kResizeOps, &kPatchOps, &kCreationOps, &kAttentionOps, &kRecurrentOps, &kIntrinsicOps}) {
            for (const Op& op : *family) all.emplace(op.id, std::make_unique<KnownOp>(op));
        }
        return all;
    }();
    return made;
}

}  // namespace

const KnownOp* find_op(std::string_view id) {
    const auto found = table().find(id);
    return found == table().end() ? nullptr : found->second.get();
}

std::vector<std::string> op_ids() {
    std::vector<std::string> ids;
    for (const auto& one : table()) ids.push_back(one.first);
    return ids;
}

void no_slots(const Build& build) { build.expect({}); }
void any_slots(const Build&) {}

std::int64_t axis_of(std::int64_t dim, std::int64_t rank) {
    const std::int64_t axes = rank == 0 ? 1 : rank;
    require(dim >= -axes && dim < axes, "an axis that the tensor does not have");
    return dim < 0 ? dim + axes : dim;
}

std::vector<std::int64_t> axes_of(const Json& dims, std::int64_t rank) {
    std::vector<std::int64_t> axes;
    const List* given = dims.list();
    if (given == nullptr || given->empty()) {
        for (std::int64_t axis = 0; axis < rank; ++axis) axes.push_back(axis);
        return axes;
    }
    for (const Json& one : *given) {
        const std::int64_t axis = axis_of(to_integer(one), rank);
        require(std::find(axes.begin(), axes.end(), axis) == axes.end(), "an axis twice");
        axes.push_back(axis);
    }
    std::sort(axes.begin(), axes.end());
    if (rank == 0) axes.clear();
    return axes;
}

Along::Along(const Shape& shape, std::int64_t axis) {
    for (std::int64_t i = 0; i < static_cast<std::int64_t>(shape.size()); ++i) {
        (i < axis ? outer : i == axis ? size : inner) *= shape[static_cast<std::size_t>(i)];
    }
}

void require_floating(const Tensor& given) { require(is_floating(given.dtype()), "an op of floating-point numbers was given others"); }
void require_same_type(const Tensor& a, const Tensor& b) { require(a.dtype() == b.dtype(), "tensors of different types"); }

void fill(Tensor& tensor, const Json& number) {
    if (!tensor.has_data()) return;
    Tensor one = make_tensor(number.integer() != nullptr ? DType::i64 : DType::f64, {1}, true);
    if (number.integer() != nullptr) {
        one.mutable_data<std::int64_t>()[0] = *number.integer();
    } else {
        one.mutable_data<double>()[0] = to_number(number);
    }
    const Tensor converted = cast(one, tensor.dtype());
    with_width(tensor.dtype(), [&](auto width) {
        using T = decltype(width);
        std::fill_n(tensor.mutable_data<T>(), tensor.count(), converted.data<T>()[0]);
    });
}

}  // namespace vn
