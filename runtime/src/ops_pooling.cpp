// Pooling over one to three axes: windows of a size, and windows that give a chosen output size.
#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "checked.h"
#include "elementwise.h"

namespace vn {

namespace {

using Three = std::array<std::int64_t, 3>;

// One value for all axes or one for each; axes that are not there get `standard`.
Three per_axis(const std::vector<std::int64_t>& given, int rank, std::int64_t standard) {
    require(given.size() == 1 || given.size() == static_cast<std::size_t>(rank), "another number of sizes than axes");
    Three made{standard, standard, standard};
    for (int i = 0; i < rank; ++i) made[static_cast<std::size_t>(3 - rank + i)] = given[given.size() == 1 ? 0 : static_cast<std::size_t>(i)];
    return made;
}

// Maps of (planes, d, h, w).
struct Maps {
    std::int64_t planes = 1;
    Three size{1, 1, 1};

    Maps(const Tensor& given, int rank) {
        require(given.rank() == rank + 1 || given.rank() == rank + 2, "maps of another number of axes");
        for (std::int64_t i = 0; i < given.rank(); ++i) {
            const std::int64_t spatial = i - (given.rank() - rank);
            if (spatial >= 0) size[static_cast<std::size_t>(3 - rank + spatial)] = given.size(i);
            else planes *= given.size(i);
            require(given.size(i) > 0 || (i == 0 && given.rank() == rank + 2), "maps without entries");
        }
    }
    static Shape shape(const Tensor& given, const Three& out, int rank) {
        Shape made = given.shape();
        for (int i = 0; i < rank; ++i) made[made.size() - 1 - static_cast<std::size_t>(i)] = out[static_cast<std::size_t>(2 - i)];
        return made;
    }
};

struct Window {
    Three kernel, stride, padding, dilation{1, 1, 1}, in, out;
};

Window window(const Call& call, const Maps& maps, int rank) {
    const Params& p = call.params();
    const std::vector<std::int64_t> strides = p.integers("stride");
    Window w;
    w.kernel = per_axis(p.integers("kernel_size"), rank, 1);
    w.stride = strides.empty() ? w.kernel : per_axis(strides, rank, 1);
    w.padding = per_axis(p.integers("padding"), rank, 0);
    if (find(p.values, "dilation") != nullptr) w.dilation = per_axis(p.integers("dilation"), rank, 1);
    w.in = maps.size;
    const bool ceil = p.flag("ceil_mode");
    for (std::size_t i = 0; i < 3; ++i) {
        require(w.kernel[i] > 0 && w.stride[i] > 0 && w.dilation[i] > 0 && w.padding[i] >= 0, "a size that is not positive");
        const std::int64_t reach = add(multiply(w.kernel[i] - 1, w.dilation[i]), 1);
        require(w.padding[i] <= reach / 2, "padding of more than half a window");
        const std::int64_t room = subtract(add(w.in[i], multiply(2, w.padding[i])), reach);
        w.out[i] = add(floor_divide(add(room, ceil ? w.stride[i] - 1 : 0), w.stride[i]), 1);
        if (ceil && multiply(w.out[i] - 1, w.stride[i]) >= add(w.in[i], w.padding[i])) --w.out[i];
        require(w.out[i] >= 1, "windows that are larger than the map");
    }
    return w;
}

template <class F>
void each_place(const Three& size, F f) {
    for (std::int64_t z = 0; z < size[0]; ++z) {
        for (std::int64_t y = 0; y < size[1]; ++y) {
            for (std::int64_t x = 0; x < size[2]; ++x) f(Three{z, y, x});
        }
    }
}

// The part of a window, from `begin` on in steps, that lies inside the map.
struct Part {
    Three begin, end, step;

    template <class T, class F>
    void visit(const T* plane, const Three& in, F f) const {
        for (std::int64_t z = begin[0]; z < end[0]; z += step[0]) {
            for (std::int64_t y = begin[1]; y < end[1]; y += step[1]) {
                const T* row = plane + (z * in[1] + y) * in[2];
                for (std::int64_t x = begin[2]; x < end[2]; x += step[2]) f(row[x]);
            }
        }
    }
};

template <class T>
T largest(const Part& part, const T* plane, const Three& in) {
    T most = -std::numeric_limits<T>::infinity();
    part.visit(plane, in, [&](T one) {
        if (one > most || std::isnan(one)) most = one;
    });
    return most;
}

template <class T>
double total(const Part& part, const T* plane, const Three& in) {
    double sum = 0.0;
    part.visit(plane, in, [&](T one) { sum += one; });
    return sum;
}

template <int rank>
void run_max(Call& call) {
    const Maps maps(call.x(), rank);
    const Window w = window(call, maps, rank);
    Tensor& out = call.make(call.x().dtype(), Maps::shape(call.x(), w.out, rank));
    if (!call.real()) return;
    const std::int64_t in_size = w.in[0] * w.in[1] * w.in[2];
    with_float_type(call.x().dtype(), [&](auto type) {
        using T = decltype(type);
        T* to = out.mutable_data<T>();
        for (std::int64_t i = 0; i < maps.planes; ++i) {
            const T* plane = call.x().data<T>() + i * in_size;
            each_place(w.out, [&](const Three& at) {
                Part part{{}, {}, w.dilation};
                for (std::size_t k = 0; k < 3; ++k) {
                    part.begin[k] = at[k] * w.stride[k] - w.padding[k];
                    part.end[k] = std::min(part.begin[k] + (w.kernel[k] - 1) * w.dilation[k] + 1, w.in[k]);
                    if (part.begin[k] < 0) part.begin[k] += (w.dilation[k] - 1 - part.begin[k]) / w.dilation[k] * w.dilation[k];
                }
                *to++ = largest(part, plane, w.in);
            });
        }
    });
}

template <int rank>
void run_avg(Call& call) {
    const Params& p = call.params();
    const Maps maps(call.x(), rank);
    const Window w = window(call, maps, rank);
    for (std::size_t k = 0; k < 3 && rank == 3; ++k) require(w.in[k] >= w.kernel[k], "windows that are larger than the map");
    const Json* divisor = find(p.values, "divisor_override");
    const bool fixed = divisor != nullptr && !divisor->is_null(), whole = p.flag("count_include_pad");
    if (fixed) require(to_integer(*divisor) != 0, "a divisor of 0");
    Tensor& out = call.make(call.x().dtype(), Maps::shape(call.x(), w.out, rank));
    if (!call.real()) return;
    const std::int64_t in_size = w.in[0] * w.in[1] * w.in[2];
    with_float_type(call.x().dtype(), [&](auto type) {
        using T = decltype(type);
        T* to = out.mutable_data<T>();
        for (std::int64_t i = 0; i < maps.planes; ++i) {
            const T* plane = call.x().data<T>() + i * in_size;
            each_place(w.out, [&](const Three& at) {
                Part part{{}, {}, {1, 1, 1}};
                double padded_count = 1.0, count = 1.0;
                for (std::size_t k = 0; k < 3; ++k) {
                    const std::int64_t begin = at[k] * w.stride[k] - w.padding[k], end = std::min(begin + w.kernel[k], w.in[k] + w.padding[k]);
                    padded_count *= static_cast<double>(end - begin);
                    part.begin[k] = std::max<std::int64_t>(begin, 0);
                    part.end[k] = std::min(end, w.in[k]);
                    count *= static_cast<double>(std::max<std::int64_t>(part.end[k] - part.begin[k], 0));
                }
                const double by = fixed ? to_number(*divisor) : whole ? padded_count : count;
                *to++ = count == 0.0 ? T(0) : static_cast<T>(total(part, plane, w.in) / by);
            });
        }
    });
}

// The chosen output size; null keeps that of the input.
Three adaptive_size(const Json& given, const Maps& maps, int rank) {
    Three out{1, 1, 1};
    require(!given.is_null(), "an output size is missing");
    const List* items = given.list();
    require(items == nullptr || items->size() == static_cast<std::size_t>(rank), "another number of sizes than axes");
    for (int i = 0; i < rank; ++i) {
        const std::size_t axis = static_cast<std::size_t>(3 - rank + i);
        const Json& one = items == nullptr ? given : (*items)[static_cast<std::size_t>(i)];
        require(!one.is_null() || rank > 1, "an output size is missing");
        out[axis] = one.is_null() ? maps.size[axis] : to_integer(one);
        require(out[axis] >= 0, "a negative size");
    }
    return out;
}

template <int rank, bool average>
void run_adaptive(Call& call) {
    const Maps maps(call.x(), rank);
    const Three in = maps.size, out_size = adaptive_size(call.params().at("output_size"), maps, rank);
    Tensor& out = call.make(call.x().dtype(), Maps::shape(call.x(), out_size, rank));
    if (!call.real()) return;
    const std::int64_t in_size = in[0] * in[1] * in[2];
    with_float_type(call.x().dtype(), [&](auto type) {
        using T = decltype(type);
        T* to = out.mutable_data<T>();
        for (std::int64_t i = 0; i < maps.planes; ++i) {
            const T* plane = call.x().data<T>() + i * in_size;
            each_place(out_size, [&](const Three& at) {
                Part part{{}, {}, {1, 1, 1}};
                double count = 1.0;
                for (std::size_t k = 0; k < 3; ++k) {
                    part.begin[k] = at[k] * in[k] / out_size[k];
                    part.end[k] = ((at[k] + 1) * in[k] + out_size[k] - 1) / out_size[k];
                    count *= static_cast<double>(part.end[k] - part.begin[k]);
                }
                *to++ = average ? static_cast<T>(total(part, plane, in) / count) : largest(part, plane, in);
            });
        }
    });
}

constexpr char kMax[] = "kernel_size int|ref|[int|ref]; stride int|ref|[int|ref]; padding int|[int] =0; dilation int|[int] =1; ceil_mode bool =false";
constexpr char kAvg1[] = "kernel_size int|ref|[int|ref]; stride int|ref|[int|ref]; padding int|[int] =0; ceil_mode bool =false; count_include_pad bool =true";
constexpr char kAvg[] =
    "kernel_size int|ref|[int|ref]; stride int|ref|[int|ref]; padding int|[int] =0; ceil_mode bool =false; count_include_pad bool =true; "
    "divisor_override int|null =null";
constexpr char kAdaptive[] = "output_size int|ref|[int|ref|null]|null";

}  // namespace

const std::vector<Op> kPoolingOps = {
    {"vn.max_pool1d", kMax, 1, 1, no_slots, run_max<1>, 1, true},
    {"vn.max_pool2d", kMax, 1, 1, no_slots, run_max<2>, 1, true},
    {"vn.max_pool3d", kMax, 1, 1, no_slots, run_max<3>, 1, true},
    {"vn.avg_pool1d", kAvg1, 1, 1, no_slots, run_avg<1>, 1, true},
    {"vn.avg_pool2d", kAvg, 1, 1, no_slots, run_avg<2>, 1, true},
    {"vn.avg_pool3d", kAvg, 1, 1, no_slots, run_avg<3>, 1, true},
    {"vn.adaptive_avg_pool1d", kAdaptive, 1, 1, no_slots, run_adaptive<1, true>, 1, true},
    {"vn.adaptive_avg_pool2d", kAdaptive, 1, 1, no_slots, run_adaptive<2, true>, 1, true},
    {"vn.adaptive_avg_pool3d", kAdaptive, 1, 1, no_slots, run_adaptive<3, true>, 1, true},
    {"vn.adaptive_max_pool1d", kAdaptive, 1, 1, no_slots, run_adaptive<1, false>, 1, true},
    {"vn.adaptive_max_pool2d", kAdaptive, 1, 1, no_slots, run_adaptive<2, false>, 1, true},
    {"vn.adaptive_max_pool3d", kAdaptive, 1, 1, no_slots, run_adaptive<3, false>, 1, true},
};

}  // namespace vn
