#include "catch.hpp"
#include "errors_of.hpp"
#include "slidegate/values/errors.hpp"
#include "slidegate/values/quota.hpp"

namespace slidegate {

using testing::mentions;
using testing::message_of;

namespace {

constexpr Nanos kMinute = 60'000'000'000;

struct Most {
    Strategy strategy;
    std::uint64_t amount;
};

std::string refusal(std::uint64_t amount, Nanos window, Strategy strategy) {
    return message_of<InvalidQuota>([&] { static_cast<void>(Quota(amount, window, strategy)); });
}

}  // namespace

TEST_CASE("Every strategy takes amounts from 1 to what its cell can hold, and names the maximum otherwise") {
    const auto [strategy, most] =
        GENERATE(Most{Strategy::moving_window, 8'388'607}, Most{Strategy::fixed_window, 8'388'607},
                 Most{Strategy::sliding_counter, 1'048'575}, Most{Strategy::gcra, 8'388'607});
    CAPTURE(name_of(strategy));
    CHECK(Quota(1, kMinute, strategy).amount() == 1);
    CHECK(Quota(most, kMinute, strategy).amount() == most);
    for (const std::uint64_t amount : {std::uint64_t{0}, most + 1, std::uint64_t{1} << 32, ~std::uint64_t{0}}) {
        const std::string message = refusal(amount, kMinute, strategy);
        CHECK(mentions(message, std::string(name_of(strategy))));
        CHECK(mentions(message, "from 1 to " + std::to_string(most)));
        CHECK(mentions(message, "not " + std::to_string(amount)));
    }
}

TEST_CASE("Every strategy takes windows from 10 ms to 2^27 seconds, and names the range otherwise") {
    const Strategy strategy =
        GENERATE(Strategy::moving_window, Strategy::fixed_window, Strategy::sliding_counter, Strategy::gcra);
    CHECK(Quota(1, 10'000'000, strategy).window() == 10'000'000);
    CHECK(Quota(1, 134'217'728'000'000'000, strategy).window() == 134'217'728'000'000'000);
    for (const Nanos window : {Nanos{-1}, Nanos{0}, Nanos{9'999'999}, Nanos{134'217'728'000'000'001}}) {
        const std::string message = refusal(1, window, strategy);
        CHECK(mentions(message, "from 10000000 ns"));
        CHECK(mentions(message, "134217728000000000 ns"));
        CHECK(mentions(message, "not " + std::to_string(window) + " ns"));
    }
}

TEST_CASE("GCRA refuses to admit more than one unit in 64 nanoseconds") {
    CHECK(Quota(156'250, kMinWindow, Strategy::gcra).amount() == 156'250);
    CHECK(mentions(refusal(156'251, kMinWindow, Strategy::gcra), "at most 156250"));
    CHECK(Quota(156'251, kMinWindow, Strategy::moving_window).amount() == 156'251);
}

TEST_CASE("Quotas are equal when amount, window and strategy are") {
    CHECK(Quota(10, kMinute) == Quota(10, kMinute, Strategy::moving_window));
    CHECK_FALSE(Quota(10, kMinute) == Quota(11, kMinute));
    CHECK_FALSE(Quota(10, kMinute) == Quota(10, kMinute + 1));
    CHECK_FALSE(Quota(10, kMinute) == Quota(10, kMinute, Strategy::gcra));
}

TEST_CASE("Names of strategies lead back to them") {
    const Strategy strategy =
        GENERATE(Strategy::moving_window, Strategy::fixed_window, Strategy::sliding_counter, Strategy::gcra);
    CHECK(strategy_named(name_of(strategy)) == strategy);
}

TEST_CASE("An unknown strategy is answered with the list of names") {
    const std::string message = message_of<InvalidQuota>([] { static_cast<void>(strategy_named("leaky")); });
    for (const char* part : {"'leaky'", "moving-window", "fixed-window", "sliding-window-counter", "gcra"}) {
        CHECK(mentions(message, part));
    }
}

}  // namespace slidegate
