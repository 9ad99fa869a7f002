// vnrun MODEL.vnmodel --input x.npy --output y.npy
#include <cstdio>
#include <cstring>
#include <exception>
#include <iostream>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "npy.h"
#include "vn.h"

namespace {

constexpr char kUsage[] =
    "usage: vnrun MODEL.vnmodel [--input [NAME=]X.npy]... [--output [NAME=]Y.npy]... [--print] [--threads N]\n"
    "       vnrun MODEL.vnmodel                     its inputs and outputs\n"
    "       vnrun --check FILE...                   for each file OK, or the code of what is wrong with it; - reads names from stdin\n"
    "       vnrun --ops | --version | --help\n"
    "\n"
    "Runs a .vnmodel without Python. Inputs and outputs are taken in the order of the file, or by their names. --print writes\n"
    "outputs that have no file to stdout. .vnmodel is the AMC plug-ins project's own open format, not that of Huya's Venus engine.\n";

using Model = std::unique_ptr<vn_model, void (*)(vn_model*)>;
using Result = std::unique_ptr<vn_result, void (*)(vn_result*)>;

struct Options {
    std::string model;
    std::vector<std::string> inputs, outputs;
    bool print = false;
    int32_t threads = 1;
};

// `NAME=PATH` as its parts; the place in the order where there is no name.
size_t place_of(const std::string& text, size_t order, size_t count, const char* (*name)(const vn_model*, size_t), const vn_model* model, std::string& path) {
    const size_t sign = text.find('=');
    path = text;
    if (sign != std::string::npos) {
        for (size_t i = 0; i < count; ++i) {
            if (text.compare(0, sign, name(model, i)) == 0) {
                path = text.substr(sign + 1);
                return i;
            }
        }
    }
    if (order >= count) throw std::runtime_error("`" + text + "` is one more than the model has, or has a name that it does not know");
    return order;
}

void print_shape(const vn_tensor& tensor) {
    std::printf("%s (", dtype_name(tensor.dtype));
    for (int32_t i = 0; i < tensor.rank; ++i) std::printf(tensor.shape[i] < 0 ? "%sany" : "%s%lld", i > 0 ? ", " : "", static_cast<long long>(tensor.shape[i]));
    std::printf(")\n");
}

template <class T, class P>
void print_as(const vn_tensor& tensor, size_t count, const char* format) {
    const T* data = static_cast<const T*>(tensor.data);
    for (size_t i = 0; i < count; ++i) std::printf(format, static_cast<P>(data[i]));
}

void print_tensor(const char* name, const vn_tensor& tensor) {
    std::printf("%s ", name);
    print_shape(tensor);
    size_t count = 1;
    for (int32_t i = 0; i < tensor.rank; ++i) count *= static_cast<size_t>(tensor.shape[i]);
    switch (tensor.dtype) {
        case VN_F32: return print_as<float, double>(tensor, count, "%.9g\n");
        case VN_F64: return print_as<double, double>(tensor, count, "%.17g\n");
        case VN_I8: return print_as<int8_t, int>(tensor, count, "%d\n");
        case VN_I16: return print_as<int16_t, int>(tensor, count, "%d\n");
        case VN_I32: return print_as<int32_t, int>(tensor, count, "%d\n");
        case VN_I64: return print_as<int64_t, long long>(tensor, count, "%lld\n");
        case VN_F16:
        case VN_BF16: return print_as<uint16_t, unsigned>(tensor, count, "0x%04x\n");
        default: return print_as<uint8_t, unsigned>(tensor, count, "%u\n");
    }
}

void describe(const vn_model* model) {
    int64_t height = 0, width = 0;
    vn_base_size(model, &height, &width);
    std::printf("model_id %u\n", vn_model_id(model));
    if (height > 0) std::printf("base size %lld x %lld\n", static_cast<long long>(height), static_cast<long long>(width));
    for (size_t i = 0; i < vn_input_count(model); ++i) {
        vn_tensor input;
        vn_input(model, i, &input);
        std::printf("input %s ", vn_input_name(model, i));
        print_shape(input);
    }
    for (size_t i = 0; i < vn_output_count(model); ++i) std::printf("output %s\n", vn_output_name(model, i));
}

int run(const Options& options) {
    vn_model* opened = nullptr;
    const int refused = vn_open(options.model.c_str(), &opened);
    const Model model(opened, vn_close);
    if (refused != 0) throw std::runtime_error(options.model + ": " + vn_last_error(opened));
    if (options.inputs.empty() && options.outputs.empty() && !options.print) {
        describe(opened);
        return 0;
    }
    const size_t inputs = vn_input_count(opened), outputs = vn_output_count(opened);
    std::vector<Array> arrays(inputs);
    std::vector<bool> given(inputs, false);
    for (size_t i = 0; i < options.inputs.size(); ++i) {
        std::string path;
        const size_t at = place_of(options.inputs[i], i, inputs, vn_input_name, opened, path);
        arrays[at] = read_npy(path);
        given[at] = true;
    }
    std::vector<vn_tensor> tensors(inputs);
    for (size_t i = 0; i < inputs; ++i) {
        if (!given[i]) throw std::runtime_error(std::string("input `") + vn_input_name(opened, i) + "` is missing");
        vn_tensor wanted;
        vn_input(opened, i, &wanted);
        if (wanted.dtype == VN_BF16 && arrays[i].dtype == VN_I16) arrays[i].dtype = VN_BF16;
        tensors[i].dtype = arrays[i].dtype;
        tensors[i].rank = static_cast<int32_t>(arrays[i].shape.size());
        for (size_t k = 0; k < arrays[i].shape.size(); ++k) tensors[i].shape[k] = arrays[i].shape[k];
        tensors[i].data = arrays[i].data.data();
    }
    if (vn_set_threads(opened, options.threads) != 0) throw std::runtime_error(vn_last_error(opened));
    vn_result* ran = nullptr;
    const int failed = vn_run(opened, tensors.data(), inputs, &ran);
    const Result result(ran, vn_result_free);
    if (failed != 0) throw std::runtime_error(options.model + ": " + vn_last_error(opened));
    std::vector<bool> written(outputs, false);
    for (size_t i = 0; i < options.outputs.size(); ++i) {
        std::string path;
        const size_t at = place_of(options.outputs[i], i, outputs, vn_output_name, opened, path);
        vn_tensor output;
        vn_result_get(ran, at, &output);
        write_npy(path, output);
        written[at] = true;
    }
    for (size_t i = 0; options.print && i < outputs; ++i) {
        vn_tensor output;
        vn_result_get(ran, i, &output);
        if (!written[i]) print_tensor(vn_output_name(opened, i), output);
    }
    return 0;
}

bool check(const std::string& path) {
    vn_model* opened = nullptr;
    const int refused = vn_open(path.c_str(), &opened);
    const Model model(opened, vn_close);
    std::printf("%s\n", refused == 0 ? "OK" : vn_last_error_code(opened));
    if (refused != 0) std::fprintf(stderr, "%s: %s\n", path.c_str(), vn_last_error(opened));
    return refused == 0;
}

int check_all(int count, char** names) {
    bool good = true;
    for (int i = 0; i < count; ++i) {
        if (std::strcmp(names[i], "-") != 0) {
            good = check(names[i]) && good;
            continue;
        }
        for (std::string line; std::getline(std::cin, line);) good = check(line) && good;
    }
    return good ? 0 : 1;
}

Options parse(int count, char** arguments) {
    Options options;
    for (int i = 1; i < count; ++i) {
        const std::string one = arguments[i];
        if (one == "--print") {
            options.print = true;
        } else if (one == "--threads") {
            const std::string text = ++i < count ? arguments[i] : "";
            if (text.empty() || text.size() > 4 || text.find_first_not_of("0123456789") != std::string::npos) throw std::invalid_argument(one + " needs a number");
            options.threads = static_cast<int32_t>(std::stol(text));
        } else if (one == "--input" || one == "--output") {
            if (++i == count) throw std::invalid_argument(one + " needs a file");
            (one == "--input" ? options.inputs : options.outputs).push_back(arguments[i]);
        } else if (one.compare(0, 1, "-") == 0 || !options.model.empty()) {
            throw std::invalid_argument("`" + one + "` is not understood");
        } else {
            options.model = one;
        }
    }
    if (options.model.empty()) throw std::invalid_argument("a model is needed");
    return options;
}

}  // namespace

int main(int count, char** arguments) {
    const std::string first = count > 1 ? arguments[1] : "--help";
    try {
        if (first == "--help" || first == "-h") return std::fputs(kUsage, stdout) < 0;
        if (first == "--version") return std::printf("vnrun, .vnmodel %s\n", vn_version()) < 0;
        if (first == "--ops") {
            for (size_t i = 0; vn_op_id(i) != nullptr; ++i) std::printf("%s\n", vn_op_id(i));
            return 0;
        }
        if (first == "--check" && count > 2) return check_all(count - 2, arguments + 2);
        return run(parse(count, arguments));
    } catch (const std::invalid_argument& error) {
        std::fprintf(stderr, "error: %s\n%s", error.what(), kUsage);
    } catch (const std::exception& error) {
        std::fprintf(stderr, "error: %s\n", error.what());
    }
    return 2;
}
