// Steps 4 and 5: the tensor table and the topology, what must hold between fields that are all of the right type.
#include <algorithm>
#include <limits>
#include <unordered_map>
#include <unordered_set>

#include "document.h"
#include "error.h"
#include "header.h"
#include "storage.h"

namespace vn {

namespace {

std::string at(const char* where, std::size_t index) { return std::string(where) + "[" + std::to_string(index) + "]"; }

std::unordered_set<std::string> input_names(const Document& document) {
    std::vector<std::string> named, declared;
    for (const ValueSpec& spec : document.inputs) named.push_back(spec.name);
    std::unordered_set<std::string> names(named.begin(), named.end());
    if (names.size() != named.size()) refuse("VALUE_DUP", "two inputs have one name", "document.inputs");
    for (const Json& tree : document.signature) {
        for (std::string& name : tree_leaves(tree)) declared.push_back(std::move(name));
    }
    std::sort(named.begin(), named.end());
    std::sort(declared.begin(), declared.end());
    if (named.empty() || declared != named) refuse("SIGNATURE", "signature and inputs do not name the same values", "document.signature");
    return names;
}

// The index of the node that makes each value.
std::unordered_map<std::string, std::size_t> makers(const Document& document, const std::unordered_set<std::string>& inputs) {
    std::unordered_set<std::string> names;
    std::unordered_map<std::string, std::size_t> made;
    for (std::size_t i = 0; i < document.nodes.size(); ++i) {
        const Node& node = document.nodes[i];
        const auto where = [&] { return at("document.nodes", i); };
        if (!names.insert(node.name).second) refuse("NODE_DUP_NAME", "two nodes are named `" + node.name + "`", where());
        if (node.outputs.empty()) refuse("NODE_NO_OUTPUT", "node `" + node.name + "` makes nothing", where());
        for (const std::string& name : node.outputs) {
            if (inputs.count(name) != 0) refuse("VALUE_SHADOWS_INPUT", "node `" + node.name + "` makes `" + name + "`, which is an input", where());
            if (!made.emplace(name, i).second) refuse("VALUE_DUP", "node `" + node.name + "` makes `" + name + "`, which exists already", where());
        }
    }
    return made;
}

std::int64_t stored_bytes(const Storage& storage, const ValueSpec& spec, const std::string& where) {
    if (spec.dtype != DType::f32) refuse("QUANT_DTYPE", "`" + spec.name + "` is " + dtype_name(spec.dtype) + " and stored in another form", where);
    if (storage.scheme == Storage::int8 && (storage.axis < 0 || storage.axis >= static_cast<std::int64_t>(spec.shape.size()))) {
        refuse("QUANT_AXIS", "axis " + std::to_string(storage.axis) + " of a tensor of shape " + show_shape(spec.shape), where);
    }
    return storage_bytes(storage, spec.shape);
}

bool same_layer(const Node& a, const Node& b) {
    return a.op == b.op && a.op_version == b.op_version && a.tensors == b.tensors &&
           std::equal(a.params.begin(), a.params.end(), b.params.begin(), b.params.end(),
                      [](const Member& x, const Member& y) { return x.key == y.key && x.value.same_text(y.value); });
}

}  // namespace

std::int64_t nbytes_of(const Shape& shape, DType dtype, const std::string& where) {
    constexpr std::int64_t most = std::numeric_limits<std::int64_t>::max();
    std::int64_t product = item_size(dtype);
    bool empty = false;
    for (const std::int64_t dim : shape) {
        empty = empty || dim == 0;
        const std::int64_t factor = dim == 0 ? 1 : dim;
        if (product > most / factor) refuse("SHAPE_OVERFLOW", "a tensor of shape " + show_shape(shape) + " does not fit 63 bits", where);
        product *= factor;
    }
    return empty ? 0 : product;
}

std::string show_shape(const Shape& shape) {
    std::string made = "(";
    for (std::size_t i = 0; i < shape.size(); ++i) made += (i > 0 ? ", " : "") + (shape[i] == kOpen ? std::string("any") : std::to_string(shape[i]));
    return made + ")";
}

void check_table(const Root& root, std::uint64_t data_bytes) {
    const std::vector<ValueSpec>& specs = root.document.tensors;
    std::unordered_set<std::string> seen, used;
    std::vector<std::int64_t> sizes;
    for (std::size_t i = 0; i < specs.size(); ++i) {
        if (!seen.insert(specs[i].name).second) refuse("TENSOR_DUP_NAME", "two tensors are named `" + specs[i].name + "`", at("document.tensors", i));
        sizes.push_back(nbytes_of(specs[i].shape, specs[i].dtype, at("document.tensors", i)));
    }
    const bool same = std::equal(specs.begin(), specs.end(), root.placements.begin(), root.placements.end(),
                                 [](const ValueSpec& spec, const Placement& place) { return spec.name == place.name; });
    if (!same) refuse("TENSOR_TABLE", "the placements are not those of document.tensors, in its order", "tensors");
    std::uint64_t end = 0;
    for (std::size_t i = 0; i < specs.size(); ++i) {
        const Placement& place = root.placements[i];
        const auto where = [&] { return at("tensors", i); };
        const auto offset = static_cast<std::uint64_t>(place.offset);
        const std::int64_t size = place.storage ? stored_bytes(*place.storage, specs[i], where()) : sizes[i];
        if (place.nbytes != size) {
            refuse("TENSOR_NBYTES", "`" + place.name + "` has " + std::to_string(place.nbytes) + " bytes, it needs " + std::to_string(size), where());
        }
        if (offset % kAlignment != 0) refuse("TENSOR_MISALIGNED", "`" + place.name + "` starts at " + std::to_string(offset), where());
        if (offset < end) refuse("TENSOR_OVERLAP", "`" + place.name + "` starts before the last one ends", where());
        if (offset > round_up(end, kAlignment)) refuse("TENSOR_GAP", "a hole before `" + place.name + "`", where());
        end = offset + static_cast<std::uint64_t>(place.nbytes);
        if (end > data_bytes) refuse("TENSOR_RANGE", "`" + place.name + "` ends after the data", where());
    }
    if (end != data_bytes) refuse("DATA_UNCLAIMED", "bytes after the last tensor", "tensors");
    for (const Node& node : root.document.nodes) {
        for (const auto& slot : node.tensors) used.insert(slot.second);
    }
    for (const ValueSpec& spec : specs) {
        if (used.count(spec.name) == 0) refuse("TENSOR_UNUSED", "no node uses `" + spec.name + "`", "document.tensors");
    }
}

void check_topology(const Document& document) {
    const auto inputs = input_names(document);
    const auto made = makers(document, inputs);
    std::unordered_set<std::string> tensors;
    for (const ValueSpec& spec : document.tensors) tensors.insert(spec.name);
    std::unordered_map<std::string, const Node*> first;
    for (std::size_t i = 0; i < document.nodes.size(); ++i) {
        const Node& node = document.nodes[i];
        const auto where = [&] { return at("document.nodes", i); };
        std::vector<std::string> needed = node.inputs;
        for (const Member& one : node.params) refs_in(one.value, needed);
        for (const std::string& name : needed) {
            const auto maker = made.find(name);
            if (inputs.count(name) != 0 || (maker != made.end() && maker->second < i)) continue;
            if (maker != made.end()) refuse("CYCLE_OR_ORDER", "node `" + node.name + "` uses `" + name + "` before it is made", where());
            refuse("DANGLING_INPUT", "node `" + node.name + "` uses `" + name + "`, which nothing makes", where());
        }
        for (const auto& [slot, name] : node.tensors) {
            if (tensors.count(name) == 0) refuse("SLOT_DANGLING", "slot `" + slot.substr(0, 80) + "` names `" + name + "`, which is no tensor", where());
        }
        const Node* other = first.emplace(node.layer, &node).first->second;
        if (other != &node && !same_layer(*other, node)) {
            refuse("LAYER_CONFLICT", "nodes `" + other->name + "` and `" + node.name + "` share a layer and differ", where());
        }
    }
    const std::vector<std::string> leaves = tree_leaves(document.outputs);
    if (leaves.empty()) refuse("OUTPUTS_EMPTY", "the network has no outputs", "document.outputs");
    for (const std::string& name : leaves) {
        if (inputs.count(name) == 0 && made.count(name) == 0) refuse("OUTPUT_UNKNOWN", "nothing makes the output `" + name + "`", "document.outputs");
    }
}

std::vector<std::string> tree_leaves(const Json& tree) {
    std::vector<std::string> names;
    const auto add = [&names](const Json& item) {
        for (std::string& name : tree_leaves(item)) names.push_back(std::move(name));
    };
    if (tree.text() != nullptr) names.push_back(*tree.text());
    if (tree.object() != nullptr && tree.object()->at(0).key != "const") {
        const Json& body = tree.object()->at(0).value;
        if (body.list() != nullptr) std::for_each(body.list()->begin(), body.list()->end(), add);
        if (body.object() != nullptr) {
            for (const Member& one : *body.object()) add(one.value);
        }
    }
    return names;
}

void refs_in(const Json& value, std::vector<std::string>& names) {
    if (value.ref() != nullptr) names.push_back(value.ref()->name);
    if (value.list() != nullptr) {
        for (const Json& item : *value.list()) refs_in(item, names);
    }
    if (value.object() != nullptr) {
        const Object& members = *value.object();
        if (members.size() == 1 && members[0].key == "$value" && members[0].value.text() != nullptr) {
            names.push_back(*members[0].value.text());
        } else {
            for (const Member& one : members) refs_in(one.value, names);
        }
    }
}

}  // namespace vn
