// Fixed window: a window opens with its first hit and is forgotten as a whole when it is over.
#pragma once

#include "slidegate/cells/stamp.hpp"
#include "slidegate/strategies/single_word.hpp"

namespace slidegate {

/// payload: stamp of the window's first hit 29, count 23. Admits up to twice the amount in a window of the caller's
/// choosing that straddles two of ours, as every fixed window does; for parity with `limits`, where it is the default.
class FixedWindowRule {
  public:
    FixedWindowRule(Ticks ticks, std::uint64_t amount) noexcept : timeline_(ticks), limit_(amount) {}

    [[nodiscard]] Outcome take(std::uint64_t payload, Instant instant, std::uint64_t cost,
                               std::uint64_t& next) const noexcept {
        const Moment at = timeline_.at(instant);
        const Window window = read(payload, at);
        if (cost > limit_ || window.count > limit_ - cost) {
            const Nanos wait = timeline_.until_expired(window.start, at);
            return {Verdict::refused, limit_ - std::min(limit_, window.count), window.count == 0 ? 0 : wait,
                    cost > limit_ ? kNever : wait, 0};
        }
        const std::uint64_t count = window.count + cost;
        next = payload_of(stamped(window.start, count, 0));
        return {Verdict::admitted, limit_ - count, count == 0 ? 0 : timeline_.until_expired(window.start, at), 0, 0};
    }

    [[nodiscard]] bool give_back(std::uint64_t payload, Instant instant, std::uint64_t receipt, std::uint64_t cost,
                                 std::uint64_t& next) const noexcept {
        const std::uint64_t word = make_word(payload, 0);
        const Window window = read(payload, timeline_.at(instant));
        if (window.count < cost || stamp_of(word) != stamp_of(make_word(receipt, 0))) {
            return false;
        }
        next = payload_of(with_count(word, window.count - cost));
        return true;
    }

    [[nodiscard]] static constexpr bool is_disturbed_by_refund(std::uint64_t, std::uint64_t) noexcept { return false; }

    [[nodiscard]] std::uint64_t fresh(Instant instant) const noexcept {
        return payload_of(stamped(timeline_.at(instant).ceil, 0, 0));
    }

    [[nodiscard]] bool is_expired(std::uint64_t payload, Instant instant) const noexcept {
        const Moment at = timeline_.at(instant);
        return !timeline_.is_live(timeline_.unwrap(make_word(payload, 0), at), at);
    }

    [[nodiscard]] std::uint64_t used(std::uint64_t payload, Instant instant) const noexcept {
        return read(payload, timeline_.at(instant)).count;
    }

  private:
    struct Window {
        std::int64_t start;
        std::uint64_t count;
    };

    // A window that holds nothing starts with the next hit.
    [[nodiscard]] Window read(std::uint64_t payload, const Moment& at) const noexcept {
        const std::uint64_t word = make_word(payload, 0);
        const std::int64_t start = timeline_.unwrap(word, at);
        if (count_of(word) == 0 || !timeline_.is_live(start, at)) {
            return {std::max(at.ceil, start), 0};
        }
        return {start, count_of(word)};
    }

    Timeline timeline_;
    std::uint64_t limit_;
};

using FixedWindow = SingleWord<FixedWindowRule>;

}  // namespace slidegate
