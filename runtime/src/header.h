// The 64 bytes at the front of a `.vnmodel`. Little-endian; docs/vnmodel.md has the table.
#pragma once

#include <cstddef>
#include <cstdint>

#include "limits.h"

namespace vn {

constexpr std::uint64_t kHeaderBytes = 64, kAlignment = 64, kMaxGap = 4096;
constexpr unsigned char kMagic[8] = {0x89, 'V', 'N', 'M', '\r', '\n', 0x1A, '\n'};
constexpr unsigned kMajor = 1, kMinor = 0;

struct Header {
    unsigned minor = 0;
    std::uint64_t graph_bytes = 0, data_offset = 0, data_bytes = 0;
    std::uint32_t graph_crc = 0;
};

std::uint32_t header_crc(const unsigned char* header);

// Checks everything that the first bytes say against the real size of the file. Throws Error with the codes of the container.
Header read_header(const unsigned char* data, std::uint64_t size, const Limits& limits);

inline std::uint64_t round_up(std::uint64_t value, std::uint64_t multiple) { return (value + multiple - 1) / multiple * multiple; }

template <class T>
T little_endian(const unsigned char* bytes) {
    T value = 0;
    for (std::size_t i = 0; i < sizeof(T); ++i) value = static_cast<T>(value | static_cast<T>(bytes[i]) << 8 * i);
    return value;
}

}  // namespace vn
