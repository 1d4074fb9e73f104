#include "python_clock.hpp"

#include <algorithm>
#include <optional>

#include "slidegate/values/ticks.hpp"

namespace py = pybind11;

namespace slidegate::bindings {

namespace {

constexpr Nanos kSecond = 1'000'000'000;
// 146 years, which only jumps within one window can add up to. Then they add no more.
constexpr Nanos kLatest = Nanos{1} << 62;

constexpr Nanos round_up(Nanos time, Nanos unit) noexcept { return (time + unit - 1) / unit * unit; }

// What the ticks of all windows up to this long divide.
constexpr Nanos common_tick(Nanos window) noexcept {
    const Nanos tick = Ticks::of(window).length();
    Nanos unit = 1;
    while (unit < tick) {
        unit *= 10;
    }
    return unit;
}
static_assert(common_tick(1) == 1 && common_tick(60 * kSecond) == 1'000'000 && common_tick(kLatest) == kSecond);

}  // namespace

void PythonClock::expect_window(Nanos window) noexcept {
    // Two windows are what a sliding-window counter remembers.
    horizon_ = std::max(horizon_, 2 * window);
}

void PythonClock::hold() noexcept { stand_at(round_up(now(), kSecond), Mode::held); }

void PythonClock::advance(Nanos by) noexcept { stand_at(later(now(), by), Mode::held); }

void PythonClock::forget() noexcept { latest_ = seen_; }

void PythonClock::release() noexcept {
    if (mode_ == Mode::held) {
        run_from(now());
    }
}

bool PythonClock::catch_up() noexcept {
    if (mode_ == Mode::held) {
        return true;
    }
    const bool is_real = wall_.is_real_now();
    if (is_real && mode_ == Mode::running) {
        return true;
    }
    std::optional<FakedTime> faked;
    if (!is_real) {
        const std::uint64_t changes = changes_;
        faked = wall_.read();
        if (!faked) {
            return PyErr_Occurred() == nullptr;
        }
        // Another thread may have read a later time, and not have waited with it.
        if (mode_ == Mode::held || (changes_ != changes && (mode_ == Mode::running || faked->time < seen_))) {
            return true;
        }
    }
    ++changes_;
    const WallMicros reading = faked ? faked->time : machine_wall_time();
    const bool is_other_fake = faked && !faked->fake.is(fake_);
    Nanos time = now();
    WallMicros passed = 0;
    if (mode_ == Mode::running) {
        time = round_up(time, kSecond);
        passed = reading - machine_wall_time();
    } else {
        passed = is_other_fake ? reading - seen_ : passed_within_fake(reading);
    }
    if (mode_ == Mode::running || is_other_fake || reading > latest_) {
        latest_ = reading;
    }
    constexpr WallMicros kMost = kLatest / 1'000;
    time = later(time, std::clamp<WallMicros>(passed, 0, kMost) * 1'000);
    seen_ = reading;
    fake_ = faked ? faked->fake : py::object();
    if (is_real) {
        run_from(time);
    } else {
        stand_at(time, Mode::following);
    }
    return true;
}

WallMicros PythonClock::passed_within_fake(WallMicros reading) const noexcept {
    if (seen_ >= latest_ || reading >= latest_) {
        return reading - latest_;
    }
    return latest_ - reading > horizon_ / 1'000 ? reading - seen_ : 0;
}

Nanos PythonClock::later(Nanos time, Nanos by) noexcept {
    if (by >= horizon_ && by > 0) {
        ++expirations_;
        return round_up(time, kSecond);
    }
    const Nanos start = round_up(time, common_tick(by));
    return start < kLatest - by ? start + by : time;
}

void PythonClock::stand_at(Nanos time, Mode mode) noexcept {
    mode_ = mode;
    standing_.store(time, std::memory_order_release);  // (2)
}

void PythonClock::run_from(Nanos time) noexcept {
    mode_ = Mode::running;
    offset_.store(time - boot_.now(), std::memory_order_relaxed);
    standing_.store(kRunning, std::memory_order_release);  // (2)
}

}  // namespace slidegate::bindings
