#include "storage.h"

#include <algorithm>
#include <cmath>

#include "error.h"
#include "header.h"

namespace vn {

namespace {

// The byte at which the scales of an int8 tensor start.
std::int64_t scales_at(const Shape& shape) { return static_cast<std::int64_t>(round_up(static_cast<std::uint64_t>(count_of(shape)), kAlignment)); }

float scale(const unsigned char* scales, std::int64_t index) {
    const auto bits = little_endian<std::uint32_t>(scales + 4 * index);
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

}  // namespace

std::int64_t storage_bytes(const Storage& storage, const Shape& shape) {
    if (storage.scheme == Storage::float16) return 2 * count_of(shape);
    return scales_at(shape) + 4 * shape[static_cast<std::size_t>(storage.axis)];
}

void check_scales(const Storage& storage, const Shape& shape, const unsigned char* data, const std::string& name, const std::string& where) {
    if (storage.scheme != Storage::int8) return;
    if (std::any_of(data + count_of(shape), data + scales_at(shape), [](unsigned char one) { return one != 0; })) {
        refuse("PADDING_NONZERO", "bytes before the scales of tensor `" + name + "` are not zero", where);
    }
    for (std::int64_t i = 0; i < shape[static_cast<std::size_t>(storage.axis)]; ++i) {
        const float one = scale(data + scales_at(shape), i);
        if (!std::isfinite(one) || one < 0.0f) refuse("QUANT_SCALE", "a scale of tensor `" + name + "` is negative or not finite", where);
    }
}

Tensor decode(const Storage& storage, const Shape& shape, const unsigned char* data) {
    Tensor made = make_tensor(DType::f32, shape, true);
    float* to = made.mutable_data<float>();
    const std::int64_t count = made.count();
    if (storage.scheme == Storage::float16) {
        for (std::int64_t i = 0; i < count; ++i) to[i] = half_to_float(little_endian<std::uint16_t>(data + 2 * i));
        return made;
    }
    std::int64_t inner = 1;
    const auto axis = static_cast<std::size_t>(storage.axis);
    for (std::size_t i = axis + 1; i < shape.size(); ++i) inner *= shape[i];
    const auto* values = reinterpret_cast<const signed char*>(data);
    for (std::int64_t i = 0; i < count; ++i) to[i] = static_cast<float>(values[i]) * scale(data + scales_at(shape), i / inner % shape[axis]);
    return made;
}

}  // namespace vn
