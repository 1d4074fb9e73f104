// A reset begins a life that nothing of the former one can reach.
#include <array>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "catch.hpp"
#include "dice.hpp"
#include "lone_cell.hpp"
#include "slidegate/limiter/limiter.hpp"
#include "strategies.hpp"

namespace slidegate {

using testing::Dice;
using testing::kSecond;

namespace {

constexpr Nanos kHour = 3'600 * kSecond;
// More than positions of any cell can count to.
constexpr int kMany = 3'000;
// Budgets: an eighth is guaranteed, a half shared.
constexpr Layout kFiveCells = {1, 1024};

const Limiter& with_room(const std::shared_ptr<ManualClock>& clock) {
    static std::vector<Limiter> limiters;
    limiters.clear();
    limiters.emplace_back(Options{.size = std::size_t{1} << 22, .clock = clock});
    return limiters.back();
}

bool equal(const Decision& a, const Decision& b) {
    return a.allowed == b.allowed && a.remaining == b.remaining && a.reset_after == b.reset_after &&
           a.retry_after == b.retry_after;
}

}  // namespace

TEST_CASE("test_fault_32_what_a_reset_forgot_stays_forgotten") {
    const auto under_test = GENERATE(from_range(testing::kStrategies.begin(), testing::kStrategies.end()));
    const std::uint64_t amount = GENERATE(values<std::uint64_t>({5, 13, 20, 60, 1'000}));
    const bool is_whole = GENERATE(false, true);
    CAPTURE(name_of(under_test.strategy), amount, is_whole);
    const auto clock = std::make_shared<ManualClock>(1'000 * kSecond);
    const Limiter& limiter = with_room(clock);
    const Policy policy = limiter.policy({{Quota(amount, 24 * kHour, under_test.strategy), "s"}});
    for (std::uint64_t i = 0; i < std::min<std::uint64_t>(amount, 60); ++i) {
        CHECK(policy.hit("k").allowed);
        clock->advance(kSecond);
    }
    for (int resets = 0; resets < kMany; ++resets) {
        is_whole ? limiter.reset() : policy.reset("k");
        if (policy.peek("k").remaining != amount || policy.hit("k").remaining != amount - 1) {
            CAPTURE(resets);
            REQUIRE(policy.peek("k").remaining == amount);
            REQUIRE(policy.hit("k").remaining == amount - 1);
        }
    }
}

TEST_CASE("test_fault_32_a_ticket_of_before_a_reset_takes_nothing_of_after_it") {
    const auto under_test = GENERATE(from_range(testing::kStrategies.begin(), testing::kStrategies.end()));
    const int hits = GENERATE(5, 20, 60);
    CAPTURE(name_of(under_test.strategy), hits);
    const auto clock = std::make_shared<ManualClock>(1'000 * kSecond);
    const Policy policy =
        with_room(clock).policy({{Quota(static_cast<std::uint64_t>(hits), kHour, under_test.strategy), "s"}});
    Ticket first;
    CHECK(policy.hit("k", 1, &first).allowed);
    std::vector<Ticket> tickets = {first};
    for (int resets = 1; resets < kMany; ++resets) {
        policy.reset("k");
        Ticket ticket;
        CHECK(policy.hit("k", static_cast<std::uint64_t>(hits), &ticket).allowed);
        if (resets % 7 == 0 || resets < 100) {
            tickets.push_back(ticket);
        }
        const std::size_t old = static_cast<std::size_t>(resets) % (tickets.size() - 1);
        if (policy.refund(tickets[old]) || policy.refund(first) || policy.hit("k").allowed) {
            CAPTURE(resets, old);
            REQUIRE_FALSE(policy.refund(tickets[old]));
            REQUIRE_FALSE(policy.refund(first));
            REQUIRE_FALSE(policy.hit("k").allowed);
        }
    }
}

TEST_CASE("test_fault_35_a_ticket_of_before_a_reset_has_nothing_to_give_back") {
    const auto under_test = GENERATE(from_range(testing::kStrategies.begin(), testing::kStrategies.end()));
    const bool is_closed = GENERATE(false, true);
    const bool is_hit_since = GENERATE(false, true);
    const bool is_whole = GENERATE(false, true);
    CAPTURE(name_of(under_test.strategy), is_closed, is_hit_since, is_whole);
    const auto clock = std::make_shared<ManualClock>(1'000 * kSecond);
    const Limiter& limiter = with_room(clock);
    const Policy policy = limiter.policy({{Quota(5, 60 * kSecond, under_test.strategy), "s"}});
    Ticket ticket;
    CHECK(policy.hit("k", 1, &ticket).allowed);
    if (is_closed) {
        clock->advance(kSecond);
        CHECK(policy.hit("k").allowed);
    }
    is_whole ? limiter.reset() : policy.reset("k");
    if (is_hit_since) {
        CHECK(policy.hit("k").allowed);
    }
    CHECK_FALSE(policy.refund(ticket));
    CHECK(policy.peek("k").remaining == (is_hit_since ? 4U : 5U));
}

TEST_CASE("test_fault_32_a_key_inherits_nothing_from_those_who_were_evicted_before_it") {
    const std::uint64_t amount = GENERATE(values<std::uint64_t>({5, 20, 60, 500}));
    CAPTURE(amount);
    const auto clock = std::make_shared<ManualClock>(1'000 * kSecond);
    const Layout five_of_these = {
        1,
        std::uint64_t{8} * kCellClasses[class_of(static_cast<std::uint32_t>(amount), Strategy::moving_window)].bytes};
    const Limiter limiter({.size = kDefaultSize, .on_full = OnFull::evict, .clock = clock, .layout = five_of_these});
    const Policy policy = limiter.policy({{Quota(amount, 24 * kHour), "s"}});
    for (int i = 0; i < 2 * kMany; ++i) {
        // Three hits: the first two are closed entries, which lie in the ring when the next key comes.
        const std::string key = "k" + std::to_string(i);
        for (std::uint64_t used = 1; used <= 3; ++used) {
            const Decision decision = policy.hit(key);
            if (decision.remaining != amount - used) {
                CAPTURE(key, used);
                REQUIRE(decision.remaining == amount - used);
            }
            clock->advance(i % 3 == 0 ? kSecond : 0);
        }
    }
    CHECK(limiter.stats().evictions > kMany);
}

TEST_CASE("test_fault_35_a_table_that_refuses_has_room_after_a_reset") {
    const auto under_test = GENERATE(from_range(testing::kStrategies.begin(), testing::kStrategies.end()));
    CAPTURE(name_of(under_test.strategy));
    const auto clock = std::make_shared<ManualClock>(1'000 * kSecond);
    const Limiter limiter({.size = kDefaultSize, .on_full = OnFull::refuse, .clock = clock, .layout = kFiveCells});
    const Policy policy = limiter.policy({{Quota(3, kHour, under_test.strategy), "s"}});
    const auto admitted_of = [&](const std::string& prefix) {
        int admitted = 0;
        for (int i = 0; i < 100; ++i) {
            admitted += policy.hit(prefix + std::to_string(i)).allowed ? 1 : 0;
        }
        return admitted;
    };
    const int room = admitted_of("before");
    CHECK(room < 100);
    CHECK(admitted_of("another") == 0);
    for (int resets = 0; resets < 500; ++resets) {
        limiter.reset();
        REQUIRE(admitted_of(std::to_string(resets) + "/") == room);
    }
}

TEST_CASE("What a reset has freed is counted to no limit, under every strategy") {
    const auto under_test = GENERATE(from_range(testing::kStrategies.begin(), testing::kStrategies.end()));
    CAPTURE(name_of(under_test.strategy));
    const auto clock = std::make_shared<ManualClock>(1'000 * kSecond);
    const Limiter limiter({.size = kDefaultSize, .on_full = OnFull::refuse, .clock = clock});
    const Policy policy = limiter.policy({{Quota(3, kHour, under_test.strategy), "s"}});
    const auto held = [&] {
        std::uint64_t cells = 0;
        for (const auto& [owner, its] : limiter.holdings()) {
            cells += owner != 0 ? its : 0;
        }
        return cells;
    };
    for (const char* key : {"alice", "bob", "carol"}) {
        CHECK(policy.hit(key).allowed);
    }
    CHECK(held() == 3);
    policy.reset("bob");
    CHECK(held() == 2);
    limiter.reset();
    CHECK(held() == 0);
    CHECK(policy.hit("bob").allowed);
    CHECK(held() == 1);
}

TEST_CASE("A key that is reset in a full table is given its own cell again, and nobody is evicted for it") {
    const auto clock = std::make_shared<ManualClock>(1'000 * kSecond);
    const Limiter limiter({.size = kDefaultSize, .on_full = OnFull::evict, .clock = clock, .layout = {64, 1 << 17}});
    const Policy policy = limiter.policy({{Quota(3, kHour), "s"}});
    for (int i = 0; limiter.stats().evictions == 0; ++i) {
        CHECK(policy.hit("k" + std::to_string(i)).allowed);
    }
    CHECK(policy.hit("mine").allowed);
    const TableStats before = limiter.stats();
    for (int i = 0; i < 100; ++i) {
        policy.reset("mine");
        CHECK(policy.hit("mine").remaining == 2);
    }
    CHECK(limiter.stats().evictions == before.evictions);
    CHECK(limiter.stats().cells == before.cells);
}

TEST_CASE("A cell that has had as many lives as it has positions rests, and is used again") {
    const auto under_test = GENERATE(from_range(testing::kStrategies.begin(), testing::kStrategies.end()));
    CAPTURE(name_of(under_test.strategy));
    const auto clock = std::make_shared<ManualClock>(1'000 * kSecond);
    const Limiter& limiter = with_room(clock);
    const Quota quota(3, kHour, under_test.strategy);
    const Policy policy = limiter.policy({{quota, "s"}});
    // The first hit of a life is a position of its own where that ends the tickets of those before.
    const std::uint32_t lives = kCellClasses[class_of(quota.amount(), quota.strategy())].positions /
                                (quota.strategy() == Strategy::moving_window ? 1 : 2);
    const auto live_through = [&](std::uint32_t some) {
        for (std::uint32_t i = 0; i < some; ++i) {
            REQUIRE(policy.hit("k").remaining == 2);
            policy.reset("k");
        }
    };
    live_through(lives / 3);
    CHECK(limiter.stats().cells == 1);
    live_through(lives);
    CHECK(limiter.stats().cells == 2);
    for (int rests = 0; rests < 20; ++rests) {
        clock->advance(kClaimPatience + kSecond);
        live_through(lives / 3);
    }
    CHECK(limiter.stats().cells == 2);
}

// Counts the same on two limiters. One has little room and is reset; the other has all the room there is, is never reset, and
// is asked for another key instead.
TEST_CASE("A reset key is a new key, whatever is hit, refunded, reset and evicted, under every strategy") {
    const auto under_test = GENERATE(from_range(testing::kStrategies.begin(), testing::kStrategies.end()));
    const OnFull on_full = GENERATE(OnFull::evict, OnFull::refuse);
    const std::uint32_t seed = GENERATE(range(0U, 12U));
    Dice dice(seed);
    const std::array<std::uint64_t, 6> amounts = {1, 3, 13, 20, 60, 300};
    const std::uint64_t amount = amounts[static_cast<std::size_t>(dice.roll(0, 5))];
    const Quota quota(amount, kHour, under_test.strategy);
    CAPTURE(name_of(under_test.strategy), static_cast<int>(on_full), seed, amount);
    const auto clock = std::make_shared<ManualClock>(1'000 * kHour);
    const std::uint64_t bytes = kCellClasses[class_of(quota.amount(), quota.strategy())].bytes;
    const Limiter small({.size = kDefaultSize, .on_full = on_full, .clock = clock, .layout = {1, bytes * 8}});
    const Limiter large({.size = kDefaultSize, .on_full = OnFull::refuse, .clock = clock});
    const Policy tested = small.policy({{quota, "s"}});
    const Policy twin = large.policy({{quota, "s"}});
    constexpr std::size_t kKeys = 7;
    std::array<int, kKeys> lives{};
    struct Held {
        std::size_t key;
        int life;
        Ticket tested;
        Ticket twin;
    };
    std::deque<Held> held;
    const auto name = [](std::size_t key) { return "k" + std::to_string(key); };
    const auto twin_name = [&](std::size_t key) { return name(key) + "/" + std::to_string(lives[key]); };
    // Cells whose hits have drained change hands unseen: their tickets are void, or have nothing to give back.
    const auto forget_evicted = [&](std::uint64_t evictions) {
        for (std::size_t key = 0; evictions != small.stats().evictions && key < kKeys; ++key) {
            if (tested.peek(name(key)).reset_after == 0 && twin.peek(twin_name(key)).reset_after != 0) {
                ++lives[key];
            }
        }
    };
    int refunds = 0;
    int old_refunds = 0;
    for (int i = 0; i < 6'000; ++i) {
        const auto key = static_cast<std::size_t>(dice.roll(0, kKeys - 1));
        const std::int64_t kind = dice.roll(0, 19);
        if (kind < 2) {
            tested.reset(name(key));
            ++lives[key];
        } else if (kind == 2 && dice.is_one_in(4)) {
            small.reset();
            for (int& each : lives) {
                ++each;
            }
        } else if (kind < 6) {
            clock->advance(dice.is_one_in(30) ? kHour : dice.roll(0, 3) * kSecond);
        } else if (kind < 10 && !held.empty()) {
            const auto index = static_cast<std::ptrdiff_t>(dice.roll(0, static_cast<std::int64_t>(held.size()) - 1));
            const Held back = held[static_cast<std::size_t>(index)];
            held.erase(held.begin() + index);
            const bool is_back = tested.refund(back.tested);
            const bool is_old = back.life != lives[back.key];
            if (is_back != (!is_old && twin.refund(back.twin))) {
                CAPTURE(i, is_back, is_old);
                REQUIRE(is_back == !is_old);
            }
            refunds += is_back ? 1 : 0;
            old_refunds += is_old ? 1 : 0;
        } else {
            const auto cost = static_cast<std::uint64_t>(dice.roll(1, 1 + static_cast<std::int64_t>(amount) / 4));
            const TableStats before = small.stats();
            Held taken{key, 0, {}, {}};
            const Decision decision = tested.hit(name(key), cost, &taken.tested);
            if (small.stats().full != before.full) {
                continue;  // there was no room for it
            }
            forget_evicted(before.evictions);
            const Decision wanted = twin.hit(twin_name(key), cost, &taken.twin);
            if (!equal(decision, wanted)) {
                CAPTURE(i, key, cost, decision.allowed, decision.remaining, decision.reset_after, wanted.allowed);
                CAPTURE(wanted.remaining, wanted.reset_after);
                REQUIRE(equal(decision, wanted));
            }
            if (decision.allowed) {
                taken.life = lives[key];
                held.push_back(taken);
            }
        }
        const auto other = static_cast<std::size_t>(dice.roll(0, kKeys - 1));
        if (!equal(tested.peek(name(other)), twin.peek(twin_name(other)))) {
            CAPTURE(i, other, tested.peek(name(other)).remaining, twin.peek(twin_name(other)).remaining);
            REQUIRE(equal(tested.peek(name(other)), twin.peek(twin_name(other))));
        }
    }
    CHECK(refunds > 20);
    CHECK(old_refunds > 100);
}

}  // namespace slidegate
