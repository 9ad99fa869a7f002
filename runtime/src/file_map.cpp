#include "file_map.h"

#include <cstdint>
#include <cstring>
#include <vector>

#include "error.h"

#if defined(_WIN32)
#ifndef NOMINMAX
#define NOMINMAX
#endif
#include <windows.h>
#elif defined(__unix__) || defined(__APPLE__)
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#else
#include <cstdio>
#endif

namespace vn {

namespace {

class Copied final : public Bytes {
public:
    explicit Copied(std::size_t size) : room_(size + 63) {
        const auto address = reinterpret_cast<std::uintptr_t>(room_.data());
        start_ = room_.data() + (64 - address % 64) % 64;
        data_ = start_;
        size_ = size;
    }
    unsigned char* start() { return start_; }

private:
    std::vector<unsigned char> room_;
    unsigned char* start_ = nullptr;
};

#if defined(_WIN32)

std::wstring wide(const std::string& path) {
    const int size = MultiByteToWideChar(CP_UTF8, 0, path.c_str(), -1, nullptr, 0);
    std::wstring made(size > 0 ? size - 1 : 0, L'\0');
    if (size > 1) MultiByteToWideChar(CP_UTF8, 0, path.c_str(), -1, made.data(), size);
    return made;
}

class Mapped final : public Bytes {
public:
    explicit Mapped(const std::string& path) {
        file_ = CreateFileW(wide(path).c_str(), GENERIC_READ, FILE_SHARE_READ, nullptr, OPEN_EXISTING, FILE_ATTRIBUTE_NORMAL, nullptr);
        if (file_ == INVALID_HANDLE_VALUE) refuse("FILE", path + " cannot be opened");
        LARGE_INTEGER size;
        if (GetFileType(file_) != FILE_TYPE_DISK || !GetFileSizeEx(file_, &size)) {
            close();
            refuse("FILE", path + " is no regular file");
        }
        size_ = static_cast<std::size_t>(size.QuadPart);
        if (size_ == 0) return;
        mapping_ = CreateFileMappingW(file_, nullptr, PAGE_READONLY, 0, 0, nullptr);
        if (mapping_ != nullptr) data_ = static_cast<const unsigned char*>(MapViewOfFile(mapping_, FILE_MAP_READ, 0, 0, 0));
        if (data_ == nullptr) {
            close();
            refuse("FILE", path + " cannot be mapped");
        }
    }
    ~Mapped() override { close(); }
    Mapped(const Mapped&) = delete;
    Mapped& operator=(const Mapped&) = delete;

private:
    void close() {
        if (data_ != nullptr) UnmapViewOfFile(data_);
        if (mapping_ != nullptr) CloseHandle(mapping_);
        if (file_ != INVALID_HANDLE_VALUE) CloseHandle(file_);
    }
    HANDLE file_ = INVALID_HANDLE_VALUE, mapping_ = nullptr;
};

#elif defined(__unix__) || defined(__APPLE__)

class Mapped final : public Bytes {
public:
    explicit Mapped(const std::string& path) {
        // A pipe must not block the opening.
        const int file = ::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
        if (file < 0) refuse("FILE", path + " cannot be opened: " + std::strerror(errno));
        struct stat about {};
        const bool regular = ::fstat(file, &about) == 0 && S_ISREG(about.st_mode);
        void* mapped = nullptr;
        if (regular && about.st_size > 0) {
            size_ = static_cast<std::size_t>(about.st_size);
            mapped = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, file, 0);
        }
        ::close(file);
        if (!regular) refuse("FILE", path + " is no regular file");
        if (mapped == MAP_FAILED) refuse("FILE", path + " cannot be mapped: " + std::strerror(errno));
        data_ = static_cast<const unsigned char*>(mapped);
    }
    ~Mapped() override {
        if (data_ != nullptr) ::munmap(const_cast<unsigned char*>(data_), size_);
    }
    Mapped(const Mapped&) = delete;
    Mapped& operator=(const Mapped&) = delete;
};

#endif

}  // namespace

std::shared_ptr<const Bytes> copy_bytes(const void* data, std::size_t size) {
    auto copied = std::make_shared<Copied>(size);
    if (size > 0) std::memcpy(copied->start(), data, size);
    return copied;
}

std::shared_ptr<const Bytes> open_file(const std::string& path) {
#if defined(_WIN32) || defined(__unix__) || defined(__APPLE__)
    return std::make_shared<Mapped>(path);
#else
    std::FILE* file = std::fopen(path.c_str(), "rb");
    if (file == nullptr) refuse("FILE", path + " cannot be opened");
    std::vector<unsigned char> all, block(1 << 20);
    for (std::size_t got; (got = std::fread(block.data(), 1, block.size(), file)) > 0;) all.insert(all.end(), block.begin(), block.begin() + got);
    const bool failed = std::ferror(file) != 0;
    std::fclose(file);
    if (failed) refuse("FILE", path + " cannot be read");
    return copy_bytes(all.data(), all.size());
#endif
}

}  // namespace vn
