// Opening: the checks in their order, the layers, the schedule and the tensors.
#include "model.h"

#include <algorithm>
#include <unordered_map>

#include "crc32.h"
#include "error.h"
#include "header.h"
#include "storage.h"

namespace vn {

namespace {

std::string at_node(std::size_t index) { return "document.nodes[" + std::to_string(index) + "]"; }

bool all_zero(const unsigned char* data, std::uint64_t size) {
    return std::all_of(data, data + size, [](unsigned char one) { return one == 0; });
}

void check_arity(const Node& node, const Op& op, const std::string& where) {
    const auto count = static_cast<int>(node.inputs.size());
    if (count < op.fewest || (op.most != kAny && count > op.most)) {
        refuse("OP_ARITY", "node `" + node.name + "` (" + node.op + ") with " + std::to_string(count) + " inputs", where);
    }
}

}  // namespace

std::unique_ptr<Model> Model::open(std::shared_ptr<const Bytes> bytes, const Limits& limits, bool verify) {
    const unsigned char* data = bytes->data();
    const Header header = read_header(data, bytes->size(), limits);
    const std::string_view graph(reinterpret_cast<const char*>(data) + kHeaderBytes, static_cast<std::size_t>(header.graph_bytes));
    if (crc32(data + kHeaderBytes, graph.size()) != header.graph_crc) refuse("GRAPH_CRC", "the graph is damaged", "byte 64");
    const std::uint64_t graph_end = kHeaderBytes + header.graph_bytes;
    if (!all_zero(data + graph_end, header.data_offset - graph_end)) {
        refuse("PADDING_NONZERO", "bytes between graph and data are not zero", "byte " + std::to_string(graph_end));
    }
    std::unique_ptr<Model> model(new Model());
    model->limits_ = limits;
    model->root_ = check_schema(parse_json(graph, limits), limits, header.minor > kMinor);
    check_table(model->root_, header.data_bytes);
    check_topology(model->root_.document);
    model->check_ops();
    model->schedule();
    model->check_one_sample();
    model->load(bytes, header.data_offset, verify);
    return model;
}

// Every layer against its op: version, parameters, tensors, arity.
void Model::check_ops() {
    const Document& document = root_.document;
    std::unordered_map<std::string, const ValueSpec*> specs;
    for (const ValueSpec& spec : document.tensors) specs.emplace(spec.name, &spec);
    std::unordered_map<std::string, const Layer*> layers;
    for (std::size_t i = 0; i < document.nodes.size(); ++i) {
        const Node& node = document.nodes[i];
        const std::string where = at_node(i);
        Step step;
        step.node = &node;
        step.op = find_op(node.op);
        const auto known = layers.find(node.layer);
        if (known != layers.end()) {
            step.layer = known->second;
        } else {
            if (step.op == nullptr) refuse("OP_UNKNOWN", "node `" + node.name + "`: this runtime has no `" + node.op + "`", where);
            if (node.op_version > step.op->op.version) {
                refuse("OP_VERSION", "node `" + node.name + "` needs version " + std::to_string(node.op_version) + " of `" + node.op + "`", where);
            }
            auto layer = std::make_unique<Layer>();
            layer->params = step.op->params.check(node, where);
            for (const auto& [slot, name] : node.tensors) {
                const ValueSpec& spec = *specs.at(name);
                layer->slots.emplace_back(slot, Tensor(spec.dtype, spec.shape));
            }
            step.op->op.build(Build(*layer, "node `" + node.name + "` (" + node.op + ")", where));
            step.layer = layer.get();
            layers.emplace(node.layer, layer.get());
            layers_.push_back(std::move(layer));
        }
        check_arity(node, step.op->op, where);
        if (step.layer->params.symbolic()) {
            for (const Member& one : step.layer->params.values) {
                std::vector<std::string> names;
                refs_in(one.value, names);
                if (!names.empty()) step.symbolic.emplace_back(one.key, one.value);
            }
        }
        steps_.push_back(std::move(step));
    }
}

namespace {

// References by name become references by place.
void locate(Json& value, const std::unordered_map<std::string, std::size_t>& places, std::vector<std::size_t>& used) {
    if (const Ref* ref = value.ref()) {
        const std::size_t place = places.at(ref->name);
        used.push_back(place);
        value = Json(Ref{std::to_string(place)});
    } else if (List* items = std::get_if<List>(&value.value)) {
        for (Json& item : *items) locate(item, places, used);
    } else if (Object* members = std::get_if<Object>(&value.value)) {
        for (Member& one : *members) locate(one.value, places, used);
    }
}

}  // namespace

// Gives every value a place and finds out after which step nothing needs it.
void Model::schedule() {
    std::unordered_map<std::string, std::size_t> places;
    for (const ValueSpec& spec : root_.document.inputs) places.emplace(spec.name, slots_++);
    std::unordered_map<std::size_t, std::size_t> last;
    for (std::size_t i = 0; i < steps_.size(); ++i) {
        Step& step = steps_[i];
        std::vector<std::size_t> used;
        for (const std::string& name : step.node->inputs) step.inputs.push_back(places.at(name));
        for (auto& one : step.symbolic) locate(one.second, places, used);
        used.insert(used.end(), step.inputs.begin(), step.inputs.end());
        for (const std::string& name : step.node->outputs) {
            places.emplace(name, slots_);
            step.outputs.push_back(slots_);
            used.push_back(slots_++);
        }
        for (const std::size_t place : used) last[place] = i;
    }
    output_names_ = tree_leaves(root_.document.outputs);
    kept_.assign(slots_, false);
    for (const std::string& name : output_names_) {
        outputs_.push_back(places.at(name));
        kept_[outputs_.back()] = true;
    }
    for (const auto& [place, index] : last) {
        if (!kept_[place]) steps_[index].dead.push_back(place);
    }
}

void Model::load(const std::shared_ptr<const Bytes>& bytes, std::uint64_t data_offset, bool verify) {
    const unsigned char* data = bytes->data() + data_offset;
    std::unordered_map<std::string, Tensor> tensors;
    std::uint64_t end = 0;
    for (std::size_t i = 0; i < root_.placements.size(); ++i) {
        const Placement& place = root_.placements[i];
        const ValueSpec& spec = root_.document.tensors[i];
        const auto start = static_cast<std::uint64_t>(place.offset), size = static_cast<std::uint64_t>(place.nbytes);
        const auto where = [i] { return "tensors[" + std::to_string(i) + "]"; };
        if (!all_zero(data + end, start - end)) refuse("PADDING_NONZERO", "bytes before tensor `" + place.name + "` are not zero", where());
        if (verify && crc32(data + start, static_cast<std::size_t>(size)) != place.crc32) {
            refuse("TENSOR_CRC", "the bytes of tensor `" + place.name + "` are damaged", where());
        }
        if (spec.dtype == DType::boolean && std::any_of(data + start, data + start + size, [](unsigned char one) { return one > 1; })) {
            refuse("BOOL_VALUE", "the bool tensor `" + place.name + "` holds bytes other than 0 and 1", where());
        }
        if (place.storage) {
            check_scales(*place.storage, spec.shape, data + start, place.name, where());
            tensors.emplace(place.name, decode(*place.storage, spec.shape, data + start));
        } else {
            tensors.emplace(place.name, Tensor(spec.dtype, spec.shape, bytes, data + start));
        }
        end = start + size;
    }
    std::unordered_map<const Layer*, const Node*> nodes;
    for (const Step& step : steps_) nodes.emplace(step.layer, step.node);
    for (const auto& layer : layers_) {
        const Node& node = *nodes.at(layer.get());
        for (std::size_t i = 0; i < layer->slots.size(); ++i) layer->slots[i].second = tensors.at(node.tensors[i].second);
    }
}

}  // namespace vn
