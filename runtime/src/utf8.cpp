#include "utf8.h"

namespace vn {

namespace {
unsigned byte_at(std::string_view text, std::size_t at) {
    return at < text.size() ? static_cast<unsigned char>(text[at]) : 0;
}
bool continues(unsigned byte, unsigned low = 0x80, unsigned high = 0xBF) { return byte >= low && byte <= high; }
}  // namespace

std::size_t first_bad_utf8(std::string_view text) {
    for (std::size_t at = 0; at < text.size();) {
        const unsigned lead = byte_at(text, at), second = byte_at(text, at + 1);
        std::size_t length = 1;
        bool good = true;
        if (lead >= 0x80) {
            if (lead >= 0xC2 && lead <= 0xDF) {
                length = 2;
                good = continues(second);
            } else if (lead >= 0xE0 && lead <= 0xEF) {
                length = 3;
                good = continues(second, lead == 0xE0 ? 0xA0 : 0x80, lead == 0xED ? 0x9F : 0xBF) && continues(byte_at(text, at + 2));
            } else if (lead >= 0xF0 && lead <= 0xF4) {
                length = 4;
                good = continues(second, lead == 0xF0 ? 0x90 : 0x80, lead == 0xF4 ? 0x8F : 0xBF) &&
                       continues(byte_at(text, at + 2)) && continues(byte_at(text, at + 3));
            } else {
                good = false;
            }
        }
        if (!good || at + length > text.size()) return at;
        at += length;
    }
    return std::string_view::npos;
}

std::size_t characters(std::string_view text) {
    std::size_t count = 0;
    for (const char one : text) count += (static_cast<unsigned char>(one) & 0xC0) != 0x80;
    return count;
}

void append_utf8(std::string& text, std::uint32_t code) {
    const auto add = [&text](std::uint32_t byte) { text.push_back(static_cast<char>(byte)); };
    if (code < 0x80) {
        add(code);
    } else if (code < 0x800) {
        add(0xC0 | code >> 6);
        add(0x80 | (code & 0x3F));
    } else if (code < 0x10000) {
        add(0xE0 | code >> 12);
        add(0x80 | (code >> 6 & 0x3F));
        add(0x80 | (code & 0x3F));
    } else {
        add(0xF0 | code >> 18);
        add(0x80 | (code >> 12 & 0x3F));
        add(0x80 | (code >> 6 & 0x3F));
        add(0x80 | (code & 0x3F));
    }
}

bool has_surrogate(std::string_view text) {
    for (std::size_t at = 0; at + 1 < text.size(); ++at) {
        if (byte_at(text, at) == 0xED && byte_at(text, at + 1) >= 0xA0) return true;
    }
    return false;
}

}  // namespace vn
