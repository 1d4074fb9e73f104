// Processes that are killed at every instruction of what they write into the statistics.
#include <algorithm>
#include <cstring>
#include <memory>
#include <string>

#include "catch.hpp"
#include "lone_cell.hpp"
#include "processes.hpp"
#include "slidegate/limiter/limiter.hpp"

namespace slidegate {

using testing::Inherited;
using testing::kSecond;
using testing::step_through;
using testing::Stops;

namespace {

/// What is written at its beginning, as it is left behind when its writer dies.
std::unique_ptr<Statistics> left_of(const Statistics& statistics, std::size_t rules) {
    auto left = std::make_unique<Statistics>();
    std::memcpy(static_cast<void*>(left.get()), static_cast<const void*>(&statistics), rules * sizeof(RuleEntry));
    return left;
}

bool have_not_changed(const Statistics& statistics, const Statistics& left, std::size_t rules) {
    return std::memcmp(static_cast<const void*>(&statistics), static_cast<const void*>(&left),
                       rules * sizeof(RuleEntry)) == 0;
}

}  // namespace

TEST_CASE("A rule can be entered whoever was killed at any instruction of entering it") {
    constexpr std::size_t kRules = 3;
    const Quota quota(10, 60 * kSecond, Strategy::gcra);
    const std::string scope(300, 's');
    const Inherited<Statistics> statistics;
    REQUIRE(statistics->enter({1, kSecond}, "before") != nullptr);
    std::unique_ptr<Statistics> last = left_of(*statistics, kRules);
    int begun = 0;
    int written = 0;
    const std::int64_t instructions = step_through(
        Stops::instructions, [&] { statistics->enter(quota, scope)->count(true); },
        [&] {
            if (have_not_changed(*statistics, *last, kRules)) {
                return true;
            }
            last = left_of(*statistics, kRules);
            const auto left = left_of(*statistics, kRules);
            const std::uint64_t state = left->rules[1].state;
            begun += state == RuleEntry::kBegun ? 1 : 0;
            written += state == RuleEntry::kWritten ? 1 : 0;
            REQUIRE(written <= 2);
            RuleEntry* const entry = left->enter(quota, scope);
            REQUIRE(entry == &left->rules[state == RuleEntry::kBegun ? 2 : 1]);
            REQUIRE(left->enter(quota, scope) == entry);
            entry->count(false);
            // What was begun is never taken for a rule; what was not counted is lost with its counter, and no more.
            const auto counts = left->counts();
            REQUIRE((counts[0] && counts[0]->scope == "before"));
            REQUIRE(counts[1].has_value() == (state != RuleEntry::kBegun));
            const RuleCounts& its = *counts[static_cast<std::size_t>(entry - left->rules)];
            REQUIRE((its.quota == quota && its.scope == scope && its.refused == 1 && its.admitted <= 1));
            return true;
        });
    if (instructions < 0) {
        WARN("children cannot be traced here: nothing was killed");
        return;
    }
    REQUIRE(begun > 38);    // each word of the scope is a state
    REQUIRE(written == 2);  // before it was counted, and after
    REQUIRE(statistics->counts()[1]->admitted == 1);
}

TEST_CASE("A note is whole or nothing whoever was killed at any instruction of writing it") {
    const Inherited<Statistics> statistics;
    const std::uint64_t identity = std::uint64_t{7} << kGenerationBits;
    const KeyNote& place = statistics->notes[7];
    RuleEntry* const rule = statistics->enter({1, kSecond}, "rule");
    statistics->note(identity, *rule, std::string(96, 'a'));
    KeyNote last = {};
    int nothings = 0;
    int befores = 0;
    const std::int64_t instructions = step_through(
        Stops::instructions, [&] { statistics->note(identity, *rule, std::string(90, 'b')); },
        [&] {
            if (std::memcmp(static_cast<const void*>(&place), static_cast<const void*>(&last), sizeof last) == 0) {
                return true;
            }
            std::memcpy(static_cast<void*>(&last), static_cast<const void*>(&place), sizeof last);
            const auto noted = statistics->noted(identity);
            if (!noted) {
                ++nothings;
                return true;
            }
            befores += noted->key == std::string(96, 'a') ? 1 : 0;
            REQUIRE((noted->key == std::string(96, 'a') || noted->key == std::string(90, 'b')));
            return true;
        });
    if (instructions < 0) {
        WARN("children cannot be traced here: nothing was killed");
        return;
    }
    REQUIRE(befores == 1);
    REQUIRE(nothings > 10);
    REQUIRE(statistics->noted(identity)->key == std::string(90, 'b'));
}

TEST_CASE("A limiter that was killed at any instruction of a hit has counted it in the statistics once or not at all") {
    Options options;
    options.layout = {1, 1 << 12};
    options.segment = std::make_shared<Segment>(options.layout, AfterFork::shared);
    options.on_full = OnFull::refuse;
    options.clock = std::make_shared<ManualClock>(kSecond);
    options.record_keys = true;
    const Limiter limiter(options);
    const Policy policy = limiter.policy({{Quota(2, 60 * kSecond), "rule"}});
    const RuleEntry& rule = options.segment->statistics().rules[0];
    const auto counted = [&] {
        std::uint64_t sum = 0;
        for (const Tally& tally : rule.tallies) {
            sum += tally.admitted + tally.refused;
        }
        return sum;
    };
    const Inherited<std::atomic<bool>> is_reported;
    int changes = 0;
    std::uint64_t last = 0;
    const std::int64_t instructions = step_through(
        Stops::instructions,
        [&] {
            if (policy.hit("ada").allowed) {
                *is_reported = true;
            }
        },
        [&] {
            const std::uint64_t now = counted();
            REQUIRE((now >= last && now <= 1));
            REQUIRE((!*is_reported || now == 1));
            changes += now != last ? 1 : 0;
            last = now;
            return true;
        });
    if (instructions < 0) {
        WARN("children cannot be traced here: nothing was killed");
        return;
    }
    REQUIRE(changes == 1);
    REQUIRE(policy.hit("ada").allowed);
    REQUIRE_FALSE(policy.hit("ada").allowed);
    const auto rules = limiter.rules();
    REQUIRE((rules[0]->admitted == 2 && rules[0]->refused == 1));
}

}  // namespace slidegate
