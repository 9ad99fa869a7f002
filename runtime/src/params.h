// Parameters of an op: their types, written as text in the op table, and their checked values.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "document.h"
#include "json.h"

namespace vn {

// The checked parameters of a layer, in the order of the op's fields. Computed integers are `Ref` until `resolve`.
class Params {
public:
    const Json& at(std::string_view name) const;
    bool null(std::string_view name) const { return at(name).is_null(); }
    bool flag(std::string_view name) const;
    // Throw ShapeError for what is no number, no text, no list of integers.
    std::int64_t integer(std::string_view name) const;
    double number(std::string_view name) const;
    const std::string& text(std::string_view name) const;
    std::vector<std::int64_t> integers(std::string_view name) const;  // a single integer is a list of one
    std::vector<std::string> texts(std::string_view name) const;
    bool is_list(std::string_view name) const { return at(name).list() != nullptr; }

    bool symbolic() const { return symbolic_; }
    void set(std::string_view name, Json value);

    Object values;

private:
    friend class ParamTypes;
    bool symbolic_ = false;
};

std::int64_t to_integer(const Json& value);
double to_number(const Json& value);

// What the parameters of an op are. Made from text such as "groups int+ =1; stride axes2 [int+] =[1]; mode str ='nearest'":
//   name type [= default as JSON with ' for "]; ...
//   type:  bool int int+ (>= 1) int0 (>= 0) int:2:8 float str ref null any <a,b> (one of these) [type] [type]+ (of one or more)
//          [type]2 (of two); a|b|c
//   axesN: one value for all of N spatial axes or one for each; a lone value becomes a list.
class ParamTypes {
public:
    explicit ParamTypes(const char* text);
    ~ParamTypes();
    ParamTypes(const ParamTypes&) = delete;
    ParamTypes& operator=(const ParamTypes&) = delete;

    // Checks what a file has for a node, as the reference reader does: the first wrong field in the order of the fields, then
    // unknown ones, then values that are of a type which could be converted but is another one. Throws Error PARAM_*.
    Params check(const Node& node, const std::string& where) const;

private:
    struct Type;
    struct Field;
    class Text;
    struct Found;
    static Found match(const Type& type, const Json& given);
    static Found match_one(const Type& type, const Json& given);
    std::vector<Field> fields_;
};

}  // namespace vn
