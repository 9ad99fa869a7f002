// Convolutions and transposed convolutions over one to three axes.
// All run as three-axis ones; the axes that are not there have size 1.
#include <algorithm>
#include <array>

#include "checked.h"
#include "gemm.h"
#include "pad.h"

namespace vn {

namespace {

using Three = std::array<std::int64_t, 3>;

constexpr std::int64_t kColumnEntries = 1 << 18;  // of the matrix of patches at a time

Three three(const std::vector<std::int64_t>& given, std::int64_t standard) {
    Three made{standard, standard, standard};
    std::copy(given.begin(), given.end(), made.end() - static_cast<std::ptrdiff_t>(given.size()));
    return made;
}

std::int64_t product(const Three& one) { return one[0] * one[1] * one[2]; }

// What a convolution does on one image of one group.
struct Geometry {
    Three kernel, stride, dilation, before;
    Three in, out;
    std::int64_t in_group = 1, out_group = 1, groups = 1;

    std::int64_t taps() const { return product(kernel); }
    bool pointwise() const {
        constexpr Three ones{1, 1, 1}, zeros{0, 0, 0};
        return kernel == ones && stride == ones && before == zeros && in == out;
    }
};

// Before a run: what has no effect becomes 1, and what is left is small enough to count with.
void settle(Geometry& g) {
    constexpr std::int64_t most = std::int64_t(1) << 40;
    for (std::size_t i = 0; i < 3; ++i) {
        if (g.out[i] <= 1) g.stride[i] = 1;
        if (g.kernel[i] == 1) g.dilation[i] = 1;
        require(g.before[i] < most && g.stride[i] < most && g.dilation[i] < most, "a size that no memory can have");
    }
}

// Outputs `first` to `last` whose input lies inside, of a tap along the last axis.
void inside(const Geometry& g, std::int64_t tap, std::int64_t& first, std::int64_t& last) {
    const std::int64_t shift = tap * g.dilation[2] - g.before[2];  // the input of output x is x * stride + shift
    first = shift >= 0 ? 0 : (-shift + g.stride[2] - 1) / g.stride[2];
    last = g.in[2] - 1 - shift < 0 ? 0 : std::min(g.out[2], (g.in[2] - 1 - shift) / g.stride[2] + 1);
    first = std::min(first, last);
}

// Calls `row(y_in or -1, y_out)` for each row of outputs from `begin` to `end` (rows count through depth and height).
template <class F>
void rows(const Geometry& g, const Three& tap, std::int64_t begin, std::int64_t end, F row) {
    for (std::int64_t i = begin; i < end; ++i) {
        const std::int64_t z = i / g.out[1] * g.stride[0] + tap[0] * g.dilation[0] - g.before[0];
        const std::int64_t y = i % g.out[1] * g.stride[1] + tap[1] * g.dilation[1] - g.before[1];
        const bool there = z >= 0 && z < g.in[0] && y >= 0 && y < g.in[1];
        row(there ? z * g.in[1] + y : -1, i);
    }
}

template <class F>
void taps(const Geometry& g, F each) {
    std::int64_t index = 0;
    for (std::int64_t z = 0; z < g.kernel[0]; ++z) {
        for (std::int64_t y = 0; y < g.kernel[1]; ++y) {
            for (std::int64_t x = 0; x < g.kernel[2]; ++x) each(Three{z, y, x}, index++);
        }
    }
}

// The patches of rows `begin` to `end` of outputs as columns (in_group * taps, positions).
template <class T>
void gather(const Geometry& g, const T* image, std::int64_t begin, std::int64_t end, T* columns) {
    const std::int64_t width = g.out[2], count = (end - begin) * width;
    for (std::int64_t c = 0; c < g.in_group; ++c) {
        const T* plane = image + c * product(g.in);
        taps(g, [&](const Three& tap, std::int64_t) {
            std::int64_t first, last;
            inside(g, tap[2], first, last);
            const std::int64_t shift = tap[2] * g.dilation[2] - g.before[2];
            rows(g, tap, begin, end, [&](std::int64_t from, std::int64_t row) {
                T* to = columns + (row - begin) * width;
                if (from < 0) {
                    std::fill_n(to, width, T(0));
                    return;
                }
                const T* line = plane + from * g.in[2] + shift;
                std::fill_n(to, first, T(0));
                if (g.stride[2] == 1) std::copy(line + first, line + last, to + first);
                else for (std::int64_t x = first; x < last; ++x) to[x] = line[x * g.stride[2]];
                std::fill(to + last, to + width, T(0));
            });
            columns += count;
        });
    }
}

// The inverse of `gather`: columns are added to the places that they were taken from.
template <class T>
void scatter(const Geometry& g, const T* columns, std::int64_t begin, std::int64_t end, T* image) {
    const std::int64_t width = g.out[2], count = (end - begin) * width;
    for (std::int64_t c = 0; c < g.in_group; ++c) {
        T* plane = image + c * product(g.in);
        taps(g, [&](const Three& tap, std::int64_t) {
            std::int64_t first, last;
            inside(g, tap[2], first, last);
            const std::int64_t shift = tap[2] * g.dilation[2] - g.before[2];
            rows(g, tap, begin, end, [&](std::int64_t to, std::int64_t row) {
                if (to < 0) return;
                T* line = plane + to * g.in[2] + shift;
                const T* from = columns + (row - begin) * width;
                for (std::int64_t x = first; x < last; ++x) line[x * g.stride[2]] += from[x];
            });
            columns += count;
        });
    }
}

// Rows of outputs whose patches fit into a matrix of moderate size.
std::int64_t rows_at_once(const Geometry& g) {
    const std::int64_t entries = std::max<std::int64_t>(1, g.in_group * g.taps() * g.out[2]);
    return std::max<std::int64_t>(1, kColumnEntries / entries);
}

// One input channel per output channel, rows `begin` to `end` of outputs: tap by tap along rows, without a matrix.
template <class T>
void depthwise(const Geometry& g, const T* image, const T* weight, std::int64_t begin, std::int64_t end, T* out) {
    std::fill(out + begin * g.out[2], out + end * g.out[2], T(0));
    taps(g, [&](const Three& tap, std::int64_t index) {
        std::int64_t first, last;
        inside(g, tap[2], first, last);
        const T factor = weight[index];
        const std::int64_t shift = tap[2] * g.dilation[2] - g.before[2], stride = g.stride[2];
        rows(g, tap, begin, end, [&](std::int64_t from, std::int64_t row) {
            if (from < 0) return;
            const T* line = image + from * g.in[2] + shift;
            T* to = out + row * g.out[2];
            if (stride == 1) for (std::int64_t x = first; x < last; ++x) to[x] += factor * line[x];
            else for (std::int64_t x = first; x < last; ++x) to[x] += factor * line[x * stride];
        });
    });
}

std::int64_t divided_up(std::int64_t value, std::int64_t by) { return (value + by - 1) / by; }

// How the outputs of one image and group are cut: into so many channels and rows at a time.
struct Cut {
    std::int64_t channels, rows, channel_parts, row_parts;

    // For `threads` threads, along the longer side: what a part costs beside its products is paid once per part.
    Cut(const Geometry& g, std::int64_t blocks, std::int64_t total_rows, std::int64_t most_rows, int threads) {
        const std::int64_t wanted = divided_up(threads, blocks), positions = product(g.out);
        const bool by_channels = g.out_group > positions;
        channels = by_channels ? std::min(g.out_group, divided_up(divided_up(g.out_group, wanted), kGemmRows) * kGemmRows) : g.out_group;
        rows = std::min(most_rows, by_channels ? total_rows : divided_up(total_rows, wanted));
        channel_parts = divided_up(g.out_group, channels);
        row_parts = divided_up(total_rows, rows);
    }
};

template <class T>
void convolve(const Geometry& g, std::int64_t images, const T* in, const T* weight, const T* bias, T* out, const Workers& workers) {
    const std::int64_t depth = g.in_group * g.taps(), size = product(g.out), total_rows = g.out[0] * g.out[1], width = g.out[2];
    const bool direct = g.pointwise() || g.in_group == 1;
    const std::int64_t blocks = images * g.groups;
    const Cut cut(g, blocks, total_rows, direct ? total_rows : rows_at_once(g), workers.count());
    const double operations = static_cast<double>(blocks * g.out_group * size) * static_cast<double>(depth);
    workers.run(blocks * cut.channel_parts * cut.row_parts, 1, operations, [&](std::int64_t begin, std::int64_t end) {
        std::vector<T> columns(direct ? 0 : static_cast<std::size_t>(depth * cut.rows * width));
        for (std::int64_t part = begin; part < end; ++part) {
            const std::int64_t block = part / (cut.channel_parts * cut.row_parts), group = block % g.groups;
            const std::int64_t channel = part / cut.row_parts % cut.channel_parts * cut.channels, row = part % cut.row_parts * cut.rows;
            const std::int64_t channels = std::min(cut.channels, g.out_group - channel), last = std::min(row + cut.rows, total_rows);
            const std::int64_t first = row * width, count = (last - row) * width;
            const T* image = in + block * g.in_group * product(g.in);
            const T* kernels = weight + (group * g.out_group + channel) * depth;
            T* to = out + (block * g.out_group + channel) * size;
            if (g.pointwise()) {
                gemm(channels, count, depth, {kernels, depth, 1}, {image + first, size, 1}, to + first, size, false);
            } else if (g.in_group == 1) {
                for (std::int64_t c = 0; c < channels; ++c) depthwise(g, image, kernels + c * depth, row, last, to + c * size);
            } else {
                gather(g, image, row, last, columns.data());
                gemm(channels, count, depth, {kernels, depth, 1}, {columns.data(), count, 1}, to + first, size, false);
            }
            for (std::int64_t c = 0; bias != nullptr && c < channels; ++c) {
                const T one = bias[group * g.out_group + channel + c];
                for (std::int64_t p = first; p < first + count; ++p) to[c * size + p] += one;
            }
        }
    });
}

// The geometry is that of the convolution whose gradient this is: `in` is the output of the transposed one.
template <class T>
void convolve_transposed(const Geometry& g, std::int64_t images, const T* in, const T* weight, const T* bias, T* out, const Workers& workers) {
    const std::int64_t depth = g.in_group * g.taps(), positions = product(g.out), size = product(g.in), total_rows = g.out[0] * g.out[1];
    const std::int64_t step = std::min(rows_at_once(g), total_rows), blocks = images * g.groups;
    const double operations = static_cast<double>(blocks * g.out_group * positions) * static_cast<double>(depth);
    // Patches overlap, so a part is whole images of some channels.
    workers.run(blocks * g.in_group, 1, operations, [&](std::int64_t begin, std::int64_t end) {
        std::vector<T> columns(static_cast<std::size_t>(depth * step * g.out[2]));
        for (std::int64_t at = begin; at < end;) {
            const std::int64_t block = at / g.in_group, channel = at % g.in_group, group = block % g.groups;
            Geometry here = g;
            here.in_group = std::min(g.in_group - channel, end - at);
            const T* image = in + block * g.out_group * positions;
            const T* kernels = weight + group * g.out_group * depth + channel * g.taps();
            T* to = out + at * size;
            for (std::int64_t c = 0; c < here.in_group; ++c) {
                std::fill_n(to + c * size, size, bias == nullptr ? T(0) : bias[group * g.in_group + channel + c]);
            }
            for (std::int64_t row = 0; row < total_rows; row += step) {
                const std::int64_t last = std::min(row + step, total_rows), count = (last - row) * g.out[2];
                gemm(here.in_group * g.taps(), count, g.out_group, {kernels, 1, depth}, {image + row * g.out[2], positions, 1}, columns.data(), count, false);
                scatter(here, columns.data(), row, last, to);
            }
            at += here.in_group;
        }
    });
}

// --- the ops ---

Shape with_kernel(std::int64_t first, std::int64_t second, const std::vector<std::int64_t>& kernel) {
    Shape shape{first, second};
    shape.insert(shape.end(), kernel.begin(), kernel.end());
    return shape;
}

void build_any_conv(const Build& build, bool transposed) {
    const Params& p = build.params();
    const std::int64_t in = p.integer("in_channels"), out = p.integer("out_channels"), groups = p.integer("groups");
    build.demand(in % groups == 0 && out % groups == 0, "channels that the groups do not divide");
    std::vector<std::pair<std::string, Shape>> slots;
    const std::vector<std::int64_t> kernel = p.integers("kernel_size");
    slots.emplace_back("weight", transposed ? with_kernel(in, out / groups, kernel) : with_kernel(out, in / groups, kernel));
    if (p.flag("bias")) slots.emplace_back("bias", Shape{out});
    build.expect(slots);
}

void build_conv(const Build& build) {
    const std::string* padding = build.params().at("padding").text();
    if (padding != nullptr && *padding == "same") {
        for (const std::int64_t stride : build.params().integers("stride")) build.demand(stride == 1, "`same` padding with strides");
    }
    build_any_conv(build, false);
}

void build_transposed(const Build& build) { build_any_conv(build, true); }

// The images, as (N, C, ...), and whether there was no axis of samples.
struct Images {
    std::int64_t count = 1, channels;
    Three size;
    bool alone;

    Images(const Tensor& given, std::int64_t rank) {
        require(given.rank() == rank + 1 || given.rank() == rank + 2, "images of another number of axes");
        alone = given.rank() == rank + 1;
        if (!alone) count = given.size(0);
        channels = given.size(alone ? 0 : 1);
        size = three(std::vector<std::int64_t>(given.shape().end() - rank, given.shape().end()), 1);
    }
    Shape shape(std::int64_t made, const Three& out, std::int64_t rank) const {
        Shape shape;
        if (!alone) shape.push_back(count);
        shape.push_back(made);
        shape.insert(shape.end(), out.end() - static_cast<std::ptrdiff_t>(rank), out.end());
        return shape;
    }
};

template <int rank>
void run_conv(Call& call) {
    const Params& p = call.params();
    const std::vector<std::int64_t> kernel = p.integers("kernel_size"), dilation = p.integers("dilation");
    Tensor given = call.x();
    Geometry g{three(kernel, 1), three(p.integers("stride"), 1), three(dilation, 1), Three{0, 0, 0}, {}, {}};
    g.groups = p.integer("groups");
    g.in_group = p.integer("in_channels") / g.groups;
    g.out_group = p.integer("out_channels") / g.groups;
    require(Images(given, rank).channels == p.integer("in_channels"), "another number of channels");
    std::vector<std::int64_t> before(rank, 0), after(rank, 0);
    const std::string* named = p.at("padding").text();
    if (named == nullptr) before = after = p.integers("padding");
    for (std::size_t i = 0; named != nullptr && *named == "same" && i < before.size(); ++i) {
        const std::int64_t total = multiply(dilation[i], kernel[i] - 1);
        before[i] = total / 2;
        after[i] = total - total / 2;
    }
    if (p.text("padding_mode") != "zeros") {
        std::vector<std::int64_t> amounts;
        for (std::size_t i = before.size(); i-- > 0;) amounts.insert(amounts.end(), {before[i], after[i]});
        given = padded(given, amounts, p.text("padding_mode"), Json(), call.real());
        before.assign(rank, 0);
        after.assign(rank, 0);
    }
    const Images images(given, rank);
    g.in = images.size;
    g.before = three(before, 0);
    const Three behind = three(after, 0);
    for (std::size_t i = 0; i < 3; ++i) {
        const std::int64_t room = add(add(g.in[i], g.before[i]), behind[i]), reach = add(multiply(g.dilation[i], g.kernel[i] - 1), 1);
        require(room >= reach, "a kernel that is larger than the padded image");
        g.out[i] = (room - reach) / g.stride[i] + 1;
    }
    const Tensor &weight = *call.slot("weight"), *bias = call.slot("bias");
    if (bias != nullptr) require_same_type(given, *bias);
    Tensor& out = call.make(given.dtype(), images.shape(p.integer("out_channels"), g.out, rank));
    if (!call.real() || out.count() == 0) return;
    require_floating(given);
    require_same_type(given, weight);
    settle(g);
    const auto run = [&](auto type) {
        using T = decltype(type);
        convolve<T>(g, images.count, given.data<T>(), weight.data<T>(), bias == nullptr ? nullptr : bias->data<T>(), out.mutable_data<T>(),
                    call.workers());
    };
    if (given.dtype() == DType::f64) run(double());
    else run(float());
}

template <int rank>
void run_transposed(Call& call) {
    const Params& p = call.params();
    require(call.arity() == 1, "an output size that is a tensor");
    const Tensor& given = call.x();
    const Images images(given, rank);
    Geometry g{three(p.integers("kernel_size"), 1), three(p.integers("stride"), 1), three(p.integers("dilation"), 1), three(p.integers("padding"), 0), {}, images.size};
    g.groups = p.integer("groups");
    g.in_group = p.integer("out_channels") / g.groups;
    g.out_group = p.integer("in_channels") / g.groups;
    Three extra = three(p.integers("output_padding"), 0), least;
    for (std::size_t i = 0; i < 3; ++i) {
        const std::int64_t reach = add(multiply(g.dilation[i], g.kernel[i] - 1), 1);
        least[i] = add(subtract(multiply(g.out[i] - 1, g.stride[i]), multiply(2, g.before[i])), reach);
    }
    if (call.computed()) {
        std::vector<std::int64_t> wanted = p.integers("output_size");
        if (wanted.size() == rank + 2) wanted.erase(wanted.begin(), wanted.begin() + 2);
        require(wanted.size() == rank, "an output size of another number of axes");
        const Three sizes = three(wanted, 1);
        for (std::size_t i = 3 - rank; i < 3; ++i) {
            extra[i] = subtract(sizes[i], least[i]);
            require(extra[i] >= 0 && extra[i] < g.stride[i], "an output size that cannot be");
        }
    }
    for (std::size_t i = 0; i < 3; ++i) {
        if (i >= 3 - rank && call.real()) require(extra[i] < g.stride[i] || extra[i] < g.dilation[i], "more output padding than a stride");
        g.in[i] = add(least[i], extra[i]);
        require(g.in[i] >= 0, "an image of a negative size");
    }
    const Tensor &weight = *call.slot("weight"), *bias = call.slot("bias");
    if (bias != nullptr) require_same_type(given, *bias);
    Tensor& out = call.make(given.dtype(), images.shape(p.integer("out_channels"), g.in, rank));
    if (!call.real() || out.count() == 0) return;
    require(images.channels == p.integer("in_channels"), "another number of channels");
    require_floating(given);
    require_same_type(given, weight);
    settle(g);
    const auto run = [&](auto type) {
        using T = decltype(type);
        convolve_transposed<T>(g, images.count, given.data<T>(), weight.data<T>(), bias == nullptr ? nullptr : bias->data<T>(), out.mutable_data<T>(),
                               call.workers());
    };
    if (given.dtype() == DType::f64) run(double());
    else run(float());
}

#define VN_CONV(rank)                                                                                                                      \
    "in_channels int+; out_channels int+; kernel_size axes" #rank " [int+]; stride axes" #rank " [int+] =[1]; dilation axes" #rank          \
    " [int+] =[1]; groups int+ =1; bias bool =true; padding axes" #rank
#define VN_FORWARD(rank) VN_CONV(rank) " [int0]|<same,valid> =[0]; padding_mode <zeros,reflect,replicate,circular> ='zeros'"
#define VN_TRANSPOSED(rank) VN_CONV(rank) " [int0] =[0]; output_padding axes" #rank " [int0] =[0]; output_size [int|ref]|null =null"

}  // namespace

const std::vector<Op> kConvOps = {
    {"vn.conv1d", VN_FORWARD(1), 1, 1, build_conv, run_conv<1>, 1, true},
    {"vn.conv2d", VN_FORWARD(2), 1, 1, build_conv, run_conv<2>, 1, true},
    {"vn.conv3d", VN_FORWARD(3), 1, 1, build_conv, run_conv<3>, 1, true},
    {"vn.conv_transpose1d", VN_TRANSPOSED(1), 1, 2, build_transposed, run_transposed<1>, 1, true},
    {"vn.conv_transpose2d", VN_TRANSPOSED(2), 1, 2, build_transposed, run_transposed<2>, 1, true},
    {"vn.conv_transpose3d", VN_TRANSPOSED(3), 1, 2, build_transposed, run_transposed<3>, 1, true},
};

}  // namespace vn
