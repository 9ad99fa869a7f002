// Strict JSON: bounded before it is parsed, and only what two readers read alike.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "limits.h"

namespace vn {

struct Member;
class Json;
using List = std::vector<Json>;
using Object = std::vector<Member>;  // in the order of the text

// An integer that the graph computes: `{"$value": name}` in a parameter. The parser makes none; `Params` do.
struct Ref {
    std::string name;
    bool operator==(const Ref& other) const { return name == other.name; }
};

class Json {
public:
    using Value = std::variant<std::monostate, bool, std::int64_t, double, std::string, List, Object, Ref>;
    Value value;

    Json() = default;
    template <class T>
    Json(T given) : value(std::move(given)) {}

    bool is_null() const { return std::holds_alternative<std::monostate>(value); }
    const bool* boolean() const { return std::get_if<bool>(&value); }
    const std::int64_t* integer() const { return std::get_if<std::int64_t>(&value); }
    const double* real() const { return std::get_if<double>(&value); }
    const std::string* text() const { return std::get_if<std::string>(&value); }
    const List* list() const { return std::get_if<List>(&value); }
    const Object* object() const { return std::get_if<Object>(&value); }
    const Ref* ref() const { return std::get_if<Ref>(&value); }

    // Whether both would be written as the same text: 1, 1.0 and true differ, and so does the order of keys.
    bool same_text(const Json& other) const;
};

struct Member {
    std::string key;
    Json value;
};

// The value of a key, or null. Keys are few wherever this is used.
const Json* find(const Object& object, std::string_view key);

// A value for a message, short whatever it is.
std::string show(const Json& value);
std::string quoted(std::string_view text);

// Parses one object (RFC 8259). Refused beyond the grammar: nesting and items beyond the limits, repeated keys, NaN and
// infinities (also 1e999), integers outside 64 bits, lone surrogates. Throws Error with the codes of step 2 of docs/vnmodel.md.
Json parse_json(std::string_view data, const Limits& limits);

// The number that a JSON number's text means; false when it is too large for a double.
bool parse_real(std::string_view text, double& value);

}  // namespace vn
