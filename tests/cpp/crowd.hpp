// Threads that hammer something behind a start barrier, move the clock and stop each other anywhere.
#pragma once

#include <atomic>
#include <barrier>
#include <csignal>
#include <cstdint>
#include <functional>
#include <pthread.h>
#include <sched.h>
#include <thread>
#include <vector>

#include "dice.hpp"
#include "slidegate/clock.hpp"

namespace slidegate::testing {

/// Stops threads at whatever instruction they are, until the clock has gone on by `pause` (or nobody moves it). One of
/// these at a time in a process.
class Suspender {
  public:
    Suspender(const ManualClock& clock, Nanos pause) {
        clock_ = &clock;
        pause_ = pause;
        struct sigaction action{};
        action.sa_handler = &wait;
        action.sa_flags = SA_RESTART;
        sigaction(SIGUSR1, &action, &before_);
    }
    Suspender(const Suspender&) = delete;
    Suspender& operator=(const Suspender&) = delete;
    ~Suspender() { sigaction(SIGUSR1, &before_, nullptr); }

    static void stop(pthread_t thread) { pthread_kill(thread, SIGUSR1); }

  private:
    static void wait(int) {
        const Nanos wake = clock_.load()->now() + pause_;
        for (int patience = 200; patience > 0 && clock_.load()->now() < wake; --patience) {
            sched_yield();
        }
    }

    static inline std::atomic<const ManualClock*> clock_ = nullptr;
    static inline std::atomic<Nanos> pause_ = 0;
    struct sigaction before_{};
};

struct Crowd {
    int threads = 4;
    int calls = 5'000;        ///< of each thread
    int advance_one_in = 6;   ///< calls
    int suspend_one_in = 40;  ///< calls; 0 for never
    Nanos tick = 0;           ///< that the clock is advanced by
    Nanos pause = 0;          ///< of a suspended thread
};

/// Calls `call(thread, dice)` over and over in every thread and returns when all have done so.
inline void hammer(const Crowd& crowd, ManualClock& clock, std::uint64_t seed,
                   const std::function<void(std::size_t, Dice&)>& call) {
    const Suspender suspender(clock, crowd.pause);
    std::barrier start(crowd.threads);
    std::barrier end(crowd.threads);
    std::vector<std::atomic<pthread_t>> handles(static_cast<std::size_t>(crowd.threads));
    std::vector<std::thread> threads;
    for (std::size_t i = 0; i < handles.size(); ++i) {
        threads.emplace_back([&, i] {
            Dice dice(seed * 31 + i);
            handles[i] = pthread_self();
            start.arrive_and_wait();
            for (int n = 0; n < crowd.calls; ++n) {
                if (dice.is_one_in(crowd.advance_one_in)) {
                    clock.advance(crowd.tick);
                }
                if (crowd.suspend_one_in > 0 && dice.is_one_in(crowd.suspend_one_in)) {
                    Suspender::stop(handles[static_cast<std::size_t>(dice.roll(0, crowd.threads - 1))]);
                }
                call(i, dice);
            }
            end.arrive_and_wait();  // before that somebody may still send a signal
        });
    }
    for (std::thread& thread : threads) {
        thread.join();
    }
}

}  // namespace slidegate::testing
