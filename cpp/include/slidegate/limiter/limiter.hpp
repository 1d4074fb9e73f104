// The engine's public face: quotas, a table and a clock.
#pragma once

#include <array>
#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "slidegate/segment/table.hpp"
#include "slidegate/strategies/any_strategy.hpp"
#include "slidegate/values/clock.hpp"
#include "slidegate/values/decision.hpp"

namespace slidegate {

inline constexpr std::size_t kMaxRules = 16;
inline constexpr std::size_t kDefaultSize = std::size_t{256} << 20;

/// A quota, counted apart for every scope: equal keys of two scopes share nothing.
struct Rule {
    Quota quota;
    std::string scope;
    std::string name = {};  ///< what people call it; counts under the same cells, and apart in the statistics
    Origin origin = Origin::declared;
    std::size_t space = 0;  ///< of whom in the segment, by RuleCounts::space(); 0 for the limiter's own
};

struct Options {
    std::size_t size =
        kDefaultSize;  ///< bytes that index and cells may take, committed as they are used; private memory
    OnFull on_full = OnFull::evict;
    std::shared_ptr<const Clock> clock = {};  ///< BootClock when empty
    Layout layout = {};                       ///< instead of `size`, when it has buckets
    std::shared_ptr<Segment> segment = {};    ///< to count in, instead of private memory
    bool record_keys = false;                 ///< whether new keys are noted in the clear, for survey()
    std::string space = {};                   ///< tells limiters of one segment apart, who else share what they count
};

/// Names what one admitted hit took, so that it can be given back once.
class Ticket {
  private:
    friend class Policy;
    struct Taken {
        Lease lease;
        std::uint64_t receipt = 0;
        std::uint64_t cost = 0;
    };
    std::array<Taken, kMaxRules> taken_{};
    std::size_t size_ = 0;
    std::uint64_t owner_ = 0;  ///< serial number of the policy
};

/// A key that something counts for.
struct Usage {
    std::uint64_t identity = 0;  ///< of the key's digest, 43 bits in the upper ones
    Strategy strategy = Strategy::moving_window;
    Nanos window = 0;
    std::uint64_t limit = 0;  ///< rounded down to four significant bits
    std::uint64_t used = 0;
    std::optional<NotedKey> noted = {};
};

class Policy;

/// Counts hits in memory of its own, or in a segment: limiters of one segment, in whatever process, share the hits of rules
/// that are the same in quota and scope. Thread-safe and lock-free, its policies too; they keep its memory alive. What a
/// fork copies goes on working.
///
///     slidegate::Limiter limiter;
///     auto chat = limiter.policy({{{10, 60'000'000'000}, "chat"}});
///     if (!chat.hit("alice").allowed) ...
class Limiter {
  public:
    /// Throws InvalidArgument for a size out of range, SegmentError when memory cannot be reserved, or when the segment has
    /// no room for another space.
    explicit Limiter(Options options = {});

    /// The rules that a request is counted against together. Throws InvalidArgument unless there are 1 to kMaxRules.
    [[nodiscard]] Policy policy(const std::vector<Rule>& rules) const;
    /// Forgets all hits, or those of its space when it has one. O(cells made).
    void reset() const noexcept;
    [[nodiscard]] TableStats stats() const noexcept;
    /// The rules that count in this memory, whoever has made them, with what they have admitted and refused; those of its
    /// space alone when it has one.
    [[nodiscard]] std::vector<std::optional<RuleCounts>> rules() const;
    /// The same of all spaces.
    [[nodiscard]] std::vector<std::optional<RuleCounts>> rules_of_all() const;
    /// Counts, for mishaps(), what happened to whoever uses this memory. Nothing here counts any.
    void count(Mishap mishap) const noexcept;
    /// How often each was counted, by whomever: in its space, or in all when it has none.
    [[nodiscard]] std::array<std::uint64_t, kMishaps> mishaps() const noexcept;
    /// The `most` keys that have used the largest part of their limits, largest first; of its space. O(cells made).
    [[nodiscard]] std::vector<Usage> survey(std::size_t most) const;
    /// For how long the system has had no memory or disk for more cells. Empty while it has, as far as anybody knows: it is
    /// asked again when it had none.
    [[nodiscard]] std::optional<Nanos> shortage() const noexcept;
    /// True for one caller, in whatever process, once in every shortage.
    [[nodiscard]] bool is_shortage_to_be_told() const noexcept;
    /// Whether holder_to_be_told() may have something to say. Cheap enough for after every hit.
    [[nodiscard]] bool has_news() const noexcept;
    /// Who holds most of the memory, when this limiter has found none free for a new key, and nobody was told within
    /// kTellFullEvery: one caller, in whatever process.
    [[nodiscard]] std::optional<Holder> holder_to_be_told() const;
    static constexpr Nanos kTellFullEvery = Nanos{3'600} * 1'000'000'000;
    /// How many cells each owner holds, those of keys that have expired included. O(cells made).
    [[nodiscard]] std::unordered_map<std::uint64_t, std::uint64_t> holdings() const;
    /// Bytes that the system has left for it; 0 also when it does not say.
    [[nodiscard]] std::uint64_t free_bytes() const noexcept;
    /// How many shortages there were.
    [[nodiscard]] std::uint64_t shortages() const noexcept;
    /// What the memory is called; empty when it has no name.
    [[nodiscard]] const std::string& where() const noexcept;
    [[nodiscard]] Nanos now() const noexcept;

  private:
    friend class Policy;
    struct State;
    std::shared_ptr<State> state_;
};

/// A set of rules bound to a limiter. A hit takes from all of its quotas or from none.
///
/// `keys` holds one key for all rules or one for each; `costs` likewise, each at least 1. Other numbers of them, and costs
/// of 0, are the caller's error and are asserted. Keys are any bytes; only digests are stored. Nothing here throws.
class Policy {
  public:
    Policy(Policy&&) noexcept = default;
    Policy& operator=(Policy&&) noexcept = default;

    /// Not `is_stored` when the system has no memory for a key that has no cell: nothing was taken or counted.
    [[nodiscard]] Decision hit(std::span<const std::string_view> keys, std::span<const std::uint64_t> costs,
                               Ticket* ticket = nullptr) const noexcept;
    /// What hit() would answer, changing nothing; `remaining` is before the cost.
    [[nodiscard]] Decision peek(std::span<const std::string_view> keys,
                                std::span<const std::uint64_t> costs) const noexcept;
    /// Gives back what the hit of this ticket took. False when nothing of it counts any more, or when the ticket is another
    /// policy's. At most once per ticket.
    bool refund(const Ticket& ticket) const noexcept;

    /// Has the statistics take in a decision that somebody else has made about these rules; `refusing` is the one that refused.
    void tally(bool is_admitted, std::size_t refusing) const noexcept;
    /// Forgets the hits of these keys.
    void reset(std::span<const std::string_view> keys) const noexcept;

    [[nodiscard]] Decision hit(std::string_view key, std::uint64_t cost = 1, Ticket* ticket = nullptr) const noexcept {
        return hit({&key, 1}, {&cost, 1}, ticket);
    }
    [[nodiscard]] Decision peek(std::string_view key, std::uint64_t cost = 1) const noexcept {
        return peek({&key, 1}, {&cost, 1});
    }
    void reset(std::string_view key) const noexcept { reset({&key, 1}); }

    [[nodiscard]] std::size_t size() const noexcept { return gauges_.size(); }
    [[nodiscard]] const Quota& quota(std::size_t index) const noexcept { return gauges_[index].quota; }

  private:
    friend class Limiter;
    using Hasher = detail::SipHash<1, 3>;

    /// A rule, ready to count.
    struct Gauge {
        Quota quota;
        std::size_t arena;
        std::uint64_t owner;
        Life life;
        AnyStrategy strategy;
        Hasher prefix;     ///< has taken in the scope and the quota
        RuleEntry* entry;  ///< null when the statistics are full, and for readers

        void count(bool is_admitted) const noexcept {
            if (entry != nullptr) {
                entry->count(is_admitted);
            }
        }

        [[nodiscard]] Digest digest(std::string_view key) const noexcept;
    };

    Policy(std::shared_ptr<Limiter::State> state, const std::vector<Rule>& rules);
    [[nodiscard]] Outcome take(const Gauge& gauge, std::string_view key, const Digest& digest, std::uint64_t cost,
                               Nanos now, Lease& lease) const noexcept;
    [[nodiscard]] Outcome look(const Gauge& gauge, const Digest& digest, std::uint64_t cost, Nanos now) const noexcept;
    bool give_back(const Ticket& ticket, Nanos now) const noexcept;

    std::shared_ptr<Limiter::State> state_;
    std::uint64_t serial_;  ///< no other policy of this process has had it
    std::vector<Gauge> gauges_;
};

}  // namespace slidegate
