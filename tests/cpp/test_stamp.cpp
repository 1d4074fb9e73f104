#include "catch.hpp"
#include "lone_cell.hpp"

namespace slidegate {

using testing::kMillisecond;
using testing::kMillisecondTicks;

namespace {

constexpr Ticks kHundred = {kMillisecondTicks, 100};

Moment moment_at(Nanos now, Nanos floor) { return Timeline(kHundred).at(Instant{now, floor}); }
Moment moment_at(Nanos now) { return moment_at(now, now); }

}  // namespace

TEST_CASE("A stamped word gives back its stamp, count and position") {
    const std::uint64_t word = stamped(kStamps - 1, kMaxAmount, 1013);
    CHECK(stamp_of(word) == kStamps - 1);
    CHECK(count_of(word) == kMaxAmount);
    CHECK(position_of(word) == 1013);
    CHECK_FALSE((is_claimed(word) || is_sealed(word)));
    CHECK(stamp_of(stamped(kStamps + 5, 1, 0)) == 5);
}

TEST_CASE("A changed count leaves stamp and position, and takes off the seal") {
    const std::uint64_t word = with_count(stamped(123, 7, 9) | kSealed, 6);
    CHECK(word == stamped(123, 6, 9));
}

TEST_CASE("What was begun is stamped, and only what has passed is judged by") {
    CHECK(moment_at(5 * kMillisecond).floor == 5);
    CHECK(moment_at(5 * kMillisecond).ceil == 5);
    CHECK(moment_at(5 * kMillisecond + 1).floor == 5);
    CHECK(moment_at(5 * kMillisecond + 1).ceil == 6);
    CHECK(moment_at(6 * kMillisecond - 1).floor == 5);
    CHECK(moment_at(0).ceil == 0);
}

TEST_CASE("A stamp expires exactly one window after it") {
    const Timeline line(kHundred);
    CHECK(line.is_live(50, moment_at(150 * kMillisecond - 1)));
    CHECK_FALSE(line.is_live(50, moment_at(150 * kMillisecond)));
    CHECK(line.until_expired(50, moment_at(149 * kMillisecond)) == kMillisecond);
    CHECK(line.until_expired(50, moment_at(150 * kMillisecond)) == 0);
    CHECK(line.until_expired(50, moment_at(900 * kMillisecond)) == 0);
}

TEST_CASE("A stamp is unwrapped to the tick that it stands for, in whichever round the clock is") {
    const Timeline line(kHundred);
    for (const std::int64_t round : {0, 1, 2, 3'352}) {
        const std::int64_t tick = round * kStamps + 70;
        for (const std::int64_t passed :
             {std::int64_t{0}, std::int64_t{1}, std::int64_t{99}, kStamps / 2, kStamps - 4}) {
            const Moment moment = moment_at((tick + passed) * kMillisecond);
            CAPTURE(round, passed);
            CHECK(line.unwrap(stamped(tick, 1, 0), moment) == tick);
        }
    }
}

TEST_CASE("A stamp ahead of the clock is read as ahead only as far as a head can be ahead of the floor") {
    const Timeline line(kHundred);
    const std::int64_t tick = 3 * kStamps - 1;
    const Moment moment = moment_at(tick * kMillisecond);
    CHECK(line.unwrap(stamped(tick + 2, 1, 0), moment) == tick + 2);
    CHECK(line.unwrap(stamped(tick + 10, 1, 0), moment) == tick + 10 - kStamps);
}

TEST_CASE("The round of stamps ends ahead of the floor, not of the caller") {
    const Timeline line(kHundred);
    const Moment moment = moment_at(900 * kMillisecond, 100 * kMillisecond);
    CHECK(line.unwrap(stamped(901, 1, 0), moment) == 901 - kStamps);
    CHECK(line.unwrap(stamped(101, 1, 0), moment) == 101);
}

TEST_CASE("An instant is never before the floor") {
    Shared shared{};
    shared.raise(1'000);
    CHECK(shared.instant(999).now == 1'000);
    CHECK(shared.instant(1'001).now == 1'001);
    CHECK(shared.instant(1'001).floor == 1'000);
    shared.raise(500);
    CHECK(shared.floor == 1'000);
}

TEST_CASE("Writers keep the floor within one step of their time, and do not write it more often") {
    Shared shared{};
    shared.follow(Shared::kStep - 1);
    CHECK(shared.floor == 0);
    shared.follow(Shared::kStep);
    CHECK(shared.floor == static_cast<std::uint64_t>(Shared::kStep));
}

}  // namespace slidegate
