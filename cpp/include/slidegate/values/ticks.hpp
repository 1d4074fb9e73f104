// Window lengths in ticks, the unit of a cell's stamps.
#pragma once

#include <array>
#include <cstdint>

#include "slidegate/values/clock.hpp"

namespace slidegate {

/// 1-2-5 series from 1 ns to 1 s. All of them divide a second, so that whole seconds are exact tick boundaries.
inline constexpr std::array<Nanos, 28> kTickLengths = {
    1,          2,          5,          10,          20,          50,          100,
    200,        500,        1'000,      2'000,       5'000,       10'000,      20'000,
    50'000,     100'000,    200'000,    500'000,     1'000'000,   2'000'000,   5'000'000,
    10'000'000, 20'000'000, 50'000'000, 100'000'000, 200'000'000, 500'000'000, 1'000'000'000};

/// A window as a whole number of ticks: the shortest tick with which it has at most 2^16 of them, or 1 s.
struct Ticks {
    std::uint8_t index = 0;    ///< into kTickLengths
    std::uint32_t window = 0;  ///< length of the window in ticks, rounded up; below 2^28

    /// `window` must be in [kMinWindow, kMaxWindow] of quota.hpp.
    [[nodiscard]] static constexpr Ticks of(Nanos window) noexcept {
        constexpr Nanos kMost = Nanos{1} << 16;
        std::uint8_t index = 0;
        while (index + 1U < kTickLengths.size() && window > kTickLengths[index] * kMost) {
            ++index;
        }
        const Nanos tick = kTickLengths[index];
        return {index, static_cast<std::uint32_t>((window + tick - 1) / tick)};
    }

    [[nodiscard]] constexpr Nanos length() const noexcept { return kTickLengths[index]; }
    [[nodiscard]] constexpr Nanos window_ns() const noexcept { return window * length(); }

    friend constexpr bool operator==(const Ticks&, const Ticks&) = default;
};

static_assert(Ticks::of(1'000'000'000).window == 50'000);
static_assert(Ticks::of(60'000'000'000).window == 60'000);
static_assert(Ticks::of(86'400'000'000'000).window == 86'400);

}  // namespace slidegate
