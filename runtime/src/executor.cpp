// Running: with data, or with shapes only to find out beforehand whether a run fits.
#include <algorithm>
#include <limits>
#include <new>
#include <string>

#include "backend.h"
#include "checked.h"
#include "error.h"
#include "model.h"

namespace vn {

namespace {

Json resolved(const Json& value, const std::vector<Value>& values) {
    if (const Ref* ref = value.ref()) {
        const auto* number = std::get_if<std::int64_t>(&values[std::stoul(ref->name)]);
        require(number != nullptr, "a computed parameter is no integer");
        return Json(*number);
    }
    if (const List* items = value.list()) {
        List made;
        for (const Json& item : *items) made.push_back(resolved(item, values));
        return Json(std::move(made));
    }
    if (const Object* members = value.object()) {
        Object made;
        for (const Member& one : *members) made.push_back({one.key, resolved(one.value, values)});
        return Json(std::move(made));
    }
    return value;
}

std::uint64_t bytes_of(const Value& value) {
    const Tensor* tensor = std::get_if<Tensor>(&value);
    return tensor == nullptr ? 0 : static_cast<std::uint64_t>(tensor->nbytes());
}

// What a kernel of 32-bit floats makes of 16-bit ones: computed wide, rounded once.
std::vector<Value> run_widened(const Op& op, const Layer& layer, const Params& params, std::vector<Tensor> inputs, bool real, const Workers& workers,
                               std::size_t wanted) {
    const auto checked = [wanted](Call& call) {
        const std::size_t made = call.outputs().size();
        require(call.tuple() ? wanted > 1 && made >= wanted : wanted == 1 && made == 1, "it makes another number of values than the node has outputs");
        return std::move(call.outputs());
    };
    const auto half = std::find_if(inputs.begin(), inputs.end(), [](const Tensor& one) { return is_half(one.dtype()); });
    if (!op.widen || half == inputs.end()) {
        Call call(layer, params, std::move(inputs), real, workers);
        op.run(call);
        return checked(call);
    }
    const DType narrow = half->dtype();
    Layer wide;
    wide.params = layer.params;
    for (const auto& [slot, tensor] : layer.slots) wide.slots.emplace_back(slot, is_half(tensor.dtype()) ? cast(tensor, DType::f32) : tensor);
    for (Tensor& one : inputs) {
        if (is_half(one.dtype())) one = cast(one, DType::f32);
    }
    Call call(wide, params, std::move(inputs), real, workers);
    op.run(call);
    for (Value& value : call.outputs()) {
        Tensor* made = std::get_if<Tensor>(&value);
        if (made != nullptr && made->dtype() == DType::f32) *made = cast(*made, narrow);
    }
    return checked(call);
}

}  // namespace

std::vector<Value> Model::compute(const Step& step, const std::vector<Value>& values, bool real, const Workers& workers) const {
    std::vector<Tensor> inputs;
    for (const std::size_t place : step.inputs) {
        const Tensor* given = std::get_if<Tensor>(&values[place]);
        require(given != nullptr, "an input is no tensor");
        inputs.push_back(*given);
    }
    if (step.symbolic.empty()) return run_widened(step.op->op, *step.layer, step.layer->params, std::move(inputs), real, workers, step.outputs.size());
    Params params = step.layer->params;
    for (const auto& [name, value] : step.symbolic) params.set(name, resolved(value, values));
    return run_widened(step.op->op, *step.layer, params, std::move(inputs), real, workers, step.outputs.size());
}

std::vector<Value> Model::execute(const std::vector<Tensor>& inputs, std::uint64_t limit, std::vector<Value>* shapes, const Plan* plan,
                                  const Workers& workers) const {
    std::vector<Value> values(slots_);
    if (shapes != nullptr) shapes->assign(slots_, Value());
    std::uint64_t total = 0;
    const auto add = [&](std::size_t place, Value value, const std::string& name, const std::string& where) {
        const std::uint64_t size = bytes_of(value);
        if (size > limit || total > limit - size) {
            refuse("ACTIVATIONS_TOO_BIG", "`" + name + "` brings the values alive to more than " + std::to_string(limit) + " bytes", where);
        }
        total += size;
        if (shapes != nullptr) (*shapes)[place] = value;
        values[place] = std::move(value);
    };
    const auto release = [&](const Step& step) {
        for (const std::size_t place : step.dead) {
            total -= bytes_of(values[place]);
            values[place] = Value();
        }
    };
    for (std::size_t i = 0; i < inputs.size(); ++i) add(i, inputs[i], root_.document.inputs[i].name, "document.inputs");
    for (std::size_t i = 0; i < steps_.size(); ++i) {
        if (plan != nullptr) {
            const std::size_t next = plan->run(i, values);
            for (std::size_t k = i; k < next; ++k) {
                for (const std::size_t place : steps_[k].outputs) total += bytes_of(values[place]);
            }
            for (; i < next; ++i) release(steps_[i]);
            if (i == steps_.size()) break;
        }
        const Step& step = steps_[i];
        const auto where = [i] { return "document.nodes[" + std::to_string(i) + "]"; };
        std::vector<Value> outputs;
        try {
            outputs = compute(step, values, shapes == nullptr, workers);
        } catch (const ShapeError& error) {
            refuse("SHAPE_RULE", "node `" + step.node->name + "` (" + step.node->op + "): " + error.what(), where());
        }
        for (std::size_t k = 0; k < step.outputs.size(); ++k) add(step.outputs[k], std::move(outputs[k]), step.node->outputs[k], where());
        release(step);
    }
    std::vector<Value> results;
    for (const std::size_t place : outputs_) results.push_back(values[place]);
    return results;
}

void Model::check_one_sample() const {
    std::vector<Tensor> inputs;
    for (const ValueSpec& spec : root_.document.inputs) {
        Shape shape = spec.shape;
        if (!shape.empty() && shape[0] == kOpen) shape[0] = 1;
        if (root_.base_size && shape.size() == 4) {
            if (shape[2] == kOpen) shape[2] = root_.base_size->first;
            if (shape[3] == kOpen) shape[3] = root_.base_size->second;
        }
        // An open dimension without a size here: what the run needs is found out when it is run.
        if (std::find(shape.begin(), shape.end(), kOpen) != shape.end()) return;
        try {
            inputs.emplace_back(spec.dtype, shape);
        } catch (const ShapeError&) {
            refuse("SHAPE_OVERFLOW", "input `" + spec.name + "` of shape " + show_shape(shape), "document.inputs");
        }
    }
    std::vector<Value> shapes;
    execute(inputs, limits_.activations, &shapes, nullptr, *workers_);
}

void Model::set_threads(int count) {
    auto made = std::make_shared<const Workers>(count);
    const std::lock_guard<std::mutex> lock(mutex_);
    workers_ = std::move(made);
    planned_.clear();
    plan_ = nullptr;
}

std::shared_ptr<const Workers> Model::workers() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return workers_;
}

std::shared_ptr<const Plan> Model::plan_for(const std::vector<Tensor>& inputs, const std::vector<Value>& shapes) const {
    std::vector<Shape> wanted;
    for (const Tensor& one : inputs) wanted.push_back(one.shape());
    const std::lock_guard<std::mutex> lock(mutex_);
    if (planned_.empty() || planned_ != wanted) {
        plan_ = make_plan(steps_, shapes, kept_, workers_->count());
        planned_ = std::move(wanted);
    }
    return plan_;
}

Model::~Model() = default;

std::vector<Value> Model::run(const std::vector<Tensor>& inputs) const {
    const std::vector<ValueSpec>& specs = root_.document.inputs;
    if (inputs.size() != specs.size()) {
        refuse("INPUT", std::to_string(inputs.size()) + " inputs, the network takes " + std::to_string(specs.size()));
    }
    std::uint64_t samples = 1;
    std::vector<Tensor> shapes;
    for (std::size_t i = 0; i < specs.size(); ++i) {
        const Tensor& given = inputs[i];
        const Shape& wanted = specs[i].shape;
        const bool fits = given.dtype() == specs[i].dtype && given.shape().size() == wanted.size() &&
                          std::equal(wanted.begin(), wanted.end(), given.shape().begin(), [](std::int64_t a, std::int64_t b) { return a == b || a == kOpen; });
        if (!fits) {
            refuse("INPUT", "input `" + specs[i].name + "` is " + dtype_name(given.dtype()) + " " + show_shape(given.shape()) + ", expected was " +
                                dtype_name(specs[i].dtype) + " " + show_shape(wanted));
        }
        if (!wanted.empty() && wanted[0] == kOpen) samples = std::max(samples, static_cast<std::uint64_t>(given.size(0)));
        shapes.emplace_back(given.dtype(), given.shape());
    }
    const std::uint64_t most = std::numeric_limits<std::uint64_t>::max();
    const std::uint64_t limit = limits_.activations > most / samples ? most : limits_.activations * samples;
    std::vector<Value> values;
    const std::shared_ptr<const Workers> workers = this->workers();  // also when others are set meanwhile
    execute(shapes, limit, &values, nullptr, *workers);  // what does not fit is refused before anything is computed
    const std::shared_ptr<const Plan> plan = plan_for(inputs, values);
    return execute(inputs, limit, nullptr, plan.get(), *workers);
}

}  // namespace vn
