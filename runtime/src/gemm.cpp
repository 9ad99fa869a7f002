// Blocks of a and b are copied so that a small kernel reads both in order, and keeps a tile of c in registers
// (K. Goto and R. van de Geijn, Anatomy of High-Performance Matrix Multiplication, TOMS 2008).
#include "gemm.h"

#include <algorithm>
#include <cstring>
#include <vector>

namespace vn {

namespace {

// One binary, the vectors of the processor that it runs on.
#if defined(__GNUC__) && !defined(__clang__) && defined(__x86_64__) && defined(__linux__) && !defined(VN_SANITIZED)
#define VN_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define VN_CLONES
#endif

constexpr std::int64_t kDepth = 256, kRows = 4, kRowBlock = 64;
template <class T>
constexpr std::int64_t kColumns = 64 / sizeof(T);
constexpr std::int64_t kColumnBlock = 512;

// tile (kRows, columns) = sum over k of a[k][row] * b[k][column]
#if defined(__GNUC__)
#define VN_TILE(T, lanes)                                                                        \
    typedef T Vector_##T __attribute__((vector_size(64)));                                       \
    VN_CLONES void tile(std::int64_t depth, const T* a, const T* b, T* c) {                      \
        Vector_##T sum0{}, sum1{}, sum2{}, sum3{}, one;                                          \
        for (std::int64_t k = 0; k < depth; ++k, a += kRows, b += (lanes)) {                     \
            std::memcpy(&one, b, sizeof one);                                                    \
            sum0 += a[0] * one;                                                                  \
            sum1 += a[1] * one;                                                                  \
            sum2 += a[2] * one;                                                                  \
            sum3 += a[3] * one;                                                                  \
        }                                                                                        \
        std::memcpy(c, &sum0, sizeof one);                                                       \
        std::memcpy(c + (lanes), &sum1, sizeof one);                                             \
        std::memcpy(c + 2 * (lanes), &sum2, sizeof one);                                         \
        std::memcpy(c + 3 * (lanes), &sum3, sizeof one);                                         \
    }
#else
#define VN_TILE(T, lanes)                                                                        \
    void tile(std::int64_t depth, const T* a, const T* b, T* c) {                                \
        T sum[kRows * (lanes)] = {};                                                             \
        for (std::int64_t k = 0; k < depth; ++k, a += kRows, b += (lanes)) {                     \
            for (std::int64_t i = 0; i < kRows; ++i) {                                           \
                for (std::int64_t j = 0; j < (lanes); ++j) sum[i * (lanes) + j] += a[i] * b[j];  \
            }                                                                                    \
        }                                                                                        \
        std::copy_n(sum, kRows * (lanes), c);                                                    \
    }
#endif
VN_TILE(float, 16)
VN_TILE(double, 8)

// The block of a matrix in strips of `width` along the axis that is not summed, each strip k by k; zeros fill the last one.
template <class T>
void pack(const T* from, std::int64_t across, std::int64_t along, std::int64_t count, std::int64_t depth, std::int64_t width, T* to) {
    for (std::int64_t start = 0; start < count; start += width) {
        const std::int64_t here = std::min(width, count - start);
        for (std::int64_t k = 0; k < depth; ++k, to += width) {
            const T* row = from + start * across + k * along;
            for (std::int64_t i = 0; i < here; ++i) to[i] = row[i * across];
            std::fill(to + here, to + width, T(0));
        }
    }
}

std::int64_t up(std::int64_t value, std::int64_t multiple) { return (value + multiple - 1) / multiple * multiple; }

template <class T>
void blocked(std::int64_t m, std::int64_t n, std::int64_t k, Matrix<T> a, Matrix<T> b, T* c, std::int64_t step, bool accumulate) {
    constexpr std::int64_t columns = kColumns<T>;
    if (k == 0 && !accumulate) {
        for (std::int64_t i = 0; i < m; ++i) std::fill_n(c + i * step, n, T(0));
    }
    const std::int64_t depth_block = std::min(k, kDepth), column_block = std::min(up(n, columns), kColumnBlock);
    std::vector<T> rows(static_cast<std::size_t>(up(std::min(m, kRowBlock), kRows) * depth_block));
    std::vector<T> cols(static_cast<std::size_t>(column_block * depth_block));
    T sums[kRows * columns];
    for (std::int64_t j0 = 0; j0 < n; j0 += column_block) {
        const std::int64_t width = std::min(column_block, n - j0);
        for (std::int64_t k0 = 0; k0 < k; k0 += kDepth) {
            const std::int64_t depth = std::min(kDepth, k - k0);
            pack(b.data + k0 * b.row + j0 * b.column, b.column, b.row, width, depth, columns, cols.data());
            const bool add = accumulate || k0 > 0;
            for (std::int64_t i0 = 0; i0 < m; i0 += kRowBlock) {
                const std::int64_t height = std::min(kRowBlock, m - i0);
                pack(a.data + i0 * a.row + k0 * a.column, a.row, a.column, height, depth, kRows, rows.data());
                for (std::int64_t j = 0; j < width; j += columns) {
                    for (std::int64_t i = 0; i < height; i += kRows) {
                        tile(depth, rows.data() + i * depth, cols.data() + j * depth, sums);
                        const std::int64_t bottom = std::min(kRows, height - i), right = std::min(columns, width - j);
                        for (std::int64_t y = 0; y < bottom; ++y) {
                            T* to = c + (i0 + i + y) * step + j0 + j;
                            const T* from = sums + y * columns;
                            for (std::int64_t x = 0; x < right; ++x) to[x] = add ? to[x] + from[x] : from[x];
                        }
                    }
                }
            }
        }
    }
}

}  // namespace

void gemm(std::int64_t m, std::int64_t n, std::int64_t k, Matrix<float> a, Matrix<float> b, float* c, std::int64_t step, bool accumulate) {
    blocked(m, n, k, a, b, c, step, accumulate);
}

void gemm(std::int64_t m, std::int64_t n, std::int64_t k, Matrix<double> a, Matrix<double> b, double* c, std::int64_t step, bool accumulate) {
    blocked(m, n, k, a, b, c, step, accumulate);
}

void gemm(std::int64_t m, std::int64_t n, std::int64_t k, Matrix<std::int64_t> a, Matrix<std::int64_t> b, std::int64_t* c, std::int64_t step,
          bool accumulate) {
    for (std::int64_t i = 0; i < m; ++i) {
        for (std::int64_t j = 0; j < n; ++j) {
            auto sum = static_cast<std::uint64_t>(accumulate ? c[i * step + j] : 0);  // wraps, as in torch
            for (std::int64_t p = 0; p < k; ++p) {
                sum += static_cast<std::uint64_t>(a.data[i * a.row + p * a.column]) * static_cast<std::uint64_t>(b.data[p * b.row + j * b.column]);
            }
            c[i * step + j] = static_cast<std::int64_t>(sum);
        }
    }
}

}  // namespace vn
