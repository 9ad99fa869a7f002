// Matrix products of tensors, for the ops that are made of them.
#pragma once

#include "op.h"

namespace vn {

// x (..., in) @ weight (out, in)^T + bias, computed in the tensors' type.
void linear(const Tensor& x, const Tensor& weight, const Tensor* bias, Tensor& out, const Workers& workers);

// The shape of torch.matmul(a, b).
Shape matmul_shape(const Tensor& a, const Tensor& b);
void matmul(const Tensor& a, const Tensor& b, Tensor& out, const Workers& workers);

}  // namespace vn
