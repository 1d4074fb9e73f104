#include <chrono>
#include <cstring>
#include <memory>
#include <random>
#include <thread>

#include "catch.hpp"
#include "slidegate/cells/statistics.hpp"
#include "slidegate/limiter/limiter.hpp"

using namespace slidegate;

namespace {

constexpr Nanos kSecond = 1'000'000'000;

std::vector<RuleCounts> known(const Statistics& statistics) {
    std::vector<RuleCounts> all;
    for (const auto& each : statistics.counts()) {
        if (each) {
            all.push_back(*each);
        }
    }
    return all;
}

}  // namespace

TEST_CASE("A rule has one entry in the statistics, whoever asks for it") {
    const auto statistics = std::make_unique<Statistics>();
    RuleEntry* const first = statistics->enter({10, kSecond}, "chat");
    REQUIRE(first != nullptr);
    CHECK(statistics->enter({10, kSecond}, "chat") == first);
    CHECK(statistics->enter({11, kSecond}, "chat") != first);
    CHECK(statistics->enter({10, 2 * kSecond}, "chat") != first);
    CHECK(statistics->enter({10, kSecond, Strategy::gcra}, "chat") != first);
    CHECK(statistics->enter({10, kSecond}, "mail") != first);
    first->count(true);
    first->count(true);
    first->count(false);
    const std::vector<RuleCounts> rules = known(*statistics);
    REQUIRE(rules.size() == 5);
    CHECK((rules[0].scope == "chat" && rules[0].quota == Quota(10, kSecond)));
    CHECK((rules[0].admitted == 2 && rules[0].refused == 1));
}

TEST_CASE("What people call a rule is told, and counted apart, and changes nothing about the cells") {
    Limiter limiter{{.size = 1 << 20}};
    const Policy plain = limiter.policy({{{2, kSecond}, "chat"}});
    const Policy named = limiter.policy({{{2, kSecond}, "chat", "hello " + std::string(99, 'x')}});
    CHECK((plain.hit("ada").allowed && named.hit("ada").allowed && !named.hit("ada").allowed));
    std::vector<RuleCounts> rules;
    for (const auto& each : limiter.rules()) {
        if (each) {
            rules.push_back(*each);
        }
    }
    REQUIRE(rules.size() == 2);
    CHECK((rules[0].name.empty() && rules[0].admitted == 1 && rules[0].refused == 0));
    CHECK((rules[1].name == "hello " + std::string(58, 'x') && rules[1].admitted == 1 && rules[1].refused == 1));
}

TEST_CASE("Decisions of others are counted for all rules that admitted, or for the one that refused") {
    Limiter limiter{{.size = 1 << 20}};
    const Policy policy = limiter.policy({{{2, kSecond}, "one"}, {{2, kSecond}, "two"}});
    policy.tally(true, 0);
    policy.tally(false, 1);
    const auto rules = limiter.rules();
    CHECK((rules[0]->admitted == 1 && rules[0]->refused == 0));
    CHECK((rules[1]->admitted == 1 && rules[1]->refused == 1));
    CHECK((rules[0]->elsewhere == 1 && rules[1]->elsewhere == 2));
    CHECK(policy.peek("ada").remaining == 2);
}

TEST_CASE("Full statistics have no entry for a new rule, and long scopes are cut off, not mistaken") {
    const auto statistics = std::make_unique<Statistics>();
    const std::string length(600, 'x');
    REQUIRE(statistics->enter({1, kSecond}, length + "1") != statistics->enter({1, kSecond}, length + "2"));
    CHECK_FALSE(known(*statistics)[0].is_whole);
    for (std::uint64_t amount = 2; amount < kRuleEntries; ++amount) {
        REQUIRE(statistics->enter({amount, kSecond}, "") != nullptr);
    }
    CHECK(statistics->enter({999, kSecond}, "") == nullptr);
    CHECK(statistics->enter({5, kSecond}, "") != nullptr);
}

TEST_CASE("Rules that requests make leave room for those that are declared, before and after them") {
    const auto statistics = std::make_unique<Statistics>();
    const auto made = [&](std::uint64_t amount) {
        return statistics->enter({amount, kSecond}, "", "", Origin::request);
    };
    REQUIRE(statistics->enter({1'000, kSecond}, "before") != nullptr);
    for (std::uint64_t amount = 1; amount <= kRequestRules; ++amount) {
        REQUIRE(made(amount) != nullptr);
    }
    CHECK(made(kRequestRules + 1) == nullptr);
    RuleEntry* const after = statistics->enter({1'000, kSecond}, "after");
    REQUIRE(after != nullptr);
    // One entry for one rule, whoever comes first.
    CHECK(statistics->enter({1'000, kSecond}, "after", "", Origin::request) == after);
    CHECK(statistics->enter({7, kSecond}, "") == made(7));
    std::size_t declared = 2;
    while (statistics->enter({2'000 + declared, kSecond}, "") != nullptr) {
        ++declared;
    }
    CHECK(declared == kRuleEntries - kRequestRules);
}

TEST_CASE("Threads that enter the same rules lose no count") {
    const auto statistics = std::make_unique<Statistics>();
    constexpr int kThreads = 8;
    constexpr int kHits = 2'000;
    std::vector<std::thread> threads;
    for (int i = 0; i < kThreads; ++i) {
        threads.emplace_back([&] {
            for (int hit = 0; hit < kHits; ++hit) {
                statistics->enter({static_cast<std::uint64_t>(1 + hit % 5), kSecond}, "scope")->count(hit % 2 == 0);
            }
        });
    }
    for (std::thread& each : threads) {
        each.join();
    }
    std::uint64_t sum = 0;
    for (const RuleCounts& each : known(*statistics)) {
        CHECK((each.quota.amount() >= 1 && each.quota.amount() <= 5 && each.scope == "scope"));
        sum += each.admitted + each.refused;
    }
    CHECK(sum == std::uint64_t{kThreads} * kHits);
}

TEST_CASE("A noted key is found by its identity, until another takes its place") {
    const auto statistics = std::make_unique<Statistics>();
    RuleEntry* const rule = statistics->enter({10, kSecond}, "chat");
    const std::uint64_t identity = std::uint64_t{77} << kGenerationBits;
    CHECK_FALSE(statistics->noted(identity));
    statistics->note(identity | 5, *rule, "ada");
    REQUIRE(statistics->noted(identity | 9));
    CHECK((statistics->noted(identity)->key == "ada" && statistics->noted(identity)->rule == 0));
    const std::uint64_t other = identity + (std::uint64_t{kKeyNotes} << kGenerationBits);
    statistics->note(other, *rule, std::string(200, 'y'));
    CHECK_FALSE(statistics->noted(identity));
    CHECK((statistics->noted(other)->key == std::string(96, 'y') && !statistics->noted(other)->is_whole));
}

TEST_CASE("Notes that are written and read at once are whole or none") {
    const auto statistics = std::make_unique<Statistics>();
    RuleEntry* const rule = statistics->enter({10, kSecond}, "chat");
    std::atomic<bool> is_over = false;
    std::vector<std::thread> writers;
    for (char letter : {'a', 'b', 'c'}) {
        writers.emplace_back([&, letter] {
            const std::string key(static_cast<std::size_t>(letter - 'a' + 1) * 20, letter);
            while (!is_over) {
                statistics->note(std::uint64_t{1} << kGenerationBits, *rule, key);
                std::this_thread::sleep_for(std::chrono::microseconds(20));
            }
        });
    }
    int seen = 0;
    for (int i = 0; i < 5'000'000 && seen < 20'000; ++i) {
        if (const auto noted = statistics->noted(std::uint64_t{1} << kGenerationBits)) {
            ++seen;
            REQUIRE(noted->key == std::string(noted->key.size(), noted->key[0]));
            REQUIRE(noted->key.size() == static_cast<std::size_t>(noted->key[0] - 'a' + 1) * 20);
        }
    }
    is_over = true;
    for (std::thread& each : writers) {
        each.join();
    }
    CHECK(seen > 0);
}

TEST_CASE("Whatever stands in the statistics, they can be read and written") {
    const auto statistics = std::make_unique<Statistics>();
    std::mt19937_64 random(7);
    auto* const words = reinterpret_cast<std::uint64_t*>(statistics.get());
    for (int round = 0; round < 20; ++round) {
        for (std::size_t i = 0; i < sizeof(Statistics) / 8; ++i) {
            words[i] = random() >> (random() % 64);
        }
        static_cast<void>(statistics->counts());
        static_cast<void>(statistics->noted(random()));
        if (RuleEntry* const rule = statistics->enter({10, kSecond}, "chat")) {
            rule->count(true);
            statistics->note(random(), *rule, "ada");
        }
    }
}

TEST_CASE("A survey lists the fullest keys first, with their names when those are recorded") {
    const bool is_recorded = GENERATE(false, true);
    const Limiter limiter({.layout = {}, .segment = {}, .record_keys = is_recorded});
    const Policy policy = limiter.policy({{Quota(10, 60 * kSecond), "chat"}, {Quota(4, 60 * kSecond), "mail"}});
    for (int i = 0; i < 3; ++i) {
        REQUIRE(policy.hit("ada").allowed);
    }
    REQUIRE(policy.hit("bob").allowed);
    const std::vector<Usage> all = limiter.survey(10);
    REQUIRE(all.size() == 4);
    CHECK((all[0].used == 3 && all[0].limit == 4));
    CHECK((all[3].used == 1 && all[3].limit == 10));
    CHECK(all[0].noted.has_value() == is_recorded);
    if (is_recorded) {
        CHECK((all[0].noted->key == "ada" && all[0].noted->rule == 1));
    }
    CHECK(limiter.survey(1).size() == 1);
    CHECK(limiter.survey(0).empty());
    CHECK(policy.hit("ada", 9).allowed == false);
    const auto rules = limiter.rules();
    CHECK((rules[0]->admitted == 4 && rules[0]->refused + rules[1]->refused == 1));
}

TEST_CASE("Limiters of one memory count their mishaps together") {
    const auto segment = std::make_shared<Segment>(Layout::for_size(1 << 20));
    const Limiter one({.layout = {}, .segment = segment});
    const Limiter other({.layout = {}, .segment = segment});
    one.count(Mishap::passed);
    other.count(Mishap::passed);
    other.count(Mishap::fell_back);
    CHECK(one.mishaps() == std::array<std::uint64_t, kMishaps>{0, 2, 1});
    CHECK(other.mishaps() == one.mishaps());
}
