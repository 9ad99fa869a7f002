// Kernels of another library in place of the reference ones, chosen when the runtime is built (`src/backends`).
#pragma once

#include <memory>
#include <vector>

#include "model.h"

namespace vn {

// Parts of a schedule that another library runs, for inputs of one shape.
class Plan {
public:
    virtual ~Plan() = default;
    // Runs the part that starts at step `index` and returns the step behind it; `index` itself when none starts there.
    virtual std::size_t run(std::size_t index, std::vector<Value>& values) const = 0;
};

// `shapes`: every value of the schedule without data. `kept`: the values that are outputs. Null: all runs on the reference kernels.
std::unique_ptr<const Plan> make_plan(const std::vector<Step>& steps, const std::vector<Value>& shapes, const std::vector<bool>& kept, int threads);

const char* backend_name();

}  // namespace vn
