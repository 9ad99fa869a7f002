// The one error of the library. Its codes are those of the format (docs/vnmodel.md), and a few of running.
#pragma once

#include <exception>
#include <string>
#include <utility>

namespace vn {

class Error : public std::exception {
public:
    Error(std::string code, std::string message, std::string where = "")
        : code_(std::move(code)), message_(std::move(message)), where_(std::move(where)) {
        text_ = message_ + " [" + code_ + (where_.empty() ? "" : " at " + where_) + "]";
    }
    const char* what() const noexcept override { return text_.c_str(); }
    const std::string& code() const noexcept { return code_; }
    const std::string& message() const noexcept { return message_; }
    const std::string& where() const noexcept { return where_; }

private:
    std::string code_, message_, where_, text_;
};

[[noreturn]] inline void refuse(const char* code, std::string message, std::string where = "") {
    throw Error(code, std::move(message), std::move(where));
}

// What a kernel says to inputs that do not fit; the executor adds the node and the code SHAPE_RULE.
class ShapeError : public std::exception {
public:
    explicit ShapeError(std::string message) : message_(std::move(message)) {}
    const char* what() const noexcept override { return message_.c_str(); }

private:
    std::string message_;
};

inline void require(bool holds, const char* message) {
    if (!holds) throw ShapeError(message);
}

}  // namespace vn
