// Stamps: moments in ticks, kept in 29 bits of a word beside a count of 23.
#pragma once

#include "slidegate/cells/lease.hpp"

namespace slidegate {

inline constexpr unsigned kCountBits = 23;
inline constexpr unsigned kStampBits = 29;
inline constexpr std::int64_t kStamps = std::int64_t{1} << kStampBits;
inline constexpr std::uint64_t kCountMask = (std::uint64_t{1} << kCountBits) - 1;
static_assert(kCountMask == kMaxAmount && kStampBits + kCountBits + kPayloadShift == 64);

[[nodiscard]] constexpr std::uint64_t count_of(std::uint64_t word) noexcept { return payload_of(word) & kCountMask; }
[[nodiscard]] constexpr std::int64_t stamp_of(std::uint64_t word) noexcept {
    return static_cast<std::int64_t>(payload_of(word) >> kCountBits);
}
/// The word of `count` units taken at `stamp` (any 64-bit tick), neither sealed nor claimed.
[[nodiscard]] constexpr std::uint64_t stamped(std::int64_t stamp, std::uint64_t count,
                                              std::uint32_t position) noexcept {
    return make_word(static_cast<std::uint64_t>(stamp & (kStamps - 1)) << kCountBits | count, position);
}
[[nodiscard]] constexpr std::uint64_t with_count(std::uint64_t word, std::uint64_t count) noexcept {
    return stamped(stamp_of(word), count, position_of(word));
}

/// One reading of the clock, in ticks.
struct Moment {
    Nanos now;
    std::int64_t floor;   ///< whole ticks passed: what has expired is judged by it
    std::int64_t ceil;    ///< ticks begun: what a hit is stamped with
    std::int64_t newest;  ///< the latest stamp that any head can bear
};

/// Ticks of one quota: turns nanoseconds into moments, and stamps back into ticks.
class Timeline {
  public:
    explicit constexpr Timeline(Ticks ticks) noexcept : ticks_(ticks), ahead_(Shared::kStep / ticks.length() + 2) {}

    [[nodiscard]] constexpr Ticks ticks() const noexcept { return ticks_; }
    [[nodiscard]] constexpr Moment at(Instant instant) const noexcept {
        const auto [now, floor] = instant;
        const std::int64_t passed = now / ticks_.length();
        return {now, passed, passed + (now % ticks_.length() != 0 ? 1 : 0), floor / ticks_.length() + ahead_};
    }
    /// The tick that a stamp stands for. The round of stamps ends where heads do: ahead of the floor, not of the caller,
    /// or a stamp a round old could push a head further ahead of the floor than the next caller expects one.
    [[nodiscard]] constexpr std::int64_t unwrap(std::uint64_t word, const Moment& moment) const noexcept {
        return moment.newest - ((moment.newest - stamp_of(word)) & (kStamps - 1));
    }
    /// Ticks from a stamp to the latest that there can be; live while below live_ages(). The same as unwrap() and is_live(),
    /// for loops.
    [[nodiscard]] constexpr std::int64_t age(std::uint64_t word, const Moment& moment) const noexcept {
        return (moment.newest - stamp_of(word)) & (kStamps - 1);
    }
    [[nodiscard]] constexpr std::int64_t live_ages(const Moment& moment) const noexcept {
        return ticks_.window + moment.newest - moment.floor;
    }
    [[nodiscard]] constexpr bool is_live(std::int64_t stamp, const Moment& moment) const noexcept {
        return moment.floor - stamp < ticks_.window;
    }
    /// Nanoseconds from the moment until what was stamped `stamp` has expired; at least 0.
    [[nodiscard]] constexpr Nanos until_expired(std::int64_t stamp, const Moment& moment) const noexcept {
        return std::max<Nanos>((stamp + ticks_.window) * ticks_.length() - moment.now, 0);
    }

  private:
    Ticks ticks_;
    std::int64_t ahead_;
};

}  // namespace slidegate
