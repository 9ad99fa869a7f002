// Reductions along axes. Sums are taken in double precision.
#include "reduce.h"

#include <cmath>
#include <limits>

#include "elementwise.h"

namespace vn {

namespace {

using Axes = std::vector<std::int64_t>;

bool keeps(const Call& call) { return call.params().flag("keepdim"); }

// Without `dim` most functions have no `keepdim`.
bool keeps_where_asked(const Call& call) { return keeps(call) && !call.params().null("dim"); }

Axes axes(const Call& call) { return axes_of(call.params().at("dim"), call.x().rank()); }

// out[slot] = finish(all entries of the slot, folded from `start`), computed as S.
template <class S, class F, class G>
void fold(Call& call, const Axes& along, DType type, bool keep, S start, F f, G finish) {
    const Tensor& given = call.x();
    Tensor& out = call.make(type, reduced_shape(given.shape(), along, keep));
    if (!call.real()) return;
    const DType work = compute_type(given.dtype()), out_work = compute_type(type);
    std::vector<S> slots(static_cast<std::size_t>(out.count()), start);
    const Tensor wide = cast(given, work);
    with_compute_type(work, [&](auto kind) {
        using T = decltype(kind);
        visit_reduced<T>(wide, along, [&](std::int64_t slot, T x) { f(slots[static_cast<std::size_t>(slot)], x); });
    });
    Tensor made = call.scratch(out_work, out.shape());
    with_compute_type(out_work, [&](auto kind) {
        using T = decltype(kind);
        for (std::size_t i = 0; i < slots.size(); ++i) made.mutable_data<T>()[i] = static_cast<T>(finish(slots[i]));
    });
    out = cast(made, type);
}

template <class S>
S same(S value) {
    return value;
}

void run_mean(Call& call) {
    const Axes along = axes(call);
    require_floating(call.x());
    const double count = static_cast<double>(reduced_count(call.x(), along));
    fold(call, along, call.x().dtype(), keeps(call), 0.0, [](double& sum, auto x) { sum += static_cast<double>(x); }, [count](double sum) { return sum / count; });
}

void run_sum(Call& call) {
    const Axes along = axes(call);
    const bool keep = keeps_where_asked(call);
    if (is_floating(call.x().dtype())) {
        return fold(call, along, call.x().dtype(), keep, 0.0, [](double& sum, auto x) { sum += static_cast<double>(x); }, same<double>);
    }
    fold(call, along, DType::i64, keep, std::uint64_t(0), [](std::uint64_t& sum, auto x) { sum += static_cast<std::uint64_t>(x); },
         [](std::uint64_t sum) { return static_cast<std::int64_t>(sum); });
}

void run_prod(Call& call) {
    Axes along = axes(call);
    const Json& dims = call.params().at("dim");
    if (dims.list() != nullptr) {
        require(!dims.list()->empty(), "no axis");
        along = axes_of(Json(List{(*dims.list())[0]}), call.x().rank());
    }
    const bool keep = keeps_where_asked(call);
    if (is_floating(call.x().dtype())) {
        return fold(call, along, call.x().dtype(), keep, 1.0, [](double& all, auto x) { all *= static_cast<double>(x); }, same<double>);
    }
    fold(call, along, DType::i64, keep, std::uint64_t(1), [](std::uint64_t& all, auto x) { all *= static_cast<std::uint64_t>(x); },
         [](std::uint64_t all) { return static_cast<std::int64_t>(all); });
}

template <bool larger>
void run_extreme(Call& call) {
    const Axes along = axes(call);
    require(reduced_count(call.x(), along) > 0, "the largest of no entries");
    const bool keep = keeps_where_asked(call);
    const DType type = call.x().dtype();
    if (is_floating(type)) {
        const double start = larger ? -HUGE_VAL : HUGE_VAL;
        return fold(call, along, type, keep, start, [](double& most, auto x) {
            const double one = static_cast<double>(x);
            if (std::isnan(one) || (larger ? one > most : one < most)) most = one;
        }, same<double>);
    }
    const std::int64_t start = larger ? std::numeric_limits<std::int64_t>::min() : std::numeric_limits<std::int64_t>::max();
    fold(call, along, type, keep, start, [](std::int64_t& most, auto x) {
        const auto one = static_cast<std::int64_t>(x);
        most = larger ? std::max(most, one) : std::min(most, one);
    }, same<std::int64_t>);
}

template <bool all>
void run_truth(Call& call) {
    const DType type = call.x().dtype() == DType::u8 ? DType::u8 : DType::boolean;
    fold(call, axes(call), type, keeps_where_asked(call), static_cast<char>(all), [](char& answer, auto x) {
        if (all) answer = answer && x != 0;
        else answer = answer || x != 0;
    }, [](char answer) { return static_cast<std::int64_t>(answer); });
}

void run_logsumexp(Call& call) {
    require(!call.params().null("dim"), "no axes");
    const Axes along = axes(call);
    const Tensor given = is_floating(call.x().dtype()) ? call.x() : cast(call.x(), DType::f32);
    Tensor& out = call.make(given.dtype(), reduced_shape(given.shape(), along, keeps(call)));
    if (!call.real()) return;
    std::vector<double> most(static_cast<std::size_t>(out.count()), -HUGE_VAL), sums(most.size(), 0.0);
    with_float_type(given.dtype(), [&](auto kind) {
        using T = decltype(kind);
        visit_reduced<T>(given, along, [&](std::int64_t slot, T x) {
            double& one = most[static_cast<std::size_t>(slot)];
            one = std::max(one, static_cast<double>(x));
        });
        const auto origin = [&](std::size_t slot) { return std::isinf(most[slot]) ? 0.0 : most[slot]; };
        visit_reduced<T>(given, along, [&](std::int64_t slot, T x) { sums[static_cast<std::size_t>(slot)] += std::exp(static_cast<double>(x) - origin(static_cast<std::size_t>(slot))); });
        for (std::size_t i = 0; i < sums.size(); ++i) out.mutable_data<T>()[i] = static_cast<T>(std::log(sums[i]) + origin(i));
    });
}

template <bool root>
void run_deviation(Call& call) {
    const Tensor& given = call.x();
    const Axes along = axes(call);
    const double count = static_cast<double>(reduced_count(given, along)), by = std::max(0.0, count - call.params().number("correction"));
    Tensor& out = call.make(given.dtype(), reduced_shape(given.shape(), along, keeps(call)));
    if (!call.real()) return;
    std::vector<double> means(static_cast<std::size_t>(out.count()), 0.0), squares(means.size(), 0.0);
    with_float_type(given.dtype(), [&](auto kind) {
        using T = decltype(kind);
        visit_reduced<T>(given, along, [&](std::int64_t slot, T x) { means[static_cast<std::size_t>(slot)] += x; });
        for (double& one : means) one /= count;
        visit_reduced<T>(given, along, [&](std::int64_t slot, T x) {
            const double distance = x - means[static_cast<std::size_t>(slot)];
            squares[static_cast<std::size_t>(slot)] += distance * distance;
        });
        for (std::size_t i = 0; i < squares.size(); ++i) out.mutable_data<T>()[i] = static_cast<T>(root ? std::sqrt(squares[i] / by) : squares[i] / by);
    });
}

void run_norm(Call& call) {
    const Axes along = axes(call);
    require_floating(call.x());
    const double order = call.params().number("ord");
    const auto size = [](auto x) { return std::fabs(static_cast<double>(x)); };
    const DType type = call.x().dtype();
    const bool keep = keeps(call);
    if (std::isinf(order)) {
        require(reduced_count(call.x(), along) > 0, "the norm of no entries");
        return fold(call, along, type, keep, order > 0 ? 0.0 : HUGE_VAL, [&](double& most, auto x) {
            const double one = size(x);
            if (std::isnan(one) || (order > 0 ? one > most : one < most)) most = one;
        }, same<double>);
    }
    if (order == 0.0) return fold(call, along, type, keep, 0.0, [](double& sum, auto x) { sum += x != 0; }, same<double>);
    if (order == 1.0) return fold(call, along, type, keep, 0.0, [&](double& sum, auto x) { sum += size(x); }, same<double>);
    if (order == 2.0) return fold(call, along, type, keep, 0.0, [&](double& sum, auto x) { sum += size(x) * size(x); }, [](double sum) { return std::sqrt(sum); });
    fold(call, along, type, keep, 0.0, [&](double& sum, auto x) { sum += std::pow(size(x), order); }, [order](double sum) { return std::pow(sum, 1.0 / order); });
}

constexpr char kPlain[] = "dim [int]|null =null; keepdim bool =false";

}  // namespace

const std::vector<Op> kReduceOps = {
    {"vn.mean", kPlain, 1, 1, no_slots, run_mean},
    {"vn.sum", kPlain, 1, 1, any_slots, run_sum},
    {"vn.prod", kPlain, 1, 1, any_slots, run_prod},
    {"vn.amax", kPlain, 1, 1, any_slots, run_extreme<true>},
    {"vn.amin", kPlain, 1, 1, any_slots, run_extreme<false>},
    {"vn.any", kPlain, 1, 1, any_slots, run_truth<false>},
    {"vn.all", kPlain, 1, 1, any_slots, run_truth<true>},
    {"vn.logsumexp", kPlain, 1, 1, any_slots, run_logsumexp, 1, true},
    {"vn.std", "dim [int]|null =null; keepdim bool =false; correction int|float =1", 1, 1, any_slots, run_deviation<true>, 1, true},
    {"vn.var", "dim [int]|null =null; keepdim bool =false; correction int|float =1", 1, 1, any_slots, run_deviation<false>, 1, true},
    {"vn.norm", "dim [int]|null =null; keepdim bool =false; ord int|float =2", 1, 1, any_slots, run_norm},
};

}  // namespace vn
