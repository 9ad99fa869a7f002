// The C interface: handles, and no exception past it.
#include <algorithm>
#include <map>
#include <memory>
#include <mutex>
#include <new>
#include <string>
#include <thread>
#include <vector>

#include "backend.h"
#include "error.h"
#include "model.h"
#include "vn.h"

namespace {

constexpr int32_t kMostThreads = 256;

struct Problem {
    std::string text, code;
};

}  // namespace

struct vn_model {
    std::unique_ptr<vn::Model> model;

    void set(Problem problem) const {
        const std::lock_guard<std::mutex> lock(mutex);
        problems[std::this_thread::get_id()] = std::move(problem);
    }
    const Problem* get() const {
        const std::lock_guard<std::mutex> lock(mutex);
        const auto found = problems.find(std::this_thread::get_id());
        return found == problems.end() ? nullptr : &found->second;
    }

private:
    mutable std::mutex mutex;
    mutable std::map<std::thread::id, Problem> problems;  // nodes stay where they are
};

struct vn_result {
    std::vector<vn::Tensor> outputs;
};

namespace {

static_assert(static_cast<int>(vn::DType::f32) == VN_F32 && static_cast<int>(vn::DType::boolean) == VN_BOOL, "the two enumerations agree");

// Runs `work`; what it throws becomes the handle's error.
template <class F>
int guarded(const vn_model& handle, F work) noexcept {
    try {
        try {
            handle.set({});
            work();
            return 0;
        } catch (const vn::Error& error) {
            handle.set({error.what(), error.code()});
        } catch (const vn::ShapeError& error) {
            handle.set({std::string(error.what()) + " [INPUT]", "INPUT"});
        } catch (const std::bad_alloc&) {
            handle.set({"there is not enough memory [MEMORY]", "MEMORY"});
        } catch (const std::length_error&) {
            handle.set({"there is not enough memory [MEMORY]", "MEMORY"});
        } catch (const std::exception& error) {
            handle.set({std::string(error.what()) + " [ARGUMENT]", "ARGUMENT"});
        }
    } catch (...) {
        // Without memory for a message there is none.
    }
    return 1;
}

template <class F>
int open_with(vn_model** model, F bytes) noexcept {
    if (model == nullptr) return 1;
    *model = new (std::nothrow) vn_model;
    if (*model == nullptr) return 1;
    return guarded(**model, [&] { (*model)->model = vn::Model::open(bytes(), vn::Limits()); });
}

vn::Tensor tensor_of(const vn_tensor& given) {
    if (given.dtype < VN_F32 || given.dtype > VN_BOOL || given.rank < 0 || given.rank > VN_MAX_RANK) vn::refuse("ARGUMENT", "a tensor without a type or shape");
    vn::Tensor made(static_cast<vn::DType>(given.dtype), vn::Shape(given.shape, given.shape + given.rank), nullptr, given.data);
    if (given.data == nullptr && made.count() > 0) vn::refuse("ARGUMENT", "a tensor without data");
    if (reinterpret_cast<std::uintptr_t>(given.data) % static_cast<std::uintptr_t>(vn::item_size(made.dtype())) != 0) {
        vn::refuse("ARGUMENT", "a tensor whose data is not aligned to its type");
    }
    if (made.dtype() == vn::DType::boolean) {
        const auto* bytes = static_cast<const unsigned char*>(given.data);
        const bool good = std::all_of(bytes, bytes + made.count(), [](unsigned char one) { return one <= 1; });
        if (!good) vn::refuse("ARGUMENT", "a bool other than 0 and 1");
    }
    return made;
}

// An output of its own: not a view of the caller's input.
vn::Tensor owned(const vn::Value& value, const std::vector<vn::Tensor>& inputs) {
    if (const auto* number = std::get_if<std::int64_t>(&value)) {
        vn::Tensor made = vn::make_tensor(vn::DType::i64, {}, true);
        *made.mutable_data<std::int64_t>() = *number;
        return made;
    }
    const vn::Tensor& given = std::get<vn::Tensor>(value);
    const bool shared = std::any_of(inputs.begin(), inputs.end(), [&](const vn::Tensor& one) { return one.raw() == given.raw(); });
    if (!shared) return given;
    vn::Tensor made = vn::make_tensor(given.dtype(), given.shape(), true);
    std::copy_n(given.data<char>(), given.nbytes(), made.mutable_data<char>());
    return made;
}

void describe(const vn::Tensor& given, vn_tensor& out) {
    out.dtype = static_cast<vn_dtype>(given.dtype());
    out.rank = static_cast<std::int32_t>(std::min<std::int64_t>(given.rank(), VN_MAX_RANK));
    std::copy_n(given.shape().begin(), out.rank, out.shape);
    out.data = given.raw();
}

}  // namespace

int vn_open(const char* path, vn_model** model) {
    return open_with(model, [path] {
        if (path == nullptr) vn::refuse("FILE", "no path");
        return vn::open_file(path);
    });
}

int vn_open_mem(const void* data, size_t size, vn_model** model) {
    return open_with(model, [&] { return vn::copy_bytes(data, size); });
}

void vn_close(vn_model* model) { delete model; }

const char* vn_last_error(const vn_model* model) {
    if (model == nullptr) return "there is no model [MEMORY]";
    const Problem* found = model->get();
    return found == nullptr ? "" : found->text.c_str();
}

const char* vn_last_error_code(const vn_model* model) {
    if (model == nullptr) return "MEMORY";
    const Problem* found = model->get();
    return found == nullptr ? "" : found->code.c_str();
}

size_t vn_input_count(const vn_model* model) { return model == nullptr || !model->model ? 0 : model->model->root().document.inputs.size(); }
size_t vn_output_count(const vn_model* model) { return model == nullptr || !model->model ? 0 : model->model->output_names().size(); }

const char* vn_input_name(const vn_model* model, size_t index) {
    return index < vn_input_count(model) ? model->model->root().document.inputs[index].name.c_str() : nullptr;
}

const char* vn_output_name(const vn_model* model, size_t index) {
    return index < vn_output_count(model) ? model->model->output_names()[index].c_str() : nullptr;
}

int vn_input(const vn_model* model, size_t index, vn_tensor* input) {
    if (input == nullptr || index >= vn_input_count(model)) return 1;
    const vn::ValueSpec& spec = model->model->root().document.inputs[index];
    input->dtype = static_cast<vn_dtype>(spec.dtype);
    input->rank = static_cast<std::int32_t>(spec.shape.size());
    std::copy(spec.shape.begin(), spec.shape.end(), input->shape);
    input->data = nullptr;
    return 0;
}

uint32_t vn_model_id(const vn_model* model) {
    return model == nullptr || !model->model ? 0 : static_cast<uint32_t>(model->model->root().model_id);
}

void vn_base_size(const vn_model* model, int64_t* height, int64_t* width) {
    const bool known = model != nullptr && model->model && model->model->root().base_size.has_value();
    if (height != nullptr) *height = known ? model->model->root().base_size->first : 0;
    if (width != nullptr) *width = known ? model->model->root().base_size->second : 0;
}

int vn_set_threads(vn_model* model, int32_t count) {
    if (model == nullptr) return 1;
    return guarded(*model, [&] {
        if (!model->model) vn::refuse("ARGUMENT", "the file was refused when it was opened");
        if (count < 1 || count > kMostThreads) vn::refuse("ARGUMENT", std::to_string(count) + " threads, expected 1 to " + std::to_string(kMostThreads));
        model->model->set_threads(count);
    });
}

int vn_run(vn_model* model, const vn_tensor* inputs, size_t count, vn_result** result) {
    if (model == nullptr || result == nullptr) return 1;
    *result = nullptr;
    return guarded(*model, [&] {
        if (!model->model) vn::refuse("ARGUMENT", "the file was refused when it was opened");
        if (inputs == nullptr && count > 0) vn::refuse("ARGUMENT", "there are no inputs");
        std::vector<vn::Tensor> given;
        for (size_t i = 0; i < count; ++i) given.push_back(tensor_of(inputs[i]));
        auto made = std::make_unique<vn_result>();
        for (const vn::Value& value : model->model->run(given)) made->outputs.push_back(owned(value, given));
        *result = made.release();
    });
}

size_t vn_result_count(const vn_result* result) { return result == nullptr ? 0 : result->outputs.size(); }

int vn_result_get(const vn_result* result, size_t index, vn_tensor* output) {
    if (output == nullptr || index >= vn_result_count(result)) return 1;
    describe(result->outputs[index], *output);
    return 0;
}

void vn_result_free(vn_result* result) { delete result; }

const char* vn_op_id(size_t index) {
    try {
        static const std::vector<std::string> ids = vn::op_ids();
        return index < ids.size() ? ids[index].c_str() : nullptr;
    } catch (...) {
        return nullptr;
    }
}

const char* vn_version(void) {
    try {
        static const std::string text = std::string("1.0 ") + vn::backend_name();
        return text.c_str();
    } catch (...) {
        return "1.0";
    }
}
