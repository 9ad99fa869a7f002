#include "workers.h"

#include <algorithm>
#include <exception>

namespace vn {

namespace {

constexpr double kWorthwhile = 1 << 19;  // operations; waking a thread takes as long as some hundred thousand of them
constexpr int kTries = 1 << 20;          // before a thread sleeps: about a millisecond

// Looks a while whether `ready` holds: the next kernel comes sooner than a sleeping thread wakes up.
template <class F>
void await(F ready) {
    for (int i = 0; i < kTries && !ready(); ++i) continue;
}

}  // namespace

struct Workers::Job {
    const Body& body;
    const std::int64_t count, part;
    std::atomic<std::int64_t> next{0};
    std::mutex mutex;
    std::exception_ptr error;

    Job(const Body& given, std::int64_t entries, std::int64_t at_once) : body(given), count(entries), part(at_once) {}

    // Takes parts until there are none.
    void work() noexcept {
        for (std::int64_t begin; (begin = next.fetch_add(part)) < count;) {
            try {
                body(begin, std::min(begin + part, count));
            } catch (...) {
                const std::lock_guard<std::mutex> lock(mutex);
                if (!error) error = std::current_exception();
                next.store(count);
            }
        }
    }
};

Workers::Workers(int count) {
    try {
        for (int i = 1; i < count; ++i) threads_.emplace_back([this] { loop(); });
    } catch (...) {
        end();
        throw;
    }
}

Workers::~Workers() { end(); }

void Workers::end() {
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        ending_ = true;
    }
    wake_.notify_all();
    for (std::thread& one : threads_) one.join();
}

void Workers::loop() {
    std::uint64_t seen = 0;
    for (;;) {
        await([&] { return ending_ || number_ != seen; });
        std::unique_lock<std::mutex> lock(mutex_);
        wake_.wait(lock, [&] { return ending_ || (job_ != nullptr && number_ != seen); });
        if (ending_) return;
        seen = number_;
        Job& job = *job_;
        ++busy_;
        lock.unlock();
        job.work();
        lock.lock();
        if (--busy_ == 0) done_.notify_one();
    }
}

void Workers::run(std::int64_t count, std::int64_t grain, double operations, const Body& body) const {
    std::unique_lock<std::mutex> turn(turn_, std::defer_lock);
    if (threads_.empty() || count <= grain || operations < kWorthwhile || !turn.try_lock()) {
        body(0, count);
        return;
    }
    const std::int64_t grains = (count + grain - 1) / grain, each = (grains + this->count() - 1) / this->count();
    Job job(body, count, each * grain);
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        job_ = &job;
        ++number_;
    }
    wake_.notify_all();
    job.work();
    {
        // A thread that has not come by now is not waited for.
        std::unique_lock<std::mutex> lock(mutex_);
        job_ = nullptr;
        lock.unlock();
        await([this] { return busy_ == 0; });
        lock.lock();
        done_.wait(lock, [this] { return busy_ == 0; });
    }
    if (job.error) std::rethrow_exception(job.error);
}

}  // namespace vn
