// What a reader is willing to look at. Every bound is checked before anything of that size is built.
#pragma once

#include <cstdint>

namespace vn {

struct Limits {
    std::uint64_t graph_bytes = 16u << 20;           // GRAPH_TOO_BIG
    int json_depth = 16;                             // JSON_DEPTH
    std::uint64_t json_items = 4'000'000;            // JSON_TOO_MANY: commas and opening brackets
    std::uint64_t nodes = 100'000;                   // TOO_MANY_NODES
    std::uint64_t tensors = 100'000;                 // TOO_MANY_TENSORS
    std::uint64_t metadata_bytes = 1u << 20;         // METADATA_TOO_BIG
    std::uint64_t activations = std::uint64_t(4) << 30;  // ACTIVATIONS_TOO_BIG: bytes alive at one time for one sample
};

}  // namespace vn
