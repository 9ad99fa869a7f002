// Products of matrices.
#pragma once

#include <cstdint>

namespace vn {

// How a matrix lies in memory: entry (i, j) at `data[i * row + j * column]`.
template <class T>
struct Matrix {
    const T* data;
    std::int64_t row, column;
};

// Parts of c that start at multiples of these cost least.
constexpr std::int64_t kGemmRows = 4, kGemmColumns = 16;

// c (m, n) = a (m, k) @ b (k, n), or added to what is there. The rows of c are `step` entries apart.
void gemm(std::int64_t m, std::int64_t n, std::int64_t k, Matrix<float> a, Matrix<float> b, float* c, std::int64_t step, bool accumulate);
void gemm(std::int64_t m, std::int64_t n, std::int64_t k, Matrix<double> a, Matrix<double> b, double* c, std::int64_t step, bool accumulate);
void gemm(std::int64_t m, std::int64_t n, std::int64_t k, Matrix<std::int64_t> a, Matrix<std::int64_t> b, std::int64_t* c, std::int64_t step,
          bool accumulate);

}  // namespace vn
