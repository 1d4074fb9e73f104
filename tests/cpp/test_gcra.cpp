#include <algorithm>
#include <vector>

#include "catch.hpp"
#include "dice.hpp"
#include "one_cell.hpp"
#include "oracle.hpp"
#include "slidegate/strategies/gcra.hpp"

namespace slidegate {

using testing::Admission;
using testing::Answer;
using testing::answer_of;
using testing::Dice;
using testing::fullest_window;
using testing::kSecond;
using testing::OneCell;

namespace {

class Pacer : public OneCell<Gcra> {
  public:
    explicit Pacer(std::uint64_t amount) : OneCell(Gcra(Ticks::of(60 * kSecond), amount), kCellClasses[0]) {}
};

}  // namespace

TEST_CASE("GCRA admits a burst of the amount, then one unit every window / amount") {
    Pacer pacer(10);
    for (std::uint64_t i = 1; i <= 10; ++i) {
        CHECK(answer_of(pacer.hit(0)) == Answer{true, 10 - i, static_cast<Nanos>(i) * 6 * kSecond, 0});
    }
    CHECK(answer_of(pacer.hit(0)) == Answer{false, 0, 60 * kSecond, 6 * kSecond});
    CHECK_FALSE(pacer.admits(6 * kSecond - 1));
    CHECK(pacer.admits(6 * kSecond));
    CHECK_FALSE(pacer.admits(6 * kSecond));
    CHECK(pacer.admits(12 * kSecond));
}

TEST_CASE("Costs of eight, five and two on GCRA of ten a minute") {
    Pacer pacer(10);
    CHECK(answer_of(pacer.hit(0, 8)) == Answer{true, 2, 48 * kSecond, 0});
    CHECK(answer_of(pacer.hit(6 * kSecond, 5)) == Answer{false, 3, 42 * kSecond, 12 * kSecond});
    CHECK(answer_of(pacer.hit(6 * kSecond, 2)) == Answer{true, 1, 54 * kSecond, 0});
}

TEST_CASE("A window after an idle one holds no more than twice the amount under GCRA, whatever the nanosecond") {
    const std::uint64_t amount = GENERATE(values<std::uint64_t>({1, 2, 3, 7, 10}));
    const Nanos start = GENERATE(values<Nanos>({0, 1, 32, 63, 64, 127, 1'800'000'000'000'000'063}));
    Pacer pacer(amount);
    std::vector<Admission> log;
    Nanos now = start;
    while (now < start + 180 * kSecond) {
        const Outcome outcome = pacer.hit(now);
        if (outcome.verdict == Verdict::admitted) {
            log.push_back({now, 1});
        } else {
            // As early as it may be, and earlier.
            const Nanos next = now + outcome.retry_after;
            for (now = std::max(now + 1, next - 130); now < next && !pacer.admits(now); ++now) {
            }
            if (now < next) {
                log.push_back({now, 1});
            }
        }
    }
    CHECK(log.size() >= 3 * amount);
    CHECK(fullest_window(log, 60 * kSecond) <= 2 * amount);
    CHECK(fullest_window(log, 60 * kSecond - kGcraUnit) <= 2 * amount - 1);
}

TEST_CASE("A refund to GCRA gives back time that has not drained away") {
    Pacer pacer(10);
    const Outcome taken = pacer.hit(0, 10);
    CHECK_FALSE(pacer.admits(0));
    CHECK(pacer.refund(0, taken, 10));
    CHECK(answer_of(pacer.peek(0)) == Answer{true, 10, 0, 0});
}

TEST_CASE("A refund to GCRA of what has drained away finds nothing") {
    Pacer pacer(10);
    const Outcome old = pacer.hit(0, 1);
    CHECK(pacer.admits(7 * kSecond, 10));
    CHECK_FALSE(pacer.refund(7 * kSecond, old, 1));
    CHECK_FALSE(pacer.admits(7 * kSecond));
}

TEST_CASE("A refund to GCRA that comes after another gives back nothing of a later hit") {
    Pacer pacer(10);
    const Outcome first = pacer.hit(0, 5);
    const Outcome second = pacer.hit(0, 3);
    CHECK(pacer.refund(0, first, 5));
    // Without the first, the second has drained away by now.
    CHECK(pacer.admits(24 * kSecond, 1));
    pacer.refund(24 * kSecond, second, 3);
    CHECK_FALSE(pacer.admits(24 * kSecond, 10));
    CHECK(pacer.admits(24 * kSecond, 9));
}

TEST_CASE("A refund to GCRA gives back no more than what is left of its hit") {
    Pacer pacer(10);
    const Outcome first = pacer.hit(0, 5);
    CHECK(pacer.admits(29 * kSecond, 1));
    // All but a second of the first has drained away, and would have without the hit since.
    pacer.refund(29 * kSecond, first, 5);
    CHECK_FALSE(pacer.admits(29 * kSecond, 10));
    CHECK(pacer.admits(29 * kSecond, 9));
}

TEST_CASE("A refund to GCRA finds nothing once another has disturbed it, however many others follow") {
    OneCell<Gcra> pacer(Gcra(Ticks::of(3600 * kSecond), 5'000), kCellClasses[0]);
    const Outcome first = pacer.hit(0, 1'000);
    const Outcome second = pacer.hit(0, 1'000);
    // The second drains within 1,000 units from now on, not within 2,000.
    REQUIRE(pacer.refund(0, first, 1'000));
    for (int i = 0; i < 1 << kPositionBits; ++i) {
        const Outcome one = pacer.hit(0);
        REQUIRE(pacer.admits(0));
        static_cast<void>(pacer.refund(0, one));
        CHECK_FALSE(pacer.refund(720 * kSecond, second, 1'000));
    }
}

TEST_CASE("GCRA after refunds is never ahead of where the hits that remain would have left it") {
    struct Held {
        Nanos now;
        std::uint64_t cost;
        Outcome outcome;
        bool is_refunded;
    };
    const std::uint32_t seed = GENERATE(range(0U, 40U));
    Dice dice(seed);
    Pacer pacer(10);
    std::vector<Held> hits;
    int refunds = 0;
    Nanos now = 0;
    for (int i = 0; i < 400; ++i, now += dice.roll(0, 2) == 0 ? dice.roll(0, 8) * kSecond : 0) {
        if (!hits.empty() && dice.roll(0, 2) == 0) {
            const std::int64_t newest = static_cast<std::int64_t>(hits.size()) - 1;
            Held& held = hits[static_cast<std::size_t>(dice.roll(std::max<std::int64_t>(0, newest - 5), newest))];
            if (!held.is_refunded) {
                held.is_refunded = pacer.refund(now, held.outcome, held.cost);
                refunds += held.is_refunded ? 1 : 0;
            }
        } else {
            const auto cost = static_cast<std::uint64_t>(dice.roll(1, 5));
            const Outcome outcome = pacer.hit(now, cost);
            if (outcome.verdict == Verdict::admitted) {
                hits.push_back({now, cost, outcome, false});
            }
        }
        Nanos arrival = 0;
        for (const Held& held : hits) {
            if (!held.is_refunded) {
                arrival = std::max(arrival, held.now) + static_cast<Nanos>(held.cost) * 6 * kSecond;
            }
        }
        const Nanos busy = std::max<Nanos>(arrival - now, 0);
        if (const Nanos answered = pacer.peek(now).reset_after; answered < busy) {
            CAPTURE(seed, i, now, busy);
            REQUIRE(answered >= busy);
        }
    }
    CHECK(refunds > 10);
}

TEST_CASE("A refund to GCRA that was reset finds nothing") {
    Pacer pacer(10);
    const Outcome old = pacer.hit(0, 10);
    pacer.reset(0);
    CHECK(pacer.admits(0, 10));
    CHECK_FALSE(pacer.refund(0, old, 10));
    CHECK_FALSE(pacer.admits(0));
}

TEST_CASE("A late caller is paced by the newest arrival time") {
    Pacer pacer(10);
    CHECK(pacer.admits(100 * kSecond, 10));
    CHECK_FALSE(pacer.admits(10 * kSecond));
    CHECK_FALSE(pacer.admits(106 * kSecond - 1));
    CHECK(pacer.admits(106 * kSecond));
}

TEST_CASE("GCRA rounds its interval up: it may be slower than asked, never faster") {
    Pacer pacer(kMaxAmount);
    CHECK(pacer.admits(0, kMaxAmount));
    CHECK_FALSE(pacer.admits(60 * kSecond - 1, kMaxAmount));
    const Nanos wait = pacer.peek(0, kMaxAmount).retry_after;
    CHECK(wait >= 60 * kSecond);
    CHECK(pacer.admits(wait, kMaxAmount));
}

TEST_CASE("The longest window does not overflow GCRA") {
    const std::uint64_t amount = GENERATE(values<std::uint64_t>({1, 7, kMaxAmount}));
    OneCell<Gcra> pacer(Gcra(Ticks::of(kMaxWindow), amount), kCellClasses[0]);
    const Nanos start = 1'700'000'000'000'000'000;
    pacer.lone().cell().head =
        make_word(static_cast<std::uint64_t>(start / kGcraUnit) & ((std::uint64_t{1} << 52) - 1), 1);
    CHECK(pacer.admits(start, amount));
    CHECK_FALSE(pacer.admits(start));
    const Nanos wait = pacer.peek(start, amount).retry_after;
    CHECK(wait >= kMaxWindow);
    CHECK(pacer.admits(start + wait, amount));
}

}  // namespace slidegate
