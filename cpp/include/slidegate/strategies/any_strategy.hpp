// The strategy of a quota, applied to cells.
#pragma once

#include <variant>

#include "slidegate/strategies/fixed_window.hpp"
#include "slidegate/strategies/gcra.hpp"
#include "slidegate/strategies/moving_window.hpp"
#include "slidegate/strategies/sliding_counter.hpp"

namespace slidegate {

/// One of the strategies. Each has hit, peek, refund, begin and used, as MovingWindow documents them.
using AnyStrategy = std::variant<MovingWindow, FixedWindow, SlidingCounter, Gcra>;

[[nodiscard]] inline AnyStrategy make_strategy(Strategy strategy, Ticks ticks, std::uint64_t amount,
                                               CellClass cell_class) noexcept {
    switch (strategy) {
        case Strategy::fixed_window:
            return FixedWindow(ticks, amount);
        case Strategy::sliding_counter:
            return SlidingCounter(ticks, amount);
        case Strategy::gcra:
            return Gcra(ticks, amount);
        case Strategy::moving_window:
            break;
    }
    return MovingWindow(ticks, amount, cell_class);
}

}  // namespace slidegate
