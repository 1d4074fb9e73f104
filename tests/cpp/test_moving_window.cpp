#include <cstdint>
#include <vector>

#include "catch.hpp"
#include "dice.hpp"
#include "one_cell.hpp"
#include "oracle.hpp"
#include "slidegate/strategies/moving_window.hpp"

namespace slidegate {

using testing::Admission;
using testing::Answer;
using testing::answer_of;
using testing::class_with_ring;
using testing::Dice;
using testing::fullest_window;
using testing::kMillisecond;
using testing::kMillisecondTicks;
using testing::kSecond;
using testing::OneCell;
using testing::Oracle;

namespace {

constexpr Ticks kMinuteTicks = Ticks::of(60 * kSecond);

class Window : public OneCell<MovingWindow> {
  public:
    Window(std::uint64_t amount, Ticks ticks, CellClass cell_class)
        : OneCell(MovingWindow(ticks, amount, cell_class), cell_class) {}
    explicit Window(std::uint32_t amount)
        : Window(amount, kMinuteTicks, kCellClasses[class_of(amount, Strategy::moving_window)]) {}
};

/// What an exact window answers; records what it admits.
Answer expected(Oracle& oracle, std::uint64_t limit, Nanos now, std::uint64_t cost) {
    if (oracle.would_admit(now, cost)) {
        oracle.record(now, cost);
        return {true, limit - oracle.used(now), oracle.reset_after(now), 0};
    }
    return {false, limit - oracle.used(now), oracle.reset_after(now),
            cost > limit ? kNever : oracle.retry_after(now, cost)};
}

// Mostly small steps, now and then a window or several.
Nanos step(Dice& dice, Nanos window, Nanos unit) {
    if (dice.is_one_in(20)) {
        return window * dice.roll(1, 3);
    }
    return dice.is_one_in(3) ? 0 : dice.roll(0, window / unit / 3) * unit;
}

}  // namespace

TEST_CASE("Ten a minute comes back a minute after the first hit, not before") {
    Window window(10);
    for (int i = 0; i < 10; ++i) {
        CHECK(window.admits(i * kSecond));
    }
    CHECK_FALSE(window.admits(60 * kSecond - 1));
    CHECK(window.hit(60 * kSecond - 1).retry_after == 1);
    CHECK(window.admits(60 * kSecond));
    CHECK_FALSE(window.admits(61 * kSecond - 1));
    CHECK(window.admits(61 * kSecond));
}

TEST_CASE("Five hits at the end of a minute leave five at the start of the next") {
    Window window(10);
    for (int i = 0; i < 5; ++i) {
        CHECK(window.admits(59 * kSecond));
    }
    for (int i = 0; i < 5; ++i) {
        CHECK(window.admits(60 * kSecond));
    }
    CHECK_FALSE(window.admits(60 * kSecond));
    CHECK_FALSE(window.admits(119 * kSecond - 1));
    CHECK(window.hit(119 * kSecond, 5).verdict == Verdict::admitted);
    CHECK_FALSE(window.admits(119 * kSecond));
}

TEST_CASE("Costs of eight, five and two on ten: the five is refused and takes nothing") {
    Window window(10);
    CHECK(window.admits(0, 8));
    CHECK(answer_of(window.hit(kSecond, 5)) == Answer{false, 2, 59 * kSecond, 59 * kSecond});
    CHECK(answer_of(window.hit(kSecond, 2)) == Answer{true, 0, 60 * kSecond, 0});
}

TEST_CASE("Retry-after waits for as many units as the cost needs, not for the oldest alone") {
    Window window(10);
    CHECK(window.admits(0, 2));
    CHECK(window.admits(10 * kSecond, 3));
    CHECK(window.admits(20 * kSecond, 5));
    CHECK(window.hit(30 * kSecond, 2).retry_after == 30 * kSecond);
    CHECK(window.hit(30 * kSecond, 3).retry_after == 40 * kSecond);
    CHECK(window.hit(30 * kSecond, 6).retry_after == 50 * kSecond);
    CHECK(window.hit(30 * kSecond, 11).retry_after == kNever);
}

TEST_CASE("A cost is one addition, whatever its size") {
    Window window(8'388'607);
    CHECK(window.hit(0, 8'388'606).remaining == 1);
    CHECK_FALSE(window.admits(0, 2));
    CHECK(window.admits(0, 1));
    CHECK_FALSE(window.admits(59 * kSecond));
    CHECK(window.admits(60 * kSecond, 8'388'607));
}

TEST_CASE("Costs that would overflow are refused") {
    Window window(10);
    CHECK(window.admits(0, 5));
    for (const std::uint64_t cost : {std::uint64_t{1} << 23, std::uint64_t{1} << 63, ~std::uint64_t{0}}) {
        CHECK(answer_of(window.hit(0, cost)) == Answer{false, 5, 60 * kSecond, kNever});
    }
}

TEST_CASE("Sixty an hour is exact") {
    Window window(60, Ticks::of(3600 * kSecond), kCellClasses[class_of(60, Strategy::moving_window)]);
    for (int i = 0; i < 60; ++i) {
        CHECK(window.admits(i * 7 * kSecond));
    }
    for (int i = 0; i < 60; ++i) {
        CHECK_FALSE(window.admits((3600 + i * 7) * kSecond - 1));
        CHECK(window.admits((3600 + i * 7) * kSecond));
    }
}

TEST_CASE("Hits of one quantum share an entry and come back with the last of them") {
    Window window(100);
    const std::int64_t quantum = 1'000;  // ceil(60,000 ticks / 60)
    CHECK(window.admits(0, 50));
    CHECK(window.admits((quantum - 1) * kMillisecond, 50));
    CHECK_FALSE(window.admits(60 * kSecond));
    CHECK_FALSE(window.admits(60 * kSecond + (quantum - 1) * kMillisecond - 1));
    CHECK(window.admits(60 * kSecond + (quantum - 1) * kMillisecond, 100));
}

TEST_CASE("Hits of two quanta do not share an entry") {
    Window window(100);
    CHECK(window.admits(999 * kMillisecond, 50));
    CHECK(window.admits(1'000 * kMillisecond, 50));
    CHECK_FALSE(window.admits(60'999 * kMillisecond - 1));
    CHECK(window.admits(60'999 * kMillisecond, 50));
    CHECK_FALSE(window.admits(60'999 * kMillisecond));
    CHECK(window.admits(61'000 * kMillisecond, 50));
}

TEST_CASE("A refused hit writes nothing at all") {
    Window window(3);
    for (int i = 0; i < 3; ++i) {
        CHECK(window.admits(i * kSecond));
    }
    const auto before = window.lone().words();
    const auto floor = window.lone().shared().floor.load();
    CHECK_FALSE(window.admits(40 * kSecond));
    CHECK_FALSE(window.admits(40 * kSecond, 4));
    CHECK(window.lone().words() == before);
    CHECK(window.lone().shared().floor == floor);
}

TEST_CASE("A peek answers what a hit would and writes nothing") {
    Window window(3);
    CHECK(answer_of(window.peek(0)) == Answer{true, 3, 0, 0});
    CHECK(window.admits(0, 2));
    const auto before = window.lone().words();
    CHECK(answer_of(window.peek(kSecond)) == Answer{true, 1, 59 * kSecond, 0});
    CHECK(answer_of(window.peek(kSecond, 2)) == Answer{false, 1, 59 * kSecond, 59 * kSecond});
    CHECK(window.lone().words() == before);
}

TEST_CASE("A refund gives back to the very entry that took, open or closed") {
    Window window(3);
    const Outcome first = window.hit(0);
    const Outcome second = window.hit(10 * kSecond);
    const Outcome third = window.hit(20 * kSecond);
    CHECK_FALSE(window.admits(30 * kSecond));
    CHECK(window.refund(30 * kSecond, second));
    CHECK(window.admits(30 * kSecond));
    CHECK_FALSE(window.admits(30 * kSecond));
    CHECK(window.refund(30 * kSecond, third));
    CHECK(window.admits(60 * kSecond, 2));  // the third's and, just now, the first's
    CHECK_FALSE(window.admits(60 * kSecond));
    CHECK_FALSE(window.refund(60 * kSecond, first));
}

TEST_CASE("A refund of the newest entry is counted at once") {
    Window window(1);
    for (int i = 0; i < 3'000; ++i) {
        const Outcome taken = window.hit(5 * kSecond);
        CHECK(taken.verdict == Verdict::admitted);
        CHECK_FALSE(window.admits(5 * kSecond));
        CHECK(window.refund(5 * kSecond, taken));
    }
}

TEST_CASE("A refund after the window finds nothing to give back") {
    Window window(2);
    const Outcome old = window.hit(0);
    CHECK(window.admits(61 * kSecond, 2));
    CHECK_FALSE(window.refund(61 * kSecond, old));
    CHECK_FALSE(window.admits(61 * kSecond));
}

TEST_CASE("A refund after a reset gives back nothing of the hits since") {
    Window window(2);
    const Lease ended = window.lone().lease();
    const Outcome old = window.hit(0, 2);
    window.reset(kSecond);
    CHECK(window.admits(kSecond, 2));
    CHECK_FALSE(window.refund(kSecond, old, 2));
    CHECK_FALSE(MovingWindow(kMinuteTicks, 2, kCellClasses[1]).refund(ended, kSecond, old.receipt, 2));
    CHECK_FALSE(window.admits(kSecond));
}

TEST_CASE("A refund is of a part when asked so") {
    Window window(10);
    const Outcome taken = window.hit(0, 10);
    CHECK(window.refund(0, taken, 4));
    CHECK(window.peek(0).remaining == 4);
}

TEST_CASE("A reset forgets everything, at once and as often as asked") {
    Window window(3);
    for (int i = 0; i < 3'000; ++i) {
        CHECK(window.admits(kSecond, 3));
        CHECK_FALSE(window.admits(kSecond));
        window.reset(kSecond);
        CHECK(answer_of(window.peek(kSecond)).remaining == 3);
    }
}

TEST_CASE("A caller of another life is told that its cell is gone, and changes nothing") {
    Window window(3);
    const Outcome taken = window.hit(0);
    const Lease late = window.lone().lease();
    window.lone().begin_life(late.generation() + 1);
    const auto before = window.lone().words();
    CHECK(window.hit(kSecond).verdict == Verdict::gone);
    CHECK(window.peek(kSecond).verdict == Verdict::gone);
    CHECK_FALSE(window.refund(kSecond, taken));
    window.reset(kSecond);
    CHECK(window.lone().words() == before);
}

TEST_CASE("A caller of another key is told that its cell is gone") {
    Window window(3);
    window.lone().cell().identity = 99;
    CHECK(window.hit(0).verdict == Verdict::gone);
    CHECK(window.peek(0).verdict == Verdict::gone);
}

TEST_CASE("A claimed cell is nobody's") {
    Window window(3);
    const Outcome taken = window.hit(0);
    window.lone().cell().head |= kClaimed;
    const auto before = window.lone().words();
    CHECK(window.hit(0).verdict == Verdict::gone);
    CHECK(window.peek(0).verdict == Verdict::gone);
    CHECK_FALSE(window.refund(0, taken));
    window.reset(0);
    CHECK(window.lone().words() == before);
}

TEST_CASE("A thread that died after sealing the head stops nobody") {
    Window window(3);
    const Outcome first = window.hit(0);
    window.lone().cell().head |= kSealed;
    SECTION("the next hit closes the entry") {
        CHECK(window.peek(kSecond).remaining == 2);
        CHECK(window.hit(kSecond).remaining == 1);
        CHECK(window.hit(2 * kSecond).remaining == 0);
        CHECK_FALSE(window.admits(2 * kSecond));
        CHECK(window.refund(2 * kSecond, first));
        CHECK(window.admits(2 * kSecond));
    }
    SECTION("a hit of the same tick closes it too") {
        CHECK(window.hit(0, 2).remaining == 0);
        CHECK_FALSE(window.admits(0));
        CHECK(window.admits(60 * kSecond, 3));
    }
    SECTION("a refund closes the entry and is counted") {
        CHECK(window.refund(kSecond, first));
        CHECK(window.peek(kSecond).remaining == 3);
        CHECK(window.hit(kSecond, 3).verdict == Verdict::admitted);
    }
    SECTION("a window later it is expired like any other") { CHECK(window.admits(60 * kSecond, 3)); }
    SECTION("a reset passes over it") {
        window.reset(kSecond);
        CHECK(window.admits(kSecond, 3));
    }
    SECTION("a reset forgets what somebody has closed already") {
        const Outcome second = window.hit(kSecond, 1);  // closes the first and goes on
        window.lone().cell().head |= kSealed;
        CHECK(window.refund(kSecond, second, 1));
        window.reset(kSecond);
        CHECK(window.peek(kSecond).remaining == 3);
    }
}

TEST_CASE("A caller whose clock is late counts at the newest stamp") {
    Window window(2);
    CHECK(window.admits(100 * kSecond));
    CHECK(window.admits(10 * kSecond));
    CHECK_FALSE(window.admits(20 * kSecond));
    CHECK_FALSE(window.admits(159'999 * kMillisecond));
    CHECK(window.admits(160 * kSecond, 2));
}

TEST_CASE("A caller who slept for longer than a window cannot take a live head for an expired one") {
    Window window(1);
    CHECK(window.admits(100 * kSecond));
    CHECK(window.admits(200 * kSecond));
    CHECK_FALSE(window.admits(30 * kSecond));
    CHECK_FALSE(window.admits(165 * kSecond));
}

TEST_CASE("An entry that has taken the slot is not overwritten by a thread that comes late to close another") {
    const CellClass two = class_with_ring(2);
    Window window(2, Ticks{kMillisecondTicks, 100}, two);
    Nanos now = 0;
    for (int i = 0; i < 1'000; ++i, now += 50 * kMillisecond) {
        CHECK(window.admits(now));
        CHECK(window.peek(now).remaining == (i == 0 ? 1U : 0U));
    }
}

TEST_CASE("A reset that brings a position back within a tick does not lend a new entry an old count") {
    // A cell of a table begins no life here before a window has passed: the entry is one of an earlier round of stamps.
    const CellClass two = class_with_ring(2);
    Window window(2, Ticks{kMillisecondTicks, 100}, two);
    const Nanos now = 7 * kMillisecond;
    const Outcome first = window.hit(now, 2);
    window.lone().cell().head |= kSealed;
    CHECK(window.refund(now, first, 2));  // closes the entry, and leaves nothing of it
    for (std::uint32_t position = 0; position < two.positions; ++position) {
        window.reset(now);
    }
    CHECK(window.admits(now, 1));
    std::vector<Admission> log = {{now, 1}};
    for (Nanos later = now + kMillisecond; later < now + 99 * kMillisecond; later += kMillisecond) {
        if (window.admits(later)) {
            log.push_back({later, 1});
        }
    }
    CHECK(fullest_window(log, 100 * kMillisecond) <= 2);
}

TEST_CASE("A cell that idled for a round of stamps refuses at worst, and only for a window") {
    Window window(2);
    const Nanos round = kStamps * kMillisecond;
    const Nanos offset =
        GENERATE(values<Nanos>({-60'001, -60'000, -59'999, -1, 0, 1, 59'999, 60'000, 60'001})) * kMillisecond;
    CHECK(window.admits(0, 2));
    window.lone().shared().raise(round + offset);  // others were busy
    std::vector<Admission> log;
    for (Nanos now = round + offset; now <= round + offset + 300 * kSecond; now += kSecond) {
        if (window.admits(now)) {
            log.push_back({now, 1});
        }
    }
    CHECK(fullest_window(log, 60 * kSecond) == 2);
    CHECK(log.front().at <= round + offset + 62 * kSecond);
    CHECK(log.size() >= 8);
}

TEST_CASE("Stamps wrap without a hit more or less, wherever a window lies on the round") {
    const std::uint32_t ring = GENERATE(2U, 3U, 13U);
    const CellClass cell_class = class_with_ring(ring);
    Window window(ring, Ticks{kMillisecondTicks, 50}, cell_class);
    Oracle oracle(ring, 50 * kMillisecond);
    Dice dice(ring);
    for (Nanos now = (kStamps - 2'000) * kMillisecond; now < (kStamps + 2'000) * kMillisecond;
         now += dice.roll(0, 9) * kMillisecond) {
        const Answer answer = answer_of(window.hit(now));
        if (const Answer wanted = expected(oracle, ring, now, 1); !(answer == wanted)) {
            CAPTURE(now, answer.is_admitted, wanted.is_admitted, answer.remaining, wanted.remaining);
            REQUIRE(answer == wanted);
        }
    }
}

TEST_CASE("A window that fits its ring agrees with the exact log in every answer") {
    const std::uint32_t seed = GENERATE(range(0U, 40U));
    Dice dice(seed);
    const CellClass cell_class = class_with_ring(static_cast<std::uint32_t>(dice.roll(2, 13)));
    const auto limit = static_cast<std::uint64_t>(dice.roll(1, cell_class.ring));
    const Ticks ticks{kMillisecondTicks, static_cast<std::uint32_t>(dice.roll(3, 60))};
    const Nanos length = ticks.window_ns();
    Window window(limit, ticks, cell_class);
    Oracle oracle(limit, length);
    Nanos now = dice.is_one_in(2) ? 0 : 1'800'000'000'000'000'000;
    int admissions = 0;
    for (int i = 0; i < 1'500; ++i, now += step(dice, length, kMillisecond)) {
        const auto cost = static_cast<std::uint64_t>(dice.is_one_in(3) ? dice.roll(1, ticks.window / 8 + 1) : 1);
        const std::uint64_t before = window.peek(now, cost).remaining;
        const bool is_foreseen = window.peek(now, cost).verdict == Verdict::admitted;
        const Answer answer = answer_of(window.hit(now, cost));
        const Answer wanted = expected(oracle, limit, now, cost);
        admissions += answer.is_admitted ? 1 : 0;
        if (!(answer == wanted) || is_foreseen != answer.is_admitted ||
            before != answer.remaining + (answer.is_admitted ? cost : 0)) {
            CAPTURE(seed, i, now, cost, limit, cell_class.ring, ticks.window, before, is_foreseen);
            CAPTURE(answer.is_admitted, answer.remaining, answer.reset_after, answer.retry_after);
            CAPTURE(wanted.is_admitted, wanted.remaining, wanted.reset_after, wanted.retry_after);
            REQUIRE(answer == wanted);
            REQUIRE(is_foreseen == answer.is_admitted);
            REQUIRE(before == answer.remaining + (answer.is_admitted ? cost : 0));
        }
    }
    CHECK(admissions > 100);
}

TEST_CASE("Any limit at any nanosecond: never more than the exact log, and less than a quantum late") {
    const std::uint32_t seed = GENERATE(range(0U, 40U));
    Dice dice(seed);
    const CellClass cell_class = class_with_ring(static_cast<std::uint32_t>(dice.roll(2, 13)));
    const auto limit = static_cast<std::uint64_t>(dice.roll(1, 5 * cell_class.ring));
    const Ticks ticks{kMillisecondTicks, static_cast<std::uint32_t>(dice.roll(13, 100))};
    const Nanos length = ticks.window_ns();
    const Nanos quantum = limit <= cell_class.ring
                              ? kMillisecond
                              : Nanos{(ticks.window + cell_class.ring - 2) / (cell_class.ring - 1)} * kMillisecond;
    Window window(limit, ticks, cell_class);
    Oracle oracle(limit, length);
    Oracle late(limit, length + quantum);
    const bool has_whole_ticks = dice.is_one_in(2);
    const Nanos unit = has_whole_ticks ? kMillisecond : 1;
    Nanos now = 0;
    int admissions = 0;
    for (int i = 0; i < 1'500; ++i, now += step(dice, length, unit)) {
        const auto cost = static_cast<std::uint64_t>(
            dice.is_one_in(3) ? dice.roll(1, std::max<std::int64_t>(1, static_cast<std::int64_t>(limit) / 4)) : 1);
        const bool is_admitted = window.admits(now, cost);
        const bool is_overdue = !is_admitted && late.would_admit(now, cost);
        const bool is_too_much = is_admitted && !oracle.would_admit(now, cost);
        if (is_overdue || is_too_much) {
            CAPTURE(seed, i, now, cost, limit, cell_class.ring, ticks.window);
            REQUIRE_FALSE(is_overdue);
            REQUIRE_FALSE(is_too_much);
        }
        if (is_admitted) {
            oracle.record(now, cost);
            late.record(now, cost);
            ++admissions;
        }
    }
    CHECK(admissions > 100);
}

TEST_CASE("Refunds, late callers and partial refunds never let a window hold more than the limit") {
    struct Held {
        Outcome outcome;
        std::uint64_t cost;
        Nanos now;
    };
    const std::uint32_t seed = GENERATE(range(0U, 60U));
    Dice dice(seed);
    const CellClass cell_class = class_with_ring(static_cast<std::uint32_t>(dice.roll(2, 5)));
    const auto limit = static_cast<std::uint64_t>(dice.roll(1, 3 * cell_class.ring));
    const Ticks ticks{kMillisecondTicks, static_cast<std::uint32_t>(dice.roll(4, 40))};
    Window window(limit, ticks, cell_class);
    std::vector<Held> held;
    std::vector<Admission> log;
    Nanos clock = 0;
    int refunds = 0;
    for (int i = 0; i < 2'000; ++i, clock += step(dice, ticks.window_ns(), kMillisecond)) {
        const Nanos now =
            std::max<Nanos>(0, clock - (dice.is_one_in(4) ? dice.roll(0, 3 * ticks.window) * kMillisecond : 0));
        if (!held.empty() && dice.is_one_in(3)) {
            const auto which = held.begin() + dice.roll(0, static_cast<std::int64_t>(held.size()) - 1);
            if (window.refund(now, which->outcome, which->cost)) {
                ++refunds;
            } else {
                log.push_back({stamp_of(which->outcome.receipt), which->cost});
            }
            held.erase(which);
            continue;
        }
        const auto cost =
            static_cast<std::uint64_t>(dice.roll(1, std::max<std::int64_t>(1, static_cast<std::int64_t>(limit) / 2)));
        const Outcome outcome = window.hit(now, cost);
        if (outcome.verdict == Verdict::admitted) {
            held.push_back({outcome, cost, now});
        }
        std::vector<Admission> all = log;
        std::uint64_t live = 0;
        for (const Held& each : held) {
            all.push_back({stamp_of(each.outcome.receipt), each.cost});
        }
        const std::int64_t newest = std::max(clock / kMillisecond, stamp_of(window.lone().cell().head));
        for (const Admission& each : all) {
            live += newest - each.at < ticks.window ? each.cost : 0;
        }
        const std::uint64_t counted = limit - window.peek(clock).remaining;
        if (const std::uint64_t most = fullest_window(all, ticks.window); most > limit || counted < live) {
            CAPTURE(seed, i, limit, cell_class.ring, ticks.window, counted, live);
            REQUIRE(most <= limit);
            REQUIRE(counted >= live);
        }
    }
    CHECK(refunds > 20);
}

TEST_CASE("A full window of refunded hits is as good as new") {
    const std::uint32_t ring = GENERATE(2U, 3U, 13U);
    Window window(ring, Ticks{kMillisecondTicks, 1'000}, class_with_ring(ring));
    for (Nanos now = 0; now < 500 * kMillisecond; now += kMillisecond) {
        const Outcome taken = window.hit(now, ring);
        REQUIRE(taken.verdict == Verdict::admitted);
        REQUIRE(window.refund(now, taken, ring));
    }
    CHECK(window.peek(500 * kMillisecond).remaining == ring);
}

}  // namespace slidegate
