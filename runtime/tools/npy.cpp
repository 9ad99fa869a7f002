#include "npy.h"

#include <cstdio>
#include <cstring>
#include <fstream>
#include <stdexcept>

namespace {

struct Type {
    vn_dtype dtype;
    const char* descr;  // numpy has no bfloat16: its bits are written as u2
    const char* name;
    size_t size;
};

constexpr Type kTypes[] = {
    {VN_F32, "<f4", "f32", 4}, {VN_F16, "<f2", "f16", 2}, {VN_BF16, "<u2", "bf16", 2}, {VN_F64, "<f8", "f64", 8}, {VN_I8, "|i1", "i8", 1},
    {VN_U8, "|u1", "u8", 1},   {VN_I16, "<i2", "i16", 2}, {VN_I32, "<i4", "i32", 4},   {VN_I64, "<i8", "i64", 8}, {VN_BOOL, "|b1", "bool", 1},
};
constexpr char kMagic[] = "\x93NUMPY";

[[noreturn]] void fail(const std::string& path, const std::string& what) { throw std::runtime_error(path + ": " + what); }

// What follows `'key':` in the header.
std::string after(const std::string& header, const std::string& key, const std::string& path) {
    const size_t at = header.find("'" + key + "':");
    if (at == std::string::npos) fail(path, "its header has no " + key);
    const size_t start = header.find_first_not_of(' ', at + key.size() + 3);
    return start == std::string::npos ? "" : header.substr(start);
}

}  // namespace

size_t item_size(vn_dtype dtype) { return kTypes[dtype].size; }
const char* dtype_name(vn_dtype dtype) { return kTypes[dtype].name; }

Array read_npy(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    if (!file) fail(path, "cannot be opened");
    char front[12] = {};
    file.read(front, 10);
    if (!file || std::memcmp(front, kMagic, 6) != 0) fail(path, "is no .npy file");
    size_t length = static_cast<unsigned char>(front[8]) | static_cast<size_t>(static_cast<unsigned char>(front[9])) << 8;
    if (front[6] >= 2) {
        file.read(front + 10, 2);
        length |= static_cast<size_t>(static_cast<unsigned char>(front[10])) << 16 | static_cast<size_t>(static_cast<unsigned char>(front[11])) << 24;
    }
    if (!file || length > (1u << 20)) fail(path, "its header is damaged");
    std::string header(length, '\0');
    file.read(&header[0], static_cast<std::streamsize>(length));
    if (!file) fail(path, "its header is cut off");
    Array made;
    const std::string descr = after(header, "descr", path);
    bool known = false;
    for (const Type& type : kTypes) {
        if (type.dtype != VN_BF16 && descr.compare(0, 5, "'" + std::string(type.descr) + "'") == 0) {
            made.dtype = type.dtype;
            known = true;
        }
    }
    if (!known) fail(path, "its type is none that a model can take: " + descr.substr(0, 12));
    if (after(header, "fortran_order", path).compare(0, 5, "False") != 0) fail(path, "it is in Fortran order");
    std::string shape = after(header, "shape", path);
    shape = shape.substr(0, shape.find(')'));
    size_t count = 1;
    for (size_t at = 0; (at = shape.find_first_of("0123456789", at)) != std::string::npos;) {
        size_t used = 0;
        const unsigned long long dim = std::stoull(shape.substr(at), &used);
        at += used;
        if (made.shape.size() == VN_MAX_RANK || dim > (1ull << 40) || (dim > 0 && count > (1ull << 44) / dim)) fail(path, "its shape is too large");
        made.shape.push_back(static_cast<int64_t>(dim));
        count *= static_cast<size_t>(dim);
    }
    made.data.resize(count * item_size(made.dtype));
    file.read(made.data.data(), static_cast<std::streamsize>(made.data.size()));
    if (!file && !made.data.empty()) fail(path, "its data is cut off");
    return made;
}

void write_npy(const std::string& path, const vn_tensor& tensor) {
    std::string shape = "(";
    size_t count = 1;
    for (int32_t i = 0; i < tensor.rank; ++i) {
        shape += std::to_string(tensor.shape[i]) + (tensor.rank == 1 || i + 1 < tensor.rank ? ", " : "");
        count *= static_cast<size_t>(tensor.shape[i]);
    }
    if (tensor.rank == 1) shape.pop_back();
    std::string header = std::string("{'descr': '") + kTypes[tensor.dtype].descr + "', 'fortran_order': False, 'shape': " + shape + "), }";
    header.append(63 - (10 + header.size()) % 64, ' ');
    header.push_back('\n');
    std::ofstream file(path, std::ios::binary | std::ios::trunc);
    const char version[4] = {1, 0, static_cast<char>(header.size() & 0xFF), static_cast<char>(header.size() >> 8)};
    file.write(kMagic, 6);
    file.write(version, 4);
    file.write(header.data(), static_cast<std::streamsize>(header.size()));
    file.write(static_cast<const char*>(tensor.data), static_cast<std::streamsize>(count * item_size(tensor.dtype)));
    file.close();
    if (!file) fail(path, "cannot be written");
}
