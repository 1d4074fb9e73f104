#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "catch.hpp"
#include "errors_of.hpp"
#include "slidegate/limiter/limiter.hpp"
#include "slidegate/values/errors.hpp"

namespace slidegate {

using testing::mentions;
using testing::message_of;

namespace {

constexpr Nanos kSecond = 1'000'000'000;
constexpr Nanos kMinute = 60 * kSecond;
constexpr Layout kSmall = {16, 1 << 16};

struct Bench {
    explicit Bench(Layout layout = kSmall, OnFull on_full = OnFull::evict)
        : limiter({.size = kDefaultSize, .on_full = on_full, .clock = clock, .layout = layout}) {}

    std::shared_ptr<ManualClock> clock = std::make_shared<ManualClock>();
    Limiter limiter;
};

const std::array<std::uint64_t, 1> kOne = {1};

Options of_size(std::size_t size) {
    Options options;
    options.size = size;
    return options;
}

std::string numbered(std::string prefix, int number) {
    prefix += std::to_string(number);
    return prefix;
}

}  // namespace

TEST_CASE("A policy counts what it is told to") {
    Bench bench;
    const Policy policy = bench.limiter.policy({{Quota(10, kMinute), "chat"}});
    for (std::uint64_t i = 1; i <= 10; ++i) {
        const Decision decision = policy.hit("alice");
        CHECK(decision.allowed);
        CHECK(decision.limit == 10);
        CHECK(decision.remaining == 10 - i);
        CHECK(decision.reset_after == kMinute);
    }
    CHECK_FALSE(policy.hit("alice").allowed);
    CHECK(policy.hit("bob").allowed);
    bench.clock->advance(kMinute);
    CHECK(policy.hit("alice").allowed);
    CHECK(bench.limiter.now() == kMinute);
}

TEST_CASE("A policy has from 1 to 16 rules") {
    Bench bench;
    const Rule rule{Quota(1, kMinute), "x"};
    CHECK(bench.limiter.policy(std::vector<Rule>(16, rule)).size() == 16);
    for (const std::size_t count : {std::size_t{0}, std::size_t{17}}) {
        const std::string message = message_of<InvalidArgument>(
            [&] { static_cast<void>(bench.limiter.policy(std::vector<Rule>(count, rule))); });
        CHECK(mentions(message, "from 1 to 16 rules"));
        CHECK(mentions(message, "not " + std::to_string(count)));
    }
}

TEST_CASE("A limiter of a size out of range is refused") {
    for (const std::size_t size : {std::size_t{0}, (std::size_t{1} << 20) - 1, (std::size_t{1} << 36) + 1}) {
        CHECK(mentions(message_of<InvalidArgument>([&] { const Limiter limiter(of_size(size)); }), "size must be"));
    }
}

TEST_CASE("A limiter without a clock takes the machine's") {
    const Limiter limiter(of_size(std::size_t{1} << 20));
    const Nanos before = BootClock().now();
    const Nanos now = limiter.now();
    CHECK(before <= now);
    CHECK(now <= BootClock().now());
    CHECK(before > 0);
}

TEST_CASE("Neither scope nor key runs into the other") {
    Bench bench;
    const Policy first = bench.limiter.policy({{Quota(1, kMinute), "a/b"}});
    const Policy second = bench.limiter.policy({{Quota(1, kMinute), "a"}});
    CHECK(first.hit("c").allowed);
    CHECK(second.hit("b/c").allowed);
    CHECK(second.hit("/bc").allowed);
    CHECK_FALSE(first.hit("c").allowed);
    CHECK_FALSE(second.hit("b/c").allowed);
}

TEST_CASE("Scopes that differ in trailing zero bytes are different") {
    Bench bench;
    const std::vector<std::string> scopes = {std::string(),        std::string(1, '\0'), std::string(2, '\0'),
                                             std::string(8, '\0'), std::string(9, '\0'), "a",
                                             std::string("a\0", 2)};
    for (const std::string& scope : scopes) {
        CHECK(bench.limiter.policy({{Quota(1, kMinute), scope}}).hit("key").allowed);
    }
    for (const std::string& scope : scopes) {
        CHECK_FALSE(bench.limiter.policy({{Quota(1, kMinute), scope}}).hit("key").allowed);
    }
}

TEST_CASE("Keys that differ in any byte or in length are different, empty and megabyte-long ones too") {
    Bench bench;
    const Policy policy = bench.limiter.policy({{Quota(1, kMinute), "s"}});
    std::string long_key(1 << 20, 'x');
    std::vector<std::string> keys = {"",
                                     std::string(1, '\0'),
                                     std::string(8, '\0'),
                                     std::string("a\0b", 3),
                                     "a",
                                     "ab",
                                     long_key,
                                     long_key + "x",
                                     "\xff\xfe"};
    long_key.back() = 'y';
    keys.push_back(long_key);
    for (const std::string& key : keys) {
        CHECK(policy.hit(key).allowed);
    }
    for (const std::string& key : keys) {
        CHECK_FALSE(policy.hit(key).allowed);
    }
    CHECK(bench.limiter.stats().cells == keys.size());
}

TEST_CASE("Equal rules of two policies share what they count, different quotas nothing") {
    Bench bench;
    const Policy one = bench.limiter.policy({{Quota(1, kMinute), "s"}});
    const Policy same = bench.limiter.policy({{Quota(1, kMinute), "s"}});
    CHECK(one.hit("k").allowed);
    CHECK_FALSE(same.hit("k").allowed);
    for (const Quota& quota : {Quota(2, kMinute), Quota(1, kMinute + 1), Quota(1, kMinute, Strategy::gcra),
                               Quota(1, kMinute, Strategy::fixed_window)}) {
        CHECK(bench.limiter.policy({{quota, "s"}}).hit("k").allowed);
    }
}

TEST_CASE("A hit takes from all quotas or from none") {
    Bench bench;
    const Policy policy = bench.limiter.policy({{Quota(10, kMinute), "m"}, {Quota(3, kSecond), "s"}});
    CHECK(policy.hit("k").allowed);
    CHECK(policy.hit("k").allowed);
    const Decision tightest = policy.hit("k");
    CHECK(tightest.allowed);
    CHECK(tightest.quota == 1);
    CHECK(tightest.remaining == 0);
    for (int i = 0; i < 20; ++i) {
        const Decision refused = policy.hit("k");
        CHECK_FALSE(refused.allowed);
        CHECK(refused.quota == 1);
        CHECK(refused.retry_after == kSecond);
    }
    const Policy minute = bench.limiter.policy({{Quota(10, kMinute), "m"}});
    CHECK(minute.peek("k").remaining == 7);
}

TEST_CASE("The decision is of the quota that keeps waiting longest, or has least remaining") {
    Bench bench;
    const Policy policy =
        bench.limiter.policy({{Quota(2, kSecond), "a"}, {Quota(2, kMinute), "b"}, {Quota(100, kMinute), "c"}});
    CHECK(policy.hit("k").quota == 0);
    CHECK(policy.hit("k").allowed);
    const Decision refused = policy.hit("k");
    CHECK(refused.quota == 1);
    CHECK(refused.limit == 2);
    CHECK(refused.retry_after == kMinute);
    const std::uint64_t cost = 3;
    const std::string_view key = "k";
    const Decision never = policy.hit({&key, 1}, {&cost, 1});
    CHECK(never.retry_after == kNever);
    CHECK(never.quota == 0);
}

TEST_CASE("A hit that one quota refuses after others took gives back to those before, newest first") {
    Bench bench;
    // The same quota twice: a peek at either sees room for one, the second take finds it gone.
    const Policy policy = bench.limiter.policy(
        {{Quota(10, kMinute), "first"}, {Quota(1, kMinute), "twice"}, {Quota(1, kMinute), "twice"}});
    CHECK(policy.peek("k").allowed);
    Ticket ticket;
    const std::string_view key = "k";
    const Decision refused = policy.hit({&key, 1}, kOne, &ticket);
    CHECK_FALSE(refused.allowed);
    CHECK(refused.quota == 2);
    CHECK_FALSE(policy.refund(ticket));
    CHECK(bench.limiter.policy({{Quota(10, kMinute), "first"}}).peek("k").remaining == 10);
    CHECK(bench.limiter.policy({{Quota(1, kMinute), "twice"}}).peek("k").remaining == 1);
}

TEST_CASE("A policy takes one key and one cost for each rule") {
    Bench bench;
    const Policy policy = bench.limiter.policy({{Quota(10, kMinute), "user"}, {Quota(1'000, kMinute), "tokens"}});
    const std::array<std::string_view, 2> keys = {"alice", "team"};
    const std::array<std::uint64_t, 2> costs = {1, 600};
    CHECK(policy.hit(keys, costs).allowed);
    const std::array<std::string_view, 2> others = {"bob", "team"};
    const Decision refused = policy.hit(others, costs);
    CHECK_FALSE(refused.allowed);
    CHECK(refused.quota == 1);
    CHECK(refused.remaining == 400);
    CHECK(bench.limiter.policy({{Quota(10, kMinute), "user"}}).peek("alice").remaining == 9);
    CHECK(bench.limiter.policy({{Quota(10, kMinute), "user"}}).peek("bob").remaining == 10);
}

TEST_CASE("A ticket gives back to all quotas what its hit took") {
    Bench bench;
    const Policy policy =
        bench.limiter.policy({{Quota(5, kMinute), "a"}, {Quota(50, kMinute, Strategy::fixed_window), "b"}});
    const std::string_view key = "k";
    const std::uint64_t cost = 5;
    Ticket ticket;
    CHECK(policy.hit({&key, 1}, {&cost, 1}, &ticket).allowed);
    CHECK_FALSE(policy.hit("k").allowed);
    CHECK(policy.refund(ticket));
    CHECK(policy.peek("k").remaining == 5);
    CHECK(bench.limiter.policy({{Quota(50, kMinute, Strategy::fixed_window), "b"}}).peek("k").remaining == 50);
}

TEST_CASE("A ticket of another policy gives nothing back") {
    Bench bench;
    const Policy policy = bench.limiter.policy({{Quota(1, kMinute), "a"}});
    const Policy same = bench.limiter.policy({{Quota(1, kMinute), "a"}});
    Ticket ticket;
    CHECK(policy.hit("k", 1, &ticket).allowed);
    CHECK_FALSE(same.refund(ticket));
    CHECK_FALSE(policy.hit("k").allowed);
    CHECK(policy.refund(ticket));
}

TEST_CASE("A ticket that no hit filled gives nothing back") {
    Bench bench;
    CHECK_FALSE(bench.limiter.policy({{Quota(1, kMinute), "a"}}).refund(Ticket{}));
}

TEST_CASE("A ticket whose cell has been reclaimed gives nothing back to the new owner") {
    Bench bench;
    const Policy policy = bench.limiter.policy({{Quota(1, kMinute), "a"}});
    Ticket ticket;
    CHECK(policy.hit("old", 1, &ticket).allowed);
    bench.clock->advance(kMinute);
    CHECK(policy.hit("new").allowed);
    REQUIRE(bench.limiter.stats().cells == 1);
    bench.clock->set(0);
    CHECK_FALSE(policy.refund(ticket));
    CHECK_FALSE(policy.hit("new").allowed);
}

TEST_CASE("A policy keeps its limiter's memory, and a moved one still knows its tickets") {
    std::optional<Bench> bench(std::in_place);
    std::optional<Policy> policy = bench->limiter.policy({{Quota(1, kMinute), "a"}});
    Ticket ticket;
    CHECK(policy->hit("k", 1, &ticket).allowed);
    bench.reset();
    Policy moved = std::move(*policy);
    policy.reset();
    CHECK_FALSE(moved.hit("k").allowed);
    CHECK(moved.refund(ticket));
    CHECK(moved.hit("k").allowed);
}

TEST_CASE("test_fault_35_a_ticket_is_no_other_policys_wherever_that_lies_in_memory") {
    Bench bench;
    const std::vector<Rule> rules = {{Quota(2, kMinute), "a"}};
    std::optional<Policy> policy = bench.limiter.policy(rules);
    Ticket ticket;
    CHECK(policy->hit("k", 1, &ticket).allowed);
    for (int i = 0; i < 100; ++i) {
        // Where the rules of the one before lay, as memory of that size has just become free.
        policy.reset();
        policy = bench.limiter.policy(rules);
        CHECK_FALSE(policy->refund(ticket));
    }
    CHECK(policy->peek("k").remaining == 1);
}

TEST_CASE("A policy that was moved away from takes no ticket") {
    Bench bench;
    Policy policy = bench.limiter.policy({{Quota(1, kMinute), "a"}});
    Ticket ticket;
    CHECK(policy.hit("k", 1, &ticket).allowed);
    const Policy moved = std::move(policy);
    CHECK_FALSE(policy.refund(ticket));  // NOLINT(bugprone-use-after-move)
    CHECK(moved.refund(ticket));
}

TEST_CASE("Peeks make no cells and change nothing") {
    Bench bench;
    const Policy policy = bench.limiter.policy({{Quota(10, kMinute), "a"}, {Quota(5, kMinute), "b"}});
    for (int i = 0; i < 100; ++i) {
        const Decision decision = policy.peek(numbered("k", i));
        CHECK(decision.allowed);
        CHECK(decision.remaining == 5);
    }
    CHECK(bench.limiter.stats().cells == 0);
}

TEST_CASE("A cost that no quota can admit makes no cell") {
    Bench bench;
    const Policy policy = bench.limiter.policy({{Quota(10, kMinute), "a"}});
    for (int i = 0; i < 100; ++i) {
        CHECK_FALSE(policy.hit(numbered("k", i), 11).allowed);
    }
    CHECK(bench.limiter.stats().cells == 0);
}

TEST_CASE("A reset is of the keys named, in all rules of the policy") {
    Bench bench;
    const Policy policy = bench.limiter.policy({{Quota(1, kMinute), "a"}, {Quota(1, kMinute, Strategy::gcra), "b"}});
    CHECK(policy.hit("k").allowed);
    CHECK(policy.hit("other").allowed);
    policy.reset("k");
    policy.reset("never seen");
    CHECK(policy.hit("k").allowed);
    CHECK_FALSE(policy.hit("other").allowed);
    bench.limiter.reset();
    CHECK(policy.hit("other").allowed);
}

TEST_CASE("What a full limiter does is what it was told") {
    const OnFull on_full = GENERATE(values<OnFull>({OnFull::evict, OnFull::refuse, OnFull::admit}));
    Bench bench({1, 1024}, on_full);
    const Policy policy = bench.limiter.policy({{Quota(3, kMinute), "a"}});
    for (int i = 0; i < 5; ++i) {
        CHECK(policy.hit(numbered("k", i), 2).allowed);
    }
    const Decision decision = policy.hit("new");
    const TableStats stats = bench.limiter.stats();
    CHECK(stats.cells == 5);
    CHECK(stats.bytes <= stats.capacity_bytes);
    if (on_full == OnFull::evict) {
        CHECK(decision.allowed);
        CHECK(decision.remaining == 2);
        CHECK((stats.evictions == 1 && stats.full == 0));
    } else {
        CHECK(decision.allowed == (on_full == OnFull::admit));
        CHECK(decision.remaining == 0);
        CHECK((decision.retry_after > 0) == (on_full == OnFull::refuse));
        CHECK((stats.evictions == 0 && stats.full == 1));
        for (int i = 0; i < 5; ++i) {
            CHECK_FALSE(policy.hit(numbered("k", i), 2).allowed);
        }
    }
    bench.clock->advance(kMinute);
    CHECK(policy.hit("new", 3).allowed);
}

TEST_CASE("A hit admitted uncounted has nothing to refund") {
    Bench bench({1, 1024}, OnFull::admit);
    const Policy policy = bench.limiter.policy({{Quota(3, kMinute), "a"}});
    for (int i = 0; i < 5; ++i) {
        CHECK(policy.hit(numbered("k", i)).allowed);
    }
    Ticket ticket;
    CHECK(policy.hit("new", 1, &ticket).allowed);
    CHECK_FALSE(policy.refund(ticket));
}

TEST_CASE("Memory stays within the size, however many keys come") {
    const OnFull on_full = GENERATE(values<OnFull>({OnFull::evict, OnFull::refuse}));
    const auto clock = std::make_shared<ManualClock>();
    const Limiter limiter({.size = std::size_t{1} << 20, .on_full = on_full, .clock = clock, .layout = {}});
    const Policy policy = limiter.policy(
        {{Quota(2, kMinute), "a"}, {Quota(60, kMinute), "b"}, {Quota(2, kMinute, Strategy::fixed_window), "c"}});
    for (int i = 0; i < 30'000; ++i) {
        static_cast<void>(policy.hit(numbered("key ", i)));
    }
    const TableStats stats = limiter.stats();
    CHECK(stats.bytes <= stats.capacity_bytes);
    CHECK(stats.capacity_bytes < std::size_t{1} << 20);
    CHECK((on_full == OnFull::evict ? stats.evictions : stats.full) > 0);
}

TEST_CASE("A busy key keeps its count while a flood of other keys passes") {
    const auto clock = std::make_shared<ManualClock>();
    const Limiter limiter({.size = std::size_t{1} << 20, .on_full = OnFull::evict, .clock = clock, .layout = {}});
    const Policy policy = limiter.policy({{Quota(2, kMinute), "a"}});
    CHECK(policy.hit("abuser", 2).allowed);
    for (int i = 0; i < 50'000; ++i) {
        static_cast<void>(policy.hit(numbered("flood ", i)));
    }
    CHECK(limiter.stats().evictions > 0);
    CHECK_FALSE(policy.hit("abuser").allowed);
}

}  // namespace slidegate
