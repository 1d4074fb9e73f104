#include <memory>

#include "catch.hpp"
#include "one_cell.hpp"
#include "slidegate/limiter/limiter.hpp"
#include "slidegate/strategies/sliding_counter.hpp"

namespace slidegate {

using testing::Answer;
using testing::answer_of;
using testing::kSecond;
using testing::OneCell;

namespace {

class Window : public OneCell<SlidingCounter> {
  public:
    explicit Window(std::uint64_t amount) : OneCell(SlidingCounter(Ticks::of(60 * kSecond), amount), kCellClasses[0]) {}
};

}  // namespace

TEST_CASE("A sliding-window counter weighs the previous window by what is left of it") {
    Window window(10);
    CHECK(answer_of(window.hit(6 * kSecond, 10)) == Answer{true, 0, 114 * kSecond, 0});
    // 15 s into the next window three quarters of it are left: floor(10 * 45 / 60) = 7.
    CHECK(answer_of(window.peek(75 * kSecond)) == Answer{true, 3, 45 * kSecond, 0});
    CHECK(answer_of(window.hit(75 * kSecond, 3)) == Answer{true, 0, 105 * kSecond, 0});
    // 10 * rest / 60 falls below 7 as soon as less than 42 s are left.
    CHECK(answer_of(window.hit(75 * kSecond)) == Answer{false, 0, 105 * kSecond, 3 * kSecond + 1});
}

TEST_CASE("A sliding-window counter names the first nanosecond that admits the cost") {
    Window window(10);
    CHECK(window.admits(0, 10));
    for (std::uint64_t cost = 1; cost <= 10; ++cost) {
        const Nanos wait = window.peek(30 * kSecond, cost).retry_after;
        CAPTURE(cost, wait);
        CHECK(window.peek(30 * kSecond + wait - 1, cost).verdict == Verdict::refused);
        CHECK(window.peek(30 * kSecond + wait, cost).verdict == Verdict::admitted);
    }
    // Nine are left of ten as soon as the next window has begun: 10 * (60 s - 1 ns) / 60 s, rounded down.
    CHECK(window.peek(30 * kSecond).retry_after == 30 * kSecond + 1);
}

TEST_CASE("Costs of eight, five and two on a sliding-window counter of ten") {
    Window window(10);
    CHECK(answer_of(window.hit(0, 8)) == Answer{true, 2, 120 * kSecond, 0});
    // floor(8 * rest / 60) is at most 5 when less than 45 s are left of the next window.
    CHECK(answer_of(window.hit(kSecond, 5)) == Answer{false, 2, 119 * kSecond, 74 * kSecond + 1});
    CHECK(answer_of(window.hit(kSecond, 2)) == Answer{true, 0, 119 * kSecond, 0});
}

TEST_CASE("A sliding-window counter is whole again two windows later") {
    Window window(10);
    CHECK(window.admits(59 * kSecond, 10));
    CHECK(answer_of(window.peek(114 * kSecond)) == Answer{true, 9, 6 * kSecond, 0});
    CHECK(answer_of(window.peek(114 * kSecond + 1)) == Answer{true, 10, 6 * kSecond - 1, 0});
    CHECK(answer_of(window.peek(120 * kSecond, 10)) == Answer{true, 10, 0, 0});
}

TEST_CASE("A refund to a sliding-window counter finds its hit in the current window and the one before") {
    Window window(10);
    const Outcome first = window.hit(0, 10);
    CHECK(window.refund(kSecond, first, 4));
    CHECK(window.peek(kSecond).remaining == 4);
    CHECK(window.refund(61 * kSecond, first, 6));
    CHECK(window.peek(61 * kSecond).remaining == 10);
    const Outcome second = window.hit(61 * kSecond, 10);
    CHECK_FALSE(window.refund(180 * kSecond, second, 10));
}

TEST_CASE("What a refund in the next window leaves of the one before is neither lost nor taken for an older one") {
    Window window(2);
    const Outcome first = window.hit(0);
    const Outcome second = window.hit(0);
    REQUIRE(window.refund(60 * kSecond, first));
    SECTION("for another refund") { CHECK(window.refund(60 * kSecond, second)); }
    SECTION("for hits") {
        CHECK(window.admits(60 * kSecond));
        CHECK_FALSE(window.admits(60 * kSecond));
    }
    SECTION("for a caller whose clock is still in the window before") {
        CHECK(window.admits(59 * kSecond));
        CHECK_FALSE(window.admits(59 * kSecond));
    }
}

TEST_CASE("A refund to a sliding-window counter that was reset finds nothing") {
    Window window(10);
    const Outcome old = window.hit(0, 10);
    window.reset(0);
    CHECK(window.admits(0, 10));
    CHECK_FALSE(window.refund(0, old, 10));
    CHECK_FALSE(window.admits(0));
}

TEST_CASE("A caller just before a boundary counts with those who have passed it") {
    Window window(10);
    CHECK(window.admits(60 * kSecond, 10));
    CHECK_FALSE(window.admits(60 * kSecond - 1));
    CHECK_FALSE(window.admits(60 * kSecond - Shared::kStep / 2));
}

TEST_CASE("A sliding-window counter whose number comes round refuses at worst") {
    const Nanos around = 4'096 * 60 * kSecond;
    const Nanos offset = GENERATE(values<Nanos>({-120, -61, -60, -1, 0, 1, 60, 120})) * kSecond;
    Window window(10);
    CHECK(window.admits(0, 10));
    window.lone().shared().raise(around + offset);
    std::uint64_t admitted = 0;
    for (int i = 0; i < 20; ++i) {
        admitted += window.admits(around + offset) ? 1 : 0;
    }
    CHECK(admitted <= 10);
    CHECK(window.admits(around + offset + 180 * kSecond, 10));
}

TEST_CASE("A sliding-window counter holds its largest amount") {
    Window window(kMaxSlidingAmount);
    CHECK(window.admits(0, kMaxSlidingAmount));
    CHECK_FALSE(window.admits(0));
    CHECK_FALSE(window.admits(60 * kSecond));
    CHECK(window.peek(90 * kSecond).remaining == kMaxSlidingAmount - kMaxSlidingAmount / 2);
}

TEST_CASE("The longest window does not overflow a sliding-window counter") {
    OneCell<SlidingCounter> window(SlidingCounter(Ticks::of(kMaxWindow), kMaxSlidingAmount), kCellClasses[0]);
    CHECK(window.admits(0, kMaxSlidingAmount));
    CHECK(window.peek(kMaxWindow + kMaxWindow / 2).remaining == kMaxSlidingAmount - kMaxSlidingAmount / 2);
    const Outcome refused = window.peek(kMaxWindow, kMaxSlidingAmount);
    CHECK(refused.verdict == Verdict::refused);
    CHECK(window.peek(kMaxWindow + refused.retry_after, kMaxSlidingAmount).verdict == Verdict::admitted);
}

TEST_CASE("test_fault_36_a_new_key_counts_in_its_own_window_however_close_the_next_one_and_whatever_its_number") {
    constexpr Nanos kMinute = 60 * kSecond;
    const Nanos next = GENERATE(values<Nanos>({1, 4'095, 4'096, 4'097, 8'192})) * kMinute;
    const Nanos rest = GENERATE(values<Nanos>({1, 500'000, 1'000'000, 2'000'000}));
    CAPTURE(next, rest);
    const auto clock = std::make_shared<ManualClock>(next - rest);
    const Limiter limiter({.size = std::size_t{1} << 20, .clock = clock});
    const Policy policy = limiter.policy({{Quota(10, kMinute, Strategy::sliding_counter), "s"}});
    const Decision decision = policy.hit("k", 10);
    CHECK(decision.allowed);
    CHECK(decision.reset_after == rest + kMinute);
    clock->set(next + kMinute / 2);
    CHECK(policy.peek("k").remaining == 5);
}

}  // namespace slidegate
