// What the engine is timed with: keys that cost little to make, and a time that passes alike on every machine.
#pragma once

#include <atomic>
#include <cstdint>
#include <cstring>
#include <string_view>

#include "slidegate/values/clock.hpp"

namespace benchmark {

using slidegate::Nanos;

inline constexpr Nanos kMicrosecond = 1'000;
inline constexpr Nanos kSecond = 1'000'000'000;
inline constexpr Nanos kMinute = 60 * kSecond;
inline constexpr std::uint64_t kKeys = 1'000'000;

/// Reads the real clock, for its cost, and goes forward by one step with every reading instead. Time passes the same way
/// on every machine then: what a hit finds does not depend on how fast the hits before it were. For one thread.
class SteppingClock final : public slidegate::Clock {
  public:
    explicit SteppingClock(Nanos step) : step_(step) {}
    [[nodiscard]] Nanos now() const noexcept override {
        const Nanos now = now_.load(std::memory_order_relaxed) + (real_.now() > 0 ? step_ : 0);
        now_.store(now, std::memory_order_relaxed);
        return now;
    }
    void skip(Nanos by) noexcept { now_.fetch_add(by); }

  private:
    slidegate::BootClock real_;
    Nanos step_;
    mutable std::atomic<Nanos> now_ = kSecond;
};

/// As long as an address, "203.0.113.42", and made of a number in two instructions.
class Key {
  public:
    explicit Key(std::uint64_t number) noexcept { std::memcpy(bytes_, &number, sizeof number); }
    [[nodiscard]] std::string_view view() const noexcept { return {bytes_, sizeof bytes_}; }

  private:
    char bytes_[12] = {'.', '.', '.', '.', '.', '.', '.', '.', '1', '.', '4', '2'};
};

/// One of `kKeys`, at random: the upper bits of a linear congruential sequence.
class RandomKeys {
  public:
    [[nodiscard]] Key next() noexcept {
        state_ = state_ * 6364136223846793005U + 1442695040888963407U;
        return Key((state_ >> 32) * kKeys >> 32);
    }

  private:
    std::uint64_t state_ = 42;
};

}  // namespace benchmark
