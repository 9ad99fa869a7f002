// Normalisation. Means and variances are taken in double precision.
#include <algorithm>
#include <cmath>
#include <limits>

#include "elementwise.h"
#include "reduce.h"

namespace vn {

namespace {

using Slot = std::pair<std::string, Shape>;

// A slot as doubles, or `standard` repeated.
std::vector<double> numbers(const Tensor* slot, std::int64_t count, double standard) {
    if (slot == nullptr) return std::vector<double>(static_cast<std::size_t>(count), standard);
    const Tensor wide = cast(*slot, DType::f64);
    return std::vector<double>(wide.data<double>(), wide.data<double>() + wide.count());
}

template <class T>
void moments(const T* x, std::int64_t count, double& mean, double& variance) {
    double sum = 0.0, squares = 0.0;
    for (std::int64_t i = 0; i < count; ++i) sum += x[i];
    mean = sum / static_cast<double>(count);
    for (std::int64_t i = 0; i < count; ++i) squares += (x[i] - mean) * (x[i] - mean);
    variance = squares / static_cast<double>(count);
}

// One channel: to = x * scale + shift, rounded once at the end.
template <class T>
void scaled(const T* x, T* to, std::int64_t count, double scale, double shift) {
    const T by = static_cast<T>(scale), plus = static_cast<T>(shift);
    for (std::int64_t i = 0; i < count; ++i) to[i] = x[i] * by + plus;
}

void build_statistics(const Build& build) {
    const Params& p = build.params();
    const std::int64_t count = p.integer("num_features");
    std::vector<Slot> slots;
    if (p.flag("affine")) slots.insert(slots.end(), {Slot{"weight", {count}}, Slot{"bias", {count}}});
    if (p.flag("track_running_stats")) {
        slots.insert(slots.end(), {Slot{"running_mean", {count}}, Slot{"running_var", {count}}, Slot{"num_batches_tracked", {}}});
    }
    build.expect(slots);
}

// Channels on axis `axis`, with statistics that are kept, or of all entries of a channel, or of each sample's.
void normalise_channels(Call& call, std::int64_t axis, bool per_sample, Tensor& out) {
    const Tensor& given = call.x();
    const Along along(given.shape(), axis);
    const std::int64_t channels = along.size, inner = along.inner;
    const double eps = call.params().number("eps");
    const bool tracked = call.slot("running_mean") != nullptr;
    const auto weight = numbers(call.slot("weight"), channels, 1.0), bias = numbers(call.slot("bias"), channels, 0.0);
    const auto mean = numbers(call.slot("running_mean"), channels, 0.0), variance = numbers(call.slot("running_var"), channels, 1.0);
    with_float_type(given.dtype(), [&](auto kind) {
        using T = decltype(kind);
        const T* x = given.data<T>();
        T* to = out.mutable_data<T>();
        for (std::int64_t c = 0; c < channels; ++c) {
            const auto at = static_cast<std::size_t>(c);
            double middle = mean[at], spread = variance[at];
            if (!tracked && !per_sample) {
                double sum = 0.0, squares = 0.0;
                const double count = static_cast<double>(along.outer * inner);
                const auto each = [&](auto f) {
                    for (std::int64_t n = 0; n < along.outer; ++n) {
                        for (std::int64_t i = 0; i < inner; ++i) f(x[(n * channels + c) * inner + i]);
                    }
                };
                each([&](T one) { sum += one; });
                middle = sum / count;
                each([&](T one) { squares += (one - middle) * (one - middle); });
                spread = squares / count;
            }
            for (std::int64_t n = 0; n < along.outer; ++n) {
                const std::int64_t start = (n * channels + c) * inner;
                if (!tracked && per_sample) moments(x + start, inner, middle, spread);
                const double scale = weight[at] / std::sqrt(spread + eps);
                scaled(x + start, to + start, inner, scale, bias[at] - middle * scale);
            }
        }
    });
}

template <int low, int high>
void run_batchnorm(Call& call) {
    const Tensor& given = call.x();
    require(given.rank() >= low && given.rank() <= high, "maps of another number of axes");
    const bool tracked = call.params().flag("track_running_stats");
    if (tracked || call.params().flag("affine")) require(given.size(1) == call.params().integer("num_features"), "another number of channels");
    require(tracked || given.count() != given.size(1), "statistics of one entry a channel");
    Tensor& out = call.make(given.dtype(), given.shape());
    if (call.real() && given.count() > 0) normalise_channels(call, 1, false, out);
}

void run_instance_norm(Call& call) {
    const Tensor& given = call.x();
    const std::int64_t rank = call.params().integer("rank"), axis = given.rank() - rank - 1;
    require(axis == 0 || axis == 1, "maps of another number of axes");
    const bool tracked = call.params().flag("track_running_stats");
    if (tracked || call.params().flag("affine")) require(given.size(axis) == call.params().integer("num_features"), "another number of channels");
    require(tracked || Along(given.shape(), axis).inner != 1, "statistics of one entry a channel");
    Tensor& out = call.make(given.dtype(), given.shape());
    if (call.real() && given.count() > 0) normalise_channels(call, axis, true, out);
}

void build_group_norm(const Build& build) {
    const std::int64_t channels = build.params().integer("num_channels");
    build.demand(channels % build.params().integer("num_groups") == 0, "groups that do not divide the channels");
    std::vector<Slot> slots;
    if (build.params().flag("affine")) slots.insert(slots.end(), {Slot{"weight", {channels}}, Slot{"bias", {channels}}});
    build.expect(slots);
}

void run_group_norm(Call& call) {
    const Tensor& given = call.x();
    require(given.rank() >= 2, "maps of another number of axes");
    const Along along(given.shape(), 1);
    const std::int64_t groups = call.params().integer("num_groups");
    require(along.size % groups == 0, "groups that do not divide the channels");
    if (call.params().flag("affine")) require(along.size == call.params().integer("num_channels"), "another number of channels");
    require(along.size / groups * along.outer * along.inner != 1, "statistics of one entry a group");
    require_floating(given);
    Tensor& out = call.make(given.dtype(), given.shape());
    if (!call.real() || given.count() == 0) return;
    const std::int64_t size = along.size / groups;
    const double eps = call.params().number("eps");
    const auto weight = numbers(call.slot("weight"), along.size, 1.0), bias = numbers(call.slot("bias"), along.size, 0.0);
    with_float_type(given.dtype(), [&](auto kind) {
        using T = decltype(kind);
        for (std::int64_t i = 0; i < along.outer * groups; ++i) {
            const T* x = given.data<T>() + i * size * along.inner;
            T* to = out.mutable_data<T>() + i * size * along.inner;
            double mean, variance;
            moments(x, size * along.inner, mean, variance);
            for (std::int64_t c = 0; c < size; ++c) {
                const auto at = static_cast<std::size_t>(i % groups * size + c);
                const double scale = weight[at] / std::sqrt(variance + eps);
                scaled(x + c * along.inner, to + c * along.inner, along.inner, scale, bias[at] - mean * scale);
            }
        }
    });
}

void build_last_axes(const Build& build, bool with_bias) {
    if (!build.params().flag("elementwise_affine")) return build.expect({});
    build.demand(!build.params().symbolic(), "computed sizes of a weight");
    const Shape shape = build.params().integers("normalized_shape");
    std::vector<Slot> slots{{"weight", shape}};
    if (with_bias) slots.emplace_back("bias", shape);
    build.expect(slots);
}
void build_layer_norm(const Build& build) { build_last_axes(build, build.params().flag("bias")); }
void build_rms_norm(const Build& build) { build_last_axes(build, false); }

// The number of entries that are normalised together: the last axes, which must be those of `normalized_shape`.
std::int64_t last_axes(const Call& call) {
    const Shape sizes = call.params().integers("normalized_shape");
    const Shape& shape = call.x().shape();
    require(!sizes.empty() && sizes.size() <= shape.size() && std::equal(sizes.rbegin(), sizes.rend(), shape.rbegin()), "other sizes than those of the last axes");
    return count_of(sizes);
}

void run_layer_norm(Call& call) {
    const Tensor& given = call.x();
    const std::int64_t size = last_axes(call);
    require_floating(given);
    Tensor& out = call.make(given.dtype(), given.shape());
    if (!call.real() || given.count() == 0) return;
    const double eps = call.params().number("eps");
    const auto weight = numbers(call.slot("weight"), size, 1.0), bias = numbers(call.slot("bias"), size, 0.0);
    with_float_type(given.dtype(), [&](auto kind) {
        using T = decltype(kind);
        for (std::int64_t start = 0; start < given.count(); start += size) {
            const T* x = given.data<T>() + start;
            T* to = out.mutable_data<T>() + start;
            double mean, variance;
            moments(x, size, mean, variance);
            const double scale = 1.0 / std::sqrt(variance + eps);
            for (std::int64_t i = 0; i < size; ++i) to[i] = static_cast<T>((x[i] - mean) * scale * weight[static_cast<std::size_t>(i)] + bias[static_cast<std::size_t>(i)]);
        }
    });
}

void run_rms_norm(Call& call) {
    const Tensor& given = call.x();
    const std::int64_t size = last_axes(call);
    Tensor& out = call.make(given.dtype(), given.shape());
    if (!call.real() || given.count() == 0) return;
    const double standard = given.dtype() == DType::f64 ? std::numeric_limits<double>::epsilon() : std::numeric_limits<float>::epsilon();
    const double eps = call.params().null("eps") ? standard : call.params().number("eps");
    const auto weight = numbers(call.slot("weight"), size, 1.0);
    with_float_type(given.dtype(), [&](auto kind) {
        using T = decltype(kind);
        for (std::int64_t start = 0; start < given.count(); start += size) {
            const T* x = given.data<T>() + start;
            double squares = 0.0;
            for (std::int64_t i = 0; i < size; ++i) squares += static_cast<double>(x[i]) * x[i];
            const double scale = 1.0 / std::sqrt(squares / static_cast<double>(size) + eps);
            for (std::int64_t i = 0; i < size; ++i) out.mutable_data<T>()[start + i] = static_cast<T>(x[i] * scale * weight[static_cast<std::size_t>(i)]);
        }
    });
}

void run_normalize(Call& call) {
    const Tensor& given = call.x();
    const Json& dim = call.params().at("dim");
    const std::vector<std::int64_t> axes = axes_of(dim.list() != nullptr ? dim : Json(List{dim}), given.rank());
    const double order = call.params().number("p"), eps = call.params().number("eps");
    require_floating(given);
    Tensor& out = call.make(given.dtype(), given.shape());
    if (!call.real() || given.count() == 0) return;
    std::vector<double> norms(static_cast<std::size_t>(count_of(reduced_shape(given.shape(), axes, true))), order == -HUGE_VAL ? HUGE_VAL : 0.0);
    with_float_type(given.dtype(), [&](auto kind) {
        using T = decltype(kind);
        visit_reduced<T>(given, axes, [&](std::int64_t slot, T x) {
            double& norm = norms[static_cast<std::size_t>(slot)];
            const double size = std::fabs(static_cast<double>(x));
            if (std::isinf(order)) norm = order > 0 ? std::max(norm, size) : std::min(norm, size);
            else norm += order == 0.0 ? size != 0.0 : order == 2.0 ? size * size : std::pow(size, order);
        });
        for (double& norm : norms) {
            if (order != 0.0 && !std::isinf(order)) norm = order == 2.0 ? std::sqrt(norm) : std::pow(norm, 1.0 / order);
            norm = std::max(norm, eps);
        }
        T* to = out.mutable_data<T>();
        visit_reduced<T>(given, axes, [&](std::int64_t slot, T x) { *to++ = static_cast<T>(x / norms[static_cast<std::size_t>(slot)]); });
    });
}

void run_local_response_norm(Call& call) {
    const Tensor& given = call.x();
    require(given.rank() >= 3, "maps of another number of axes");
    const Params& p = call.params();
    const std::int64_t size = p.integer("size"), before = size / 2, after = (size - 1) / 2;
    Tensor& out = call.make(is_floating(given.dtype()) ? given.dtype() : DType::f32, given.shape());
    if (!call.real()) return;
    const Along along(given.shape(), 1);
    const double alpha = p.number("alpha"), beta = p.number("beta"), k = p.number("k");
    with_float_type(given.dtype(), [&](auto kind) {
        using T = decltype(kind);
        for (std::int64_t i = 0; i < given.count(); ++i) {
            const std::int64_t c = i / along.inner % along.size, first = std::max<std::int64_t>(c - before, 0);
            const std::int64_t last = c + std::min(after, along.size - 1 - c);
            double sum = 0.0;
            for (std::int64_t other = first; other <= last; ++other) {
                const double one = given.data<T>()[i + (other - c) * along.inner];
                sum += one * one;
            }
            out.mutable_data<T>()[i] = static_cast<T>(given.data<T>()[i] / std::pow(k + alpha * sum / static_cast<double>(size), beta));
        }
    });
}

constexpr char kBatch[] = "num_features int+; eps float =1e-05; momentum float|null =0.1; affine bool =true; track_running_stats bool =true";

}  // namespace

const std::vector<Op> kNormOps = {
    {"vn.batchnorm1d", kBatch, 1, 1, build_statistics, run_batchnorm<2, 3>, 1, true},
    {"vn.batchnorm2d", kBatch, 1, 1, build_statistics, run_batchnorm<4, 4>, 1, true},
    {"vn.batchnorm3d", kBatch, 1, 1, build_statistics, run_batchnorm<5, 5>, 1, true},
    {"vn.instance_norm",
     "rank <1,2,3> =2; num_features int+; eps float =1e-05; momentum float|null =0.1; affine bool =false; track_running_stats bool =false", 1, 1,
     build_statistics, run_instance_norm, 1, true},
    {"vn.group_norm", "num_groups int+; num_channels int+; eps float =1e-05; affine bool =true", 1, 1, build_group_norm, run_group_norm, 1, true},
    {"vn.layer_norm", "normalized_shape [int|ref]; eps float =1e-05; elementwise_affine bool =true; bias bool =true", 1, 1, build_layer_norm,
     run_layer_norm, 1, true},
    {"vn.rms_norm", "normalized_shape [int|ref]; eps float|null =null; elementwise_affine bool =true", 1, 1, build_rms_norm, run_rms_norm, 1, true},
    {"vn.normalize", "p float =2.0; dim int|[int] =1; eps float =1e-12", 1, 1, no_slots, run_normalize, 1, true},
    {"vn.local_response_norm", "size int+; alpha float =0.0001; beta float =0.75; k float =1.0", 1, 1, no_slots, run_local_response_norm, 1, true},
};

}  // namespace vn
