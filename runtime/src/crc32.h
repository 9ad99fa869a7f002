// zlib's crc32.
#pragma once

#include <cstddef>
#include <cstdint>

namespace vn {

// The checksum of `size` bytes, going on from that of the bytes before them.
std::uint32_t crc32(const unsigned char* data, std::size_t size, std::uint32_t before = 0);

}  // namespace vn
