// The operations of the document itself: sizes, integer arithmetic, constants.
#include "checked.h"
#include "op.h"

namespace vn {

namespace {

void run_size(Call& call) {
    const Shape& shape = call.x().shape();
    const auto rank = static_cast<std::int64_t>(shape.size());
    const std::int64_t dim = call.params().integer("dim");
    require(dim >= -rank && dim < rank, "an axis that the tensor does not have");
    call.give(shape[static_cast<std::size_t>(dim < 0 ? dim + rank : dim)]);
}

void run_int(Call& call) {
    const std::string& fn = call.params().text("fn");
    const std::vector<std::int64_t> given = call.params().integers("operands");
    require(given.size() == (fn == "neg" ? 1 : 2), "another number of operands");
    if (fn == "neg") return call.give(negate(given[0]));
    if (fn == "add") return call.give(add(given[0], given[1]));
    if (fn == "sub") return call.give(subtract(given[0], given[1]));
    if (fn == "mul") return call.give(multiply(given[0], given[1]));
    if (fn == "floordiv") return call.give(floor_divide(given[0], given[1]));
    require(fn == "mod", "an unknown operation");
    call.give(modulo(given[0], given[1]));
}

// 1; the network was recorded for sizes of which this holds, and takes another way for others.
void run_require(Call& call) {
    const std::string& fn = call.params().text("fn");
    const std::vector<std::int64_t> given = call.params().integers("operands");
    const std::int64_t a = given[0], b = given[1];
    const bool holds = fn == "eq" ? a == b : fn == "ne" ? a != b : fn == "lt" ? a < b : fn == "le" ? a <= b : fn == "gt" ? a > b : a >= b;
    if (!holds) {
        throw ShapeError("the network was recorded for inputs with other sizes: " + std::to_string(a) + " " + fn + " " + std::to_string(b) +
                         " does not hold, which " + call.params().text("where") + " asks");
    }
    call.give(std::int64_t(1));
}

void build_constant(const Build& build) {
    const Tensor* value = nullptr;
    for (const auto& [slot, tensor] : build.slots()) value = slot == "value" ? &tensor : value;
    build.demand_slots(value != nullptr, "a tensor is missing");
    build.demand(!build.params().flag("trainable") || is_floating(value->dtype()), "a parameter that is no floating-point number");
}

void run_constant(Call& call) { call.give(*call.slot("value")); }

}  // namespace

const std::vector<Op> kIntrinsicOps = {
    {"vn.size", "dim int", 1, 1, no_slots, run_size},
    {"vn.int", "fn str; operands [int|ref]", 0, 0, no_slots, run_int},
    {"vn.require", "fn <eq,ne,lt,le,gt,ge>; operands [int|ref]2; where str", 0, 0, no_slots, run_require},
    {"vn.constant", "trainable bool =false; computed bool =false", 0, 0, build_constant, run_constant},
};

}  // namespace vn
