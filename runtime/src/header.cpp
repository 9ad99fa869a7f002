#include "header.h"

#include <algorithm>
#include <cstring>
#include <string>

#include "crc32.h"
#include "error.h"

namespace vn {

namespace {

constexpr std::uint32_t kMustKnowFlags = 0xFFFF;  // none is defined yet

[[noreturn]] void refuse_magic(const unsigned char* data, std::uint64_t size) {
    if (size < 8 && (size == 0 || std::memcmp(data, kMagic, size) == 0)) {
        refuse("TRUNCATED_HEADER", "the file has " + std::to_string(size) + " bytes, a header has 64", "byte 0");
    }
    if (size >= 4 && std::memcmp(data + 1, kMagic + 1, 3) == 0 && (data[0] == 0x89 || data[0] == 0x09)) {
        refuse("BAD_MAGIC_TEXTMODE", "the file was transferred as text: its line ends or high bits were changed", "byte 0");
    }
    refuse("BAD_MAGIC", "not a .vnmodel", "byte 0");
}

}  // namespace

std::uint32_t header_crc(const unsigned char* header) { return crc32(header + 56, 8, crc32(header, 52)); }

Header read_header(const unsigned char* data, std::uint64_t size, const Limits& limits) {
    if (size < 8 || std::memcmp(data, kMagic, 8) != 0) refuse_magic(data, size);
    if (size < kHeaderBytes) refuse("TRUNCATED_HEADER", "the file has " + std::to_string(size) + " bytes, a header has 64", "byte 0");
    const unsigned major = little_endian<std::uint16_t>(data + 8);
    Header header;
    header.minor = little_endian<std::uint16_t>(data + 10);
    header.graph_bytes = little_endian<std::uint64_t>(data + 16);
    header.data_offset = little_endian<std::uint64_t>(data + 24);
    header.data_bytes = little_endian<std::uint64_t>(data + 32);
    header.graph_crc = little_endian<std::uint32_t>(data + 48);
    const auto file_bytes = little_endian<std::uint64_t>(data + 40);
    if (major != kMajor) {
        refuse("VERSION_UNSUPPORTED", "format version " + std::to_string(major) + ", this reader knows 1.x", "byte 8");
    }
    if (little_endian<std::uint32_t>(data + 52) != header_crc(data)) refuse("HEADER_CRC", "the header is damaged", "byte 52");
    if (little_endian<std::uint32_t>(data + 12) & kMustKnowFlags) refuse("FLAG_UNKNOWN", "a flag must be understood and is not", "byte 12");
    if (std::any_of(data + 56, data + 64, [](unsigned char one) { return one != 0; })) {
        refuse("RESERVED_NONZERO", "the reserved bytes are not zero", "byte 56");
    }
    if (size != file_bytes) {
        refuse(size < file_bytes ? "TRUNCATED" : "TRAILING_BYTES",
               "the file has " + std::to_string(size) + " bytes, its header says " + std::to_string(file_bytes), "byte 40");
    }
    if (header.graph_bytes > limits.graph_bytes) {
        refuse("GRAPH_TOO_BIG", "a graph of " + std::to_string(header.graph_bytes) + " bytes", "byte 16");
    }
    if (header.graph_bytes > size - kHeaderBytes) refuse("GRAPH_RANGE", "the graph does not end inside the file", "byte 16");
    const std::uint64_t graph_end = kHeaderBytes + header.graph_bytes;
    if (header.data_offset % kAlignment != 0) {
        refuse("DATA_MISALIGNED", "the data starts at byte " + std::to_string(header.data_offset), "byte 24");
    }
    if (header.data_offset < graph_end || header.data_offset >= graph_end + kMaxGap || header.data_offset > size ||
        header.data_bytes != size - header.data_offset) {
        refuse("DATA_RANGE", "the data does not lie between the graph and the end of the file", "byte 24");
    }
    return header;
}

}  // namespace vn
