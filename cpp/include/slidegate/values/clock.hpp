// Where "now" comes from.
#pragma once

#include <atomic>
#include <cstdint>

namespace slidegate {

/// Nanoseconds since some fixed moment, at least 0.
using Nanos = std::int64_t;

/// What the machine's wall clock says (CLOCK_REALTIME), since 1970.
[[nodiscard]] Nanos wall_now() noexcept;

/// A clock that never goes backwards. Implementations are thread-safe and do not throw.
class Clock {
  public:
    Clock() = default;
    Clock(const Clock&) = delete;
    Clock& operator=(const Clock&) = delete;
    virtual ~Clock() = default;
    [[nodiscard]] virtual Nanos now() const noexcept = 0;
};

/// Time since the machine booted, suspended time included (CLOCK_BOOTTIME; CLOCK_MONOTONIC where there is none).
class BootClock final : public Clock {
  public:
    [[nodiscard]] Nanos now() const noexcept override;
};

/// A clock that a test moves by hand.
class ManualClock final : public Clock {
  public:
    explicit ManualClock(Nanos start = 0) noexcept : now_(start) {}
    [[nodiscard]] Nanos now() const noexcept override { return now_.load(); }
    void advance(Nanos by) noexcept { now_.fetch_add(by); }
    /// Sets the time, backwards too: what a limiter must survive.
    void set(Nanos to) noexcept { now_.store(to); }

  private:
    std::atomic<Nanos> now_;
};

}  // namespace slidegate
