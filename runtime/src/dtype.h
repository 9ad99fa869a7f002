// Element types: names, sizes, conversions of 16-bit floats, and torch's rules of promotion.
#pragma once

#include <cstdint>
#include <cstring>
#include <optional>
#include <string_view>

namespace vn {

enum class DType { f32, f16, bf16, f64, i8, u8, i16, i32, i64, boolean };

std::optional<DType> dtype_named(std::string_view name);        // "f32", "bool"
std::optional<DType> dtype_of_torch(std::string_view name);     // "float32", "bool"
const char* dtype_name(DType dtype);
std::int64_t item_size(DType dtype);

inline bool is_floating(DType dtype) { return dtype == DType::f32 || dtype == DType::f16 || dtype == DType::bf16 || dtype == DType::f64; }
inline bool is_half(DType dtype) { return dtype == DType::f16 || dtype == DType::bf16; }

// The type in which torch computes with both (`torch.promote_types`).
DType promote(DType a, DType b);

float half_to_float(std::uint16_t bits);
std::uint16_t float_to_half(float value);
inline float bfloat_to_float(std::uint16_t bits) {
    const std::uint32_t wide = std::uint32_t(bits) << 16;
    float value;
    std::memcpy(&value, &wide, sizeof value);
    return value;
}
std::uint16_t float_to_bfloat(float value);

}  // namespace vn
