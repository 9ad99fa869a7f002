// What an op is: its parameters, what it asks of its layer, how many inputs it takes, and the kernel that runs it.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "error.h"
#include "params.h"
#include "tensor.h"
#include "workers.h"

namespace vn {

using Slots = std::vector<std::pair<std::string, Tensor>>;

// One layer, checked: its parameters and its tensors by slot. Tensors have a shape only while a file is being checked.
struct Layer {
    Params params;
    Slots slots;

    const Tensor* slot(std::string_view name) const;
};

// What `Op::build` looks at. Its checks throw Error PARAM_RANGE and SLOT_MISMATCH.
class Build {
public:
    Build(const Layer& layer, std::string who, std::string where) : layer_(layer), who_(std::move(who)), where_(std::move(where)) {}

    const Params& params() const { return layer_.params; }
    const Slots& slots() const { return layer_.slots; }
    // A rule on values that their types do not express.
    void demand(bool holds, const char* what) const;
    // The layer has exactly these slots, of these shapes.
    void expect(const std::vector<std::pair<std::string, Shape>>& slots) const;
    void demand_slots(bool holds, const char* what) const;

private:
    const Layer& layer_;
    std::string who_, where_;
};

// One call of a kernel. A kernel checks shapes first, makes its outputs, and leaves when `real` is false.
class Call {
public:
    Call(const Layer& layer, const Params& params, std::vector<Tensor> inputs, bool real, const Workers& workers)
        : layer_(layer), params_(params), inputs_(std::move(inputs)), real_(real), workers_(workers) {}

    const Params& params() const { return params_; }
    bool real() const { return real_; }
    const Workers& workers() const { return workers_; }
    // Whether a parameter is computed by the graph.
    bool computed() const { return layer_.params.symbolic(); }
    std::size_t arity() const { return inputs_.size(); }
    const Tensor& x(std::size_t index = 0) const {
        require(index < inputs_.size(), "an input is missing");
        return inputs_[index];
    }
    const std::vector<Tensor>& inputs() const { return inputs_; }
    const Tensor* slot(std::string_view name) const { return layer_.slot(name); }
    const Slots& slots() const { return layer_.slots; }
    // The input that `roles` gives a name, or null.
    const Tensor* role(std::string_view name) const;

    // An output to be written to.
    Tensor& make(DType dtype, Shape shape);
    // An output that exists already, such as an input in another shape.
    void give(Value value) { outputs_.push_back(std::move(value)); }
    // The outputs are a tuple, also when there is one only: a node with one output cannot take it.
    void give_tuple() { tuple_ = true; }
    bool tuple() const { return tuple_; }
    // Memory beside the outputs.
    Tensor scratch(DType dtype, Shape shape) const { return make_tensor(dtype, std::move(shape), real_); }

    std::vector<Value>& outputs() { return outputs_; }

private:
    const Layer& layer_;
    const Params& params_;
    std::vector<Tensor> inputs_;
    bool real_, tuple_ = false;
    const Workers& workers_;
    std::vector<Value> outputs_;
};

constexpr int kAny = -1;

struct Op {
    const char* id;
    const char* params;
    int fewest, most;  // inputs; kAny: no bound
    void (*build)(const Build&);
    void (*run)(Call&);
    int version = 1;
    // The inputs of a call whose kernel has no 16-bit floats are widened, and its outputs narrowed again.
    bool widen = false;
};

struct KnownOp {
    const Op& op;
    ParamTypes params;
    explicit KnownOp(const Op& given) : op(given), params(given.params) {}
};

// The op with this id, or null.
const KnownOp* find_op(std::string_view id);
// All ids, in order.
std::vector<std::string> op_ids();

// The families, each in a file of its own.
extern const std::vector<Op> kActivationOps, kArithmeticOps, kUnaryOps, kChoiceOps, kConvOps, kPoolingOps, kNormOps, kProductOps, kReduceOps,
    kOrderOps, kShapeOps, kSliceOps, kJoinOps, kResizeOps, kPatchOps, kCreationOps, kAttentionOps, kRecurrentOps, kIntrinsicOps;

// --- what the families share ---

void no_slots(const Build& build);
void any_slots(const Build& build);

// An axis in [0, rank); a scalar has the axis 0. Throws ShapeError.
std::int64_t axis_of(std::int64_t dim, std::int64_t rank);
// Distinct axes; all of them for null or an empty list.
std::vector<std::int64_t> axes_of(const Json& dims, std::int64_t rank);

// Entries before, on and behind an axis.
struct Along {
    std::int64_t outer = 1, size = 1, inner = 1;
    Along(const Shape& shape, std::int64_t axis);
};

void require_floating(const Tensor& given);
void require_same_type(const Tensor& a, const Tensor& b);

// A number written as an entry.
void fill(Tensor& tensor, const Json& number);

}  // namespace vn
