// Padding, for `vn.pad` and for convolutions that do not pad with zeros.
#pragma once

#include <string>
#include <vector>

#include "op.h"

namespace vn {

// `amounts`: (before, after) per axis, the last axis first; negative ones crop. `mode`: constant, reflect, replicate, circular.
Tensor padded(const Tensor& given, const std::vector<std::int64_t>& amounts, const std::string& mode, const Json& value, bool real);

}  // namespace vn
