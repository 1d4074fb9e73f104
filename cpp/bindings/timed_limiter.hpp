// A limiter, and the care for its clock that only those can take who hold the GIL.
#pragma once

#include <cstdint>
#include <memory>
#include <utility>

#include <pybind11/pybind11.h>

#include "python_clock.hpp"
#include "slidegate/limiter/limiter.hpp"

namespace slidegate::bindings {

namespace py = pybind11;

/// What a Limiter of Python and its policies share. Every member needs the GIL.
class TimedLimiter {
  public:
    /// `options.clock` is set to `clock`; `full_error` is an exception type. Throws what Limiter does.
    TimedLimiter(Options options, std::shared_ptr<Clock> clock, py::object full_error, py::object notify,
                 py::object notify_full)
        : full_error_(std::move(full_error)),
          notify_(std::move(notify)),
          notify_full_(std::move(notify_full)),
          clock_(std::move(clock)),
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
    /// Throws what interrupted it.
    void follow_time_or_throw() {
        if (!follow_time()) {
            throw py::error_already_set();
        }
    }
    /// To be called when all counts are forgotten: a fake that has gone backward begins anew where it is.
    void forget_time() noexcept {
        if (python_clock_ != nullptr) {
            python_clock_->forget();
        }
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
    /// Sets the error of a hit that was not stored. Has it told, if nobody has been told of this shortage.
    void raise_unstored() noexcept;
    /// Has it told that the memory is full, if it is and nobody has been told lately. To be called after hits.
    void tell_news() noexcept {
        if (limiter_.has_news()) [[unlikely]] {
            tell_holder();
        }
    }
    [[nodiscard]] const Limiter& get() const noexcept { return limiter_; }
    [[nodiscard]] const std::shared_ptr<Clock>& clock() const noexcept { return clock_; }

  private:
    void tell_holder() noexcept;
    static Options with_clock(Options options, std::shared_ptr<const Clock> clock) {
        options.clock = std::move(clock);
        return options;
    }

    py::object full_error_;
    py::object notify_;       ///< called with a text for the log, or None
    py::object notify_full_;  ///< called with what holds how many places of how many, or None
    std::shared_ptr<Clock> clock_;
    std::shared_ptr<PythonClock> python_clock_;  ///< the same, if it is one
    Limiter limiter_;
    std::uint64_t expirations_ = 0;
};

}  // namespace slidegate::bindings
