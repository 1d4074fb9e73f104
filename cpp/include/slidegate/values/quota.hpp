// How much per window, counted how.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "slidegate/values/ticks.hpp"

namespace slidegate {

enum class Strategy : std::uint8_t {
    moving_window,    ///< exact while the hits fit the ring; never over the limit in any window
    fixed_window,     ///< a window starts with its first hit; up to twice the limit across two windows
    sliding_counter,  ///< two windows, the older weighted by what is left of it
    gcra,             ///< one unit every window / amount, bursts of `amount` (ITU-T I.371)
};

inline constexpr Nanos kMinWindow = 10'000'000;                                   // 10 ms
inline constexpr Nanos kMaxWindow = (Nanos{1} << 27) * Nanos{1'000'000'000};      // 1,553 days
inline constexpr std::uint64_t kMaxAmount = (std::uint64_t{1} << 23) - 1;         // the count of a cell's word
inline constexpr std::uint64_t kMaxSlidingAmount = (std::uint64_t{1} << 20) - 1;  // two counts in a word
inline constexpr Nanos kGcraUnit = 64;  // nanoseconds; what the arrival time counts in

/// Amount per window, with a strategy. A value; valid by construction.
class Quota {
  public:
    /// Throws InvalidQuota when `amount` is 0 or above what the strategy's cell can hold, when `window` is outside
    /// [kMinWindow, kMaxWindow], or when GCRA would have to admit more than one unit per 64 ns.
    Quota(std::uint64_t amount, Nanos window, Strategy strategy = Strategy::moving_window);

    [[nodiscard]] constexpr std::uint32_t amount() const noexcept { return amount_; }
    /// The window as asked for. It is counted in whole ticks, so it may last up to one tick longer.
    [[nodiscard]] constexpr Nanos window() const noexcept { return window_; }
    [[nodiscard]] constexpr Strategy strategy() const noexcept { return strategy_; }
    [[nodiscard]] constexpr Ticks ticks() const noexcept { return ticks_; }

    friend bool operator==(const Quota& a, const Quota& b) noexcept = default;

  private:
    std::uint32_t amount_;
    Nanos window_;
    Strategy strategy_;
    Ticks ticks_;
};

/// "moving-window", "fixed-window", "sliding-window-counter", "gcra".
[[nodiscard]] std::string_view name_of(Strategy strategy) noexcept;
/// The reverse; throws InvalidQuota that lists the names.
[[nodiscard]] Strategy strategy_named(std::string_view name);

}  // namespace slidegate
