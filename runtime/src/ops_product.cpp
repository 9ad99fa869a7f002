// Fully connected layers, embeddings, products of matrices and sums of products along named axes.
#include "product.h"

#include <algorithm>
#include <map>

#include "checked.h"
#include "elementwise.h"
#include "gemm.h"

namespace vn {

void linear(const Tensor& x, const Tensor& weight, const Tensor* bias, Tensor& out, const Workers& workers) {
    const std::int64_t in = weight.size(1), made = weight.size(0), rows = made == 0 ? 0 : out.count() / made;
    with_float_type(x.dtype(), [&](auto type) {
        using T = decltype(type);
        // Rows `top` to `bottom` of the result, columns `left` to `right`.
        const auto part = [&](std::int64_t top, std::int64_t bottom, std::int64_t left, std::int64_t right) {
            T* to = out.mutable_data<T>() + top * made + left;
            for (std::int64_t i = 0; i < bottom - top; ++i) {
                if (bias != nullptr) std::copy(bias->data<T>() + left, bias->data<T>() + right, to + i * made);
                else std::fill_n(to + i * made, right - left, T(0));
            }
            gemm(bottom - top, right - left, in, {x.data<T>() + top * in, in, 1}, {weight.data<T>() + left * in, 1, in}, to, made, true);
        };
        const double operations = static_cast<double>(out.count()) * static_cast<double>(in);
        if (rows > made) workers.run(rows, kGemmRows, operations, [&](std::int64_t begin, std::int64_t end) { part(begin, end, 0, made); });
        else workers.run(made, kGemmColumns, operations, [&](std::int64_t begin, std::int64_t end) { part(0, rows, begin, end); });
    });
}

namespace {

// Stacks of matrices; a vector is a matrix of one row (left) or one column (right).
struct Stack {
    Shape batch;
    std::int64_t rows, columns;

    Stack(const Tensor& given, bool left) {
        require(given.rank() > 0, "a scalar has no product");
        const Shape& shape = given.shape();
        if (given.rank() == 1) {
            rows = left ? 1 : shape[0];
            columns = left ? shape[0] : 1;
            return;
        }
        batch.assign(shape.begin(), shape.end() - 2);
        rows = shape[shape.size() - 2];
        columns = shape[shape.size() - 1];
    }
};

// Which matrix of a stack belongs to each matrix of the result.
std::vector<std::int64_t> chosen(const Shape& batch, const Shape& whole) {
    std::vector<std::int64_t> made;
    const std::int64_t count = count_of(whole);
    const Shape steps = strides_of(batch);
    for (std::int64_t i = 0; i < count; ++i) {
        std::int64_t rest = i, at = 0;
        for (std::size_t axis = 0; axis < whole.size(); ++axis) {
            const std::size_t back = whole.size() - 1 - axis;
            const std::int64_t place = rest % whole[back];
            rest /= whole[back];
            if (axis < batch.size() && batch[batch.size() - 1 - axis] != 1) at += place * steps[batch.size() - 1 - axis];
        }
        made.push_back(at);
    }
    return made;
}

}  // namespace

Shape matmul_shape(const Tensor& a, const Tensor& b) {
    const Stack left(a, true), right(b, false);
    require(left.columns == right.rows, "matrices that do not fit each other");
    require_same_type(a, b);
    Shape shape = broadcast(left.batch, right.batch);
    if (a.rank() > 1) shape.push_back(left.rows);
    if (b.rank() > 1) shape.push_back(right.columns);
    return shape;
}

void matmul(const Tensor& a, const Tensor& b, Tensor& out, const Workers& workers) {
    const Stack left(a, true), right(b, false);
    const Shape whole = broadcast(left.batch, right.batch);
    const std::int64_t m = left.rows, k = left.columns, n = right.columns;
    const double operations = static_cast<double>(out.count()) * static_cast<double>(k);
    if (out.count() == 0) return;
    with_compute_type(a.dtype(), [&](auto type) {
        using T = decltype(type);
        if (right.batch.empty()) {  // one matrix on the right: the stack on the left is one tall matrix
            workers.run(out.count() / n, kGemmRows, operations, [&](std::int64_t begin, std::int64_t end) {
                gemm(end - begin, n, k, {a.data<T>() + begin * k, k, 1}, {b.data<T>(), n, 1}, out.mutable_data<T>() + begin * n, n, false);
            });
            return;
        }
        const auto lefts = chosen(left.batch, whole), rights = chosen(right.batch, whole);
        workers.run(static_cast<std::int64_t>(lefts.size()), 1, operations, [&](std::int64_t begin, std::int64_t end) {
            for (std::int64_t i = begin; i < end; ++i) {
                const auto at = static_cast<std::size_t>(i);
                gemm(m, n, k, {a.data<T>() + lefts[at] * m * k, k, 1}, {b.data<T>() + rights[at] * k * n, n, 1}, out.mutable_data<T>() + i * m * n, n, false);
            }
        });
    });
}

namespace {

void build_linear(const Build& build) {
    const std::int64_t in = build.params().integer("in_features"), out = build.params().integer("out_features");
    std::vector<std::pair<std::string, Shape>> slots{{"weight", {out, in}}};
    if (build.params().flag("bias")) slots.emplace_back("bias", Shape{out});
    build.expect(slots);
}

void run_linear(Call& call) {
    const Tensor &x = call.x(), &weight = *call.slot("weight"), *bias = call.slot("bias");
    require(x.rank() > 0 && x.size(x.rank() - 1) == weight.size(1), "another number of features");
    Shape shape = x.shape();
    shape.back() = weight.size(0);
    Tensor& out = call.make(x.dtype(), shape);
    if (!call.real()) return;
    require_same_type(x, weight);
    if (bias != nullptr) require_same_type(x, *bias);
    linear(x, weight, bias, out, call.workers());
}

void build_embedding(const Build& build) {
    const std::int64_t rows = build.params().integer("num_embeddings");
    const Json& padding = build.params().at("padding_idx");
    if (padding.integer() != nullptr) build.demand(*padding.integer() < rows && *padding.integer() >= -rows, "a padding row that is none");
    build.expect({{"weight", {rows, build.params().integer("embedding_dim")}}});
}

void run_embedding(Call& call) {
    const Tensor &numbers = call.x(), &weight = *call.slot("weight");
    require(numbers.dtype() == DType::i64 || numbers.dtype() == DType::i32, "rows that are not counted by integers");
    Shape shape = numbers.shape();
    shape.push_back(weight.size(1));
    Tensor& out = call.make(weight.dtype(), shape);
    if (!call.real()) return;
    const Tensor wide = cast(numbers, DType::i64);
    const auto size = weight.size(1) * item_size(weight.dtype());
    for (std::int64_t i = 0; i < wide.count(); ++i) {
        const std::int64_t row = wide.data<std::int64_t>()[i];
        require(row >= 0 && row < weight.size(0), "a row that the table does not have");
        std::copy_n(weight.data<char>() + row * size, size, out.mutable_data<char>() + i * size);
    }
}

// The product in the type of the operands; whole numbers are computed in 64 bits and cut.
void give_product(Call& call, const Tensor& a, const Tensor& b) {
    const Shape shape = matmul_shape(a, b);
    if (!call.real()) {
        call.make(a.dtype(), shape);
        return;
    }
    const DType work = compute_type(a.dtype());
    Tensor wide = call.scratch(work, shape);
    matmul(cast(a, work), cast(b, work), wide, call.workers());
    call.give(cast(wide, a.dtype()));
}

void build_matmul(const Build& build) {
    if (build.params().null("weight")) return no_slots(build);
    build.expect({{"weight", build.params().integers("weight")}});
}

void run_matmul(Call& call) {
    const Tensor* weight = call.slot("weight");
    if (weight != nullptr) return give_product(call, call.x(), *weight);
    require(call.arity() == 2, "it has one operand");
    const bool reversed = call.params().flag("reversed");
    give_product(call, call.x(reversed ? 1 : 0), call.x(reversed ? 0 : 1));
}

void run_addmm(Call& call) {
    const Tensor *given = call.role("input"), *a = call.role("a"), *b = call.role("b");
    require(given != nullptr && a != nullptr && b != nullptr && call.params().at("roles").list()->size() == 3, "an operand is missing");
    const std::int64_t rank = call.params().flag("stacked") ? 3 : 2;
    require(a->rank() == rank && b->rank() == rank, "operands of another number of axes");
    require(rank == 2 || a->size(0) == b->size(0), "stacks of different heights");
    const Json &beta = call.params().at("beta"), &alpha = call.params().at("alpha");
    const Shape shape = matmul_shape(*a, *b);
    require_same_type(*given, *a);
    const Tensor added = expanded(*given, shape, call.real());
    Tensor& out = call.make(a->dtype(), shape);
    if (!call.real()) return;
    matmul(*a, *b, out, call.workers());
    with_float_type(out.dtype(), [&](auto type) {
        using T = decltype(type);
        const T scale = static_cast<T>(to_number(alpha)), keep = static_cast<T>(to_number(beta));
        binary_loop<T, T>(out, added, out, [=](T x, T y) { return keep == T(0) ? scale * x : keep * y + scale * x; });
    });
}

// --- sums of products ---

struct Equation {
    std::vector<std::string> operands;
    std::string result;
};

// Letters for all axes; `...` stands for as many capital ones as there are axes left.
Equation read_equation(std::string text, const std::vector<Tensor>& inputs) {
    text.erase(std::remove(text.begin(), text.end(), ' '), text.end());
    const std::size_t arrow = text.find("->");
    const std::string left = text.substr(0, arrow);
    const auto letter = [](char one) { return (one >= 'a' && one <= 'z') || (one >= 'A' && one <= 'Z'); };
    const auto spread = [&](std::string& names, const std::string& dots) {
        const std::size_t at = names.find("...");
        if (at != std::string::npos) names.replace(at, 3, dots);
        require(std::all_of(names.begin(), names.end(), [&](char one) { return letter(one) || (one >= '0' && one <= '9'); }), "an equation that is none");
    };
    Equation made;
    std::string every, widest;
    std::size_t start = 0;
    for (const Tensor& one : inputs) {
        require(start <= left.size(), "more operands than the equation has");
        std::string names = left.substr(start, left.find(',', start) - start);
        start += names.size() + 1;
        const bool dotted = names.find("...") != std::string::npos;
        require(std::none_of(names.begin(), names.end(), [](char c) { return c >= '0' && c <= '9'; }), "an equation that is none");
        for (const char c : names) every += letter(c) ? std::string(1, c) : "";
        const std::int64_t hidden = one.rank() - static_cast<std::int64_t>(names.size() - (dotted ? 3 : 0));
        require(hidden >= 0 && (dotted || hidden == 0) && hidden <= 10, "another number of axes than letters");
        const std::string dots = std::string("0123456789").substr(static_cast<std::size_t>(10 - hidden));
        if (dotted && dots.size() > widest.size()) widest = dots;
        spread(names, dots);
        made.operands.push_back(names);
    }
    require(start == left.size() + 1, "fewer operands than the equation has");
    if (arrow != std::string::npos) {
        made.result = text.substr(arrow + 2);
        require(std::none_of(made.result.begin(), made.result.end(), [](char c) { return c >= '0' && c <= '9'; }), "an equation that is none");
        spread(made.result, widest);
    } else {
        std::string once;
        for (const char c : every) {
            if (std::count(every.begin(), every.end(), c) == 1) once += c;
        }
        std::sort(once.begin(), once.end());
        made.result = widest + once;
    }
    return made;
}

void run_einsum(Call& call) {
    const std::vector<Tensor>& inputs = call.inputs();
    require(!inputs.empty(), "it has no operands");
    const Equation equation = read_equation(call.params().text("equation"), inputs);
    std::map<char, std::int64_t> sizes;
    for (std::size_t i = 0; i < inputs.size(); ++i) {
        require_same_type(inputs[0], inputs[i]);
        for (std::size_t axis = 0; axis < equation.operands[i].size(); ++axis) {
            std::int64_t& size = sizes.emplace(equation.operands[i][axis], 1).first->second;
            const std::int64_t here = inputs[i].size(static_cast<std::int64_t>(axis));
            require(here == size || here == 1 || size == 1, "a letter of two sizes");
            size = here == 1 ? size : here;
        }
    }
    Shape shape;
    std::string letters = equation.result;
    for (const char one : equation.result) {
        require(sizes.count(one) != 0 && std::count(equation.result.begin(), equation.result.end(), one) == 1, "a result that cannot be");
        shape.push_back(sizes[one]);
    }
    for (const auto& one : sizes) {
        if (equation.result.find(one.first) == std::string::npos) letters += one.first;
    }
    const DType type = inputs[0].dtype(), work = compute_type(type);
    if (!call.real()) {
        call.make(type, shape);
        return;
    }
    // Steps of each operand along each letter: those of the result first, then those that are summed.
    std::vector<Tensor> wide;
    std::vector<Shape> steps(inputs.size(), Shape(letters.size(), 0));
    Shape extent;
    for (const char one : letters) extent.push_back(sizes[one]);
    for (std::size_t i = 0; i < inputs.size(); ++i) {
        wide.push_back(cast(inputs[i], work));
        const Shape own = strides_of(inputs[i].shape());
        for (std::size_t axis = 0; axis < own.size(); ++axis) {
            if (inputs[i].shape()[axis] != 1) steps[i][letters.find(equation.operands[i][axis])] += own[axis];
        }
    }
    Tensor total = call.scratch(work, shape);
    const std::int64_t summed = count_of(Shape(extent.begin() + static_cast<std::ptrdiff_t>(shape.size()), extent.end()));
    with_compute_type(work, [&](auto kind) {
        using T = decltype(kind);
        using Sum = std::conditional_t<std::is_integral_v<T>, std::uint64_t, double>;
        std::vector<std::int64_t> place(letters.size(), 0), at(inputs.size(), 0);
        const auto next = [&] {
            for (std::size_t axis = letters.size(); axis-- > 0;) {
                for (std::size_t i = 0; i < at.size(); ++i) at[i] += steps[i][axis];
                if (++place[axis] < extent[axis]) return;
                for (std::size_t i = 0; i < at.size(); ++i) at[i] -= steps[i][axis] * extent[axis];
                place[axis] = 0;
            }
        };
        for (std::int64_t i = 0; i < total.count(); ++i) {
            Sum sum = 0;
            for (std::int64_t k = 0; k < summed; ++k, next()) {
                Sum term = 1;
                for (std::size_t one = 0; one < at.size(); ++one) term *= static_cast<Sum>(wide[one].data<T>()[at[one]]);
                sum += term;
            }
            total.mutable_data<T>()[i] = static_cast<T>(sum);
        }
    });
    call.give(cast(total, type));
}

}  // namespace

const std::vector<Op> kProductOps = {
    {"vn.linear", "in_features int+; out_features int+; bias bool =true", 1, 1, build_linear, run_linear, 1, true},
    {"vn.embedding", "num_embeddings int+; embedding_dim int+; padding_idx int|null =null", 1, 1, build_embedding, run_embedding},
    {"vn.matmul", "weight [int]|null =null; reversed bool =false", 1, 2, build_matmul, run_matmul},
    {"vn.addmm", "roles [str]; beta int|float =1; alpha int|float =1; stacked bool =false", 3, 3, no_slots, run_addmm, 1, true},
    {"vn.einsum", "equation str", 0, kAny, no_slots, run_einsum},
};

}  // namespace vn
