// UTF-8 as Python reads it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace vn {

// The place of the first byte that is not UTF-8, or `npos`. Overlong forms, surrogates and what is above U+10FFFF are not.
std::size_t first_bad_utf8(std::string_view text);

// The number of characters of valid text (a surrogate counts as one).
std::size_t characters(std::string_view text);

// Appends a code point; a surrogate becomes the three bytes that it would have, which `has_surrogate` finds.
void append_utf8(std::string& text, std::uint32_t code);
bool has_surrogate(std::string_view text);

}  // namespace vn
