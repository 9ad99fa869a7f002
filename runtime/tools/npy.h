// NumPy's `.npy` files (format 1.0 to 3.0): tensors in and out of the command-line tool.
#pragma once

#include <string>
#include <vector>

#include "vn.h"

struct Array {
    vn_dtype dtype = VN_F32;
    std::vector<int64_t> shape;
    std::vector<char> data;
};

// Both throw std::runtime_error with what is wrong. Only C order and little-endian types that the format has.
Array read_npy(const std::string& path);
void write_npy(const std::string& path, const vn_tensor& tensor);

size_t item_size(vn_dtype dtype);
const char* dtype_name(vn_dtype dtype);
