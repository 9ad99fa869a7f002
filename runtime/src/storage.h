// Tensors that are smaller in the file than in memory (the key `quant` of a placement).
#pragma once

#include "tensor.h"

namespace vn {

// Bytes in the file of a float32 tensor of this shape, whose own size in bytes fits 63 bits.
std::int64_t storage_bytes(const Storage& storage, const Shape& shape);

// What int8 storage has behind its values. Throws Error PADDING_NONZERO, QUANT_SCALE.
void check_scales(const Storage& storage, const Shape& shape, const unsigned char* data, const std::string& name, const std::string& where);

// The float32 tensor that the network sees.
Tensor decode(const Storage& storage, const Shape& shape, const unsigned char* data);

}  // namespace vn
