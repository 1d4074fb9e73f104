#include "slidegate/cells/statistics.hpp"

#include <cstring>
#include <sched.h>

#include "slidegate/detail/siphash.hpp"
#include "slidegate/values/errors.hpp"

namespace slidegate {

namespace {

using Hasher = detail::SipHash<1, 3>;

// Of what others may be writing at this moment; whoever is longer at it is dead, or makes a second entry necessary.
constexpr int kPatience = 1'000;

constexpr std::uint64_t key_part(std::uint64_t identity) noexcept { return make_identity(identity, 0); }

void store(std::string_view text, Word* words, std::size_t count) noexcept {
    for (std::size_t i = 0; i < count; ++i) {
        std::uint64_t word = 0;
        if (i * sizeof word < text.size()) {
            std::memcpy(&word, text.data() + i * sizeof word, std::min(sizeof word, text.size() - i * sizeof word));
        }
        words[i].store(word, std::memory_order_relaxed);
    }
}

std::string load(const Word* words, std::size_t count, std::uint64_t size) {
    std::string text(count * sizeof(std::uint64_t), '\0');
    for (std::size_t i = 0; i < count; ++i) {
        const std::uint64_t word = words[i].load(std::memory_order_relaxed);
        std::memcpy(text.data() + i * sizeof word, &word, sizeof word);
    }
    text.resize(std::min<std::uint64_t>(size, text.size()));
    return text;
}

std::uint64_t fingerprint_of(const Quota& quota, std::string_view scope, std::string_view name,
                             std::size_t space) noexcept {
    Hasher hasher({0x6c6564676572, 0x72756c65});
    hasher.word(space);
    hasher.word(quota.amount());
    hasher.word(static_cast<std::uint64_t>(quota.window()));
    hasher.word(static_cast<std::uint64_t>(quota.strategy()));
    hasher.word(Hasher({0x6c6564676572, 0x6e616d65}).finish(name.data(), name.size())[0]);
    return hasher.finish(scope.data(), scope.size())[0];
}

std::uint64_t fingerprint_of(std::uint64_t identity, std::uint64_t rule, std::uint64_t size,
                             std::string_view key) noexcept {
    Hasher hasher({0x6c6564676572, 0x6b6579});
    hasher.word(identity);
    hasher.word(rule);
    hasher.word(size);
    return hasher.finish(key.data(), key.size())[0] | 1;
}

KeyNote& place_of(KeyNote* notes, std::uint64_t identity) noexcept {
    return notes[(identity >> kGenerationBits) % kKeyNotes];
}

std::optional<RuleCounts> read(const RuleEntry& rule) {
    // (1) acquire pairs with (2)
    if (rule.state.load(std::memory_order_acquire) != RuleEntry::kWritten) {
        return std::nullopt;
    }
    const std::uint64_t size = rule.scope_size.load(std::memory_order_relaxed);
    const std::uint64_t strategy = rule.strategy.load(std::memory_order_relaxed);
    if (strategy > static_cast<std::uint64_t>(Strategy::gcra)) {
        return std::nullopt;
    }
    try {
        RuleCounts counts{
            Quota(rule.amount.load(std::memory_order_relaxed),
                  static_cast<Nanos>(rule.window.load(std::memory_order_relaxed)), static_cast<Strategy>(strategy)),
            load(rule.scope, RuleEntry::kScopeWords, size),
            load(rule.name, RuleEntry::kNameWords, rule.name_size.load(std::memory_order_relaxed))};
        counts.is_whole = counts.scope.size() == size;
        counts.owner = rule.owner.load(std::memory_order_relaxed);
        for (const Tally& tally : rule.tallies) {
            counts.admitted += tally.admitted.load(std::memory_order_relaxed);
            counts.refused += tally.refused.load(std::memory_order_relaxed);
            counts.elsewhere += tally.elsewhere.load(std::memory_order_relaxed);
        }
        return counts;
    } catch (const InvalidQuota&) {
        // Torn.
        return std::nullopt;
    }
}

// Whether an entry is that of a rule; waits for whoever is writing it.
bool is_of(const RuleEntry& rule, std::uint64_t fingerprint) noexcept {
    std::uint64_t state = rule.state.load(std::memory_order_acquire);  // (1)
    for (int i = 0; state == RuleEntry::kBegun && i < kPatience; ++i) {
        state = rule.state.load(std::memory_order_acquire);  // (1)
    }
    return state == RuleEntry::kWritten && rule.fingerprint.load(std::memory_order_relaxed) == fingerprint;
}

// Entries are taken in order, so that the first free one is behind all others.
RuleEntry* find(RuleEntry* first, RuleEntry* last, std::uint64_t fingerprint) noexcept {
    for (; first != last && first->state.load(std::memory_order_relaxed) != RuleEntry::kFree; ++first) {
        if (is_of(*first, fingerprint)) {
            return first;
        }
    }
    return nullptr;
}

}  // namespace

void RuleEntry::count(bool is_admitted) noexcept {
    Tally& tally = tallies[static_cast<unsigned>(sched_getcpu()) % kLanes];
    (is_admitted ? tally.admitted : tally.refused).fetch_add(1, std::memory_order_relaxed);
}

void RuleEntry::count_elsewhere(bool is_admitted) noexcept {
    count(is_admitted);
    tallies[0].elsewhere.fetch_add(1, std::memory_order_relaxed);
}

RuleEntry* Statistics::enter(const Quota& quota, std::string_view scope, std::string_view name, Origin origin,
                             std::uint64_t owner) noexcept {
    const std::uint64_t fingerprint = fingerprint_of(quota, scope, name, Owner::space_of(owner));
    RuleEntry* const of_requests = rules + kRuleEntries - kRequestRules;
    // Both parts, as a rule may be declared and made by a request, too.
    if (RuleEntry* const known = find(of_requests, rules + kRuleEntries, fingerprint)) {
        return known;
    }
    RuleEntry* const first = origin == Origin::request ? of_requests : rules;
    if (RuleEntry* const known = find(rules, first, fingerprint)) {
        return known;
    }
    for (RuleEntry* rule = first; rule != rules + kRuleEntries; ++rule) {
        std::uint64_t state = rule->state.load(std::memory_order_acquire);  // (1)
        if (state == RuleEntry::kFree &&
            rule->state.compare_exchange_strong(state, RuleEntry::kBegun, std::memory_order_acquire)) {
            rule->fingerprint.store(fingerprint, std::memory_order_relaxed);
            rule->amount.store(quota.amount(), std::memory_order_relaxed);
            rule->window.store(static_cast<std::uint64_t>(quota.window()), std::memory_order_relaxed);
            rule->strategy.store(static_cast<std::uint64_t>(quota.strategy()), std::memory_order_relaxed);
            rule->owner.store(owner, std::memory_order_relaxed);
            rule->scope_size.store(scope.size(), std::memory_order_relaxed);
            rule->name_size.store(name.size(), std::memory_order_relaxed);
            store(scope, rule->scope, RuleEntry::kScopeWords);
            store(name, rule->name, RuleEntry::kNameWords);
            rule->state.store(RuleEntry::kWritten, std::memory_order_release);  // (2)
            return rule;
        }
        if (is_of(*rule, fingerprint)) {
            return rule;
        }
    }
    return nullptr;
}

std::vector<std::optional<RuleCounts>> Statistics::counts() const {
    std::vector<std::optional<RuleCounts>> all;
    for (const RuleEntry& rule : rules) {
        all.push_back(read(rule));
    }
    return all;
}

void Statistics::note(std::uint64_t identity, const RuleEntry& rule, std::string_view key) noexcept {
    identity = key_part(identity);
    KeyNote& its = place_of(notes, identity);
    const auto index = static_cast<std::uint64_t>(&rule - rules);
    const std::string_view kept = key.substr(0, sizeof its.key);
    its.fingerprint.store(0, std::memory_order_relaxed);
    its.identity.store(identity, std::memory_order_relaxed);
    its.rule.store(index, std::memory_order_relaxed);
    its.size.store(key.size(), std::memory_order_relaxed);
    store(kept, its.key, KeyNote::kKeyWords);
    its.fingerprint.store(fingerprint_of(identity, index, key.size(), kept), std::memory_order_relaxed);
}

std::optional<NotedKey> Statistics::noted(std::uint64_t identity) const {
    identity = key_part(identity);
    const KeyNote& its = place_of(const_cast<KeyNote*>(notes), identity);
    const std::uint64_t size = its.size.load(std::memory_order_relaxed);
    NotedKey noted{load(its.key, KeyNote::kKeyWords, size), true, its.rule.load(std::memory_order_relaxed)};
    noted.is_whole = noted.key.size() == size;
    const bool is_sound =
        its.identity.load(std::memory_order_relaxed) == identity && noted.rule < kRuleEntries &&
        its.fingerprint.load(std::memory_order_relaxed) == fingerprint_of(identity, noted.rule, size, noted.key);
    return is_sound ? std::optional(noted) : std::nullopt;
}

std::size_t Statistics::space(std::string_view name) noexcept {
    // Above all sizes of scopes, which digests of limiters without a space begin with.
    constexpr std::uint64_t kTop = std::uint64_t{1} << 63;
    const std::uint64_t hash = Hasher({0x7370616365, 0x6e616d65}).finish(name.data(), name.size())[0] | kTop;
    for (std::size_t i = 0; i < kSpaces; ++i) {
        std::uint64_t seen = 0;
        // Relaxed: the number is all that is handed over.
        if (spaces[i].compare_exchange_strong(seen, hash, std::memory_order_relaxed) || seen == hash) {
            return i + 1;
        }
    }
    return 0;
}

void Statistics::count(std::size_t space, Mishap mishap) noexcept {
    mishaps[space][static_cast<std::size_t>(mishap)].fetch_add(1, std::memory_order_relaxed);
}

}  // namespace slidegate
