#include "dtype.h"

#include <cmath>

namespace vn {

namespace {

struct About {
    DType dtype;
    const char* name;
    const char* torch;
    std::int64_t size;
};

constexpr About kTypes[] = {
    {DType::f32, "f32", "float32", 4}, {DType::f16, "f16", "float16", 2}, {DType::bf16, "bf16", "bfloat16", 2},
    {DType::f64, "f64", "float64", 8}, {DType::i8, "i8", "int8", 1},      {DType::u8, "u8", "uint8", 1},
    {DType::i16, "i16", "int16", 2},   {DType::i32, "i32", "int32", 4},   {DType::i64, "i64", "int64", 8},
    {DType::boolean, "bool", "bool", 1},
};
constexpr struct { const char* alias; DType dtype; } kAliases[] = {
    {"float", DType::f32}, {"half", DType::f16}, {"double", DType::f64}, {"short", DType::i16}, {"int", DType::i32}, {"long", DType::i64},
};

const About& about(DType dtype) { return kTypes[static_cast<int>(dtype)]; }

}  // namespace

std::optional<DType> dtype_named(std::string_view name) {
    for (const About& one : kTypes) {
        if (name == one.name) return one.dtype;
    }
    return std::nullopt;
}

std::optional<DType> dtype_of_torch(std::string_view name) {
    for (const About& one : kTypes) {
        if (name == one.torch) return one.dtype;
    }
    for (const auto& one : kAliases) {
        if (name == one.alias) return one.dtype;
    }
    return std::nullopt;
}

const char* dtype_name(DType dtype) { return about(dtype).name; }
std::int64_t item_size(DType dtype) { return about(dtype).size; }

DType promote(DType a, DType b) {
    if (a == b || b == DType::boolean) return a;
    if (a == DType::boolean) return b;
    const bool floats_a = is_floating(a), floats_b = is_floating(b);
    if (floats_a != floats_b) return floats_a ? a : b;
    if (floats_a) {
        if (a == DType::f64 || b == DType::f64) return DType::f64;
        return DType::f32;  // f32 with anything smaller, and f16 with bf16
    }
    if (a == DType::u8 || b == DType::u8) {
        const DType other = a == DType::u8 ? b : a;
        return other == DType::i8 ? DType::i16 : other;
    }
    return item_size(a) > item_size(b) ? a : b;
}

float half_to_float(std::uint16_t bits) {
    const std::uint32_t sign = std::uint32_t(bits & 0x8000) << 16, exponent = bits >> 10 & 0x1F, fraction = bits & 0x3FF;
    std::uint32_t wide;
    if (exponent == 0x1F) {
        wide = sign | 0x7F800000u | fraction << 13;
    } else if (exponent != 0) {
        wide = sign | (exponent + 112) << 23 | fraction << 13;
    } else {
        const float small = std::ldexp(static_cast<float>(fraction), -24);
        return sign != 0 ? -small : small;
    }
    float value;
    std::memcpy(&value, &wide, sizeof value);
    return value;
}

std::uint16_t float_to_half(float value) {
    std::uint32_t wide;
    std::memcpy(&wide, &value, sizeof wide);
    const auto sign = static_cast<std::uint16_t>(wide >> 16 & 0x8000);
    const float size = std::fabs(value);
    if (std::isnan(value)) return sign | 0x7E00;
    if (size >= 65520.0f) return sign | 0x7C00;
    int exponent = 0;
    if (size > 0.0f) std::frexp(size, &exponent);
    const int step = (exponent < -13 ? -13 : exponent) - 11;  // the last place of the result is 2^step
    const auto units = static_cast<std::uint32_t>(std::nearbyint(std::ldexp(size, -step)));
    // A carry out of the fraction moves into the exponent by itself.
    return static_cast<std::uint16_t>(sign | (units < 0x400 ? units : ((step + 24) << 10) + units));
}

std::uint16_t float_to_bfloat(float value) {
    std::uint32_t wide;
    std::memcpy(&wide, &value, sizeof wide);
    if (std::isnan(value)) return 0x7FC0;
    return static_cast<std::uint16_t>((wide + 0x7FFF + (wide >> 16 & 1)) >> 16);
}

}  // namespace vn
