// What every strategy has in common, through a limiter.
#include <cstdint>
#include <string>
#include <vector>

#include "catch.hpp"
#include "dice.hpp"
#include "oracle.hpp"
#include "slidegate/limiter/limiter.hpp"
#include "strategies.hpp"

namespace slidegate {

using testing::Admission;
using testing::Dice;
using testing::fullest_window;
using testing::kStrategies;
using testing::StrategyUnderTest;

namespace {

constexpr Nanos kSecond = 1'000'000'000;
constexpr Nanos kMinute = 60 * kSecond;

struct Gate {
    Gate(std::uint64_t amount, Nanos window, Strategy strategy, Nanos start)
        : clock(std::make_shared<ManualClock>(start)),
          limiter({.size = kDefaultSize, .on_full = OnFull::refuse, .clock = clock, .layout = {16, 1 << 16}}),
          policy(limiter.policy({{Quota(amount, window, strategy), "scope"}})) {}

    Decision at(Nanos now, std::uint64_t cost = 1, std::string_view key = "key") {
        clock->set(now);
        return policy.hit(key, cost);
    }
    std::uint64_t admitted_at(Nanos now, std::uint64_t hits) {
        std::uint64_t admitted = 0;
        for (; hits > 0; --hits) {
            admitted += at(now).allowed ? 1 : 0;
        }
        return admitted;
    }
    Decision peek_at(Nanos now, std::uint64_t cost = 1) {
        clock->set(now);
        return policy.peek("key", cost);
    }

    std::shared_ptr<ManualClock> clock;
    Limiter limiter;
    Policy policy;
};

StrategyUnderTest any_strategy() { return GENERATE(from_range(kStrategies.begin(), kStrategies.end())); }

// A whole number of minutes, so that the windows of the clock's grid start here too.
const std::vector<Nanos> kStarts = {0, kMinute, 28'333'333 * kMinute, 30'000'000 * kMinute};
static_assert(30'000'000 * kMinute == 1'800'000'000'000'000'000);

Nanos any_start() { return GENERATE(from_range(kStarts)); }

bool equal(const Decision& a, const Decision& b) {
    return a.allowed == b.allowed && a.quota == b.quota && a.limit == b.limit && a.remaining == b.remaining &&
           a.reset_after == b.reset_after && a.retry_after == b.retry_after;
}

}  // namespace

TEST_CASE("Every strategy admits exactly its amount at once, at any time of the clock") {
    const auto under_test = any_strategy();
    const Nanos start = any_start();
    Gate gate(10, kMinute, under_test.strategy, start);
    CAPTURE(name_of(under_test.strategy), start);
    for (std::uint64_t i = 1; i <= 10; ++i) {
        const Decision decision = gate.at(start);
        CHECK(decision.allowed);
        CHECK(decision.limit == 10);
        CHECK(decision.remaining == 10 - i);
        CHECK(decision.retry_after == 0);
        CHECK(decision.reset_after > 0);
    }
    for (int i = 0; i < 20; ++i) {
        const Decision decision = gate.at(start);
        CHECK_FALSE(decision.allowed);
        CHECK(decision.remaining == 0);
        CHECK(decision.retry_after > 0);
    }
}

TEST_CASE("Every strategy counts the first call at time 0 like any other") {
    const auto under_test = any_strategy();
    Gate gate(1, kMinute, under_test.strategy, 0);
    CHECK(equal(gate.peek_at(0), {true, 0, 1, 1, 0, 0}));
    CHECK(gate.at(0).allowed);
    CHECK_FALSE(gate.at(0).allowed);
    CHECK_FALSE(gate.at(kMinute - 1).allowed);
}

TEST_CASE("Every strategy is whole again exactly when it says, and no earlier") {
    const auto under_test = any_strategy();
    const Nanos start = any_start();
    Gate gate(10, kMinute, under_test.strategy, start);
    CAPTURE(name_of(under_test.strategy), start);
    const Nanos reset_after = gate.at(start, 10).reset_after;
    const bool is_grid = under_test.strategy == Strategy::sliding_counter;
    CHECK(reset_after == (is_grid ? 2 * kMinute : kMinute));
    CHECK(gate.peek_at(start + reset_after).remaining == 10);
    CHECK(gate.peek_at(start + reset_after).reset_after == 0);
    CHECK(gate.peek_at(start + reset_after - 1).reset_after > 0);
    CHECK(gate.at(start + reset_after, 10).allowed);
}

TEST_CASE("Every strategy admits a refused cost at the boundary that it names, and not before") {
    const auto under_test = any_strategy();
    const Nanos start = any_start();
    const std::uint64_t cost = GENERATE(values<std::uint64_t>({1, 2, 5, 9, 10}));
    Gate gate(10, kMinute, under_test.strategy, start);
    CAPTURE(name_of(under_test.strategy), start, cost);
    for (int i = 0; i < 10; ++i) {
        CHECK(gate.at(start + i * kSecond / 10).allowed);
    }
    const Nanos now = start + kSecond;
    const Decision refused = gate.at(now, cost);
    REQUIRE_FALSE(refused.allowed);
    CHECK_FALSE(gate.peek_at(now + refused.retry_after - under_test.grain, cost).allowed);
    CHECK(gate.peek_at(now + refused.retry_after, cost).allowed);
    CHECK(gate.at(now + refused.retry_after, cost).allowed);
}

TEST_CASE("Every strategy refuses a cost above its limit for ever, and takes nothing for it") {
    const auto under_test = any_strategy();
    Gate gate(10, kMinute, under_test.strategy, 0);
    for (const std::uint64_t cost : {std::uint64_t{11}, std::uint64_t{1} << 23, std::uint64_t{1} << 32,
                                     std::uint64_t{1} << 63, ~std::uint64_t{0}}) {
        CAPTURE(name_of(under_test.strategy), cost);
        CHECK(equal(gate.at(0, cost), {false, 0, 10, 10, 0, kNever}));
        CHECK(equal(gate.peek_at(0, cost), {false, 0, 10, 10, 0, kNever}));
    }
    CHECK(gate.at(0, 4).allowed);
    const Decision refused = gate.at(0, std::uint64_t{1} << 63);
    CHECK_FALSE(refused.allowed);
    CHECK(refused.remaining == 6);
    CHECK(refused.retry_after == kNever);
    CHECK(gate.at(0, 6).allowed);
}

TEST_CASE("Every strategy holds its largest amount") {
    const auto under_test = any_strategy();
    Gate gate(under_test.most, kMinute, under_test.strategy, 0);
    CHECK(gate.at(0, under_test.most - 1).remaining == 1);
    CHECK_FALSE(gate.at(0, 2).allowed);
    CHECK(gate.at(0, 1).remaining == 0);
    CHECK_FALSE(gate.at(0, 1).allowed);
}

TEST_CASE("Every strategy counts a caller whose clock ran backwards as if it had stood still") {
    const auto under_test = any_strategy();
    Gate gate(10, kMinute, under_test.strategy, 5 * kMinute);
    CAPTURE(name_of(under_test.strategy));
    CHECK(gate.admitted_at(5 * kMinute, 4) == 4);
    CHECK(gate.admitted_at(kMinute, 10) == 6);
    CHECK(gate.admitted_at(0, 10) == 0);
    CHECK(gate.admitted_at(5 * kMinute, 10) == 0);
    CHECK_FALSE(gate.peek_at(5 * kMinute + 5 * kSecond, 10).allowed);
    CHECK(gate.at(7 * kMinute, 10).allowed);
}

TEST_CASE("Every strategy is as good as new after a long gap") {
    const auto under_test = any_strategy();
    const Nanos gap = GENERATE(values<Nanos>(
        {2 * kMinute, 3 * kMinute, 1'000 * kMinute, 4'097 * kMinute, 1'000'000 * kMinute, 29'000'000 * kMinute}));
    Gate gate(10, kMinute, under_test.strategy, 0);
    CAPTURE(name_of(under_test.strategy), gap);
    CHECK(gate.admitted_at(0, 12) == 10);
    CHECK(equal(gate.peek_at(gap), {true, 0, 10, 10, 0, 0}));
    CHECK(gate.admitted_at(gap, 12) == 10);
}

TEST_CASE("Every strategy admits at most its amount where stamps come round, and soon its amount again") {
    const auto under_test = any_strategy();
    // A stamp, a window number and an arrival time come round.
    const Nanos round = GENERATE(values<Nanos>({(Nanos{1} << 29) * 1'000'000, 4'096 * kMinute, Nanos{1} << 58}));
    const Nanos offset = GENERATE(values<Nanos>({-2 * kMinute, -kMinute - 1, -kMinute, -kSecond, -1'000'000, -1, 0, 1,
                                                 1'000'000, 2'000'000, kSecond, kMinute - 1, kMinute, 2 * kMinute}));
    const bool has_others = GENERATE(false, true);
    Gate gate(10, kMinute, under_test.strategy, 0);
    CAPTURE(name_of(under_test.strategy), round, offset, has_others);
    CHECK(gate.admitted_at(0, 10) == 10);
    const Nanos now = round + offset;
    if (has_others) {
        CHECK(gate.at(now - 10 * kSecond, 1, "other").allowed);
        CHECK(gate.at(now, 1, "other").allowed);
    }
    CHECK(gate.admitted_at(now, 12) <= 10);
    CHECK(gate.admitted_at(now + 3 * kMinute, 12) == 10);
}

TEST_CASE("Every strategy forgets on reset, and only the key that was named") {
    const auto under_test = any_strategy();
    const Nanos start = any_start();
    Gate gate(10, kMinute, under_test.strategy, start);
    CAPTURE(name_of(under_test.strategy), start);
    CHECK(gate.admitted_at(start, 10) == 10);
    CHECK(gate.at(start, 10, "other").allowed);
    gate.policy.reset("key");
    CHECK(equal(gate.peek_at(start), {true, 0, 10, 10, 0, 0}));
    CHECK(gate.admitted_at(start, 12) == 10);
    CHECK_FALSE(gate.at(start, 1, "other").allowed);
    gate.limiter.reset();
    CHECK(gate.admitted_at(start, 12) == 10);
    CHECK(gate.at(start, 10, "other").allowed);
}

TEST_CASE("Every strategy gives back what is refunded, and nothing of other hits") {
    const auto under_test = any_strategy();
    const Nanos start = any_start();
    Gate gate(10, kMinute, under_test.strategy, start);
    CAPTURE(name_of(under_test.strategy), start);
    CHECK(gate.at(start, 3).allowed);
    Ticket ticket;
    CHECK(gate.policy.hit("key", 7, &ticket).allowed);
    CHECK_FALSE(gate.at(start).allowed);
    CHECK(gate.policy.refund(ticket));
    CHECK(gate.peek_at(start).remaining == 7);
    CHECK(gate.admitted_at(start, 10) == 7);
}

TEST_CASE("Every strategy has nothing to give back three windows later") {
    const auto under_test = any_strategy();
    Gate gate(10, kMinute, under_test.strategy, 0);
    Ticket ticket;
    CHECK(gate.policy.hit("key", 7, &ticket).allowed);
    CHECK(gate.at(3 * kMinute, 10).allowed);
    CHECK_FALSE(gate.policy.refund(ticket));
    CHECK_FALSE(gate.at(3 * kMinute).allowed);
}

TEST_CASE("Every strategy keeps to its bound, its peeks and its waits under random hits") {
    const auto under_test = any_strategy();
    const std::uint32_t seed = GENERATE(range(0U, 25U));
    Dice dice(seed);
    const std::vector<std::uint64_t> amounts = {1, 2, 5, 13, 14, 29, 60, 62, 100, 1'000};
    const std::uint64_t amount =
        amounts[static_cast<std::size_t>(dice.roll(0, static_cast<std::int64_t>(amounts.size()) - 1))];
    const Nanos window = dice.roll(0, 1) == 0 ? dice.roll(1, 100) * kSecond : dice.roll(kMinWindow, 10 * kSecond);
    const Nanos unit = dice.roll(0, 1) == 0 ? 1 : 1'000'000;
    Nanos now = kStarts[static_cast<std::size_t>(dice.roll(0, 3))];
    Gate gate(amount, window, under_test.strategy, now);
    std::vector<Admission> log;
    for (int i = 0; i < 600; ++i) {
        const std::int64_t kind = dice.roll(0, 9);
        now += kind == 0 ? window * dice.roll(1, 3) : kind < 4 ? 0 : dice.roll(0, window / 5) / unit * unit;
        const auto cost = static_cast<std::uint64_t>(dice.roll(1, 1 + static_cast<std::int64_t>(amount) / 3));
        const Decision foreseen = gate.peek_at(now, cost);
        const Decision decision = gate.at(now, cost);
        const bool is_as_foreseen = foreseen.allowed == decision.allowed &&
                                    foreseen.retry_after == decision.retry_after &&
                                    foreseen.remaining >= decision.remaining;
        bool is_wait_right = true;
        if (decision.allowed) {
            log.push_back({now, cost});
        } else if (cost <= amount) {
            is_wait_right = decision.retry_after > 0 && gate.peek_at(now + decision.retry_after, cost).allowed &&
                            !gate.peek_at(now + decision.retry_after - under_test.grain, cost).allowed;
        }
        const bool is_reset_right = gate.peek_at(now + decision.reset_after, amount).allowed;
        if (!is_as_foreseen || !is_wait_right || !is_reset_right) {
            CAPTURE(name_of(under_test.strategy), seed, i, amount, window, now, cost, decision.allowed,
                    decision.remaining, decision.retry_after, decision.reset_after, foreseen.allowed,
                    foreseen.retry_after);
            REQUIRE(is_as_foreseen);
            REQUIRE(is_wait_right);
            REQUIRE(is_reset_right);
        }
    }
    CAPTURE(name_of(under_test.strategy), seed, amount, window);
    CHECK(log.size() > 50);
    CHECK(fullest_window(log, window) <= under_test.windows_in_one * amount);
}

}  // namespace slidegate
