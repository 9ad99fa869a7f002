// Patches as columns and columns as patches; channels as pixels, pixels as channels, channels in turn.
#include <algorithm>
#include <array>

#include "checked.h"
#include "elementwise.h"
#include "strided.h"

namespace vn {

namespace {

using Two = std::array<std::int64_t, 2>;

Two pair_of(const std::vector<std::int64_t>& given) {
    require(given.size() == 1 || given.size() == 2, "another number of sizes than two");
    return {given.front(), given.back()};
}

// Patches of an image (c, h, w).
struct Patches {
    Two kernel, dilation, padding, stride, image, blocks;

    Patches(const Params& p, Two size) : kernel(pair_of(p.integers("kernel_size"))), dilation(pair_of(p.integers("dilation"))),
          padding(pair_of(p.integers("padding"))), stride(pair_of(p.integers("stride"))), image(size) {
        for (std::size_t i = 0; i < 2; ++i) {
            require(kernel[i] > 0 && dilation[i] > 0 && padding[i] >= 0 && stride[i] > 0, "a size that is not positive");
            const std::int64_t room = subtract(add(image[i], multiply(2, padding[i])), add(multiply(dilation[i], kernel[i] - 1), 1));
            require(room >= 0, "patches that are larger than the image");
            blocks[i] = room / stride[i] + 1;
        }
    }
    std::int64_t taps() const { return multiply(kernel[0], kernel[1]); }
    std::int64_t count() const { return multiply(blocks[0], blocks[1]); }

    // Calls f(place in the columns, place in the images) for all entries of `planes` channels that lie inside.
    template <class F>
    void visit(std::int64_t planes, F f) const {
        std::int64_t column = 0;
        for (std::int64_t c = 0; c < planes; ++c) {
            for (std::int64_t tap = 0; tap < taps(); ++tap) {
                for (std::int64_t block = 0; block < count(); ++block, ++column) {
                    const std::int64_t y = block / blocks[1] * stride[0] + tap / kernel[1] * dilation[0] - padding[0];
                    const std::int64_t x = block % blocks[1] * stride[1] + tap % kernel[1] * dilation[1] - padding[1];
                    if (y >= 0 && y < image[0] && x >= 0 && x < image[1]) f(column, (c * image[0] + y) * image[1] + x);
                }
            }
        }
    }
};

void run_unfold(Call& call) {
    const Tensor& given = call.x();
    require(given.rank() == 3 || given.rank() == 4, "images of another number of axes");
    const std::size_t axis = static_cast<std::size_t>(given.rank()) - 3;
    const std::int64_t channels = given.shape()[axis];
    require(channels > 0 && given.shape()[axis + 1] > 0 && given.shape()[axis + 2] > 0, "images without entries");
    const Patches patches(call.params(), {given.shape()[axis + 1], given.shape()[axis + 2]});
    Shape shape(given.shape().begin(), given.shape().begin() + static_cast<std::ptrdiff_t>(axis));
    shape.insert(shape.end(), {multiply(channels, patches.taps()), patches.count()});
    Tensor& out = call.make(given.dtype(), shape);
    if (!call.real()) return;
    fill(out, Json(std::int64_t(0)));
    with_width(given.dtype(), [&](auto width) {
        using T = decltype(width);
        patches.visit(channels * (axis == 0 ? 1 : given.size(0)), [&](std::int64_t to, std::int64_t from) { out.mutable_data<T>()[to] = given.data<T>()[from]; });
    });
}

void run_fold(Call& call) {
    const Tensor& given = call.x();
    require(given.rank() == 2 || given.rank() == 3, "columns of another number of axes");
    const Two size = pair_of(call.params().integers("output_size"));
    require(size[0] > 0 && size[1] > 0, "an image without entries");
    const Patches patches(call.params(), size);
    const std::size_t axis = static_cast<std::size_t>(given.rank()) - 2;
    const std::int64_t rows = given.shape()[axis];
    require(rows > 0 && rows % patches.taps() == 0 && given.shape()[axis + 1] == patches.count(), "columns that do not make the image");
    Shape shape(given.shape().begin(), given.shape().begin() + static_cast<std::ptrdiff_t>(axis));
    shape.insert(shape.end(), {rows / patches.taps(), size[0], size[1]});
    Tensor& out = call.make(given.dtype(), shape);
    if (!call.real()) return;
    fill(out, Json(std::int64_t(0)));
    with_float_type(given.dtype(), [&](auto kind) {
        using T = decltype(kind);
        patches.visit(rows / patches.taps() * (axis == 0 ? 1 : given.size(0)),
                      [&](std::int64_t from, std::int64_t to) { out.mutable_data<T>()[to] += given.data<T>()[from]; });
    });
}

// The axes of (..., c, h, w) with c, h, w divided, and put in another order.
void give_regrouped(Call& call, const Shape& divided, const std::vector<std::int64_t>& order, const Shape& last) {
    const Shape& own = call.x().shape();
    Shape split(own.begin(), own.end() - 3), made(own.begin(), own.end() - 3);
    const auto leading = static_cast<std::int64_t>(split.size());
    std::vector<std::int64_t> axes;
    for (std::int64_t i = 0; i < leading; ++i) axes.push_back(i);
    for (const std::int64_t one : order) axes.push_back(leading + one);
    split.insert(split.end(), divided.begin(), divided.end());
    made.insert(made.end(), last.begin(), last.end());
    call.give(permuted(call.x().reshaped(split), axes, call.real()).reshaped(made));
}

void run_pixel_shuffle(Call& call) {
    const Tensor& given = call.x();
    const std::int64_t r = call.params().integer("upscale_factor");
    require(given.rank() >= 3 && r > 0, "maps of another number of axes, or no factor");
    const std::int64_t c = given.size(given.rank() - 3), h = given.size(given.rank() - 2), w = given.size(given.rank() - 1);
    require(c % multiply(r, r) == 0, "channels that the factor does not divide");
    give_regrouped(call, {c / (r * r), r, r, h, w}, {0, 3, 1, 4, 2}, {c / (r * r), multiply(h, r), multiply(w, r)});
}

void run_pixel_unshuffle(Call& call) {
    const Tensor& given = call.x();
    const std::int64_t r = call.params().integer("downscale_factor");
    require(given.rank() >= 3 && r > 0, "maps of another number of axes, or no factor");
    const std::int64_t c = given.size(given.rank() - 3), h = given.size(given.rank() - 2), w = given.size(given.rank() - 1);
    require(h % r == 0 && w % r == 0, "a size that the factor does not divide");
    give_regrouped(call, {c, h / r, r, w / r, r}, {0, 2, 4, 1, 3}, {multiply(c, multiply(r, r)), h / r, w / r});
}

void run_channel_shuffle(Call& call) {
    const Tensor& given = call.x();
    const std::int64_t groups = call.params().integer("groups");
    require(given.rank() > 2 && groups > 0 && given.size(1) % groups == 0, "channels that the groups do not divide");
    const Along along(given.shape(), 1);
    const Tensor split = given.reshaped({along.outer, groups, along.size / groups, along.inner});
    call.give(permuted(split, {0, 2, 1, 3}, call.real()).reshaped(given.shape()));
}

// The channels at the places `index`, of maps (N, channels, ...).
void build_sampler(const Build& build) {
    const std::vector<std::int64_t> index = build.params().integers("index");
    build.demand_slots(std::all_of(index.begin(), index.end(), [&](std::int64_t one) { return one < build.params().integer("channels"); }),
                       "a channel that there is not");
    no_slots(build);
}

void run_sampler(Call& call) {
    const Tensor& given = call.x();
    require(given.rank() > 1, "maps of another number of axes");
    const std::vector<std::int64_t> index = call.params().integers("index");
    const Along along(given.shape(), 1);
    Shape shape = given.shape();
    shape[1] = static_cast<std::int64_t>(index.size());
    Tensor& out = call.make(given.dtype(), shape);
    if (!call.real() || given.count() == 0) return;
    const std::int64_t size = along.inner * item_size(given.dtype());
    char* to = out.mutable_data<char>();
    for (std::int64_t n = 0; n < along.outer; ++n) {
        for (const std::int64_t channel : index) {
            require(channel < along.size, "a channel that there is not");
            to = std::copy_n(given.data<char>() + (n * along.size + channel) * size, size, to);
        }
    }
}

#define VN_PATCHES "kernel_size int|[int]; dilation int|[int] =1; padding int|[int] =0; stride int|[int] =1"

}  // namespace

const std::vector<Op> kPatchOps = {
    {"vn.unfold", VN_PATCHES, 1, 1, no_slots, run_unfold},
    {"vn.fold", VN_PATCHES "; output_size int|ref|[int|ref]", 1, 1, no_slots, run_fold, 1, true},
    {"vn.pixel_shuffle", "upscale_factor int", 1, 1, no_slots, run_pixel_shuffle},
    {"vn.pixel_unshuffle", "downscale_factor int", 1, 1, no_slots, run_pixel_unshuffle},
    {"vn.channel_shuffle", "groups int", 1, 1, no_slots, run_channel_shuffle},
    {"vn.pruning_sampler", "channels int+; index [int0]+", 1, 1, build_sampler, run_sampler},
};

}  // namespace vn
