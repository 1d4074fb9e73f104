// Sliding-window counter: two counters on the clock's grid, the older weighted by how much of it still lies in the window.
#pragma once

#include "slidegate/strategies/single_word.hpp"

namespace slidegate {

/// payload: window number 12, previous count 20, current count 20. `floor(previous * rest / window) + current`, as in
/// `limits`. It takes the hits of the previous window as evenly spread: when they all came at its end, a window can
/// hold up to twice the amount. Window numbers come round after 4,096 windows; that can only refuse.
class SlidingCounterRule {
  public:
    SlidingCounterRule(Ticks ticks, std::uint64_t amount) noexcept : window_(ticks.window_ns()), limit_(amount) {}

    [[nodiscard]] Outcome take(std::uint64_t payload, Instant at, std::uint64_t cost,
                               std::uint64_t& next) const noexcept {
        State state = read(payload, at);
        const std::uint64_t used = weighted(state) + state.current;
        if (cost > limit_ || used > limit_ - cost) {
            return {Verdict::refused, limit_ - std::min(limit_, used), until_whole(state),
                    cost > limit_ ? kNever : until_room(state, limit_ - cost), 0};
        }
        state.current += cost;
        next = write(state);
        return {Verdict::admitted, limit_ - used - cost, until_whole(state), 0, 0};
    }

    [[nodiscard]] bool give_back(std::uint64_t payload, Instant at, std::uint64_t receipt, std::uint64_t cost,
                                 std::uint64_t& next) const noexcept {
        State state = read(payload, at);
        const std::uint64_t windows_since = (static_cast<std::uint64_t>(state.number) - (receipt >> 40)) & kNumberMask;
        std::uint64_t& count = windows_since == 0 ? state.current : state.previous;
        if (windows_since > 1 || count < cost) {
            return false;
        }
        count -= cost;
        next = write(state);
        return true;
    }

    [[nodiscard]] static constexpr bool is_disturbed_by_refund(std::uint64_t, std::uint64_t) noexcept { return false; }

    [[nodiscard]] std::uint64_t fresh(Instant at) const noexcept { return write({at.now / window_, 0, 0, 0}); }

    [[nodiscard]] bool is_expired(std::uint64_t payload, Instant at) const noexcept {
        return number_of(payload, at) < at.now / window_ - 1;
    }

    [[nodiscard]] std::uint64_t used(std::uint64_t payload, Instant at) const noexcept {
        const State state = read(payload, at);
        return state.previous + state.current;
    }

  private:
    static constexpr std::uint64_t kCountMask = kMaxSlidingAmount;
    static constexpr std::uint64_t kNumberMask = (1U << 12) - 1;
    __extension__ using Wide = unsigned __int128;

    struct State {
        std::int64_t number;  ///< of the current window
        std::uint64_t previous;
        std::uint64_t current;
        Nanos rest;  ///< of the current window: in [1, window]
    };

    // As with stamps, numbers come round where heads end: ahead of the floor.
    [[nodiscard]] std::int64_t number_of(std::uint64_t payload, Instant at) const noexcept {
        const std::int64_t newest = (at.floor + Shared::kStep) / window_;
        return newest - static_cast<std::int64_t>((static_cast<std::uint64_t>(newest) - (payload >> 40)) & kNumberMask);
    }
    [[nodiscard]] State read(std::uint64_t payload, Instant at) const noexcept {
        const std::int64_t number = at.now / window_;
        const std::int64_t written = number_of(payload, at);
        const std::uint64_t current = payload & kCountMask;
        const std::uint64_t previous = payload >> 20 & kCountMask;
        if (written > number) {
            // By a caller whose clock had passed the boundary that is still ahead of ours.
            return {written, previous, current, window_};
        }
        return {number,
                written == number       ? previous
                : written == number - 1 ? current
                                        : 0,
                written == number ? current : 0, window_ - at.now % window_};
    }
    [[nodiscard]] static std::uint64_t write(const State& state) noexcept {
        return (static_cast<std::uint64_t>(state.number) & kNumberMask) << 40 | state.previous << 20 | state.current;
    }
    [[nodiscard]] std::uint64_t weighted(const State& state) const noexcept {
        return static_cast<std::uint64_t>(Wide{state.previous} * static_cast<Wide>(state.rest) /
                                          static_cast<Wide>(window_));
    }
    [[nodiscard]] Nanos until_whole(const State& state) const noexcept {
        return state.current != 0 ? state.rest + window_ : state.previous != 0 ? state.rest : 0;
    }
    // The largest rest of a window with which `count` hits of the window before weigh no more than `room`.
    [[nodiscard]] Nanos rest_for(std::uint64_t count, std::uint64_t room) const noexcept {
        return static_cast<Nanos>((Wide{room + 1} * static_cast<Wide>(window_) - 1) / count);
    }
    [[nodiscard]] Nanos until_room(const State& state, std::uint64_t room) const noexcept {
        if (state.current <= room) {
            return state.rest - rest_for(state.previous, room - state.current);
        }
        return state.rest + window_ - rest_for(state.current, room);
    }

    Nanos window_;
    std::uint64_t limit_;
};

using SlidingCounter = SingleWord<SlidingCounterRule>;

}  // namespace slidegate
