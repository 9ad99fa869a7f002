#include "params.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>

#include "checked.h"
#include "error.h"
#include "utf8.h"

namespace vn {

// --- access ---

const Json& Params::at(std::string_view name) const {
    const Json* found = find(values, name);
    if (found == nullptr) throw ShapeError("no parameter `" + std::string(name) + "`");
    return *found;
}

std::int64_t to_integer(const Json& value) {
    const std::int64_t* found = value.integer();
    if (found == nullptr) throw ShapeError("expected an integer, found " + show(value));
    return *found;
}

double to_number(const Json& value) {
    if (value.real() != nullptr) return *value.real();
    if (value.boolean() != nullptr) return *value.boolean() ? 1.0 : 0.0;
    return static_cast<double>(to_integer(value));
}

bool Params::flag(std::string_view name) const {
    const bool* found = at(name).boolean();
    return found != nullptr && *found;
}
std::int64_t Params::integer(std::string_view name) const { return to_integer(at(name)); }
double Params::number(std::string_view name) const { return to_number(at(name)); }

const std::string& Params::text(std::string_view name) const {
    const std::string* found = at(name).text();
    if (found == nullptr) throw ShapeError("`" + std::string(name) + "` is no text");
    return *found;
}

std::vector<std::int64_t> Params::integers(std::string_view name) const {
    const Json& given = at(name);
    if (given.list() == nullptr) return {to_integer(given)};
    std::vector<std::int64_t> made;
    for (const Json& item : *given.list()) made.push_back(to_integer(item));
    return made;
}

std::vector<std::string> Params::texts(std::string_view name) const {
    std::vector<std::string> made;
    for (const Json& item : *at(name).list()) made.push_back(*item.text());
    return made;
}

void Params::set(std::string_view name, Json value) {
    for (Member& one : values) {
        if (one.key == name) one.value = std::move(value);
    }
}

// --- types ---

struct ParamTypes::Type {
    enum Kind { boolean, integer, real, text, ref, null, any, literal, list, either } kind = any;
    std::int64_t low = std::numeric_limits<std::int64_t>::min(), high = std::numeric_limits<std::int64_t>::max();
    std::vector<std::string> choices;  // of a literal
    std::vector<Type> inner;           // of a list: one; of alternatives: each
};

struct ParamTypes::Field {
    std::string name;
    Type type;
    int axes = 0;
    bool required = true;
    Json standard;
};

// What a given value is to a type. `converted`: acceptable after a conversion, which a file may not rely on.
struct ParamTypes::Found {
    enum State { exact, converted, wrong_type, wrong_value } state = exact;
    Json value;
};

class ParamTypes::Text {
public:
    explicit Text(const char* text) : text_(text) {}

    std::vector<Field> fields() {
        std::vector<Field> made;
        for (skip(); *text_ != '\0'; skip()) made.push_back(field());
        return made;
    }

private:
    void skip() {
        while (*text_ == ' ' || *text_ == ';') ++text_;
    }
    bool takes(char one) {
        while (*text_ == ' ') ++text_;
        if (*text_ != one) return false;
        ++text_;
        return true;
    }
    std::string word(const char* stops) {
        const char* start = text_;
        while (*text_ != '\0' && std::string_view(stops).find(*text_) == std::string_view::npos) ++text_;
        return std::string(start, text_);
    }

    Field field() {
        Field made;
        made.name = word(" ");
        skip();
        if (std::string_view(text_).substr(0, 4) == "axes") {
            made.axes = text_[4] - '0';
            text_ += 5;
            skip();
        }
        made.type = type();
        if (takes('=')) {
            made.required = false;
            std::string json = "{\"a\":" + word(";") + "}";
            std::replace(json.begin(), json.end(), '\'', '"');
            made.standard = parse_json(json, Limits()).object()->at(0).value;
        }
        return made;
    }

    Type type() {
        std::vector<Type> all{one()};
        while (takes('|')) all.push_back(one());
        if (all.size() == 1) return all[0];
        Type made;
        made.kind = Type::either;
        made.inner = std::move(all);
        return made;
    }

    Type one() {
        Type made;
        if (takes('[')) {
            made.kind = Type::list;
            made.inner.push_back(type());
            takes(']');
            made.low = 0;
            if (*text_ == '+') made.low = 1;
            if (*text_ >= '0' && *text_ <= '9') made.low = made.high = *text_ - '0';
            if (*text_ == '+' || made.low == made.high) ++text_;
            return made;
        }
        if (takes('<')) {
            made.kind = Type::literal;
            do made.choices.push_back(word(",>"));
            while (takes(','));
            takes('>');
            return made;
        }
        const std::string name = word(" |=;]");
        static constexpr std::pair<const char*, Type::Kind> kinds[] = {
            {"bool", Type::boolean}, {"float", Type::real}, {"str", Type::text}, {"ref", Type::ref}, {"null", Type::null}, {"any", Type::any}};
        for (const auto& [known, kind] : kinds) {
            if (name == known) made.kind = kind;
        }
        if (name.compare(0, 3, "int") == 0) {
            made.kind = Type::integer;
            if (name == "int+") made.low = 1;
            if (name == "int0") made.low = 0;
            if (name[3] == ':') {
                made.low = name[4] - '0';
                made.high = name[6] - '0';
            }
        }
        return made;
    }

    const char* text_;
};

ParamTypes::ParamTypes(const char* text) : fields_(Text(text).fields()) {}
ParamTypes::~ParamTypes() = default;

// --- checking ---

namespace {

std::string stripped(const std::string& text) {
    const std::size_t first = text.find_first_not_of(" \t\n\r\f\v");
    return first == std::string::npos ? "" : text.substr(first, text.find_last_not_of(" \t\n\r\f\v") - first + 1);
}

// Whether pydantic would make an integer of a text ("12", " -3 ", "4.0"): then the file is wrong for its type, not its value.
bool reads_as_integer(const std::string& text, std::int64_t& value) {
    std::string digits = stripped(text);
    if (const std::size_t point = digits.find('.'); point != std::string::npos) {
        if (digits.find_first_not_of('0', point + 1) != std::string::npos) return false;
        digits.resize(point);
    }
    const std::size_t sign = !digits.empty() && (digits[0] == '-' || digits[0] == '+');
    if (digits.size() == sign || digits.size() > 18 || digits.find_first_not_of("0123456789", sign) != std::string::npos) return false;
    value = std::strtoll(digits.c_str(), nullptr, 10);
    return true;
}

bool is_name(const std::string* text) {
    const auto control = [](unsigned char one) { return one < 0x20 || one == 0x7F; };
    return text != nullptr && !text->empty() && characters(*text) <= 512 && std::none_of(text->begin(), text->end(), control);
}

std::string lowered(std::string text) {
    for (char& one : text) one = one >= 'A' && one <= 'Z' ? static_cast<char>(one - 'A' + 'a') : one;
    return text;
}

bool reads_as_real(const std::string& text) {
    std::string plain = lowered(stripped(text));
    if (!plain.empty() && (plain[0] == '-' || plain[0] == '+')) plain.erase(0, 1);
    if (plain == "inf" || plain == "nan" || plain == "infinity") return true;
    const bool form = !plain.empty() && plain.find_first_not_of("0123456789.e+-") == std::string::npos && plain[0] != 'e' && plain != ".";
    if (!form) return false;
    char* end = nullptr;
    std::strtod(plain.c_str(), &end);
    return *end == '\0';
}

bool reads_as_boolean(const std::string& text) {
    static constexpr const char* words[] = {"true", "false", "t", "f", "yes", "no", "y", "n", "on", "off", "1", "0"};
    const std::string plain = lowered(text);
    return std::any_of(std::begin(words), std::end(words), [&](const char* word) { return plain == word; });
}

// `{"$value": name}` and `{"$f": name}` as what they stand for.
Json meant(const Json& given) {
    if (given.list() != nullptr) {
        List made;
        for (const Json& item : *given.list()) made.push_back(meant(item));
        return Json(std::move(made));
    }
    const Object* members = given.object();
    if (members == nullptr) return given;
    if (members->size() == 1 && (*members)[0].key == "$value") return Json(Ref{*(*members)[0].value.text()});
    if (members->size() == 1 && (*members)[0].key == "$f") {
        const std::string& form = *(*members)[0].value.text();
        return Json(form == "nan" ? std::nan("") : form == "inf" ? HUGE_VAL : -HUGE_VAL);
    }
    Object made;
    for (const Member& one : *members) made.push_back({one.key, meant(one.value)});
    return Json(std::move(made));
}

bool has_ref(const Json& value) {
    std::vector<std::string> names;
    refs_in(value, names);
    return !names.empty();
}

}  // namespace

ParamTypes::Found ParamTypes::match(const Type& type, const Json& given) {
    if (type.kind != Type::either) return match_one(type, given);
    Found first, usable;
    bool any_usable = false;
    for (std::size_t i = 0; i < type.inner.size(); ++i) {
        Found found = match_one(type.inner[i], given);
        if (found.state == Found::exact) return found;
        if (i == 0) first = found;
        if (found.state == Found::converted && !any_usable) {
            usable = std::move(found);
            any_usable = true;
        }
    }
    return any_usable ? usable : first;
}

ParamTypes::Found ParamTypes::match_one(const Type& type, const Json& given) {
    const auto in_range = [&](std::int64_t value, Found::State state) {
        return Found{value < type.low || value > type.high ? Found::wrong_value : state, Json(value)};
    };
    switch (type.kind) {
        case Type::any: return {Found::exact, given};
        case Type::null: return {given.is_null() ? Found::exact : Found::wrong_type, given};
        case Type::ref: {
            // An object with a `name` is read as a reference by the reference reader's library, which then says no to it.
            const Object* members = given.object();
            if (members != nullptr && members->size() == 1 && (*members)[0].key == "name" && is_name((*members)[0].value.text())) return {Found::converted, given};
            return {given.ref() != nullptr ? Found::exact : Found::wrong_type, given};
        }
        case Type::text: return {given.text() != nullptr ? Found::exact : Found::wrong_type, given};
        case Type::either: return match(type, given);
        case Type::boolean:
            if (given.boolean() != nullptr) return {Found::exact, given};
            if (given.integer() != nullptr && (*given.integer() == 0 || *given.integer() == 1)) return {Found::converted, Json(*given.integer() == 1)};
            if (given.real() != nullptr && (*given.real() == 0.0 || *given.real() == 1.0)) return {Found::converted, Json(*given.real() == 1.0)};
            if (given.text() != nullptr && reads_as_boolean(*given.text())) return {Found::converted, Json(true)};
            return {Found::wrong_type, given};
        case Type::integer: {
            if (given.integer() != nullptr) return in_range(*given.integer(), Found::exact);
            if (given.boolean() != nullptr) return in_range(*given.boolean() ? 1 : 0, Found::converted);
            if (const double* real = given.real(); real != nullptr) {
                if (!std::isfinite(*real)) return {Found::wrong_value, given};
                if (std::floor(*real) != *real || std::fabs(*real) >= 0x1p63) return {Found::wrong_type, given};
                return in_range(static_cast<std::int64_t>(*real), Found::converted);
            }
            std::int64_t value = 0;
            if (given.text() != nullptr && reads_as_integer(*given.text(), value)) return in_range(value, Found::converted);
            return {Found::wrong_type, given};
        }
        case Type::real:
            if (given.real() != nullptr) return {Found::exact, given};
            if (given.integer() != nullptr) return {Found::exact, Json(static_cast<double>(*given.integer()))};
            if (given.boolean() != nullptr) return {Found::converted, Json(*given.boolean() ? 1.0 : 0.0)};
            if (given.text() != nullptr && reads_as_real(*given.text())) return {Found::converted, Json(0.0)};
            return {Found::wrong_type, given};
        case Type::literal: {
            const auto chosen = [&](const std::string& text) { return std::find(type.choices.begin(), type.choices.end(), text) != type.choices.end(); };
            if (given.text() != nullptr && type.choices[0].find_first_not_of("0123456789") != std::string::npos) {
                return {chosen(*given.text()) ? Found::exact : Found::wrong_value, given};
            }
            std::int64_t value = -1;
            if (given.integer() != nullptr) value = *given.integer();
            if (given.boolean() != nullptr) value = *given.boolean() ? 1 : 0;
            if (given.real() != nullptr && std::fabs(*given.real()) < 1e9 && std::floor(*given.real()) == *given.real()) value = static_cast<std::int64_t>(*given.real());
            if (!chosen(std::to_string(value))) return {Found::wrong_value, given};
            return {given.integer() != nullptr ? Found::exact : Found::converted, Json(value)};
        }
        case Type::list: {
            if (given.list() == nullptr) return {Found::wrong_type, given};
            Found all;
            List made;
            for (const Json& item : *given.list()) {
                Found found = match(type.inner[0], item);
                if (found.state == Found::wrong_type || found.state == Found::wrong_value) return found;
                if (found.state == Found::converted) all.state = Found::converted;
                made.push_back(std::move(found.value));
            }
            const auto size = static_cast<std::int64_t>(made.size());
            if (size < type.low || size > type.high) return {Found::wrong_value, given};
            all.value = Json(std::move(made));
            return all;
        }
    }
    return {Found::wrong_type, given};
}

Params ParamTypes::check(const Node& node, const std::string& where) const {
    const auto fail = [&](const char* code, const std::string& name, const std::string& what) {
        refuse(code, "node `" + node.name + "` (" + node.op + "): `" + name.substr(0, 80) + "` " + what, where + ".params." + name.substr(0, 80));
    };
    Params made;
    std::string converted;
    for (const Field& field : fields_) {
        const Json* raw = find(node.params, field.name);
        if (raw == nullptr && field.required) fail("PARAM_MISSING", field.name, "is missing");
        Json given = raw == nullptr ? field.standard : meant(*raw);
        bool lone = false;  // a value for all axes: its type is looked at no further
        if (field.axes > 0 && given.text() == nullptr) {
            lone = given.list() == nullptr;
            List items = lone ? List{given} : *given.list();
            if (items.size() == 1) items.resize(static_cast<std::size_t>(field.axes), items[0]);
            given = Json(std::move(items));
        }
        Found found = match(field.type, given);
        if (found.state == Found::wrong_type) fail("PARAM_TYPE", field.name, "has the wrong type");
        if (found.state == Found::wrong_value) fail("PARAM_RANGE", field.name, "is out of bounds");
        if (found.state == Found::converted && !lone && converted.empty()) converted = field.name;
        made.symbolic_ = made.symbolic_ || has_ref(found.value);
        made.values.push_back({field.name, std::move(found.value)});
    }
    for (const Member& one : node.params) {
        const bool known = std::any_of(fields_.begin(), fields_.end(), [&](const Field& field) { return field.name == one.key; });
        if (!known) fail("PARAM_UNKNOWN", one.key, "is no parameter of it");
    }
    for (std::size_t i = 0; i < fields_.size(); ++i) {
        const List* items = made.values[i].value.list();
        if (fields_[i].axes > 0 && items != nullptr && items->size() != static_cast<std::size_t>(fields_[i].axes)) {
            fail("PARAM_RANGE", fields_[i].name, "needs one value for each spatial axis");
        }
    }
    if (!converted.empty()) fail("PARAM_TYPE", converted, "has the wrong type");
    return made;
}

}  // namespace vn
