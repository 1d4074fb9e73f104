#include "slidegate/values/quota.hpp"

#include <array>
#include <utility>

#include "slidegate/values/errors.hpp"

namespace slidegate {

namespace {

constexpr std::array<std::pair<Strategy, std::string_view>, 4> kNames = {{
    {Strategy::moving_window, "moving-window"},
    {Strategy::fixed_window, "fixed-window"},
    {Strategy::sliding_counter, "sliding-window-counter"},
    {Strategy::gcra, "gcra"},
}};

std::uint32_t checked_amount(std::uint64_t amount, Nanos window, Strategy strategy) {
    const std::uint64_t most = strategy == Strategy::sliding_counter ? kMaxSlidingAmount : kMaxAmount;
    if (amount < 1 || amount > most) {
        throw InvalidQuota("the amount of a " + std::string(name_of(strategy)) + " quota must be from 1 to " +
                           std::to_string(most) + ", not " + std::to_string(amount));
    }
    if (strategy == Strategy::gcra && static_cast<Nanos>(amount) > window / kGcraUnit) {
        throw InvalidQuota("gcra admits at most one unit in " + std::to_string(kGcraUnit) + " ns: at most " +
                           std::to_string(window / kGcraUnit) + " in this window, not " + std::to_string(amount));
    }
    return static_cast<std::uint32_t>(amount);
}

Nanos checked_window(Nanos window) {
    if (window < kMinWindow || window > kMaxWindow) {
        throw InvalidQuota("the window of a quota must be from " + std::to_string(kMinWindow) + " ns (10 ms) to " +
                           std::to_string(kMaxWindow) + " ns (1553 days), not " + std::to_string(window) + " ns");
    }
    return window;
}

}  // namespace

Quota::Quota(std::uint64_t amount, Nanos window, Strategy strategy)
    : amount_(checked_amount(amount, checked_window(window), strategy)),
      window_(window),
      strategy_(strategy),
      ticks_(Ticks::of(window)) {}

std::string_view name_of(Strategy strategy) noexcept { return kNames[static_cast<std::size_t>(strategy)].second; }

Strategy strategy_named(std::string_view name) {
    std::string known;
    for (const auto& [strategy, its_name] : kNames) {
        if (its_name == name) {
            return strategy;
        }
        known.append(known.empty() ? "" : ", ").append(its_name);
    }
    throw InvalidQuota(std::string("unknown strategy '").append(name).append("'; known are ").append(known));
}

}  // namespace slidegate
