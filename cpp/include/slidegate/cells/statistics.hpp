// What a segment remembers of the rules that count in it: what they are, and how often each has admitted and refused; some
// of the keys, for those who want that; and the errors. All of it is for people to look at; nothing is decided by it.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "slidegate/cells/cell.hpp"

namespace slidegate {

inline constexpr std::size_t kRuleEntries = 256;
inline constexpr std::size_t kRequestRules = 128;
inline constexpr std::size_t kLanes = 8;
inline constexpr std::size_t kKeyNotes = 4096;
inline constexpr std::size_t kSpaces = 2047;

/// Counts of one processor: a cache line, so that those of several do not hinder each other.
struct alignas(64) Tally {
    Word admitted;
    Word refused;
    Word elsewhere;  ///< of both, what another storage has counted
};

/// One rule. Written once, by whoever takes it from free to begun; from written on it never changes but for the tallies.
struct RuleEntry {
    static constexpr std::uint64_t kFree = 0;
    static constexpr std::uint64_t kBegun = 1;
    static constexpr std::uint64_t kWritten = 2;
    static constexpr std::size_t kScopeWords = 48;
    static constexpr std::size_t kNameWords = 8;

    Word state;
    Word fingerprint;  ///< of quota, scope and name
    Word amount;
    Word window;
    Word strategy;
    Word scope_size;  ///< bytes, of which the first 384 are kept
    Word name_size;   ///< bytes, of which the first 64 are kept
    Word scope[kScopeWords];
    Word name[kNameWords];
    Word owner;  ///< of the cells that it counts in
    Tally tallies[kLanes];

    /// Counts one hit. Any number of threads and processes.
    void count(bool is_admitted) noexcept;
    /// Counts one that another storage has decided.
    void count_elsewhere(bool is_admitted) noexcept;
};
static_assert(sizeof(RuleEntry) == 1024);

/// A key in the clear: the last of those that share a place, as far as it fits. Read and written by all at any time, so what
/// does not agree with its fingerprint is nothing.
struct KeyNote {
    static constexpr std::size_t kKeyWords = 12;

    Word fingerprint;
    Word identity;
    Word rule;
    Word size;  ///< bytes, of which the first 96 are kept
    Word key[kKeyWords];
};
static_assert(sizeof(KeyNote) == 128);

/// What came of a request that could not be decided as it was meant to be.
enum class Mishap : std::uint8_t { raised, passed, fell_back };
inline constexpr std::size_t kMishaps = 3;

/// Who makes a rule: a program, once and for all, or requests, with a scope or a quota of their own. A reader only looks at
/// what others count, or has it forgotten: no statistics tell of its rules.
enum class Origin : std::uint8_t { declared, request, reader };

struct RuleCounts {
    Quota quota;
    std::string scope;     ///< cut off when it was too long
    std::string name;      ///< cut off, too; empty without one
    bool is_whole = true;  ///< whether it was not
    std::uint64_t admitted = 0;
    std::uint64_t refused = 0;
    std::uint64_t elsewhere = 0;  ///< of both, what another storage has counted
    std::uint64_t owner = 0;

    [[nodiscard]] std::size_t space() const noexcept { return Owner::space_of(owner); }
};

struct NotedKey {
    std::string key;
    bool is_whole = true;
    std::uint64_t rule = 0;  ///< index among the entries
};

/// Lies in a segment, all zero when new. Members are thread-safe, between processes too, and none blocks. Whatever stands in
/// it, none touches anything else.
struct Statistics {
    RuleEntry rules[kRuleEntries];
    KeyNote notes[kKeyNotes];
    alignas(64) Word mishaps[kSpaces + 1][kMishaps];
    Word spaces[kSpaces];

    /// The entry of a rule, made when it has none; null when there is no room. Those that requests make have the last
    /// kRequestRules entries and no others, so that they leave room for what is declared later. May make a second one of a
    /// rule that somebody else is writing.
    [[nodiscard]] RuleEntry* enter(const Quota& quota, std::string_view scope, std::string_view name = {},
                                   Origin origin = Origin::declared, std::uint64_t owner = 0) noexcept;
    /// All rules, with what each has counted, by index; nothing where there is none.
    [[nodiscard]] std::vector<std::optional<RuleCounts>> counts() const;
    /// Remembers a key, and forgets another, perhaps.
    void note(std::uint64_t identity, const RuleEntry& rule, std::string_view key) noexcept;
    /// The key of this identity, if it was noted and not forgotten.
    [[nodiscard]] std::optional<NotedKey> noted(std::uint64_t identity) const;
    /// The number, from 1, of the limiters that call themselves so, given when they have none: they have rules and mishaps of
    /// their own. 0 when there is no room for another.
    [[nodiscard]] std::size_t space(std::string_view name) noexcept;
    void count(std::size_t space, Mishap mishap) noexcept;
};

}  // namespace slidegate
