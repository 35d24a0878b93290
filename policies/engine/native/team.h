// Threads that sleep between forwards, and meet within one.
#pragma once
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace treewise {

class Team {
  public:
    explicit Team(int size) {
        for (int i = 1; i < size; i++) threads_.emplace_back([this, i] { serve(i); });
    }
    ~Team() {
        {
            std::lock_guard<std::mutex> lock(door_);
            over_ = true;
        }
        news_.notify_all();
        for (auto& thread : threads_) thread.join();
    }
    int size() const { return int(threads_.size()) + 1; }
    // `work` of (member, members) by `members` threads, the caller's among them
    void run(int members, const std::function<void(int, int)>& work) {
        if (members == 1) return work(0, 1);
        {
            std::lock_guard<std::mutex> lock(door_);
            work_ = &work, members_ = members, round_++;
            left_.store(members - 1);
        }
        news_.notify_all();
        work(0, members);
        wait([this] { return left_.load(std::memory_order_acquire) == 0; });
    }
    // nobody goes on before all are here
    void meet(int members) {
        if (members == 1) return;
        const int turn = turn_.load();
        if (here_.fetch_add(1) + 1 == members) {
            here_.store(0);
            turn_.store(turn + 1, std::memory_order_release);
        } else {
            wait([this, turn] { return turn_.load(std::memory_order_acquire) != turn; });
        }
    }

  private:
    template <class F> static void wait(F done) {
        for (int i = 0; !done(); i++)
            if (i > 2000) std::this_thread::yield();  // others may need this core
    }
    void serve(int member) {
        int64_t seen = 0;
        for (;;) {
            const std::function<void(int, int)>* work;
            int members;
            {
                std::unique_lock<std::mutex> lock(door_);
                news_.wait(lock, [&] { return over_ || round_ != seen; });
                if (over_) return;
                seen = round_, work = work_, members = members_;
            }
            if (member < members) {
                (*work)(member, members);
                left_.fetch_sub(1, std::memory_order_release);
            }
        }
    }
    std::vector<std::thread> threads_;
    std::mutex door_;
    std::condition_variable news_;
    const std::function<void(int, int)>* work_ = nullptr;
    int members_ = 1;
    int64_t round_ = 0;
    bool over_ = false;
    std::atomic<int> left_{0}, here_{0}, turn_{0};
};

}  // namespace treewise
