#include "catch.hpp"
#include "slidegate/values/quota.hpp"

namespace slidegate {

TEST_CASE("Every tick length divides a second") {
    for (const Nanos tick : kTickLengths) {
        CHECK(1'000'000'000 % tick == 0);
    }
}

TEST_CASE("A window has the shortest ticks of which it holds no more than 2^16") {
    const Nanos window =
        GENERATE(values<Nanos>({kMinWindow, 10'000'001, 1'000'000'000, 1'310'720'000, 1'310'720'001, 60'000'000'000,
                                3'600'000'000'000, 32'768'000'000'000, 32'768'000'000'001, 86'400'000'000'000}));
    const Ticks ticks = Ticks::of(window);
    CAPTURE(window, ticks.length(), ticks.window);
    CHECK((ticks.window <= 1U << 16 || ticks.length() == 1'000'000'000));
    REQUIRE(ticks.index > 0);
    CHECK(window > kTickLengths[ticks.index - 1U] * (Nanos{1} << 16));
}

TEST_CASE("Ticks of common windows are those that the documentation names") {
    CHECK(Ticks::of(1'000'000'000).length() == 20'000);
    CHECK(Ticks::of(60'000'000'000).length() == 1'000'000);
    CHECK(Ticks::of(3'600'000'000'000).length() == 100'000'000);
    CHECK(Ticks::of(86'400'000'000'000).length() == 1'000'000'000);
    CHECK(Ticks::of(30 * 86'400'000'000'000).length() == 1'000'000'000);
}

TEST_CASE("Whole seconds are a whole number of ticks") {
    const Nanos seconds = GENERATE(values<Nanos>({1, 2, 7, 59, 61, 3599, 86'399, 1 << 27}));
    CHECK(Ticks::of(seconds * 1'000'000'000).window_ns() == seconds * 1'000'000'000);
}

TEST_CASE("A window that is no whole number of ticks lasts up to one tick longer and never shorter") {
    for (Nanos window = 1'310'720'000 - 50; window < 1'310'720'000 + 50; ++window) {
        const Ticks ticks = Ticks::of(window);
        CHECK(ticks.window_ns() >= window);
        CHECK(ticks.window_ns() < window + ticks.length());
    }
}

TEST_CASE("The longest window fits the 28 bits of a life") {
    CHECK(Ticks::of(kMaxWindow).window == 1U << 27);
    CHECK(Ticks::of(kMaxWindow).window < 1U << 28);
}

}  // namespace slidegate
