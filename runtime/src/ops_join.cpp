// Concatenation and stacking, chunks, splits and single slices.
#include <algorithm>

#include "checked.h"
#include "strided.h"

namespace vn {

namespace {

// The tensors in the type that all of them are promoted to.
std::vector<Tensor> in_one_type(const std::vector<Tensor>& given) {
    require(!given.empty(), "there are no tensors");
    DType type = given[0].dtype();
    for (const Tensor& one : given) type = promote(type, one.dtype());
    std::vector<Tensor> made;
    for (const Tensor& one : given) made.push_back(cast(one, type));
    return made;
}

void run_cat(Call& call) {
    const std::vector<Tensor> given = in_one_type(call.inputs());
    std::vector<Tensor> parts;
    for (const Tensor& one : given) {
        require(one.rank() > 0, "a scalar cannot be joined");
        if (one.shape() != Shape{0}) parts.push_back(one);  // torch lets an empty one take part, whatever the others are
    }
    if (parts.empty()) parts.push_back(given[0]);
    call.give(joined(parts, axis_of(call.params().integer("dim"), parts[0].rank()), call.real()));
}

void run_stack(Call& call) {
    std::vector<Tensor> parts = in_one_type(call.inputs());
    const std::int64_t axis = axis_of(call.params().integer("dim"), parts[0].rank() + 1);
    const Shape own = parts[0].shape();
    for (Tensor& one : parts) {
        require(one.shape() == own, "tensors of different shapes");
        Shape shape = own;
        shape.insert(shape.begin() + axis, 1);
        one = one.reshaped(shape);
    }
    call.give(joined(parts, axis, call.real()));
}

// An empty tensor costs nothing, however many pieces it is cut into.
constexpr std::size_t kMostPieces = 1 << 20;

// Pieces of these sizes, which must fill the axis.
void give_pieces(Call& call, std::int64_t axis, const std::vector<std::int64_t>& sizes, bool first_alone) {
    std::int64_t total = 0;
    require(sizes.size() <= kMostPieces, "more pieces than a network can have");
    for (const std::int64_t size : sizes) {
        require(size >= 0, "a negative size");
        total = add(total, size);
    }
    require(total == call.x().size(axis), "pieces that do not make the whole");
    require(!first_alone || !sizes.empty(), "no pieces");
    std::int64_t first = 0;
    for (const std::int64_t size : sizes) {
        call.give(narrowed(call.x(), axis, first, size, call.real()));
        first += size;
        if (first_alone) return;
    }
    call.give_tuple();
}

std::vector<std::int64_t> equal_pieces(std::int64_t length, std::int64_t size) {
    require(size > 0 || (size == 0 && length == 0), "pieces of no size");
    require(size == 0 || length / size < static_cast<std::int64_t>(kMostPieces), "more pieces than a network can have");
    std::vector<std::int64_t> sizes;
    for (std::int64_t first = 0; first < length && size > 0; first += size) sizes.push_back(std::min(size, length - first));
    if (sizes.empty()) sizes.push_back(0);
    return sizes;
}

std::int64_t split_axis(const Call& call) {
    require(call.x().rank() > 0, "a scalar cannot be divided");
    return axis_of(call.params().integer("dim"), call.x().rank());
}

void run_chunk(Call& call) {
    const std::int64_t axis = split_axis(call), chunks = call.params().integer("chunks"), length = call.x().size(axis);
    if (!call.params().null("sizes")) return give_pieces(call, axis, call.params().integers("sizes"), chunks == 1);
    require(chunks > 0, "no pieces");
    const std::int64_t size = length / chunks + (length % chunks != 0);
    if (length == 0) return give_pieces(call, axis, std::vector<std::int64_t>(static_cast<std::size_t>(std::min<std::int64_t>(chunks, kMostPieces + 1)), 0), chunks == 1);
    give_pieces(call, axis, equal_pieces(length, size), chunks == 1);
}

void run_split(Call& call) {
    const std::int64_t axis = split_axis(call);
    const std::vector<std::int64_t> sizes = call.params().integers("sizes");
    if (call.params().is_list("sizes")) return give_pieces(call, axis, sizes, sizes.size() == 1);
    give_pieces(call, axis, equal_pieces(call.x().size(axis), sizes[0]), false);
}

void run_unbind(Call& call) {
    const std::int64_t axis = split_axis(call), count = call.params().integer("count");
    require(count == call.x().size(axis) && count > 0 && count <= static_cast<std::int64_t>(kMostPieces), "another number of slices than the axis has");
    Shape shape = call.x().shape();
    shape.erase(shape.begin() + axis);
    for (std::int64_t i = 0; i < count; ++i) call.give(narrowed(call.x(), axis, i, 1, call.real()).reshaped(shape));
    if (count > 1) call.give_tuple();
}

}  // namespace

const std::vector<Op> kJoinOps = {
    {"vn.cat", "dim int =0", 0, kAny, no_slots, run_cat},
    {"vn.stack", "dim int =0", 0, kAny, no_slots, run_stack},
    {"vn.chunk", "chunks int; dim int =0; sizes [int]|null =null", 1, 1, no_slots, run_chunk},
    {"vn.split", "sizes int|ref|[int|ref]; dim int =0", 1, 1, no_slots, run_split},
    {"vn.unbind", "dim int =0; count int", 1, 1, no_slots, run_unbind},
};

}  // namespace vn
