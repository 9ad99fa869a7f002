// A model: a checked file, its tensors, and the schedule that runs it.
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "document.h"
#include "file_map.h"
#include "limits.h"
#include "op.h"

namespace vn {

class Plan;

// One node: which values it takes and makes, and which of them nothing needs afterwards.
struct Step {
    const Node* node = nullptr;
    const KnownOp* op = nullptr;
    const Layer* layer = nullptr;
    std::vector<std::size_t> inputs, outputs, dead;
    std::vector<std::pair<std::string, Json>> symbolic;  // parameters that hold `Ref`
};

class Model {
public:
    // Opens strictly: every check of docs/vnmodel.md, in its order. Throws Error.
    ~Model();
    static std::unique_ptr<Model> open(std::shared_ptr<const Bytes> bytes, const Limits& limits, bool verify = true);

    const Root& root() const { return root_; }
    const std::vector<std::string>& output_names() const { return output_names_; }

    // The inputs in the order of the document; the outputs are the leaves of its `outputs`, in order. Several threads may run
    // a model at a time. Throws Error: INPUT for inputs that do not fit, SHAPE_RULE, ACTIVATIONS_TOO_BIG, VALUE.
    std::vector<Value> run(const std::vector<Tensor>& inputs) const;

    // Shares the work of one run among so many threads, 1 at first. Throws std::system_error.
    void set_threads(int count);

private:
    Model() = default;
    void check_ops();
    void schedule();
    void check_one_sample() const;
    void load(const std::shared_ptr<const Bytes>& bytes, std::uint64_t data_offset, bool verify);
    // Without data when `shapes` is given, which then has every value's shape; else on the plan's kernels where it has them.
    std::vector<Value> execute(const std::vector<Tensor>& inputs, std::uint64_t limit, std::vector<Value>* shapes, const Plan* plan,
                               const Workers& workers) const;
    std::shared_ptr<const Plan> plan_for(const std::vector<Tensor>& inputs, const std::vector<Value>& shapes) const;
    std::vector<Value> compute(const Step& step, const std::vector<Value>& values, bool real, const Workers& workers) const;
    std::shared_ptr<const Workers> workers() const;

    Root root_;
    Limits limits_;
    std::vector<std::unique_ptr<Layer>> layers_;
    std::vector<Step> steps_;
    std::size_t slots_ = 0;
    std::vector<std::size_t> outputs_;
    std::vector<std::string> output_names_;
    std::vector<bool> kept_;
    mutable std::mutex mutex_;  // of what follows
    std::shared_ptr<const Workers> workers_ = std::make_shared<const Workers>(1);
    mutable std::vector<Shape> planned_;          // the shapes of the inputs that the plan is for
    mutable std::shared_ptr<const Plan> plan_;
};

}  // namespace vn
