// The one list of strategies that suites run over.
#pragma once

#include <array>
#include <cstdint>

#include "slidegate/values/quota.hpp"

namespace slidegate::testing {

struct StrategyUnderTest {
    Strategy strategy;
    std::uint64_t windows_in_one;  ///< amounts that one window of the caller's choosing can hold at most
    Nanos grain;                   ///< how much later than necessary a wait may be
    std::uint64_t most;            ///< largest amount
    bool has_lasting_tickets;      ///< a refund leaves other tickets as they were
};

inline constexpr std::array kStrategies = {
    StrategyUnderTest{Strategy::moving_window, 1, 1, kMaxAmount, true},
    StrategyUnderTest{Strategy::fixed_window, 2, 1, kMaxAmount, true},
    StrategyUnderTest{Strategy::sliding_counter, 2, 1, kMaxSlidingAmount, true},
    StrategyUnderTest{Strategy::gcra, 2, kGcraUnit, kMaxAmount, false},
};

}  // namespace slidegate::testing
