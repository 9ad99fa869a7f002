// Step 3: types, names, bounds. Every key that version 1.0 writes must be there.
#include <algorithm>
#include <cstring>
#include <initializer_list>

#include "document.h"
#include "error.h"
#include "utf8.h"

namespace vn {

namespace {

constexpr std::size_t kMaxRank = 8, kMaxName = 512, kMaxOp = 128;
constexpr std::int64_t kDimEnd = std::int64_t(1) << 31;

std::string at(const std::string& where, std::size_t index) { return where + "[" + std::to_string(index) + "]"; }

template <class T>
T& typed(Json& value, const char* what, const std::string& where) {
    T* found = std::get_if<T>(&value.value);
    if (found == nullptr) refuse("SCHEMA_TYPE", std::string("expected ") + what + ", found " + show(value), where);
    return *found;
}
Object& object(Json& value, const std::string& where) { return typed<Object>(value, "an object", where); }
List& list(Json& value, const std::string& where) { return typed<List>(value, "a list", where); }
std::string& text(Json& value, const std::string& where) { return typed<std::string>(value, "a text", where); }
std::int64_t integer(Json& value, const std::string& where) { return typed<std::int64_t>(value, "an integer", where); }

void check_name(const std::string& name, const std::string& where) {
    if (name.empty()) refuse("NAME_EMPTY", "an empty name", where);
    if (characters(name) > kMaxName) refuse("NAME_TOO_LONG", "a name of " + std::to_string(characters(name)) + " characters", where);
    const bool bad = std::any_of(name.begin(), name.end(), [](unsigned char one) { return one < 0x20 || one == 0x7F; });
    if (bad) refuse("NAME_BAD_CHAR", "a control character in the name " + quoted(name), where);
}

const std::string& name(Json& value, const std::string& where) {
    const std::string& found = text(value, where);
    check_name(found, where);
    return found;
}

Json* member(Object& members, const char* key) {
    for (Member& one : members) {
        if (one.key == key) return &one.value;
    }
    return nullptr;
}

// The values of `keys`, all of which must be there; the key `optional` may be there too.
template <std::size_t N>
std::vector<Json*> fields(Json& value, const std::string& where, const char* const (&keys)[N], bool newer, const char* optional = "") {
    Object& given = object(value, where);
    std::vector<Json*> found;
    for (const char* key : keys) {
        found.push_back(member(given, key));
        if (found.back() == nullptr) refuse("SCHEMA_MISSING", std::string("`") + key + "` is missing", where);
    }
    if (!newer) {
        for (const Member& one : given) {
            const bool known = std::any_of(std::begin(keys), std::end(keys), [&](const char* key) { return one.key == key; });
            if (!known && (*optional == '\0' || one.key != optional)) refuse("SCHEMA_UNKNOWN", quoted(one.key) + " is no field of it", where);
        }
    }
    return found;
}

bool only_key(const Object& members, const char* key) { return members.size() == 1 && members[0].key == key; }

bool is_float_form(const Json& value) {
    const std::string* name = value.text();
    return name != nullptr && (*name == "inf" || *name == "-inf" || *name == "nan");
}

void check_param(Json& value, const std::string& where) {
    if (List* items = std::get_if<List>(&value.value)) {
        for (std::size_t i = 0; i < items->size(); ++i) check_param((*items)[i], at(where, i));
    } else if (Object* members = std::get_if<Object>(&value.value)) {
        if (only_key(*members, "$value")) {
            name((*members)[0].value, where);
        } else if (only_key(*members, "$f")) {
            if (!is_float_form((*members)[0].value)) refuse("PARAM_FORM", show(value) + " is no float", where);
        } else {
            for (Member& one : *members) {
                if (one.key[0] == '$') refuse("PARAM_FORM", quoted(one.key) + " is no form of a parameter", where);
                check_param(one.value, where + "." + one.key.substr(0, 80));
            }
        }
    }
}

void check_tree(Json& value, const std::string& where) {
    if (value.is_null()) return;
    if (value.text() != nullptr) {
        name(value, where);
        return;
    }
    Object* members = std::get_if<Object>(&value.value);
    if (members != nullptr && members->size() == 1) {
        const std::string& kind = (*members)[0].key;
        Json& body = (*members)[0].value;
        if ((kind == "tuple" || kind == "list") && body.list() != nullptr) {
            List& items = std::get<List>(body.value);
            for (std::size_t i = 0; i < items.size(); ++i) check_tree(items[i], at(where + "." + kind, i));
            return;
        }
        if (kind == "dict" && body.object() != nullptr) {
            for (Member& one : std::get<Object>(body.value)) check_tree(one.value, where + ".dict." + one.key.substr(0, 80));
            return;
        }
        if (kind == "const" && body.list() == nullptr) {
            if (body.object() != nullptr && !only_key(*body.object(), "$f")) refuse("TREE", show(body) + " is no constant", where);
            check_param(body, where);
            return;
        }
    }
    refuse("TREE", show(value) + " is no structure of values", where);
}

// Lower-case words joined by dots, at least two.
bool is_op(const std::string& op) {
    const auto word = [](char one) { return (one >= 'a' && one <= 'z') || (one >= '0' && one <= '9') || one == '_'; };
    if (op.empty() || op.size() > kMaxOp || op[0] < 'a' || op[0] > 'z' || op.back() == '.') return false;
    for (std::size_t i = 0; i < op.size(); ++i) {
        if (op[i] == '.' ? op[i - 1] == '.' : !word(op[i])) return false;
    }
    return op.find('.') != std::string::npos;
}

ValueSpec value_spec(Json& value, const std::string& where, bool newer, bool is_input) {
    const auto found = fields(value, where, {"name", "dtype", "shape"}, newer);
    ValueSpec spec;
    spec.name = name(*found[0], where + ".name");
    const std::string& dtype = text(*found[1], where + ".dtype");
    const std::optional<DType> known = dtype_named(dtype);
    if (!known) refuse("DTYPE_UNKNOWN", quoted(dtype) + " is no dtype", where + ".dtype");
    spec.dtype = *known;
    List& shape = list(*found[2], where + ".shape");
    if (shape.size() > kMaxRank) refuse("RANK", std::to_string(shape.size()) + " dimensions, at most 8", where + ".shape");
    for (std::size_t i = 0; i < shape.size(); ++i) {
        if (shape[i].is_null() && is_input) {
            spec.shape.push_back(kOpen);
            continue;
        }
        const std::int64_t* dim = shape[i].integer();
        const auto here = [&] { return at(where + ".shape", i); };
        if (dim == nullptr) refuse("DIM_TYPE", "the dimension " + show(shape[i]), here());
        if (*dim < 0) refuse("DIM_NEGATIVE", "the dimension " + show(shape[i]), here());
        if (*dim >= kDimEnd) refuse("DIM_TOO_BIG", "the dimension " + show(shape[i]), here());
        if (*dim == 0 && is_input) refuse("DIM_ZERO", "an input without entries", here());
        spec.shape.push_back(*dim);
    }
    return spec;
}

std::vector<std::string> names(Json& value, const std::string& where) {
    std::vector<std::string> made;
    List& items = list(value, where);
    for (std::size_t i = 0; i < items.size(); ++i) made.push_back(name(items[i], at(where, i)));
    return made;
}

Node node(Json& value, const std::string& where, bool newer) {
    const auto found = fields(
        value, where, {"name", "layer", "op", "op_version", "inputs", "outputs", "params", "tensors", "source", "origin"}, newer);
    Node made;
    made.name = name(*found[0], where + ".name");
    made.layer = name(*found[1], where + ".layer");
    made.op = text(*found[2], where + ".op");
    if (!is_op(made.op)) refuse("OP_ID", quoted(made.op) + " is no op id", where + ".op");
    made.op_version = integer(*found[3], where + ".op_version");
    if (made.op_version < 1) refuse("OP_VERSION", "version " + std::to_string(made.op_version) + " of `" + made.op + "`", where + ".op_version");
    made.inputs = names(*found[4], where + ".inputs");
    made.outputs = names(*found[5], where + ".outputs");
    Object& params = object(*found[6], where + ".params");
    for (Member& one : params) {
        if (one.key[0] == '$') refuse("PARAM_FORM", quoted(one.key) + " is no name of a parameter", where + ".params");
        check_param(one.value, where + ".params." + one.key.substr(0, 80));
    }
    made.params = std::move(params);
    for (Member& one : object(*found[7], where + ".tensors")) {
        made.tensors.emplace_back(one.key, name(one.value, where + ".tensors." + one.key.substr(0, 80)));
    }
    if (!found[8]->is_null()) text(*found[8], where + ".source");
    if (!found[9]->is_null()) text(*found[9], where + ".origin");
    return made;
}

void check_metadata(const Json& value, const Limits& limits) {
    const Object* members = value.object();
    const bool texts = members != nullptr && std::all_of(members->begin(), members->end(), [](const Member& one) { return one.value.text() != nullptr; });
    if (!texts) refuse("METADATA", "expected texts by key", "document.metadata");
    std::uint64_t size = 0;
    for (const Member& one : *members) size += one.key.size() + one.value.text()->size();
    if (size > limits.metadata_bytes) refuse("METADATA_TOO_BIG", std::to_string(size) + " bytes", "document.metadata");
}

Document document(Json& value, const Limits& limits, bool newer) {
    Object& here = object(value, "document");
    const Json* format = member(here, "format");
    const Json* version = member(here, "version");
    const List* parts = version == nullptr ? nullptr : version->list();
    const bool numbers = parts != nullptr && parts->size() == 2 && (*parts)[0].integer() != nullptr && (*parts)[1].integer() != nullptr;
    if (format == nullptr || format->text() == nullptr || *format->text() != "amc-graph" || !numbers) {
        refuse("FORMAT", "expected format 'amc-graph' and its version", "document");
    }
    const std::int64_t major = *(*parts)[0].integer(), minor = *(*parts)[1].integer();
    if (major != 1 || minor < 0) refuse("FORMAT", "another version of the graph document than 1.x", "document.version");
    newer = newer || minor > 0;
    const auto found = fields(value, "document", {"format", "version", "producer", "inputs", "signature", "nodes", "outputs", "tensors", "metadata"}, newer);
    text(*found[2], "document.producer");
    check_metadata(*found[8], limits);
    Document made;
    List& inputs = list(*found[3], "document.inputs");
    for (std::size_t i = 0; i < inputs.size(); ++i) made.inputs.push_back(value_spec(inputs[i], at("document.inputs", i), newer, true));
    List& signature = list(*found[4], "document.signature");
    for (std::size_t i = 0; i < signature.size(); ++i) check_tree(signature[i], at("document.signature", i));
    made.signature = std::move(signature);
    List& nodes = list(*found[5], "document.nodes");
    if (nodes.size() > limits.nodes) refuse("TOO_MANY_NODES", std::to_string(nodes.size()) + " nodes", "document.nodes");
    for (std::size_t i = 0; i < nodes.size(); ++i) made.nodes.push_back(node(nodes[i], at("document.nodes", i), newer));
    check_tree(*found[6], "document.outputs");
    made.outputs = std::move(*found[6]);
    List& tensors = list(*found[7], "document.tensors");
    if (tensors.size() > limits.tensors) refuse("TOO_MANY_TENSORS", std::to_string(tensors.size()) + " tensors", "document.tensors");
    for (std::size_t i = 0; i < tensors.size(); ++i) made.tensors.push_back(value_spec(tensors[i], at("document.tensors", i), newer, false));
    return made;
}

Storage storage(Json& value, const std::string& where, bool newer) {
    Json* scheme = member(object(value, where), "scheme");
    const std::string* named = scheme == nullptr ? nullptr : scheme->text();
    const bool known = named != nullptr && (*named == "float16" || *named == "int8");
    if (scheme != nullptr && !scheme->is_null() && !known) refuse("QUANT_SCHEME", show(*scheme) + "; expected float16 or int8", where);
    if (!known || *named == "float16") {
        fields(value, where, {"scheme"}, newer);
        if (!known) refuse("QUANT_SCHEME", "null; expected float16 or int8", where);
        return {Storage::float16, 0};
    }
    const auto found = fields(value, where, {"scheme", "axis"}, newer);
    return {Storage::int8, integer(*found[1], where + ".axis")};
}

Placement placement(Json& value, const std::string& where, bool newer) {
    const auto found = fields(value, where, {"name", "offset", "nbytes", "crc32"}, newer, "quant");
    Placement made;
    made.name = name(*found[0], where + ".name");
    made.offset = integer(*found[1], where + ".offset");
    made.nbytes = integer(*found[2], where + ".nbytes");
    const std::int64_t crc = integer(*found[3], where + ".crc32");
    if (made.offset < 0 || made.nbytes < 0) refuse("TENSOR_RANGE", "a negative place or size", where);
    if (crc < 0 || crc >> 32 != 0) refuse("SCHEMA_TYPE", std::to_string(crc) + " is no crc32", where + ".crc32");
    made.crc32 = static_cast<std::uint32_t>(crc);
    if (Json* quant = member(std::get<Object>(value.value), "quant")) made.storage = storage(*quant, where + ".quant", newer);
    return made;
}

std::optional<std::pair<std::int64_t, std::int64_t>> base_size(const Json& value) {
    if (value.is_null()) return std::nullopt;
    const List* sizes = value.list();
    const auto good = [](const Json& size) { return size.integer() != nullptr && *size.integer() >= 1 && *size.integer() < kDimEnd; };
    if (sizes == nullptr || sizes->size() != 2 || !good((*sizes)[0]) || !good((*sizes)[1])) {
        refuse("BASE_SIZE", show(value) + "; expected null or [height, width]", "model_base_size_hw");
    }
    return std::make_pair(*(*sizes)[0].integer(), *(*sizes)[1].integer());
}

}  // namespace

Root check_schema(Json parsed, const Limits& limits, bool newer) {
    const auto found = fields(parsed, "graph", {"model_id", "model_base_size_hw", "document", "tensors"}, newer);
    Root root;
    const std::int64_t* model_id = found[0]->integer();
    if (model_id == nullptr || *model_id < 0 || *model_id >> 32 != 0) {
        refuse("MODEL_ID", "model_id is " + show(*found[0]) + ", expected an integer from 0 to 2^32-1", "model_id");
    }
    root.model_id = *model_id;
    root.base_size = base_size(*found[1]);
    root.document = document(*found[2], limits, newer);
    List& placements = list(*found[3], "tensors");
    for (std::size_t i = 0; i < placements.size(); ++i) root.placements.push_back(placement(placements[i], at("tensors", i), newer));
    return root;
}

}  // namespace vn
