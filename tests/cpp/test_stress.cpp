// Many threads on few cells with tiny rings. A run in which no compare-and-swap lost proves nothing, and fails.
#include <algorithm>
#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "catch.hpp"
#include "crowd.hpp"
#include "lone_cell.hpp"
#include "oracle.hpp"
#include "slidegate/limiter/limiter.hpp"
#include "strategies.hpp"
#include "window_table.hpp"

namespace slidegate {

using testing::Admission;
using testing::class_with_ring;
using testing::Crowd;
using testing::Dice;
using testing::fullest_window;
using testing::hammer;
using testing::kMillisecond;
using testing::kMillisecondTicks;
using testing::LoneCell;
using testing::WindowTable;

namespace {

constexpr int kMinRounds = 2;
constexpr int kMaxRounds = 400;

template <class Collisions>
bool goes_on(int round, const Collisions& collisions) {
    return round < kMinRounds || (collisions() == 0 && round < kMaxRounds);
}

// Stamps of a run that started shortly before they come round, in order.
std::int64_t unwrapped(std::uint64_t receipt) {
    const std::int64_t stamp = stamp_of(receipt);
    return stamp < kStamps / 2 ? stamp + kStamps : stamp;
}

struct Held {
    Lease lease;
    std::uint64_t receipt = 0;
    std::uint64_t cost = 0;
};

struct Shape {
    std::uint32_t ring;
    std::uint64_t limit;
    std::uint32_t window;  // ticks
};

}  // namespace

TEST_CASE("No window of a hammered cell holds more than the limit, and no admission is lost") {
    const auto shape = GENERATE(Shape{2, 1, 4}, Shape{2, 2, 5}, Shape{3, 3, 6}, Shape{2, 7, 9}, Shape{4, 11, 12});
    CAPTURE(shape.ring, shape.limit, shape.window);
    const CellClass cell_class = class_with_ring(shape.ring);
    const MovingWindow strategy({kMillisecondTicks, shape.window}, shape.limit, cell_class);
    Crowd crowd;
    crowd.calls = 6'000;
    crowd.advance_one_in = 2;
    crowd.tick = kMillisecond / 4;  // callers of one tick meet, late ones too
    crowd.pause = 2 * shape.window * kMillisecond;
    std::uint64_t collisions = 0;
    for (int round = 0; goes_on(round, [&] { return collisions; }); ++round) {
        LoneCell cell(cell_class);
        ManualClock clock((kStamps - 400) * kMillisecond);
        std::vector<std::vector<Held>> held(static_cast<std::size_t>(crowd.threads));
        std::vector<std::vector<Admission>> logs(held.size());
        std::atomic<int> wrong = 0;
        std::atomic<int> admitted = 0;
        hammer(crowd, clock, static_cast<std::uint64_t>(round), [&](std::size_t thread, Dice& dice) {
            const Nanos now = clock.now();
            if (!held[thread].empty() && dice.is_one_in(4)) {
                const Held back = held[thread].back();
                held[thread].pop_back();
                if (!strategy.refund(cell.lease(), now, back.receipt, back.cost)) {
                    logs[thread].push_back({unwrapped(back.receipt), back.cost});
                }
                return;
            }
            const auto cost = static_cast<std::uint64_t>(dice.roll(1, shape.limit > 2 ? 2 : 1));
            if (dice.is_one_in(8)) {
                wrong += strategy.peek(cell.lease(), now, cost).remaining > shape.limit ? 1 : 0;
                return;
            }
            const Outcome outcome = strategy.hit(cell.lease(), now, cost);
            wrong += outcome.remaining > shape.limit ? 1 : 0;
            if (outcome.verdict == Verdict::admitted) {
                ++admitted;
                held[thread].push_back({cell.lease(), outcome.receipt, cost});
            }
        });
        std::vector<Admission> log;
        for (std::size_t thread = 0; thread < held.size(); ++thread) {
            log.insert(log.end(), logs[thread].begin(), logs[thread].end());
            for (const Held& each : held[thread]) {
                log.push_back({unwrapped(each.receipt), each.cost});
            }
        }
        // How many of them are not given back again depends on how the threads take turns.
        REQUIRE(admitted > 50);
        REQUIRE(!log.empty());
        REQUIRE(fullest_window(log, shape.window) <= shape.limit);
        REQUIRE(wrong == 0);
        const std::int64_t now = std::max(log.back().at, unwrapped(cell.cell().head));
        std::uint64_t live = 0;
        for (const Admission& each : log) {
            live += each.at > now - shape.window ? each.cost : 0;
        }
        const std::uint64_t remaining = strategy.peek(cell.lease(), now * kMillisecond, 1).remaining;
        // Refused callers of a later time leave no trace, admitted ones raise the floor.
        const bool is_still_now = cell.shared().floor <= static_cast<std::uint64_t>(now * kMillisecond);
        REQUIRE((!is_still_now || shape.limit - remaining >= live));
        collisions += cell.shared().collisions;
    }
    REQUIRE(collisions > 0);
}

TEST_CASE("A hammered key forgets on reset and at no other time") {
    // A window of so many ticks of 200 ns, of which the clock goes by a step at a time.
    constexpr Nanos kStep = 2'500'000;
    const Quota quota(2, 10 * kMillisecond);
    const Nanos tick = quota.ticks().length();
    const auto window = static_cast<std::int64_t>(quota.ticks().window);
    Crowd crowd;
    crowd.calls = 6'000;
    crowd.tick = kStep;
    crowd.pause = 2 * quota.window();
    struct Reset {
        std::int64_t first;
        std::int64_t last;
    };
    std::uint64_t collisions = 0;
    std::size_t resets_seen = 0;
    std::uint64_t lives = 0;
    for (int round = 0; goes_on(round, [&] { return collisions; }); ++round) {
        const WindowTable t({1, 1 << 13}, OnFull::refuse, quota, {128, 2, 1014});
        ManualClock clock(0);
        std::vector<std::vector<Admission>> logs(static_cast<std::size_t>(crowd.threads));
        std::vector<std::vector<Held>> held(logs.size());
        std::vector<std::vector<Reset>> resets(logs.size());
        // Its resets are one in 50, or so many that cells have as many lives in a window as they may have.
        const int one_in = round % 2 == 0 ? 50 : 2;
        hammer(crowd, clock, static_cast<std::uint64_t>(round), [&](std::size_t thread, Dice& dice) {
            const Nanos now = clock.now();
            if (dice.is_one_in(one_in)) {
                if (const Lease lease = t.table.find({0, 1})) {
                    if (lease.end(now)) {
                        resets[thread].push_back({now / tick, clock.now() / tick + 1});
                    }
                }
                return;
            }
            if (!held[thread].empty() && dice.is_one_in(4)) {
                const Held back = held[thread].back();
                held[thread].pop_back();
                if (!t.strategy.refund(back.lease, now, back.receipt, back.cost)) {
                    logs[thread].push_back({stamp_of(back.receipt), 1});
                }
                return;
            }
            Lease lease;
            const Outcome outcome = t.hit({0, 1}, now, 1, lease);
            if (outcome.verdict == Verdict::admitted) {
                held[thread].push_back({lease, outcome.receipt, 1});
            }
        });
        for (std::size_t thread = 0; thread < held.size(); ++thread) {
            for (const Held& each : held[thread]) {
                logs[thread].push_back({stamp_of(each.receipt), each.cost});
            }
        }
        std::vector<Admission> log;
        for (const auto& each : logs) {
            log.insert(log.end(), each.begin(), each.end());
        }
        std::sort(log.begin(), log.end());
        for (auto first = log.begin(); first != log.end(); ++first) {
            std::uint64_t forgotten = 0;
            for (const auto& each : resets) {
                forgotten +=
                    static_cast<std::uint64_t>(std::count_if(each.begin(), each.end(), [&](const Reset& reset) {
                        return reset.last >= first->at && reset.first < first->at + window;
                    }));
            }
            const auto last = std::lower_bound(first, log.end(), Admission{first->at + window, 0});
            if (static_cast<std::uint64_t>(last - first) > quota.amount() * (1 + forgotten)) {
                CAPTURE(first->at, forgotten);
                REQUIRE(static_cast<std::uint64_t>(last - first) <= quota.amount() * (1 + forgotten));
            }
        }
        for (const auto& each : resets) {
            resets_seen += each.size();
        }
        for (std::uint64_t index = 0; index < t.table.stats().cells; ++index) {
            lives += Life::from_word(t.segment.cell(1, index).life).generation;
        }
        // What nobody counts any more is forgotten, and nothing of former lives is found again.
        t.table.reset(0, clock.now());
        REQUIRE(t.table.stats().full == 0);
        for (std::uint64_t used = 0; used < 2; ++used) {
            Lease lease;
            REQUIRE(t.hit({0, 1}, clock.now(), 1, lease).remaining == 1 - used);
        }
        collisions += t.table.stats().collisions;
    }
    REQUIRE(resets_seen > 100);
    REQUIRE(lives > 1'000);
    REQUIRE(collisions > 0);
}

TEST_CASE("Keys that are inserted by all, expire and are reclaimed all the time are admitted once a window") {
    struct Room {
        Layout layout;
        std::uint64_t keys;
        std::uint64_t cells;
    };
    const auto room = GENERATE(Room{{1, 640}, 2, 3}, Room{{1, 640}, 6, 3}, Room{{1, 1024}, 6, 5}, Room{{2, 640}, 5, 3},
                               Room{{1, 1 << 14}, 24, 80});
    const OnFull on_full = GENERATE(OnFull::refuse, OnFull::evict);
    CAPTURE(room.layout.cell_bytes, room.keys, static_cast<int>(on_full));
    constexpr Nanos kWindow = 10 * kMillisecond;
    const Quota quota(1, kWindow);
    const Nanos tick = quota.ticks().length();
    constexpr std::int64_t kTicksAStep = 10'000;  // so that a window is 5 steps of the clock
    static_assert(kWindow == 10'000'000);
    Crowd crowd;
    crowd.tick = kTicksAStep * tick;
    crowd.pause = 2 * kWindow;
    std::uint64_t collisions = 0;
    std::uint64_t lives = 0;
    for (int round = 0; goes_on(round, [&] { return collisions; }); ++round) {
        const WindowTable t(room.layout, on_full, quota, {128, 2, 1014});
        ManualClock clock(0);
        std::vector<std::vector<std::vector<Admission>>> logs(static_cast<std::size_t>(crowd.threads),
                                                              std::vector<std::vector<Admission>>(room.keys));
        hammer(crowd, clock, static_cast<std::uint64_t>(round), [&](std::size_t thread, Dice& dice) {
            const auto number = static_cast<std::uint64_t>(dice.roll(0, static_cast<std::int64_t>(room.keys) - 1));
            const Digest digest{number, (number + 1) << 50 | (number + 1)};
            const Nanos now = clock.now();
            Lease lease;
            const Outcome outcome = t.hit(digest, now, 1, lease);
            if (outcome.verdict != Verdict::admitted) {
                return;
            }
            if (dice.is_one_in(4) && t.strategy.refund(lease, clock.now(), outcome.receipt, 1)) {
                return;
            }
            logs[thread][number].push_back({stamp_of(outcome.receipt), 1});
        });
        for (std::uint64_t number = 0; number < room.keys; ++number) {
            std::vector<Admission> log;
            for (const auto& each : logs) {
                log.insert(log.end(), each[number].begin(), each[number].end());
            }
            CAPTURE(number, round);
            REQUIRE(fullest_window(log, quota.ticks().window) <= 1);
        }
        const TableStats stats = t.table.stats();
        // Threads that ask at the same time may each be given the last one.
        REQUIRE(stats.cells < room.cells + static_cast<std::uint64_t>(crowd.threads));
        REQUIRE((stats.evictions == 0 || on_full == OnFull::evict));
        for (std::uint64_t index = 0; index < stats.cells; ++index) {
            lives += Life::from_word(t.segment.cell(1, index).life).generation - 1;
        }
        collisions += stats.collisions;
    }
    REQUIRE((lives > 100 || room.keys <= room.cells));
    REQUIRE(collisions > 0);
}

TEST_CASE("Of many threads at one moment exactly the limit is admitted and no refund is lost, under every strategy") {
    const auto under_test = GENERATE(from_range(testing::kStrategies.begin(), testing::kStrategies.end()));
    constexpr std::uint64_t kLimit = 2'000;
    const auto clock = std::make_shared<ManualClock>(7'200'000'000'000);
    Crowd crowd;
    std::uint64_t collisions = 0;
    for (int round = 0; goes_on(round, [&] { return collisions; }); ++round) {
        const Limiter limiter({.size = std::size_t{1} << 20, .on_full = OnFull::refuse, .clock = clock, .layout = {}});
        const Policy policy = limiter.policy({{Quota(kLimit, 60'000'000'000, under_test.strategy), "s"}});
        std::vector<std::vector<Ticket>> tickets(static_cast<std::size_t>(crowd.threads));
        hammer(crowd, *clock, static_cast<std::uint64_t>(round), [&](std::size_t thread, Dice&) {
            Ticket ticket;
            if (policy.hit("key", 1, &ticket).allowed) {
                tickets[thread].push_back(ticket);
            }
        });
        std::uint64_t admitted = 0;
        for (const auto& each : tickets) {
            admitted += each.size();
        }
        CAPTURE(name_of(under_test.strategy), round);
        REQUIRE(admitted == kLimit);
        std::atomic<std::uint64_t> lost = 0;
        hammer(crowd, *clock, static_cast<std::uint64_t>(round), [&](std::size_t thread, Dice&) {
            if (!tickets[thread].empty()) {
                lost += policy.refund(tickets[thread].back()) ? 0U : 1U;
                tickets[thread].pop_back();
            }
        });
        REQUIRE((lost == 0 || !under_test.has_lasting_tickets));
        REQUIRE(policy.peek("key").remaining == kLimit - lost);
        collisions += limiter.stats().collisions;
    }
    REQUIRE(collisions > 0);
}

TEST_CASE("No quota of several is overshot while others refuse, keys flood the table and the clock moves") {
    struct Taken {
        Nanos before;
        Nanos after;
    };
    constexpr Nanos kShort = 10 * kMillisecond;
    constexpr Nanos kLong = 40 * kMillisecond;
    Crowd crowd;
    crowd.tick = kMillisecond;
    crowd.pause = 2 * kLong;
    std::uint64_t collisions = 0;
    for (int round = 0; goes_on(round, [&] { return collisions; }); ++round) {
        const auto clock = std::make_shared<ManualClock>(0);
        const Limiter limiter({.size = kDefaultSize, .on_full = OnFull::refuse, .clock = clock, .layout = {1, 2048}});
        const Policy policy = limiter.policy({{Quota(5, kLong), "long"}, {Quota(2, kShort), "short"}});
        std::vector<std::vector<Taken>> logs(static_cast<std::size_t>(crowd.threads));
        hammer(crowd, *clock, static_cast<std::uint64_t>(round), [&](std::size_t thread, Dice& dice) {
            if (dice.is_one_in(3)) {
                static_cast<void>(policy.hit(std::string(static_cast<std::size_t>(dice.roll(1, 20)), 'x')));
                return;
            }
            const Nanos before = clock->now();
            Ticket ticket;
            if (policy.hit("key", 1, &ticket).allowed && !(dice.is_one_in(3) && policy.refund(ticket))) {
                logs[thread].push_back({before, clock->now()});
            }
        });
        std::vector<Taken> log;
        for (const auto& each : logs) {
            log.insert(log.end(), each.begin(), each.end());
        }
        std::sort(log.begin(), log.end(), [](const Taken& a, const Taken& b) { return a.before < b.before; });
        const auto most_within = [&](Nanos window) {
            std::ptrdiff_t most = 0;
            for (auto first = log.begin(); first != log.end(); ++first) {
                const Nanos end = first->before + window;
                const auto last = std::find_if(first, log.end(), [&](const Taken& each) { return each.before >= end; });
                most = std::max(most, std::count_if(first, last, [&](const Taken& each) { return each.after < end; }));
            }
            return most;
        };
        REQUIRE(log.size() > 20);
        REQUIRE(most_within(kShort) <= 2);
        REQUIRE(most_within(kLong) <= 5);
        collisions += limiter.stats().collisions;
    }
    REQUIRE(collisions > 0);
}

}  // namespace slidegate
