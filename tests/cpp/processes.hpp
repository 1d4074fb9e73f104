// Children that share memory with the test, and are killed at any instruction.
#pragma once

#include <atomic>
#include <csignal>
#include <cstdint>
#include <functional>
#include <new>
#include <stdexcept>
#include <string>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

#include "dice.hpp"
#include "slidegate/values/clock.hpp"

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#define SLIDEGATE_IS_SANITIZED 1
#else
#define SLIDEGATE_IS_SANITIZED 0
#endif

namespace slidegate::testing {

inline constexpr bool kIsSanitized = SLIDEGATE_IS_SANITIZED != 0;

/// A T in memory that children inherit and write to.
template <class T>
class Inherited {
  public:
    Inherited() {
        void* const memory = mmap(nullptr, sizeof(T), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        if (memory == MAP_FAILED) {
            throw std::runtime_error("no memory to inherit");
        }
        value_ = new (memory) T();
    }
    Inherited(const Inherited&) = delete;
    Inherited& operator=(const Inherited&) = delete;
    ~Inherited() { munmap(value_, sizeof(T)); }
    T& operator*() const { return *value_; }
    T* operator->() const { return value_; }

  private:
    T* value_;
};

/// A clock that all children read, and move.
class InheritedClock final : public Clock {
  public:
    [[nodiscard]] Nanos now() const noexcept override { return now_->load(); }
    void advance(Nanos by) const noexcept { now_->fetch_add(by); }
    void set(Nanos to) const noexcept { now_->store(to); }

  private:
    Inherited<std::atomic<Nanos>> now_;
};

/// Runs `work` in a child that ends without unwinding what it inherited; with 1 when it threw.
inline pid_t start_child(const std::function<void()>& work) {
    const pid_t child = fork();
    if (child < 0) {
        throw std::runtime_error("no child");
    }
    if (child == 0) {
        try {
            work();
        } catch (...) {
            _exit(1);
        }
        _exit(0);
    }
    return child;
}

/// Waits; true when it ended by itself and well.
inline bool ended_well(pid_t child) {
    int status = 0;
    return waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

enum class Stops : int { instructions = PTRACE_SINGLESTEP, system_calls = PTRACE_SYSCALL };

/// Runs `work` in a child and calls `at_stop` whenever it has done one more: what stands in shared memory then is what a
/// SIGKILL would leave there. `at_stop` answers whether to go on; else the child is killed there. Returns the number of
/// stops, or -1 where children cannot be traced. Throws when the child does badly.
inline std::int64_t step_through(Stops stops, const std::function<void()>& work, const std::function<bool()>& at_stop) {
    constexpr int kUntraceable = 77;
    const pid_t child = start_child([&] {
        if (ptrace(PTRACE_TRACEME, 0, nullptr, nullptr) != 0) {
            _exit(kUntraceable);
        }
        raise(SIGSTOP);
        work();
    });
    int status = 0;
    std::int64_t number = 0;
    for (waitpid(child, &status, 0); WIFSTOPPED(status); waitpid(child, &status, 0), ++number) {
        if (!at_stop()) {
            kill(child, SIGKILL);
            waitpid(child, &status, 0);
            return number;
        }
        const int signal = WSTOPSIG(status);
        ptrace(static_cast<__ptrace_request>(stops), child, nullptr,
               signal == SIGSTOP || signal == SIGTRAP ? 0 : signal);
    }
    if (WIFEXITED(status) && WEXITSTATUS(status) == kUntraceable) {
        return -1;
    }
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
        throw std::runtime_error("a child ended with status " + std::to_string(status));
    }
    return number;
}

/// Keeps `size` children at `work(slot)`, killing one after the other at random instants and starting another in its place,
/// until `kills` have died. Then `stop` is set, which ends the work of those that are left. Returns how many did badly.
class Slaughter {
  public:
    Slaughter(std::size_t size, std::uint64_t seed) : children_(size), dice_(seed) {}

    int run(int kills, std::atomic<bool>& stop, const std::function<void(std::size_t, std::uint64_t)>& work) {
        int failures = 0;
        const auto start = [&](std::size_t slot) {
            const std::uint64_t seed = ++started_;
            children_[slot] = start_child([&] { work(slot, seed); });
        };
        for (std::size_t slot = 0; slot < children_.size(); ++slot) {
            start(slot);
        }
        for (int i = 0; i < kills; ++i) {
            usleep(static_cast<useconds_t>(dice_.roll(50, 3'000)));
            const auto slot = static_cast<std::size_t>(dice_.roll(0, static_cast<std::int64_t>(children_.size()) - 1));
            kill(children_[slot], SIGKILL);
            int status = 0;
            waitpid(children_[slot], &status, 0);
            failures += WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL ? 0 : 1;
            start(slot);
        }
        stop = true;
        for (const pid_t child : children_) {
            failures += ended_well(child) ? 0 : 1;
        }
        return failures;
    }

  private:
    std::vector<pid_t> children_;
    Dice dice_;
    std::uint64_t started_ = 0;
};

}  // namespace slidegate::testing
