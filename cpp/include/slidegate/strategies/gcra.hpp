// Generic cell rate algorithm (ITU-T I.371, virtual scheduling): paces hits instead of counting them.
#pragma once

#include "slidegate/strategies/single_word.hpp"

namespace slidegate {

/// payload: theoretical arrival time, 52 bits, in units of 64 ns. One unit of cost every window / amount, and bursts of
/// up to `amount` after a window without hits; so a window that follows an idle one can hold up to 2 * amount.
/// Times come round after 9 years; a cell idle for more than half of that may look busy, which can only refuse.
class GcraRule {
  public:
    GcraRule(Ticks ticks, std::uint64_t amount) noexcept
        : interval_(interval(ticks.window_ns(), kGcraUnit * static_cast<Nanos>(amount))),
          burst_(interval_ * static_cast<std::int64_t>(amount)),
          limit_(amount) {}

    [[nodiscard]] Outcome take(std::uint64_t payload, Instant at, std::uint64_t cost,
                               std::uint64_t& next) const noexcept {
        const std::int64_t busy = busy_units(payload, at);
        if (cost > limit_) {
            return {Verdict::refused, remaining(busy), busy * kGcraUnit, kNever, 0};
        }
        const std::int64_t later = busy + static_cast<std::int64_t>(cost) * interval_;
        if (later > burst_) {
            return {Verdict::refused, remaining(busy), busy * kGcraUnit, (later - burst_) * kGcraUnit, 0};
        }
        next = static_cast<std::uint64_t>(at.now / kGcraUnit + later) & kTimeMask;
        return {Verdict::admitted, remaining(later), later * kGcraUnit, 0, 0};
    }

    [[nodiscard]] bool give_back(std::uint64_t payload, Instant at, std::uint64_t receipt, std::uint64_t cost,
                                 std::uint64_t& next) const noexcept {
        // Hits drain in their order, this one from interval_ * cost before its receipt.
        const std::int64_t busy = busy_units(payload, at);
        const std::int64_t left = std::min(static_cast<std::int64_t>(cost) * interval_, busy_units(receipt, at));
        if (left <= 0 || busy < left) {
            return false;
        }
        next = static_cast<std::uint64_t>(at.now / kGcraUnit + busy - left) & kTimeMask;
        return true;
    }

    // Hits after the one given back drain earlier than their receipts say.
    [[nodiscard]] static constexpr bool is_disturbed_by_refund(std::uint64_t payload, std::uint64_t receipt) noexcept {
        return payload != receipt;
    }

    [[nodiscard]] std::uint64_t fresh(Instant at) const noexcept {
        return static_cast<std::uint64_t>(at.now / kGcraUnit) & kTimeMask;
    }

    [[nodiscard]] bool is_expired(std::uint64_t payload, Instant at) const noexcept {
        const std::uint64_t idle = (static_cast<std::uint64_t>(at.now / kGcraUnit) - payload) & kTimeMask;
        return idle <= kTimeMask / 2 && static_cast<std::int64_t>(idle) >= burst_;
    }

    [[nodiscard]] std::uint64_t used(std::uint64_t payload, Instant at) const noexcept {
        return limit_ - remaining(busy_units(payload, at));
    }

  private:
    static constexpr std::uint64_t kTimeMask = (std::uint64_t{1} << 52) - 1;

    static constexpr std::int64_t interval(Nanos window, Nanos units) noexcept { return (window + units - 1) / units; }

    // Units from now to the arrival time; 0 when it has passed.
    [[nodiscard]] std::int64_t busy_units(std::uint64_t payload, Instant at) const noexcept {
        const std::uint64_t ahead = (payload - static_cast<std::uint64_t>(at.now / kGcraUnit)) & kTimeMask;
        return ahead > kTimeMask / 2 ? 0 : static_cast<std::int64_t>(ahead);
    }
    [[nodiscard]] std::uint64_t remaining(std::int64_t busy) const noexcept {
        return busy >= burst_ ? 0 : static_cast<std::uint64_t>((burst_ - busy) / interval_);
    }

    std::int64_t interval_;
    std::int64_t burst_;
    std::uint64_t limit_;
};

using Gcra = SingleWord<GcraRule>;

}  // namespace slidegate
