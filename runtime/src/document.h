// The graph document and the tensor table of a file, field by field (docs/vnmodel.md).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "dtype.h"
#include "json.h"

namespace vn {

using Shape = std::vector<std::int64_t>;

constexpr std::int64_t kOpen = -1;  // a dimension that may change between runs

struct ValueSpec {
    std::string name;
    DType dtype = DType::f32;
    Shape shape;
};

struct Node {
    std::string name, layer, op;
    std::int64_t op_version = 1;
    std::vector<std::string> inputs, outputs;
    Object params;  // as in the file
    std::vector<std::pair<std::string, std::string>> tensors;  // slot, name in the tensor table
};

// A form in which a float32 tensor is smaller in the file than in memory.
struct Storage {
    enum Scheme { float16, int8 } scheme = float16;
    std::int64_t axis = 0;  // of int8: there is one scale per index of it
};

// Where a tensor's bytes are: `offset` counts from the start of the data.
struct Placement {
    std::string name;
    std::int64_t offset = 0, nbytes = 0;
    std::uint32_t crc32 = 0;
    std::optional<Storage> storage;
};

struct Document {
    std::vector<ValueSpec> inputs, tensors;
    List signature;  // trees, one for each argument
    std::vector<Node> nodes;
    Json outputs;  // a tree
};

struct Root {
    std::int64_t model_id = 0;
    std::optional<std::pair<std::int64_t, std::int64_t>> base_size;  // height, width
    Document document;
    std::vector<Placement> placements;
};

// Checks the parsed graph field by field; what it holds is moved out of it. `newer`: the file's minor version is above this
// reader's, so unknown keys are dropped. Throws Error with the codes of step 3.
Root check_schema(Json parsed, const Limits& limits, bool newer);

// Tensors fill the data in order. Throws Error with the codes of step 4.
void check_table(const Root& root, std::uint64_t data_bytes);

// Names are unique, every value is made once and before it is used, slots name tensors, the outputs exist. Codes of step 5.
void check_topology(const Document& document);

// The value names in a structure, in order.
std::vector<std::string> tree_leaves(const Json& tree);

// The names that a parameter refers to, at any depth, appended.
void refs_in(const Json& value, std::vector<std::string>& names);

// Bytes of a tensor. Throws Error SHAPE_OVERFLOW, also when only the strides of an empty tensor overflow.
std::int64_t nbytes_of(const Shape& shape, DType dtype, const std::string& where);

std::string show_shape(const Shape& shape);

}  // namespace vn
