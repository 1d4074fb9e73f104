// A limiter, and the care for its clock that only those can take who hold the GIL.
#pragma once

#include <cstdint>
#include <memory>
#include <utility>

#include "python_clock.hpp"
#include "slidegate/limiter.hpp"

namespace slidegate::bindings {

/// What a Limiter of Python and its policies share. Every member needs the GIL.
class TimedLimiter {
  public:
    /// `options.clock` is set to `clock`. Throws what Limiter does.
    TimedLimiter(Options options, std::shared_ptr<Clock> clock)
        : clock_(std::move(clock)),
          python_clock_(std::dynamic_pointer_cast<PythonClock>(clock_)),
          limiter_(with_clock(std::move(options), clock_)) {}

    /// To be called before every use of the limiter or its policies. False with a Python error set when it was interrupted.
    [[nodiscard]] bool follow_time() noexcept {
        if (python_clock_ != nullptr) {
            if (!python_clock_->follow()) {
                return false;
            }
            if (python_clock_->expirations() != expirations_) {
                expirations_ = python_clock_->expirations();
                limiter_.reset();
            }
        }
        return true;
    }
    [[nodiscard]] Policy policy(const std::vector<Rule>& rules) const {
        Policy policy = limiter_.policy(rules);
        if (python_clock_ != nullptr) {
            for (const Rule& rule : rules) {
                python_clock_->expect_window(rule.quota.ticks().window_ns());
            }
        }
        return policy;
    }
    [[nodiscard]] const Limiter& get() const noexcept { return limiter_; }
    [[nodiscard]] const std::shared_ptr<Clock>& clock() const noexcept { return clock_; }

  private:
    static Options with_clock(Options options, std::shared_ptr<const Clock> clock) {
        options.clock = std::move(clock);
        return options;
    }

    std::shared_ptr<Clock> clock_;
    std::shared_ptr<PythonClock> python_clock_;  ///< the same, if it is one
    Limiter limiter_;
    std::uint64_t expirations_ = 0;
};

}  // namespace slidegate::bindings
