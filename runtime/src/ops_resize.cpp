// Interpolation, padding, and sampling at computed places.
#include <algorithm>
#include <cmath>

#include "checked.h"
#include "elementwise.h"
#include "pad.h"
#include "strided.h"

namespace vn {

namespace {

// --- padding ---

// The entry of an axis that each place of the padded axis shows; -1 for the constant.
std::vector<std::int64_t> shown(std::int64_t size, std::int64_t before, std::int64_t after, const std::string& mode) {
    const std::int64_t total = add(add(size, before), after);
    require(total >= 0, "more is cropped than there is");
    if (mode == "reflect") require(before < size && after < size, "a reflection of more than there is");
    if (mode == "circular") require(before <= size && after <= size, "more than one turn");
    if (mode != "constant") require(total > 0, "a result without entries");
    std::vector<std::int64_t> made(static_cast<std::size_t>(total));
    for (std::int64_t i = 0; i < total; ++i) {
        std::int64_t at = i - before;
        if (mode == "reflect") at = at < 0 ? -at : at >= size ? 2 * (size - 1) - at : at;
        else if (mode == "replicate") at = std::min(std::max<std::int64_t>(at, 0), size - 1);
        else if (mode == "circular") at = modulo(at, size);
        else if (at < 0 || at >= size) at = -1;
        made[static_cast<std::size_t>(i)] = at;
    }
    return made;
}

}  // namespace

Tensor padded(const Tensor& given, const std::vector<std::int64_t>& amounts, const std::string& mode, const Json& value, bool real) {
    const std::size_t rank = given.shape().size();
    require(amounts.size() % 2 == 0 && amounts.size() / 2 <= rank, "more amounts than axes");
    if (mode != "constant") {
        require(mode == "reflect" || mode == "replicate" || mode == "circular", "an unknown way of padding");
        require(value.is_null() || to_number(value) == 0.0, "a number for a padding that takes none");
        require(!amounts.empty() && (rank == amounts.size() / 2 + 1 || rank == amounts.size() / 2 + 2), "another number of amounts than spatial axes");
    }
    std::vector<std::pair<std::int64_t, std::int64_t>> sides(rank, {0, 0});
    Shape shape = given.shape();
    for (std::size_t i = 0; i < amounts.size() / 2; ++i) {
        const std::size_t axis = rank - 1 - i;
        sides[axis] = {amounts[2 * i], amounts[2 * i + 1]};
        shape[axis] = add(add(shape[axis], sides[axis].first), sides[axis].second);
        require(shape[axis] >= 0, "more is cropped than there is");
        if (mode == "reflect") require(sides[axis].first < given.shape()[axis] && sides[axis].second < given.shape()[axis], "a reflection of more than there is");
        if (mode == "circular") require(sides[axis].first <= given.shape()[axis] && sides[axis].second <= given.shape()[axis], "more than one turn");
        if (mode != "constant") require(shape[axis] > 0, "a result without entries");
    }
    Tensor made = make_tensor(given.dtype(), shape, real);
    if (!real || made.count() == 0) return made;
    fill(made, value.is_null() ? Json(std::int64_t(0)) : value);
    if (rank == 0) return given;
    std::vector<std::vector<std::int64_t>> sources;
    for (std::size_t axis = 0; axis < rank; ++axis) sources.push_back(shown(given.shape()[axis], sides[axis].first, sides[axis].second, mode));
    const Shape own = strides_of(given.shape()), steps = strides_of(shape);
    const std::int64_t inner = shape[rank - 1];
    with_width(given.dtype(), [&](auto width) {
        using T = decltype(width);
        for (std::int64_t row = 0; row < made.count(); row += inner) {
            std::int64_t from = 0, rest = row;
            bool there = true;
            for (std::size_t axis = 0; axis + 1 < rank; ++axis) {
                const std::int64_t at = sources[axis][static_cast<std::size_t>(rest / steps[axis])];
                rest %= steps[axis];
                there = there && at >= 0;
                from += at * own[axis];
            }
            for (std::int64_t i = 0; there && i < inner; ++i) {
                const std::int64_t at = sources[rank - 1][static_cast<std::size_t>(i)];
                if (at >= 0) made.mutable_data<T>()[row + i] = given.data<T>()[from + at];
            }
        }
    });
    return made;
}

namespace {

void run_pad(Call& call) {
    call.give(padded(call.x(), call.params().integers("pad"), call.params().text("mode"), call.params().at("value"), call.real()));
}

// --- interpolation ---

// What an output position is made of: entries of the axis with their weights.
struct Mix {
    std::vector<std::int64_t> at;
    std::vector<double> weight;
};

double cubic(double x) {
    constexpr double a = -0.75;
    x = std::fabs(x);
    if (x <= 1.0) return ((a + 2) * x - (a + 3)) * x * x + 1;
    return x < 2.0 ? ((a * x - 5 * a) * x + 8 * a) * x - 4 * a : 0.0;
}

// torch computes places in single precision, and so do these.
std::vector<Mix> mixes(std::int64_t in, std::int64_t out, const std::string& mode, bool corners, float scale) {
    std::vector<Mix> made;
    const auto inside = [in](std::int64_t at) { return std::min(std::max<std::int64_t>(at, 0), in - 1); };
    for (std::int64_t i = 0; i < out; ++i) {
        const auto place = static_cast<float>(i);
        if (mode == "nearest" || mode == "nearest-exact") {
            made.push_back({{inside(static_cast<std::int64_t>(std::floor((mode == "nearest" ? place : place + 0.5f) * scale)))}, {1.0}});
            continue;
        }
        const float source = corners ? place * scale : (place + 0.5f) * scale - 0.5f;
        if (mode == "bicubic") {
            const float first = std::floor(source);
            const double rest = source - first;
            Mix mix;
            for (std::int64_t k = -1; k <= 2; ++k) {
                mix.at.push_back(inside(static_cast<std::int64_t>(first) + k));
                mix.weight.push_back(cubic(static_cast<double>(k) - rest));
            }
            made.push_back(mix);
            continue;
        }
        const float real = std::max(source, 0.0f);
        const std::int64_t first = inside(static_cast<std::int64_t>(real));
        const double rest = std::min(std::max(real - static_cast<float>(first), 0.0f), 1.0f);
        made.push_back({{first, inside(first + 1)}, {1.0 - rest, rest}});
    }
    return made;
}

// Mixes along one axis.
template <class T>
Tensor mixed(const Tensor& given, std::int64_t axis, const std::vector<Mix>& by) {
    Shape shape = given.shape();
    const Along along(shape, axis);
    shape[static_cast<std::size_t>(axis)] = static_cast<std::int64_t>(by.size());
    Tensor made = make_tensor(given.dtype(), shape, true);
    T* to = made.mutable_data<T>();
    for (std::int64_t i = 0; i < along.outer; ++i) {
        const T* x = given.data<T>() + i * along.size * along.inner;
        for (const Mix& mix : by) {
            for (std::int64_t k = 0; k < along.inner; ++k) {
                double sum = 0.0;
                for (std::size_t j = 0; j < mix.at.size(); ++j) sum += mix.weight[j] * static_cast<double>(x[mix.at[j] * along.inner + k]);
                *to++ = static_cast<T>(sum);
            }
        }
    }
    return made;
}

Tensor averaged(const Tensor& given, const std::vector<std::int64_t>& out) {
    Tensor made = given;
    for (std::size_t i = 0; i < out.size(); ++i) {
        const std::int64_t axis = static_cast<std::int64_t>(i) + 2, in = given.size(axis);
        std::vector<Mix> by;
        for (std::int64_t k = 0; k < out[i]; ++k) {
            const std::int64_t first = k * in / out[i], last = ((k + 1) * in + out[i] - 1) / out[i];
            Mix mix;
            for (std::int64_t at = first; at < last; ++at) {
                mix.at.push_back(at);
                mix.weight.push_back(1.0 / static_cast<double>(last - first));
            }
            by.push_back(mix);
        }
        with_float_type(given.dtype(), [&](auto kind) { made = mixed<decltype(kind)>(made, axis, by); });
    }
    return made;
}

// One number for all spatial axes or one for each.
List for_axes(const Json& given, std::size_t count) {
    if (given.list() == nullptr) return List(count, given);
    require(given.list()->size() == count, "another number of sizes than spatial axes");
    return *given.list();
}

void run_interpolate(Call& call) {
    const Tensor& given = call.x();
    const Params& p = call.params();
    const std::string& mode = p.text("mode");
    const std::int64_t rank = given.rank() - 2;
    const bool plain = mode == "nearest" || mode == "area" || mode == "nearest-exact";
    require(rank >= 1 && rank <= 3, "maps of another number of axes");
    require(plain || (mode == "linear" && rank == 1) || ((mode == "bilinear" || mode == "bicubic") && rank == 2) || (mode == "trilinear" && rank == 3),
            "a way of resizing that there is not for as many axes");
    require(!plain || p.null("align_corners"), "`align_corners` for a way of resizing that has none");
    require(p.null("size") != p.null("scale_factor"), "a size and a factor, or neither");
    const bool antialias = p.flag("antialias");
    require(!antialias || mode == "bilinear" || mode == "bicubic", "smoothing for a way of resizing that has none");
    bool recompute = p.flag("recompute_scale_factor");
    require(!recompute || p.null("size"), "a factor that is computed from a size");
    const auto axes = static_cast<std::size_t>(rank);
    std::vector<std::int64_t> out;
    std::vector<double> factors;
    if (!p.null("size")) {
        for (const Json& one : for_axes(p.at("size"), axes)) out.push_back(to_integer(one));
    } else {
        for (const Json& one : for_axes(p.at("scale_factor"), axes)) {
            factors.push_back(to_number(one));
            const double size = static_cast<double>(given.size(static_cast<std::int64_t>(factors.size()) + 1)) * factors.back();
            require(std::isfinite(size) && std::fabs(size) < 9e18, "a size that no memory can have");
            out.push_back(static_cast<std::int64_t>(std::floor(size)));
        }
        recompute = recompute || mode == "area";
    }
    Shape shape{given.size(0), given.size(1)};
    for (std::size_t i = 0; i < axes; ++i) {
        require(out[i] > 0 && given.shape()[i + 2] > 0, "maps without entries");
        shape.push_back(out[i]);
    }
    if (!call.real() || count_of(shape) == 0) {
        call.make(given.dtype(), shape);
        return;
    }
    require(!antialias, "resizing with antialiasing is not supported");
    if (mode == "area") return call.give(averaged(given, out));
    const bool corners = p.flag("align_corners");
    Tensor made = given;
    for (std::size_t i = 0; i < axes; ++i) {
        const std::int64_t axis = static_cast<std::int64_t>(i) + 2, in = given.size(axis);
        float scale = static_cast<float>(in) / static_cast<float>(out[i]);
        if (!factors.empty() && !recompute && factors[i] > 0.0) scale = static_cast<float>(1.0 / factors[i]);
        if (corners) scale = out[i] > 1 ? static_cast<float>(in - 1) / static_cast<float>(out[i] - 1) : 0.0f;
        const std::vector<Mix> by = mixes(in, out[i], mode, corners, scale);
        with_float_type(given.dtype(), [&](auto kind) { made = mixed<decltype(kind)>(made, axis, by); });
    }
    call.give(made);
}

// --- sampling ---

enum class Border { zeros, border, reflection };

double reflected(double x, double low, double high) {
    if (low == high) return 0.0;
    const double span = high - low, from = std::fabs(x - low);
    const double rest = std::fmod(from, span);
    return std::fmod(std::floor(from / span), 2.0) == 0.0 ? rest + low : span - rest + low;
}

// A place between -1 and 1 as a place among `size` entries.
double place_of(double x, std::int64_t size, bool corners) {
    const auto n = static_cast<double>(size);
    return corners ? (x + 1) / 2 * (n - 1) : ((x + 1) * n - 1) / 2;
}

double settled(double x, std::int64_t size, Border border, bool corners) {
    const auto n = static_cast<double>(size);
    if (border == Border::reflection) x = corners ? reflected(x, 0.0, n - 1) : reflected(x, -0.5, n - 0.5);
    if (border != Border::zeros) x = std::min(std::max(x, 0.0), n - 1);
    return std::isfinite(x) && std::fabs(x) < 1e9 ? x : -100.0;
}

void run_grid_sample(Call& call) {
    const Params& p = call.params();
    const bool swapped = p.flag("reversed"), corners = p.flag("align_corners");
    const Tensor &given = call.x(swapped ? 1 : 0), &grid = call.x(swapped ? 0 : 1);
    const std::string &mode = p.text("mode"), &padding = p.text("padding_mode");
    require(mode == "bilinear" || mode == "nearest" || mode == "bicubic", "an unknown way of sampling");
    require(padding == "zeros" || padding == "border" || padding == "reflection", "an unknown border");
    require(given.rank() == 4 || given.rank() == 5, "maps of another number of axes");
    const std::int64_t spatial = given.rank() - 2;
    require(grid.rank() == given.rank() && grid.size(0) == given.size(0) && grid.size(grid.rank() - 1) == spatial, "places that do not fit the maps");
    require(mode != "bicubic" || spatial == 2, "a way of sampling that there is for images only");
    for (std::int64_t i = 2; i < given.rank(); ++i) require(given.size(i) > 0, "maps without entries");
    Shape shape{given.size(0), given.size(1)};
    shape.insert(shape.end(), grid.shape().begin() + 1, grid.shape().end() - 1);
    Tensor& out = call.make(given.dtype(), shape);
    if (!call.real()) return;
    require_same_type(given, grid);
    require(spatial == 2, "sampling of volumes is not supported");
    const Border border = padding == "zeros" ? Border::zeros : padding == "border" ? Border::border : Border::reflection;
    const std::int64_t height = given.size(2), width = given.size(3), channels = given.size(1), places = grid.size(1) * grid.size(2);
    with_float_type(given.dtype(), [&](auto kind) {
        using T = decltype(kind);
        for (std::int64_t i = 0; i < given.size(0) * places; ++i) {
            const T* at = grid.data<T>() + 2 * i;
            const double raw_x = place_of(at[0], width, corners), raw_y = place_of(at[1], height, corners);
            const double x = settled(raw_x, width, border, corners), y = settled(raw_y, height, border, corners);
            // Pixels with their weights; each pixel of a cubic is settled by itself.
            std::vector<std::pair<double, double>> xs, ys;
            if (mode == "nearest") {
                xs = {{std::nearbyint(x), 1.0}};
                ys = {{std::nearbyint(y), 1.0}};
            } else if (mode == "bilinear") {
                xs = {{std::floor(x), std::floor(x) + 1 - x}, {std::floor(x) + 1, x - std::floor(x)}};
                ys = {{std::floor(y), std::floor(y) + 1 - y}, {std::floor(y) + 1, y - std::floor(y)}};
            } else {
                for (int k = -1; k <= 2; ++k) {
                    xs.emplace_back(settled(std::floor(raw_x) + k, width, border, corners), cubic(k - (raw_x - std::floor(raw_x))));
                    ys.emplace_back(settled(std::floor(raw_y) + k, height, border, corners), cubic(k - (raw_y - std::floor(raw_y))));
                }
            }
            for (std::int64_t c = 0; c < channels; ++c) {
                const T* plane = given.data<T>() + (i / places * channels + c) * height * width;
                double sum = 0.0;
                for (const auto& [py, wy] : ys) {
                    for (const auto& [px, wx] : xs) {
                        const auto row = static_cast<std::int64_t>(py), column = static_cast<std::int64_t>(px);
                        if (row >= 0 && row < height && column >= 0 && column < width) sum += wy * wx * static_cast<double>(plane[row * width + column]);
                    }
                }
                out.mutable_data<T>()[(i / places * channels + c) * places + i % places] = static_cast<T>(sum);
            }
        }
    });
}

void run_affine_grid(Call& call) {
    const Tensor& theta = call.x();
    const std::vector<std::int64_t> size = call.params().integers("size");
    require(size.size() == 4 || size.size() == 5, "another number of sizes than four or five");
    for (const std::int64_t one : size) require(one > 0, "a size that is not positive");
    require_floating(theta);
    const auto spatial = static_cast<std::int64_t>(size.size()) - 2;
    require(theta.shape() == Shape({size[0], spatial, spatial + 1}), "maps that do not fit the size");
    Shape shape(size.begin() + 2, size.end());
    shape.insert(shape.begin(), size[0]);
    shape.push_back(spatial);
    Tensor& out = call.make(theta.dtype(), shape);
    if (!call.real()) return;
    require(spatial == 2, "grids of volumes are not supported");
    const bool corners = call.params().flag("align_corners");
    const auto base = [corners](std::int64_t i, std::int64_t n) {
        if (n <= 1) return 0.0;
        const double x = -1.0 + 2.0 * static_cast<double>(i) / static_cast<double>(n - 1);
        return corners ? x : x * static_cast<double>(n - 1) / static_cast<double>(n);
    };
    const std::int64_t height = size[2], width = size[3];
    with_float_type(theta.dtype(), [&](auto kind) {
        using T = decltype(kind);
        T* to = out.mutable_data<T>();
        for (std::int64_t n = 0; n < size[0]; ++n) {
            const T* m = theta.data<T>() + 6 * n;
            for (std::int64_t i = 0; i < height * width; ++i) {
                const double x = base(i % width, width), y = base(i / width, height);
                *to++ = static_cast<T>(m[0] * x + m[1] * y + m[2]);
                *to++ = static_cast<T>(m[3] * x + m[4] * y + m[5]);
            }
        }
    });
}

}  // namespace

const std::vector<Op> kResizeOps = {
    {"vn.interpolate",
     "size int|ref|[int|ref]|null =null; scale_factor ref|int|float|[ref|int|float]|null =null; mode str ='nearest'; align_corners bool|null =null; "
     "recompute_scale_factor bool|null =null; antialias bool =false",
     1, 1, no_slots, run_interpolate, 1, true},
    {"vn.pad", "pad [int|ref]; mode str ='constant'; value int|float|null =null", 1, 1, no_slots, run_pad},
    {"vn.grid_sample", "mode str ='bilinear'; padding_mode str ='zeros'; align_corners bool|null =null; reversed bool =false", 2, 2, no_slots,
     run_grid_sample, 1, true},
    {"vn.affine_grid", "size [int|ref]; align_corners bool|null =null", 1, 1, no_slots, run_affine_grid, 1, true},
};

}  // namespace vn
