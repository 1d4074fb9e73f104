// The clock of limiters that are given none, and count in memory of their own.
#pragma once

#include <atomic>
#include <cstdint>

#include "slidegate/values/clock.hpp"
#include "wall_time.hpp"

namespace slidegate::bindings {

/// The time since boot, as long as time.time() is Python's own. When tests fake that, this clock goes on as the fake does:
///
/// - by as much as the fake goes forward, between two calls of follow(), and into, out of and between fakes;
/// - by nothing where it goes backward, nor where it cannot be read;
/// - where one fake has gone backward, by nothing until it is later than it ever was: what was counted then is as recent as it
///   was. Only while it stays farther back than everything counted can last does what it goes forward by count;
/// - where it goes forward by more than everything counted can last (`horizon`), by nothing either: `expirations` tells that
///   all has expired. So a thousand years that are faked one after the other do not use up 64 bits.
///
/// To begin with a fake, or to be held by hand, sets it to the next whole second, where ticks of all lengths begin; and what
/// goes forward starts from the next tick of windows that are not longer. So a window that is asked for exactly one window
/// later is over. That is early by at most 1/6,553 of what the time has gone forward by, and not at all from where ticks begin.
///
/// now() may be called from anywhere. All else needs the GIL, in the one interpreter that the module lives in, which also
/// keeps it apart.
class PythonClock final : public Clock {
  public:
    /// Throws error_already_set when Python cannot be looked into.
    PythonClock() = default;

    /// The boot clock and an offset, or where follow() has left the time.
    [[nodiscard]] Nanos now() const noexcept override {
        const Nanos standing = standing_.load(std::memory_order_acquire);  // (1) pairs with (2)
        return standing != kRunning ? standing : boot_.now() + offset_.load(std::memory_order_relaxed);
    }
    /// Looks at time.time(). To be called before now() is to be right. False with a Python error set when reading a fake
    /// was interrupted.
    [[nodiscard]] bool follow() noexcept { return (mode_ == Mode::running && wall_.is_real()) || catch_up(); }

    /// How often all that was counted before has expired at once.
    [[nodiscard]] std::uint64_t expirations() const noexcept { return expirations_; }
    /// Says that hits are counted in windows as long as this.
    void expect_window(Nanos window) noexcept;

    /// Lets a fake that has gone backward begin anew where it is. To be called when nothing is counted.
    void forget() noexcept;

    /// Stops the time, whatever time.time() does, until it is released.
    void hold() noexcept;
    /// Lets `by`, at least 0, pass at once. Only while held.
    void advance(Nanos by) noexcept;
    /// Goes on from here. Without effect when it is not held.
    void release() noexcept;
    [[nodiscard]] bool is_held() const noexcept { return mode_ == Mode::held; }

  private:
    enum class Mode : std::uint8_t { running, following, held };
    static constexpr Nanos kRunning = -1;

    [[nodiscard]] bool catch_up() noexcept;
    [[nodiscard]] WallMicros passed_within_fake(WallMicros reading) const noexcept;
    [[nodiscard]] Nanos later(Nanos time, Nanos by) noexcept;
    void stand_at(Nanos time, Mode mode) noexcept;
    void run_from(Nanos time) noexcept;

    BootClock boot_;
    WallTime wall_;
    Mode mode_ = Mode::running;
    WallMicros seen_ = 0;        ///< what time.time() said last, while following
    WallMicros latest_ = 0;      ///< the latest that this fake has said
    pybind11::object fake_;      ///< which one it is
    std::uint64_t changes_ = 0;  ///< of the time, by catch_up()
    std::uint64_t expirations_ = 0;
    Nanos horizon_ = 0;
    std::atomic<Nanos> standing_ = kRunning;
    std::atomic<Nanos> offset_ = 0;
};

}  // namespace slidegate::bindings
