#include "json.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstring>
#include <locale>
#include <sstream>
#include <unordered_set>

#include "error.h"
#include "utf8.h"

namespace vn {

namespace {

bool is_digit(char one) { return one >= '0' && one <= '9'; }
bool is_space(char one) { return one == ' ' || one == '\t' || one == '\r' || one == '\n'; }

class Parser {
public:
    explicit Parser(std::string_view text) : text_(text) {}

    Json document() {
        Json parsed = value();
        skip_space();
        if (at_ != text_.size()) syntax("something follows the object");
        return parsed;
    }

private:
    [[noreturn]] void syntax(const char* what) const {
        refuse("JSON_SYNTAX", std::string(what) + " at byte " + std::to_string(at_), "graph");
    }
    char peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }
    void skip_space() {
        while (at_ < text_.size() && is_space(text_[at_])) ++at_;
    }
    bool takes(std::string_view word) {
        if (text_.substr(at_, word.size()) != word) return false;
        at_ += word.size();
        return true;
    }

    Json value() {
        skip_space();
        switch (peek()) {
            case '{': return object();
            case '[': return list();
            case '"': return string();
            default: break;
        }
        if (takes("true")) return Json(true);
        if (takes("false")) return Json(false);
        if (takes("null")) return Json();
        for (const char* word : {"NaN", "Infinity", "-Infinity"}) {
            if (takes(word)) refuse("NUMBER_NONFINITE", std::string(word) + " is no JSON", "graph");
        }
        return number();
    }

    Json object() {
        Object members;
        ++at_;
        skip_space();
        if (peek() != '}') {
            for (;;) {
                if (peek() != '"') syntax("expected a key");
                std::string key = string();
                skip_space();
                if (peek() != ':') syntax("expected a colon");
                ++at_;
                members.push_back({std::move(key), value()});
                skip_space();
                if (peek() == '}') break;
                if (peek() != ',') syntax("expected a comma or the end of an object");
                ++at_;
                skip_space();
            }
        }
        ++at_;
        check_keys(members);
        return Json(std::move(members));
    }

    static void check_keys(const Object& members) {
        std::unordered_set<std::string_view> seen;
        seen.reserve(members.size());
        for (const Member& one : members) {
            if (!seen.insert(one.key).second) refuse("JSON_DUP_KEY", "the key " + quoted(one.key) + " occurs twice in one object", "graph");
        }
    }

    Json list() {
        List items;
        ++at_;
        skip_space();
        if (peek() != ']') {
            for (;;) {
                items.push_back(value());
                skip_space();
                if (peek() == ']') break;
                if (peek() != ',') syntax("expected a comma or the end of a list");
                ++at_;
            }
        }
        ++at_;
        return Json(std::move(items));
    }

    std::string string() {
        std::string made;
        ++at_;
        for (;;) {
            if (at_ >= text_.size()) syntax("a text without end");
            const char one = text_[at_];
            if (static_cast<unsigned char>(one) < 0x20) syntax("a control character in a text");
            ++at_;
            if (one == '"') return made;
            if (one == '\\') {
                escape(made);
            } else {
                made.push_back(one);
            }
        }
    }

    void escape(std::string& made) {
        static constexpr char names[] = "\"\\/bfnrt", values[] = "\"\\/\b\f\n\r\t";
        const char one = peek();
        if (one == 'u') {
            ++at_;
            std::uint32_t code = hex4();
            if (code >= 0xD800 && code <= 0xDBFF && text_.substr(at_, 2) == "\\u") {
                const std::size_t before = at_;
                at_ += 2;
                const std::uint32_t low = hex4();
                if (low >= 0xDC00 && low <= 0xDFFF) {
                    code = 0x10000 + ((code & 0x3FF) << 10) + (low & 0x3FF);
                } else {
                    at_ = before;
                }
            }
            append_utf8(made, code);
            return;
        }
        const char* found = one == '\0' ? nullptr : std::strchr(names, one);
        if (found == nullptr) syntax("an unknown escape");
        made.push_back(values[found - names]);
        ++at_;
    }

    std::uint32_t hex4() {
        std::uint32_t code = 0;
        for (int i = 0; i < 4; ++i, ++at_) {
            const char one = peek();
            const int digit = is_digit(one) ? one - '0' : one >= 'a' && one <= 'f' ? one - 'a' + 10 : one >= 'A' && one <= 'F' ? one - 'A' + 10 : -1;
            if (digit < 0) syntax("expected four hexadecimal digits");
            code = code << 4 | static_cast<std::uint32_t>(digit);
        }
        return code;
    }

    std::size_t digits(std::size_t from) const {
        while (from < text_.size() && is_digit(text_[from])) ++from;
        return from;
    }

    Json number() {
        const std::size_t start = at_, first = start + (peek() == '-');
        std::size_t end = first < text_.size() && text_[first] == '0' ? first + 1 : digits(first);
        if (end == first) syntax("expected a value");
        const std::size_t whole = end;
        if (end < text_.size() && text_[end] == '.' && digits(end + 1) > end + 1) end = digits(end + 1);
        if (end < text_.size() && (text_[end] == 'e' || text_[end] == 'E')) {
            const std::size_t sign = end + 1 + (end + 1 < text_.size() && (text_[end + 1] == '+' || text_[end + 1] == '-'));
            if (digits(sign) > sign) end = digits(sign);
        }
        const std::string_view text = text_.substr(start, end - start);
        at_ = end;
        if (end == whole) {
            std::int64_t made = 0;
            const auto [stop, problem] = std::from_chars(text.data(), text.data() + text.size(), made);
            if (problem != std::errc() || stop != text.data() + text.size()) {
                refuse("INT_RANGE", "the integer " + std::string(text.substr(0, 24)) + " does not fit 64 bits", "graph");
            }
            return Json(made);
        }
        double made = 0.0;
        if (!parse_real(text, made)) refuse("NUMBER_NONFINITE", "the number " + std::string(text.substr(0, 24)) + " is too large", "graph");
        return Json(made);
    }

    std::string_view text_;
    std::size_t at_ = 0;
};

// The end of the JSON string that starts at `at`; one without end takes the rest.
std::size_t string_end(std::string_view data, std::size_t at) {
    for (++at; at < data.size(); ++at) {
        if (data[at] == '"') return at + 1;
        if (data[at] == '\\') {
            if (at + 1 == data.size()) return at;
            ++at;
        }
    }
    return data.size();
}

void check_size(std::string_view data, const Limits& limits) {
    int depth = 0;
    for (std::size_t at = 0; at < data.size();) {
        if (data[at] == '"') {
            at = string_end(data, at);
            continue;
        }
        if (data[at] == '[' || data[at] == '{') {
            if (++depth > limits.json_depth) refuse("JSON_DEPTH", "it is nested deeper than " + std::to_string(limits.json_depth), "graph");
        } else if (data[at] == ']' || data[at] == '}') {
            --depth;
        }
        ++at;
    }
    const auto items = std::count_if(data.begin(), data.end(), [](char one) { return one == ',' || one == '[' || one == '{'; });
    if (static_cast<std::uint64_t>(items) > limits.json_items) {
        refuse("JSON_TOO_MANY", "more than " + std::to_string(limits.json_items) + " items", "graph");
    }
}

void check_texts(const Json& one) {
    const auto check = [](const std::string& text) {
        if (has_surrogate(text)) refuse("BAD_CHAR", "a text has a lone surrogate", "graph");
    };
    if (const std::string* text = one.text()) check(*text);
    if (const List* items = one.list()) std::for_each(items->begin(), items->end(), check_texts);
    if (const Object* members = one.object()) {
        for (const Member& member : *members) {
            check(member.key);
            check_texts(member.value);
        }
    }
}

}  // namespace

bool Json::same_text(const Json& other) const {
    if (value.index() != other.value.index()) return false;
    if (const double* mine = real()) {
        std::uint64_t a = 0, b = 0;
        std::memcpy(&a, mine, sizeof a);
        std::memcpy(&b, other.real(), sizeof b);
        return a == b;
    }
    if (const List* mine = list()) {
        const List& theirs = *other.list();
        return std::equal(mine->begin(), mine->end(), theirs.begin(), theirs.end(), [](const Json& a, const Json& b) { return a.same_text(b); });
    }
    if (const Object* mine = object()) {
        const Object& theirs = *other.object();
        return std::equal(mine->begin(), mine->end(), theirs.begin(), theirs.end(),
                          [](const Member& a, const Member& b) { return a.key == b.key && a.value.same_text(b.value); });
    }
    if (const std::string* mine = text()) return *mine == *other.text();
    if (const bool* mine = boolean()) return *mine == *other.boolean();
    if (const std::int64_t* mine = integer()) return *mine == *other.integer();
    if (const Ref* mine = ref()) return *mine == *other.ref();
    return true;
}

const Json* find(const Object& object, std::string_view key) {
    for (const Member& one : object) {
        if (one.key == key) return &one.value;
    }
    return nullptr;
}

std::string quoted(std::string_view text) {
    std::string made = "'";
    for (const char one : text.substr(0, 60)) made.push_back(static_cast<unsigned char>(one) < 0x20 ? '?' : one);
    return made + (text.size() > 60 ? "...'" : "'");
}

std::string show(const Json& value) {
    if (const bool* one = value.boolean()) return *one ? "true" : "false";
    if (const std::int64_t* one = value.integer()) return std::to_string(*one);
    if (const double* one = value.real()) return std::to_string(*one);
    if (const std::string* one = value.text()) return quoted(*one);
    if (const List* one = value.list()) return "a list of " + std::to_string(one->size());
    if (const Object* one = value.object()) return "an object of " + std::to_string(one->size());
    if (const Ref* one = value.ref()) return "the value " + quoted(one->name);
    return "null";
}

bool parse_real(std::string_view text, double& value) {
#if defined(__cpp_lib_to_chars)
    if (std::from_chars(text.data(), text.data() + text.size(), value).ec == std::errc()) return true;
#endif
    // Not every <charconv> has doubles, those that do say the same of too large and too small, and strtod follows the locale.
    std::istringstream stream{std::string(text)};
    stream.imbue(std::locale::classic());
    stream >> value;
    // What is too small becomes 0 (or the nearest denormal) and may set the same flag as what is too large.
    return std::isfinite(value) && !(stream.fail() && std::fabs(value) > 1.0);
}

Json parse_json(std::string_view data, const Limits& limits) {
    if (const std::size_t bad = first_bad_utf8(data); bad != std::string_view::npos) {
        refuse("BAD_UTF8", "byte " + std::to_string(bad) + " is not UTF-8", "graph");
    }
    std::size_t start = 0;
    while (start < data.size() && is_space(data[start])) ++start;
    if (start == data.size() || data[start] != '{') refuse("JSON_START", "it does not start with an object", "graph");
    check_size(data, limits);
    Json parsed = Parser(data).document();
    check_texts(parsed);
    return parsed;
}

}  // namespace vn
