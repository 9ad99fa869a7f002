// Threads that share the work of one kernel.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace vn {

class Workers {
public:
    // Computes the entries from `begin` to `end` of something.
    using Body = std::function<void(std::int64_t begin, std::int64_t end)>;

    // `count` threads, the calling one among them. Throws std::system_error when the system gives no more.
    explicit Workers(int count);
    ~Workers();
    Workers(const Workers&) = delete;
    Workers& operator=(const Workers&) = delete;

    int count() const { return static_cast<int>(threads_.size()) + 1; }

    // Calls `body` for parts that cover [0, count) and start at multiples of `grain`, on several threads where `operations`
    // (multiplications, about) are worth it. While another call uses the threads it runs on its own. Throws what a part throws.
    void run(std::int64_t count, std::int64_t grain, double operations, const Body& body) const;

private:
    struct Job;
    void loop();
    void end();

    std::vector<std::thread> threads_;
    mutable std::mutex turn_;  // held by the call that uses the threads
    mutable std::mutex mutex_;  // held to change what follows
    mutable std::condition_variable wake_, done_;
    mutable Job* job_ = nullptr;
    mutable std::atomic<std::uint64_t> number_{0};  // of the job
    mutable std::atomic<int> busy_{0};              // threads that are at it
    std::atomic<bool> ending_{false};
};

}  // namespace vn
