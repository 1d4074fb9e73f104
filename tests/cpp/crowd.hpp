// Threads that hammer something behind a start barrier, move the clock, and are stopped anywhere.
#pragma once

#include <atomic>
#include <barrier>
#include <cstdint>
#include <functional>
#include <sched.h>
#include <signal.h>
#include <stdexcept>
#include <thread>
#include <time.h>
#include <unistd.h>
#include <vector>

#include "dice.hpp"
#include "slidegate/values/clock.hpp"

#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

namespace slidegate::testing {

/// Stops threads at whatever instruction they are: mostly to let another one run, now and then until the clock has gone
/// on by `pause` (or nobody moves it). Without it, threads on a busy machine take turns of thousands of calls.
/// One of these at a time in a process.
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

    /// Stops the thread that made it every few microseconds, for as long as it lives.
    class Timer {
      public:
        Timer() {
            struct sigevent event{};
            event.sigev_notify = SIGEV_THREAD_ID;
            event.sigev_signo = SIGUSR1;
            event.sigev_notify_thread_id = gettid();
            if (timer_create(CLOCK_MONOTONIC, &event, &timer_) != 0) {
                throw std::runtime_error("no timer");
            }
            set(timer_);
        }
        Timer(const Timer&) = delete;
        Timer& operator=(const Timer&) = delete;
        ~Timer() {
            // One may be on its way; it is to arrive while there is a clock to look at.
            sigset_t waiting;
            sigset_t before;
            sigemptyset(&waiting);
            sigaddset(&waiting, SIGUSR1);
            pthread_sigmask(SIG_BLOCK, &waiting, &before);
            timer_delete(timer_);
            const struct timespec at_once = {0, 0};
            while (sigtimedwait(&waiting, nullptr, &at_once) > 0) {
            }
            pthread_sigmask(SIG_SETMASK, &before, nullptr);
        }

      private:
        friend class Suspender;
        // Once: a timer that went on while its thread is suspended would leave it no time to do anything.
        static void set(timer_t timer) {
            const struct itimerspec next = {{0, 0}, {0, 3'000 + 1'000 * static_cast<long>(signals_ % 16)}};
            timer_settime(timer, 0, &next, nullptr);
        }

        static inline thread_local timer_t timer_{};
    };

  private:
    static void wait(int) {
        const unsigned number = signals_++;
        const bool is_long = number % 8 == 0;
        const Nanos wake = clock_.load()->now() + (is_long ? pause_.load() : 1);
        for (int patience = is_long ? 20 : 1; patience > 0 && clock_.load()->now() < wake; --patience) {
            sched_yield();
        }
        Timer::set(Timer::timer_);
    }

    static inline std::atomic<const ManualClock*> clock_ = nullptr;
    static inline std::atomic<Nanos> pause_ = 0;
    static inline std::atomic<unsigned> signals_ = 0;
    struct sigaction before_{};
};

struct Crowd {
    int threads = 4;
    int calls = 3'000;       ///< of each thread
    int advance_one_in = 3;  ///< calls
    Nanos tick = 0;          ///< that the clock is advanced by
    Nanos pause = 0;         ///< of a suspended thread, at most
};

/// Calls `call(thread, dice)` over and over in every thread and returns when all have done so.
inline void hammer(const Crowd& crowd, ManualClock& clock, std::uint64_t seed,
                   const std::function<void(std::size_t, Dice&)>& call) {
    const Suspender suspender(clock, crowd.pause);
    std::barrier start(crowd.threads);
    std::vector<std::thread> threads;
    for (std::size_t i = 0; i < static_cast<std::size_t>(crowd.threads); ++i) {
        threads.emplace_back([&, i] {
            Dice dice(seed * 31 + i);
            start.arrive_and_wait();
            const Suspender::Timer timer;
            for (int n = 0; n < crowd.calls; ++n) {
                if (dice.is_one_in(crowd.advance_one_in)) {
                    clock.advance(crowd.tick);
                }
                call(i, dice);
            }
        });
    }
    for (std::thread& thread : threads) {
        thread.join();
    }
}

}  // namespace slidegate::testing
