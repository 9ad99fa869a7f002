// Convolutions, linear layers, pooling, sums, products and activations by XNNPACK. Steps in a row that it has become one subgraph;
// inside of it maps are (N, H, W, C) and XNNPACK fuses clamps into what is before them. Batch norms become part of the
// convolution that they follow.
#include <pthreadpool.h>
#include <xnnpack.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <mutex>
#include <new>
#include <string>

#include "backend.h"
#include "error.h"
#include "strided.h"

namespace vn {

namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

std::size_t size(std::int64_t one) { return static_cast<std::size_t>(one); }
std::uint32_t small(std::int64_t one) { return static_cast<std::uint32_t>(one); }

using Uses = std::vector<std::vector<std::size_t>>;  // steps that read each value

const Tensor* tensor_at(const std::vector<Value>& values, std::size_t place) { return std::get_if<Tensor>(&values[place]); }

bool usable(const Tensor* given) { return given != nullptr && given->dtype() == DType::f32 && (given->rank() == 4 || given->rank() == 2) && given->count() > 0; }

// The shape in XNNPACK's order of axes.
std::vector<std::size_t> dims_of(const Tensor& given) {
    const Shape& s = given.shape();
    const Shape order = given.rank() == 4 ? Shape{s[0], s[2], s[3], s[1]} : s;
    return std::vector<std::size_t>(order.begin(), order.end());
}

// (before, after) of a convolution per axis.
bool paddings(const Params& p, std::uint32_t (&before)[2], std::uint32_t (&after)[2]) {
    const std::string* named = p.at("padding").text();
    if (p.text("padding_mode") != "zeros") return false;
    const auto kernel = p.integers("kernel_size"), dilation = p.integers("dilation");
    for (std::size_t i = 0; i < 2; ++i) {
        const std::int64_t total = named == nullptr ? 2 * p.integers("padding")[i] : *named == "same" ? dilation[i] * (kernel[i] - 1) : 0;
        before[i] = small(total / 2);
        after[i] = small(total - total / 2);
    }
    return true;
}

// Zeros, or another number, around the map: left, right, top, bottom.
std::vector<std::int64_t> margins(const Params& p) {
    std::vector<std::int64_t> given = p.integers("pad");
    given.resize(std::max<std::size_t>(given.size(), 4), 0);
    return given;
}

bool plain_pad(const Params& p) {
    const auto given = margins(p);
    return p.text("mode") == "constant" && given.size() == 4 && *std::min_element(given.begin(), given.end()) >= 0;
}

float pad_value(const Params& p) { return p.null("value") ? 0.0f : static_cast<float>(p.number("value")); }

std::vector<std::int64_t> two(std::vector<std::int64_t> given) {
    if (given.size() == 1) given.push_back(given[0]);
    return given;
}

// A window without padding of a kind that XNNPACK does not have: more than one entry, no rounding up.
bool plain_window(const Params& p) {
    const auto kernel = two(p.integers("kernel_size")), padding = two(p.integers("padding"));
    return kernel[0] * kernel[1] > 1 && !p.flag("ceil_mode") && !p.integers("stride").empty() && padding.size() == 2;
}

bool supported(const Step& step, const std::vector<Value>& shapes) {
    if (!step.symbolic.empty() || step.outputs.size() != 1 || step.inputs.empty()) return false;
    for (const std::size_t place : step.inputs) {
        if (!usable(tensor_at(shapes, place))) return false;
    }
    const Tensor* out = tensor_at(shapes, step.outputs[0]);
    if (!usable(out)) return false;
    for (const auto& slot : step.layer->slots) {
        if (slot.second.dtype() != DType::f32 && slot.first != "num_batches_tracked") return false;
    }
    const Tensor& x = *tensor_at(shapes, step.inputs[0]);
    const Params& p = step.layer->params;
    const std::string& op = step.node->op;
    std::uint32_t before[2], after[2];
    if (op == "vn.conv2d") return x.rank() == 4 && paddings(p, before, after);
    if (op == "vn.pad") return x.rank() == 4 && plain_pad(p);
    if (op == "vn.batchnorm2d") return p.flag("track_running_stats");
    if (op == "vn.linear") return x.rank() == 2;
    if (op == "vn.relu" || op == "vn.relu6" || op == "vn.hardtanh" || op == "vn.hardswish" || op == "vn.sigmoid" || op == "vn.silu") return true;
    if (op == "vn.identity" || op == "vn.dropout") return true;
    if (op == "vn.add" || op == "vn.mul") {
        return step.inputs.size() == 2 && tensor_at(shapes, step.inputs[1])->rank() == x.rank() && (op == "vn.mul" || to_number(p.at("alpha")) == 1.0);
    }
    if (op == "vn.max_pool2d") return x.rank() == 4 && plain_window(p);
    if (op == "vn.avg_pool2d") {
        const auto padding = two(p.integers("padding"));
        return x.rank() == 4 && plain_window(p) && padding[0] == 0 && padding[1] == 0 && p.null("divisor_override");
    }
    if (op == "vn.adaptive_avg_pool2d") return out->size(2) == 1 && out->size(3) == 1;
    if (op == "vn.mean") return x.rank() == 4 && out->count() == x.size(0) * x.size(1) && out->size(0) == x.size(0) && out->size(1) == x.size(1);
    if (op == "vn.flatten" || op == "vn.reshape") {
        return step.inputs.size() == 1 && x.rank() == 4 && x.size(2) == 1 && x.size(3) == 1 && out->shape() == Shape({x.size(0), x.size(1)});
    }
    return false;
}

void check(xnn_status status) {
    if (status == xnn_status_out_of_memory) throw std::bad_alloc();
    if (status != xnn_status_success) throw Error("MEMORY", "XNNPACK refuses a part of the network, status " + std::to_string(static_cast<int>(status)));
}

// XNNPACK's threads; null for one.
using Pool = std::unique_ptr<pthreadpool, void (*)(pthreadpool_t)>;

Pool pool_of(int threads) {
    Pool made(threads > 1 ? pthreadpool_create(size(threads)) : nullptr, pthreadpool_destroy);
    if (threads > 1 && made == nullptr) throw std::bad_alloc();
    return made;
}

struct Outside { std::size_t place; std::uint32_t id; Tensor shape; };

// Steps `begin` to `end`, built and run by XNNPACK.
class Segment {
public:
    Segment(std::size_t first, std::size_t last, const std::vector<Step>& steps, const std::vector<Value>& shapes, const std::vector<bool>& kept, const Uses& uses,
            pthreadpool_t pool)
        : begin(first), end(last), steps_(steps), shapes_(shapes), uses_(uses) {
        std::vector<bool> made(shapes.size(), false), seen(shapes.size(), false);
        for (std::size_t i = begin; i < end; ++i) {
            for (const std::size_t place : steps[i].inputs) {
                if (!made[place] && !seen[place]) inputs_.push_back({place, static_cast<std::uint32_t>(inputs_.size()), *tensor_at(shapes, place)});
                seen[place] = true;
            }
            made[steps[i].outputs[0]] = true;
        }
        for (std::size_t i = begin; i < end; ++i) {
            const std::size_t place = steps[i].outputs[0];
            const bool used = std::any_of(uses[place].begin(), uses[place].end(), [this](std::size_t by) { return by >= end; });
            if (used || kept[place]) outputs_.push_back({place, static_cast<std::uint32_t>(inputs_.size() + outputs_.size()), *tensor_at(shapes, place)});
        }
        check(xnn_create_subgraph(static_cast<std::uint32_t>(inputs_.size() + outputs_.size()), 0, &graph_));
        try {
            build(kept);
            check(xnn_create_runtime_v2(graph_, pool, 0, &runtime_));
        } catch (...) {
            xnn_delete_subgraph(graph_);
            throw;
        }
        xnn_delete_subgraph(graph_);
        statics_.clear();  // packed by now
    }
    ~Segment() { xnn_delete_runtime(runtime_); }
    Segment(const Segment&) = delete;
    Segment& operator=(const Segment&) = delete;

    void run(std::vector<Value>& values) const {
        std::vector<Tensor> held;
        std::vector<xnn_external_value> external;
        for (const Outside& one : inputs_) {
            const Tensor& given = std::get<Tensor>(values[one.place]);
            // Also what is not turned around is copied: XNNPACK reads some bytes behind the end.
            Shape order{0, 1};
            held.push_back(permuted(given, given.rank() == 4 ? Shape{0, 2, 3, 1} : order, true));
            external.push_back({one.id, held.back().mutable_data<void>()});
        }
        const std::size_t first = held.size();
        for (const Outside& one : outputs_) {
            const auto dims = dims_of(one.shape);
            held.push_back(make_tensor(DType::f32, Shape(dims.begin(), dims.end()), true));
            external.push_back({one.id, held.back().mutable_data<void>()});
        }
        {
            const std::lock_guard<std::mutex> lock(mutex_);
            check(xnn_setup_runtime(runtime_, external.size(), external.data()));
            check(xnn_invoke_runtime(runtime_));
        }
        for (std::size_t i = 0; i < outputs_.size(); ++i) {
            const Tensor& made = held[first + i];
            values[outputs_[i].place] = made.rank() == 4 ? permuted(made, {0, 3, 1, 2}, true) : made;
        }
    }

    const std::size_t begin, end;

private:
    std::uint32_t value(const Tensor& shape, std::uint32_t external = XNN_INVALID_VALUE_ID, std::uint32_t flags = 0) {
        const auto dims = dims_of(shape);
        std::uint32_t id = 0;
        check(xnn_define_tensor_value(graph_, xnn_datatype_fp32, dims.size(), dims.data(), nullptr, external, flags, &id));
        return id;
    }

    std::uint32_t fixed(std::vector<std::size_t> dims, std::vector<float> data) {
        statics_.push_back(std::move(data));
        std::uint32_t id = 0;
        check(xnn_define_tensor_value(graph_, xnn_datatype_fp32, dims.size(), dims.data(), statics_.back().data(), XNN_INVALID_VALUE_ID, 0, &id));
        return id;
    }

    void build(const std::vector<bool>& kept) {
        for (const Outside& one : inputs_) ids_[one.place] = value(one.shape, one.id, XNN_VALUE_FLAG_EXTERNAL_INPUT);
        for (const Outside& one : outputs_) outer_[one.place] = value(one.shape, one.id, XNN_VALUE_FLAG_EXTERNAL_OUTPUT);
        for (std::size_t i = begin; i < end; ++i) {
            const std::size_t made = steps_[i].outputs[0];
            const bool alone = i + 1 < end && steps_[i + 1].inputs[0] == made && uses_[made].size() == 1 && !kept[made];
            if (steps_[i].node->op == "vn.pad" && alone && steps_[i + 1].node->op == "vn.conv2d" && pad_value(steps_[i].layer->params) == 0.0f) {
                ids_[made] = ids_.at(steps_[i].inputs[0]);
                around_[made] = margins(steps_[i].layer->params);
                continue;
            }
            if (steps_[i].node->op == "vn.conv2d" && alone && steps_[i + 1].node->op == "vn.batchnorm2d") {
                convolution(steps_[i], &steps_[i + 1], made_by(steps_[i + 1]));
                ++i;
            } else {
                define(steps_[i]);
            }
        }
    }

    std::uint32_t made_by(const Step& step) {
        const std::size_t place = step.outputs[0];
        const auto outer = outer_.find(place);
        return ids_[place] = outer != outer_.end() ? outer->second : value(*tensor_at(shapes_, place));
    }

    // Per channel: factor and shift of a batch norm.
    static void affine(const Layer& norm, std::vector<float>& factor, std::vector<float>& shift) {
        const double eps = norm.params.number("eps");
        const Tensor *weight = norm.slot("weight"), *bias = norm.slot("bias"), *mean = norm.slot("running_mean"), *variance = norm.slot("running_var");
        for (std::int64_t c = 0; c < mean->count(); ++c) {
            const double by = (weight == nullptr ? 1.0 : weight->data<float>()[c]) / std::sqrt(variance->data<float>()[c] + eps);
            factor.push_back(static_cast<float>(by));
            shift.push_back(static_cast<float>((bias == nullptr ? 0.0 : bias->data<float>()[c]) - mean->data<float>()[c] * by));
        }
    }

    void convolution(const Step& step, const Step* norm, std::uint32_t out) {
        const Params& p = step.layer->params;
        const Tensor &weight = *step.layer->slot("weight"), *bias = step.layer->slot("bias");
        const std::int64_t made = weight.size(0), in_group = weight.size(1), height = weight.size(2), width = weight.size(3), groups = p.integer("groups");
        std::vector<float> factor(static_cast<std::size_t>(made), 1.0f), shift(static_cast<std::size_t>(made), 0.0f);
        if (norm != nullptr) {
            factor.clear();
            shift.clear();
            affine(*norm->layer, factor, shift);
        }
        std::vector<float> offsets(shift), filter(static_cast<std::size_t>(weight.count()));
        for (std::size_t c = 0; bias != nullptr && c < offsets.size(); ++c) offsets[c] += bias->data<float>()[c] * factor[c];
        const bool depthwise = in_group == 1 && groups > 1;
        const std::int64_t taps = height * width;
        for (std::int64_t n = 0; n < made; ++n) {
            for (std::int64_t c = 0; c < in_group; ++c) {
                for (std::int64_t tap = 0; tap < taps; ++tap) {
                    // (n, h, w, c), or (1, h, w, n) of a depthwise one
                    const std::int64_t to = depthwise ? tap * made + n : (n * taps + tap) * in_group + c;
                    filter[static_cast<std::size_t>(to)] = weight.data<float>()[(n * in_group + c) * taps + tap] * factor[static_cast<std::size_t>(n)];
                }
            }
        }
        const std::uint32_t bias_id = fixed({size(made)}, std::move(offsets));
        const auto stride = p.integers("stride"), dilation = p.integers("dilation");
        std::uint32_t before[2], after[2];
        paddings(p, before, after);
        const auto around = around_.find(step.inputs[0]);
        if (around != around_.end()) {  // the zeros that a step before puts there
            before[1] += small(around->second[0]);
            after[1] += small(around->second[1]);
            before[0] += small(around->second[2]);
            after[0] += small(around->second[3]);
        }
        const std::uint32_t in = ids_.at(step.inputs[0]);
        if (depthwise) {
            const std::uint32_t filter_id = fixed({1, size(height), size(width), size(made)}, std::move(filter));
            check(xnn_define_depthwise_convolution_2d(graph_, before[0], after[1], after[0], before[1], small(height), small(width), small(stride[0]), small(stride[1]),
                                                      small(dilation[0]), small(dilation[1]), small(made / groups), size(groups), -kInfinity, kInfinity, in, filter_id,
                                                      bias_id, out, 0));
        } else {
            const std::uint32_t filter_id = fixed({size(made), size(height), size(width), size(in_group)}, std::move(filter));
            check(xnn_define_convolution_2d(graph_, before[0], after[1], after[0], before[1], small(height), small(width), small(stride[0]), small(stride[1]),
                                            small(dilation[0]), small(dilation[1]), small(groups), size(in_group), size(made / groups), -kInfinity, kInfinity, in, filter_id,
                                            bias_id, out, 0));
        }
    }

    void define(const Step& step) {
        const std::string& op = step.node->op;
        const Params& p = step.layer->params;
        const std::uint32_t in = ids_.at(step.inputs[0]);
        const std::size_t place = step.outputs[0];
        const Tensor& x = *tensor_at(shapes_, step.inputs[0]);
        if ((op == "vn.identity" || op == "vn.dropout") && outer_.find(place) == outer_.end()) {
            ids_[place] = in;
            return;
        }
        const std::uint32_t out = made_by(step);
        if (op == "vn.conv2d") return convolution(step, nullptr, out);
        if (op == "vn.pad") {
            const auto given = margins(p);
            const std::size_t before[4] = {0, size(given[2]), size(given[0]), 0}, after[4] = {0, size(given[3]), size(given[1]), 0};
            return check(xnn_define_static_constant_pad(graph_, before, after, pad_value(p), in, out, 0));
        }
        if (op == "vn.batchnorm2d") {
            std::vector<float> factor, shift;
            affine(*step.layer, factor, shift);
            const std::size_t channels = factor.size();
            const std::uint32_t filter = fixed({1, 1, 1, channels}, std::move(factor)), bias = fixed({channels}, std::move(shift));
            return check(xnn_define_depthwise_convolution_2d(graph_, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, channels, -kInfinity, kInfinity, in, filter, bias, out, 0));
        }
        if (op == "vn.linear") {
            const Tensor &weight = *step.layer->slot("weight"), *bias = step.layer->slot("bias");
            const auto copied = [](const Tensor& one) { return std::vector<float>(one.data<float>(), one.data<float>() + one.count()); };
            const std::size_t made = static_cast<std::size_t>(weight.size(0));
            const std::uint32_t filter = fixed({made, static_cast<std::size_t>(weight.size(1))}, copied(weight));
            const std::uint32_t offsets = fixed({made}, bias == nullptr ? std::vector<float>(made, 0.0f) : copied(*bias));
            return check(xnn_define_fully_connected(graph_, -kInfinity, kInfinity, in, filter, offsets, out, 0));
        }
        if (op == "vn.relu" || op == "vn.relu6") return check(xnn_define_clamp(graph_, 0.0f, op == "vn.relu" ? kInfinity : 6.0f, in, out, 0));
        if (op == "vn.hardtanh") {
            return check(xnn_define_clamp(graph_, static_cast<float>(p.number("min_val")), static_cast<float>(p.number("max_val")), in, out, 0));
        }
        if (op == "vn.identity" || op == "vn.dropout") return check(xnn_define_clamp(graph_, -kInfinity, kInfinity, in, out, 0));
        if (op == "vn.hardswish") return check(xnn_define_hardswish(graph_, in, out, 0));
        if (op == "vn.sigmoid") return check(xnn_define_sigmoid(graph_, in, out, 0));
        if (op == "vn.silu") {
            const std::uint32_t gate = value(x);
            check(xnn_define_sigmoid(graph_, in, gate, 0));
            return check(xnn_define_multiply2(graph_, -kInfinity, kInfinity, in, gate, out, 0));
        }
        if (op == "vn.add") return check(xnn_define_add2(graph_, -kInfinity, kInfinity, in, ids_.at(step.inputs[1]), out, 0));
        if (op == "vn.mul") return check(xnn_define_multiply2(graph_, -kInfinity, kInfinity, in, ids_.at(step.inputs[1]), out, 0));
        if (op == "vn.max_pool2d" || op == "vn.avg_pool2d") {
            const auto kernel = two(p.integers("kernel_size")), stride = two(p.integers("stride")), padding = two(p.integers("padding"));
            const std::uint32_t top = small(padding[0]), left = small(padding[1]);
            if (op == "vn.avg_pool2d") {
                return check(xnn_define_average_pooling_2d(graph_, 0, 0, 0, 0, small(kernel[0]), small(kernel[1]), small(stride[0]), small(stride[1]), -kInfinity,
                                                           kInfinity, in, out, 0));
            }
            const auto dilation = two(p.integers("dilation"));
            return check(xnn_define_max_pooling_2d(graph_, top, left, top, left, small(kernel[0]), small(kernel[1]), small(stride[0]), small(stride[1]),
                                                   small(dilation[0]), small(dilation[1]), -kInfinity, kInfinity, in, out, 0));
        }
        if (op == "vn.flatten" || op == "vn.reshape") {
            const auto dims = dims_of(*tensor_at(shapes_, place));
            return check(xnn_define_static_reshape(graph_, dims.size(), dims.data(), in, out, 0));
        }
        check(xnn_define_global_average_pooling_2d(graph_, -kInfinity, kInfinity, in, out, 0));
    }

    const std::vector<Step>& steps_;
    const std::vector<Value>& shapes_;  // while it is built
    const Uses& uses_;
    std::vector<Outside> inputs_, outputs_;
    std::map<std::size_t, std::uint32_t> ids_, outer_;
    std::map<std::size_t, std::vector<std::int64_t>> around_;  // by value: margins that the convolution reading it adds itself
    std::vector<std::vector<float>> statics_;
    xnn_subgraph_t graph_ = nullptr;
    xnn_runtime_t runtime_ = nullptr;
    mutable std::mutex mutex_;
};

class Segments final : public Plan {
public:
    Segments(const std::vector<Step>& steps, const std::vector<Value>& shapes, const std::vector<bool>& kept, int threads) : pool_(pool_of(threads)) {
        check(xnn_initialize(nullptr));
        Uses uses(shapes.size());
        for (std::size_t i = 0; i < steps.size(); ++i) {
            for (const std::size_t place : steps[i].inputs) uses[place].push_back(i);
            std::vector<std::string> names;
            for (const auto& one : steps[i].symbolic) refs_in(one.second, names);
            for (const std::string& name : names) uses[std::stoul(name)].push_back(i);
        }
        for (std::size_t i = 0; i < steps.size();) {
            std::size_t end = i;
            bool worth = false;
            for (; end < steps.size() && supported(steps[end], shapes); ++end) {
                worth = worth || steps[end].node->op == "vn.conv2d" || steps[end].node->op == "vn.linear";
            }
            if (worth) parts_[i] = std::make_unique<Segment>(i, end, steps, shapes, kept, uses, pool_.get());
            i = std::max(end, i + 1);
        }
    }

    std::size_t run(std::size_t index, std::vector<Value>& values) const override {
        const auto found = parts_.find(index);
        if (found == parts_.end()) return index;
        found->second->run(values);
        return found->second->end;
    }

private:
    Pool pool_;  // outlives the parts
    std::map<std::size_t, std::unique_ptr<Segment>> parts_;
};

}  // namespace

std::unique_ptr<const Plan> make_plan(const std::vector<Step>& steps, const std::vector<Value>& shapes, const std::vector<bool>& kept, int threads) {
    return std::make_unique<Segments>(steps, shapes, kept, threads);
}

const char* backend_name() { return "xnnpack"; }

}  // namespace vn
