// Arithmetic of sizes. Whatever does not fit 64 bits is an error of the network's shapes.
#pragma once

#include <cstdint>
#include <limits>

#include "error.h"

namespace vn {

inline std::int64_t add(std::int64_t a, std::int64_t b) {
    using Limits = std::numeric_limits<std::int64_t>;
    require(b >= 0 ? a <= Limits::max() - b : a >= Limits::min() - b, "an integer does not fit 64 bits");
    return a + b;
}

inline std::int64_t negate(std::int64_t a) {
    require(a != std::numeric_limits<std::int64_t>::min(), "an integer does not fit 64 bits");
    return -a;
}

inline std::int64_t subtract(std::int64_t a, std::int64_t b) {
    using Limits = std::numeric_limits<std::int64_t>;
    require(b >= 0 ? a >= Limits::min() + b : a <= Limits::max() + b, "an integer does not fit 64 bits");
    return a - b;
}

inline std::int64_t multiply(std::int64_t a, std::int64_t b) {
    using Limits = std::numeric_limits<std::int64_t>;
    const bool fits = a == 0 || b == 0 ||
                      (a > 0 ? (b > 0 ? a <= Limits::max() / b : b >= Limits::min() / a)
                             : (b > 0 ? a >= Limits::min() / b : b >= Limits::max() / a));
    require(fits, "an integer does not fit 64 bits");
    return a * b;
}

// Python's `//` and `%`.
inline std::int64_t floor_divide(std::int64_t a, std::int64_t b) {
    require(b != 0, "division by zero");
    if (b == -1) return negate(a);
    return a / b - (a % b != 0 && (a < 0) != (b < 0));
}

inline std::int64_t modulo(std::int64_t a, std::int64_t b) {
    require(b != 0, "division by zero");
    if (b == -1) return 0;
    const std::int64_t rest = a % b;
    return rest != 0 && (rest < 0) != (b < 0) ? rest + b : rest;
}

}  // namespace vn
