// vnfuzz SEED_FILE... --runs N --seed S: files are changed in memory, most of them in their structure, with lengths and checksums
// right again, then opened, and run where they are sound. Built with sanitizers it ends at the first memory error; it also ends
// when anything but the library's own error comes out.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "crc32.h"
#include "error.h"
#include "header.h"
#include "json.h"
#include "model.h"

namespace {

using vn::Json;
using vn::List;
using vn::Object;

// A file in pieces.
struct Draft {
    Json root;
    std::string data;
};

std::string bytes_of(std::uint64_t value, int count) {
    std::string made;
    for (int i = 0; i < count; ++i) made.push_back(static_cast<char>(value >> 8 * i));
    return made;
}

void write(const Json& value, std::string& out) {
    const auto text = [&out](const std::string& given) {
        out.push_back('"');
        for (const char one : given) {
            if (one == '"' || one == '\\') out.push_back('\\');
            char escape[8];
            std::snprintf(escape, sizeof escape, "\\u%04x", static_cast<unsigned char>(one));
            if (static_cast<unsigned char>(one) < 0x20) out += escape;
            else out.push_back(one);
        }
        out.push_back('"');
    };
    if (value.is_null()) out += "null";
    if (value.boolean() != nullptr) out += *value.boolean() ? "true" : "false";
    if (value.integer() != nullptr) out += std::to_string(*value.integer());
    if (value.real() != nullptr) {
        char number[32];
        std::snprintf(number, sizeof number, "%.17g", *value.real());
        out += number;
        if (std::strpbrk(number, ".e") == nullptr) out += ".0";
    }
    if (value.text() != nullptr) text(*value.text());
    if (value.list() != nullptr) {
        out.push_back('[');
        for (const Json& item : *value.list()) {
            if (&item != value.list()->data()) out.push_back(',');
            write(item, out);
        }
        out.push_back(']');
    }
    if (value.object() != nullptr) {
        out.push_back('{');
        for (const vn::Member& one : *value.object()) {
            if (&one != value.object()->data()) out.push_back(',');
            text(one.key);
            out.push_back(':');
            write(one.value, out);
        }
        out.push_back('}');
    }
}

Draft read(const char* path) {
    std::ifstream file(path, std::ios::binary);
    const std::string raw((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
    const auto* data = reinterpret_cast<const unsigned char*>(raw.data());
    const vn::Header header = vn::read_header(data, raw.size(), vn::Limits());
    return {vn::parse_json(std::string_view(raw).substr(64, header.graph_bytes), vn::Limits()), raw.substr(header.data_offset)};
}

class Mutator {
public:
    explicit Mutator(std::uint64_t seed) : numbers_(seed) {}

    std::string mutant(const Draft& seed) {
        Draft draft = seed;
        std::map<int, std::uint64_t> lies;  // header fields by place
        for (int left = 1 + below(4); left > 0; --left) {
            const int kind = below(100);
            if (kind < 45) exchange(draft.root);
            else if (kind < 85) change(draft.root);
            else if (kind < 92) lies[16 + 8 * below(4)] = number();
            else if (!draft.data.empty()) draft.data[static_cast<std::size_t>(below(draft.data.size()))] ^= static_cast<char>(1 << below(8));
        }
        if (below(4) != 0) seal(draft);
        std::string graph;
        write(draft.root, graph);
        if (below(10) == 0) {
            const auto at = static_cast<std::size_t>(below(graph.size()));
            graph.replace(at, static_cast<std::size_t>(below(3)), 1, static_cast<char>(below(256)));
        }
        std::string file = pack(graph, draft.data, lies);
        if (below(20) == 0) file.resize(static_cast<std::size_t>(below(file.size())));
        return file;
    }

private:
    template <class T>
    int below(T count) {
        return count == T(0) ? 0 : static_cast<int>(numbers_() % static_cast<std::uint64_t>(count));
    }

    std::uint64_t number() {
        const std::uint64_t values[] = {0, 1, 64, 4096, std::uint64_t(1) << 31, std::uint64_t(1) << 63, ~std::uint64_t(0), numbers_()};
        return values[below(8)];
    }

    Json value() {
        const std::int64_t integers[] = {0, 1, -1, 2, 3, 7, 64, std::int64_t(1) << 31, INT64_MAX, INT64_MIN};
        const double reals[] = {0.5, -0.0, 1e308, 1e-320, 3.0};
        const char* const texts[] = {"", "x", "vn.relu", "vn.nothing", "f16", "f64", "bool", "inf", "#", "#:#", "...", "None", "@", "$", "[2]", "same", "bilinear"};
        switch (below(12)) {
            case 0: return Json();
            case 1: return Json(below(2) == 0);
            case 2: return Json(reals[below(5)]);
            case 3: return Json(std::string(texts[below(17)]));
            case 4: return Json(List());
            case 5: return Json(Object());
            case 6: return Json(Object{{"$value", Json(std::string("x"))}});
            case 7: return Json(Object{{"$f", Json(std::string("nan"))}});
            case 8: return Json(List{Json(integers[below(10)]), Json(integers[below(10)])});
            default: return Json(integers[below(10)]);
        }
    }

    static void collect(Json& at, std::vector<Json*>& all) {
        all.push_back(&at);
        if (List* items = std::get_if<List>(&at.value)) {
            for (Json& item : *items) collect(item, all);
        } else if (Object* members = std::get_if<Object>(&at.value)) {
            for (vn::Member& one : *members) collect(one.value, all);
        }
    }

    // One leaf gets the value of another of its type: names, sizes and offsets that exist, where they do not belong.
    void exchange(Json& root) {
        std::vector<Json*> all;
        collect(root, all);
        Json& first = *all[static_cast<std::size_t>(below(all.size()))];
        if (first.list() != nullptr || first.object() != nullptr) return;
        for (int tries = 0; tries < 50; ++tries) {
            const Json& other = *all[static_cast<std::size_t>(below(all.size()))];
            if (other.value.index() == first.value.index()) {
                first = Json(other);
                return;
            }
        }
    }

    // Something is replaced, removed, repeated, added, or a number becomes another one.
    void change(Json& root) {
        std::vector<Json*> all;
        collect(root, all);
        Json& at = *all[static_cast<std::size_t>(below(all.size()))];
        if (List* items = std::get_if<List>(&at.value); items != nullptr && below(3) != 0) {
            const auto place = static_cast<std::ptrdiff_t>(below(items->size() + 1));
            if (items->empty() || below(2) == 0) items->insert(items->begin() + place, items->empty() || below(2) == 0 ? value() : Json(items->front()));
            else items->erase(items->begin() + below(items->size()));
            return;
        }
        if (Object* members = std::get_if<Object>(&at.value); members != nullptr && below(3) != 0) {
            if (members->empty() || below(3) == 0) members->push_back({below(2) == 0 ? "extra" : "quant", value()});
            else if (below(2) == 0) members->erase(members->begin() + below(members->size()));
            else (*members)[static_cast<std::size_t>(below(members->size()))].value = value();
            return;
        }
        if (const std::int64_t* number = at.integer(); number != nullptr && below(2) == 0) {
            const std::int64_t steps[] = {-64, -1, 1, 64, 1 << 20};
            at = Json(static_cast<std::int64_t>(static_cast<std::uint64_t>(*number) + static_cast<std::uint64_t>(steps[below(5)])));
            return;
        }
        at = value();
    }

    // The checksums of the tensors that lie inside the data.
    static void seal(Draft& draft) {
        Object* root = std::get_if<Object>(&draft.root.value);
        if (root == nullptr) return;
        for (vn::Member& member : *root) {
            List* places = member.key == "tensors" ? std::get_if<List>(&member.value.value) : nullptr;
            if (places == nullptr) continue;
            for (Json& place : *places) {
                Object* fields = std::get_if<Object>(&place.value);
                if (fields == nullptr) continue;
                const Json *offset = vn::find(*fields, "offset"), *size = vn::find(*fields, "nbytes");
                if (offset == nullptr || size == nullptr || offset->integer() == nullptr || size->integer() == nullptr) continue;
                const auto start = static_cast<std::uint64_t>(*offset->integer()), count = static_cast<std::uint64_t>(*size->integer());
                if (start > draft.data.size() || count > draft.data.size() - start) continue;
                const auto crc = vn::crc32(reinterpret_cast<const unsigned char*>(draft.data.data()) + start, static_cast<std::size_t>(count));
                for (vn::Member& field : *fields) {
                    if (field.key == "crc32") field.value = Json(static_cast<std::int64_t>(crc));
                }
            }
        }
    }

    static std::string pack(const std::string& graph, const std::string& data, const std::map<int, std::uint64_t>& lies) {
        const std::uint64_t start = vn::round_up(64 + graph.size(), 64);
        std::string front(reinterpret_cast<const char*>(vn::kMagic), 8);
        front += bytes_of(1, 2) + bytes_of(0, 2) + bytes_of(0, 4) + bytes_of(graph.size(), 8) + bytes_of(start, 8) + bytes_of(data.size(), 8) +
                 bytes_of(start + data.size(), 8) + bytes_of(vn::crc32(reinterpret_cast<const unsigned char*>(graph.data()), graph.size()), 4) +
                 std::string(12, '\0');
        for (const auto& [place, value] : lies) front.replace(static_cast<std::size_t>(place), 8, bytes_of(value, 8));
        const std::uint32_t crc = vn::header_crc(reinterpret_cast<const unsigned char*>(front.data()));
        front.replace(52, 4, bytes_of(crc, 4));
        std::string file = front + graph;
        file.resize(start, '\0');
        return file + data;
    }

    std::mt19937_64 numbers_;
};

vn::Tensor input_of(const vn::ValueSpec& spec) {
    vn::Shape shape = spec.shape;
    for (std::int64_t& dim : shape) dim = dim == vn::kOpen ? 2 : dim;
    vn::Tensor made = vn::make_tensor(spec.dtype, shape, true);
    std::memset(made.mutable_data<char>(), spec.dtype == vn::DType::boolean ? 1 : 0x3e, static_cast<std::size_t>(made.nbytes()));
    return made;
}

// Opens a file, and runs it once. Returns a code; throws whatever is not an error of the library.
std::string outcome(const std::string& file, const vn::Limits& limits) {
    try {
        const auto model = vn::Model::open(vn::copy_bytes(file.data(), file.size()), limits);
        std::vector<vn::Tensor> inputs;
        std::int64_t size = 0;
        for (const vn::ValueSpec& spec : model->root().document.inputs) {
            vn::Shape shape = spec.shape;
            for (std::int64_t& dim : shape) dim = dim == vn::kOpen ? 2 : dim;
            size += vn::Tensor(spec.dtype, shape).nbytes();
            if (size > static_cast<std::int64_t>(limits.activations)) return "too large to run";
            inputs.push_back(input_of(spec));
        }
        try {
            model->run(inputs);
        } catch (const vn::Error& error) {
            return "ran into " + error.code();
        }
        return "ran";
    } catch (const vn::Error& error) {
        return error.code();
    } catch (const vn::ShapeError&) {
        return "too large to run";
    }
}

}  // namespace

int main(int count, char** arguments) {
    std::vector<Draft> seeds;
    std::uint64_t runs = 100'000, seed = 0;
    try {
        for (int i = 1; i < count; ++i) {
            const std::string one = arguments[i];
            if ((one == "--runs" || one == "--seed") && i + 1 < count) (one == "--runs" ? runs : seed) = std::strtoull(arguments[++i], nullptr, 10);
            else seeds.push_back(read(arguments[i]));
        }
    } catch (const std::exception& error) {
        std::fprintf(stderr, "error: a seed cannot be read: %s\n", error.what());
        return 2;
    }
    if (seeds.empty()) {
        std::fprintf(stderr, "usage: vnfuzz SEED_FILE... [--runs N] [--seed S]\n");
        return 2;
    }
    vn::Limits limits;
    limits.activations = 1 << 20;
    std::map<std::string, std::uint64_t> codes;
    double slowest = 0.0;
    for (std::uint64_t i = 0; i < runs; ++i) {
        Mutator mutator(seed * 0x9E3779B97F4A7C15ull + i);
        const std::string file = mutator.mutant(seeds[static_cast<std::size_t>(i % seeds.size())]);
        const auto start = std::chrono::steady_clock::now();
        try {
            ++codes[outcome(file, limits)];
        } catch (const std::exception& error) {
            std::ofstream("vnfuzz-leak.vnmodel", std::ios::binary).write(file.data(), static_cast<std::streamsize>(file.size()));
            std::fprintf(stderr, "mutant %llu of seed %llu: %s\n", static_cast<unsigned long long>(i), static_cast<unsigned long long>(seed), error.what());
            return 1;
        }
        slowest = std::max(slowest, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
    }
    for (const auto& [code, times] : codes) std::printf("%10llu %s\n", static_cast<unsigned long long>(times), code.c_str());
    std::printf("%llu mutants of %zu seeds, slowest %.3f s\n", static_cast<unsigned long long>(runs), seeds.size(), slowest);
    return 0;
}
