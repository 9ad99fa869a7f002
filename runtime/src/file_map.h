// The bytes of a model: a mapped file, or a copy in memory.
#pragma once

#include <cstddef>
#include <memory>
#include <string>

namespace vn {

// Read-only bytes that start at a multiple of 64. Shared by the model and by tensors that look into it.
class Bytes {
public:
    virtual ~Bytes() = default;
    const unsigned char* data() const { return data_; }
    std::size_t size() const { return size_; }

protected:
    const unsigned char* data_ = nullptr;
    std::size_t size_ = 0;
};

// A file, mapped where the platform has that and read elsewhere. Throws Error FILE.
std::shared_ptr<const Bytes> open_file(const std::string& path);

// A copy.
std::shared_ptr<const Bytes> copy_bytes(const void* data, std::size_t size);

}  // namespace vn
