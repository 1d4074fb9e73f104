#include "slidegate/limiter/limiter.hpp"

#include <cassert>
#include <cstring>

#include "slidegate/values/errors.hpp"

namespace slidegate {

namespace {

class QuotaJudge final : public Judge {
  public:
    std::uint64_t used(const Cell& cell, std::uint64_t head, Life life, CellClass cell_class,
                       Instant instant) const noexcept override {
        return is_new(life, cell_class)
                   ? 0
                   : std::visit([&](const auto& strategy) { return strategy.used(cell, head, instant); },
                                strategy_of(life, cell_class));
    }
    bool is_expired(std::uint64_t head, Life life, CellClass cell_class, Instant instant) const noexcept override {
        return is_new(life, cell_class) ||
               std::visit([&](const auto& strategy) { return strategy.is_expired(head, instant); },
                          strategy_of(life, cell_class));
    }
    Beginning begin(std::uint32_t position, Life life, CellClass cell_class, Instant instant) const noexcept override {
        return std::visit([&](const auto& strategy) { return strategy.begin(position, instant); },
                          strategy_of(life, cell_class));
    }

  private:
    // Or torn: of a strategy that has no cells of this size.
    static bool is_new(Life life, CellClass cell_class) noexcept {
        return life.ticks.window == 0 || life.coarse_limit == 0 ||
               (life.strategy == Strategy::moving_window) != (cell_class.ring > 1);
    }
    static AnyStrategy strategy_of(Life life, CellClass cell_class) noexcept {
        return make_strategy(life.strategy, life.ticks, life.limit(), cell_class);
    }
};

// How long a caller waits who found no room: no quota tells.
constexpr Nanos kRetryWhenFull = 1'000'000'000;

Outcome nothing_used(const Quota& quota, std::uint64_t cost) noexcept {
    if (cost > quota.amount()) {
        return {Verdict::refused, quota.amount(), 0, kNever, 0};
    }
    return {Verdict::admitted, quota.amount(), 0, 0, 0};
}

Decision decision_of(const Outcome& outcome, std::size_t index, const Quota& quota) noexcept {
    return {outcome.verdict == Verdict::admitted,
            static_cast<std::uint32_t>(index),
            quota.amount(),
            outcome.remaining,
            outcome.reset_after,
            outcome.retry_after,
            outcome.verdict != Verdict::unstored};
}

// Whether `other` is what a client should rather hear about.
bool is_tighter(const Decision& other, const Decision& than) noexcept {
    if (other.allowed != than.allowed) {
        return than.allowed;
    }
    if (other.allowed) {
        return other.remaining < than.remaining;
    }
    return than.retry_after != kNever && (other.retry_after == kNever || other.retry_after > than.retry_after);
}

std::uint64_t next_serial() noexcept {
    static std::atomic<std::uint64_t> last = 0;
    return last.fetch_add(1, std::memory_order_relaxed) + 1;
}

template <class T>
const T& nth(std::span<const T> values, std::size_t index) noexcept {
    return values[values.size() == 1 ? 0 : index];
}

}  // namespace

struct Limiter::State {
    explicit State(Options options)
        : clock(options.clock ? std::move(options.clock) : std::make_shared<const BootClock>()),
          segment(options.segment ? std::move(options.segment)
                                  : std::make_shared<Segment>(
                                        options.layout.buckets != 0 ? options.layout : Layout::for_size(options.size))),
          offset(segment->offset()),
          records_keys(options.record_keys),
          space(options.space.empty() ? 0 : segment->statistics().space(options.space)),
          table(*segment, judge, options.on_full) {
        if (space == 0 && !options.space.empty()) {
            throw SegmentError(segment->name() + ": it has no room for more than " + std::to_string(kSpaces) +
                               " limiters");
        }
    }

    [[nodiscard]] Nanos now() const noexcept { return clock->now() + offset; }
    /// Before a key is inserted.
    [[gnu::noinline, gnu::cold]] void note_wall(Nanos now) const noexcept {
        if (segment->is_named() && now - noted.load(std::memory_order_relaxed) >= kNoteEvery) {
            noted.store(now, std::memory_order_relaxed);
            segment->note_wall(now);
        }
    }

    static constexpr Nanos kNoteEvery = 1'000'000'000;

    std::shared_ptr<const Clock> clock;
    std::shared_ptr<Segment> segment;
    Nanos offset;
    bool records_keys;
    std::size_t space;
    mutable std::atomic<Nanos> noted = 0;
    QuotaJudge judge;
    Table table;
};

Limiter::Limiter(Options options) : state_(std::make_shared<State>(std::move(options))) {}

Policy Limiter::policy(const std::vector<Rule>& rules) const { return Policy(state_, rules); }

void Limiter::reset() const noexcept { state_->table.reset(state_->space, now()); }

TableStats Limiter::stats() const noexcept { return state_->table.stats(); }

std::vector<std::optional<RuleCounts>> Limiter::rules_of_all() const { return state_->segment->statistics().counts(); }

std::vector<std::optional<RuleCounts>> Limiter::rules() const {
    std::vector<std::optional<RuleCounts>> rules = rules_of_all();
    for (std::optional<RuleCounts>& each : rules) {
        if (each && state_->space != 0 && each->space() != state_->space) {
            each.reset();
        }
    }
    return rules;
}

void Limiter::count(Mishap mishap) const noexcept { state_->segment->statistics().count(state_->space, mishap); }

std::array<std::uint64_t, kMishaps> Limiter::mishaps() const noexcept {
    std::array<std::uint64_t, kMishaps> counts{};
    const auto& mishaps = state_->segment->statistics().mishaps;
    for (std::size_t space = 0; space <= kSpaces; ++space) {
        for (std::size_t i = 0; i < kMishaps && (state_->space == 0 || state_->space == space); ++i) {
            counts[i] += mishaps[space][i].load(std::memory_order_relaxed);
        }
    }
    return counts;
}

std::vector<Usage> Limiter::survey(std::size_t most) const {
    const Segment& segment = *state_->segment;
    const Instant instant = segment.header().shared.instant(now());
    struct Seen {
        std::uint64_t identity;
        Life life;
        std::uint64_t used;
    };
    const auto is_fuller = [](const Seen& one, const Seen& other) {
        // Cross-multiplied, as limits differ; all are below 2^32. Of equals always in the same order.
        const std::uint64_t ones = one.used * other.life.limit();
        const std::uint64_t others = other.used * one.life.limit();
        return std::tie(ones, one.used, one.identity) > std::tie(others, other.used, other.identity);
    };
    std::vector<Seen> fullest;
    for (std::size_t arena = 0; arena < kCellClasses.size(); ++arena) {
        for (std::uint64_t index = 0; index < segment.made(arena); ++index) {
            const Cell& cell = segment.cell(arena, index);
            const std::uint64_t head = cell.head.load(std::memory_order_acquire);
            const Life life = Life::from_word(cell.life.load(std::memory_order_relaxed));
            const std::uint64_t identity = make_identity(cell.identity.load(std::memory_order_relaxed), 0);
            const CellClass cell_class = kCellClasses[arena];
            const std::uint64_t owner = Owner::from_word(segment.owner(arena, index).load(std::memory_order_relaxed));
            if (state_->space != 0 && Owner::space_of(owner) != state_->space) {
                continue;
            }
            if (is_claimed(head) || state_->judge.is_expired(head, life, cell_class, instant)) {
                continue;
            }
            const std::uint64_t used = state_->judge.used(cell, head, life, cell_class, instant);
            // Somebody else's meanwhile: what was read may be of both.
            if (used == 0 || make_identity(cell.identity.load(std::memory_order_relaxed), 0) != identity) {
                continue;
            }
            fullest.push_back({identity, life, used});
            std::push_heap(fullest.begin(), fullest.end(), is_fuller);
            if (fullest.size() > most) {
                std::pop_heap(fullest.begin(), fullest.end(), is_fuller);
                fullest.pop_back();
            }
        }
    }
    std::sort(fullest.begin(), fullest.end(), is_fuller);
    std::vector<Usage> usages;
    for (const Seen& each : fullest) {
        usages.push_back({each.identity, each.life.strategy, each.life.ticks.window_ns(), each.life.limit(), each.used,
                          segment.statistics().noted(each.identity)});
    }
    return usages;
}

std::optional<Nanos> Limiter::shortage() const noexcept {
    const Segment& segment = *state_->segment;
    const SegmentHeader::Shortage& its = segment.header().shortage;
    const Nanos now = state_->now();
    if (!segment.is_short(now)) {
        return std::nullopt;
    }
    const std::uint64_t since = its.since.load(std::memory_order_relaxed);
    const auto begun = static_cast<Nanos>(since - (since != 0 ? 1 : 0));
    return std::max<Nanos>(now - begun, 0);
}

bool Limiter::is_shortage_to_be_told() const noexcept {
    std::uint64_t untold = 0;
    return state_->segment->header().shortage.is_told.compare_exchange_strong(untold, 1, std::memory_order_relaxed);
}

bool Limiter::has_news() const noexcept { return state_->table.has_news(); }

std::optional<Holder> Limiter::holder_to_be_told() const {
    const Table& table = state_->table;
    if (!table.has_news()) {
        return std::nullopt;
    }
    table.take_news();
    Word& told = state_->segment->header().full_told;
    const auto now = static_cast<std::uint64_t>(state_->now()) + 1;
    std::uint64_t before = told.load(std::memory_order_relaxed);
    if ((before != 0 && now - before < static_cast<std::uint64_t>(kTellFullEvery)) ||
        !told.compare_exchange_strong(before, now, std::memory_order_relaxed)) {
        return std::nullopt;
    }
    return table.largest_holder();
}

std::unordered_map<std::uint64_t, std::uint64_t> Limiter::holdings() const { return state_->table.holdings(); }

std::uint64_t Limiter::free_bytes() const noexcept {
    const Segment& segment = *state_->segment;
    return segment.is_named() ? SegmentFile::free_bytes(segment.place()).value_or(0) : 0;
}

std::uint64_t Limiter::shortages() const noexcept {
    return state_->segment->header().shortage.times.load(std::memory_order_relaxed);
}

const std::string& Limiter::where() const noexcept { return state_->segment->name(); }

Nanos Limiter::now() const noexcept { return state_->now(); }

Policy::Policy(std::shared_ptr<Limiter::State> state, const std::vector<Rule>& rules)
    : state_(std::move(state)), serial_(next_serial()) {
    if (rules.empty() || rules.size() > kMaxRules) {
        throw InvalidArgument("a policy has from 1 to " + std::to_string(kMaxRules) + " rules, not " +
                              std::to_string(rules.size()));
    }
    gauges_.reserve(rules.size());
    for (const auto& [quota, scope, name, origin, given_space] : rules) {
        const std::size_t space = given_space != 0 ? given_space : state_->space;
        if (space > kSpaces) {
            throw InvalidArgument("a segment has " + std::to_string(kSpaces) + " spaces");
        }
        Hasher prefix(state_->segment->secret());
        if (space != 0) {
            prefix.word(state_->segment->statistics().spaces[space - 1].load(std::memory_order_relaxed));
        }
        prefix.word(scope.size());
        for (std::size_t i = 0; i < scope.size(); i += 8) {
            std::uint64_t word = 0;
            std::memcpy(&word, scope.data() + i, std::min(sizeof word, scope.size() - i));
            prefix.word(word);
        }
        prefix.word(quota.amount());
        prefix.word(static_cast<std::uint64_t>(quota.window()));
        prefix.word(static_cast<std::uint64_t>(quota.strategy()));
        const std::uint32_t arena = class_of(quota.amount(), quota.strategy());
        // All that requests make are one: who can name limits could otherwise be as many as he likes.
        const std::uint64_t limit = origin == Origin::request
                                        ? Owner::kOfRequests
                                        : Owner::kOfRequests + 1 + (Hasher(prefix).finish(nullptr, 0)[0] >> 33);
        const std::uint64_t owner = Owner::in_space(limit, space);
        gauges_.push_back({quota, arena, owner, Life::of(quota),
                           make_strategy(quota.strategy(), quota.ticks(), quota.amount(), kCellClasses[arena]), prefix,
                           origin == Origin::reader
                               ? nullptr
                               : state_->segment->statistics().enter(quota, scope, name, origin, owner)});
    }
}

Digest Policy::Gauge::digest(std::string_view key) const noexcept {
    Hasher hasher = prefix;
    hasher.word(key.size());
    const detail::Hash128 hash = hasher.finish(key.data(), key.size());
    return {hash[0], hash[1]};
}

[[gnu::flatten]] Outcome Policy::take(const Gauge& gauge, std::string_view key, const Digest& digest,
                                      std::uint64_t cost, Nanos now, Lease& lease) const noexcept {
    const Table& table = state_->table;
    for (;;) {
        lease = table.find(digest);
        if (!lease) {
            if (cost > gauge.quota.amount()) {
                return nothing_used(gauge.quota, cost);
            }
            state_->note_wall(now);
            Lack lack{};
            lease = table.obtain(digest, gauge.arena, gauge.life, gauge.owner, now, lack);
            if (!lease && lack == Lack::memory) {
                return {Verdict::unstored, 0, 0, kRetryWhenFull, 0};
            }
            if (!lease) {
                return table.on_full() == OnFull::admit ? Outcome{Verdict::admitted, 0, 0, 0, 0}
                                                        : Outcome{Verdict::refused, 0, 0, kRetryWhenFull, 0};
            }
            if (state_->records_keys && gauge.entry != nullptr) {
                state_->segment->statistics().note(digest.identity, *gauge.entry, key);
            }
        }
        const Outcome outcome =
            std::visit([&](const auto& strategy) { return strategy.hit(lease, now, cost); }, gauge.strategy);
        if (outcome.verdict != Verdict::gone) {
            return outcome;
        }
    }
}

Outcome Policy::look(const Gauge& gauge, const Digest& digest, std::uint64_t cost, Nanos now) const noexcept {
    for (;;) {
        const Lease lease = state_->table.find(digest);
        if (!lease) {
            return nothing_used(gauge.quota, cost);
        }
        const Outcome outcome =
            std::visit([&](const auto& strategy) { return strategy.peek(lease, now, cost); }, gauge.strategy);
        if (outcome.verdict != Verdict::gone) {
            return outcome;
        }
    }
}

Decision Policy::hit(std::span<const std::string_view> keys, std::span<const std::uint64_t> costs,
                     Ticket* ticket) const noexcept {
    assert((keys.size() == 1 || keys.size() == size()) && (costs.size() == 1 || costs.size() == size()));
    if (size() == 1 && ticket == nullptr) {
        Lease lease;
        const Digest digest = gauges_[0].digest(keys[0]);
        // To read a clock waits for all loads before it, but not for a prefetch: the bucket comes meanwhile.
        state_->table.prefetch(digest);
        const Nanos now = state_->now();
        const Decision decision = decision_of(take(gauges_[0], keys[0], digest, costs[0], now, lease), 0, quota(0));
        if (decision.is_stored) [[likely]] {
            gauges_[0].count(decision.allowed);
        }
        return decision;
    }
    const Nanos now = state_->now();
    std::array<Digest, kMaxRules> digests;
    for (std::size_t i = 0; i < size(); ++i) {
        digests[i] = gauges_[i].digest(nth(keys, i));
    }
    if (size() > 1) {
        Decision tightest;
        for (std::size_t i = 0; i < size(); ++i) {
            const Decision each = decision_of(look(gauges_[i], digests[i], nth(costs, i), now), i, quota(i));
            if (i == 0 || is_tighter(each, tightest)) {
                tightest = each;
            }
        }
        if (!tightest.allowed) {
            gauges_[tightest.quota].count(false);
            return tightest;
        }
    }
    Ticket taken;
    taken.owner_ = serial_;
    Decision tightest;
    for (std::size_t i = 0; i < size(); ++i) {
        Ticket::Taken& each = taken.taken_[i];
        each.cost = nth(costs, i);
        const Outcome outcome = take(gauges_[i], nth(keys, i), digests[i], each.cost, now, each.lease);
        each.receipt = outcome.receipt;
        const Decision decision = decision_of(outcome, i, quota(i));
        if (!decision.allowed) {
            give_back(taken, now);
            if (decision.is_stored) {
                gauges_[i].count(false);
            }
            return decision;
        }
        taken.size_ = i + 1;
        if (i == 0 || is_tighter(decision, tightest)) {
            tightest = decision;
        }
    }
    for (const Gauge& gauge : gauges_) {
        gauge.count(true);
    }
    if (ticket != nullptr) {
        *ticket = taken;
    }
    return tightest;
}

Decision Policy::peek(std::span<const std::string_view> keys, std::span<const std::uint64_t> costs) const noexcept {
    assert((keys.size() == 1 || keys.size() == size()) && (costs.size() == 1 || costs.size() == size()));
    const Nanos now = state_->now();
    Decision tightest;
    for (std::size_t i = 0; i < size(); ++i) {
        const Digest digest = gauges_[i].digest(nth(keys, i));
        const Decision each = decision_of(look(gauges_[i], digest, nth(costs, i), now), i, quota(i));
        if (i == 0 || is_tighter(each, tightest)) {
            tightest = each;
        }
    }
    return tightest;
}

void Policy::tally(bool is_admitted, std::size_t refusing) const noexcept {
    for (std::size_t i = 0; i < size(); ++i) {
        if ((is_admitted || i == refusing) && gauges_[i].entry != nullptr) {
            gauges_[i].entry->count_elsewhere(is_admitted);
        }
    }
}

bool Policy::give_back(const Ticket& ticket, Nanos now) const noexcept {
    bool any = false;
    for (std::size_t i = ticket.size_; i-- > 0;) {
        const Ticket::Taken& each = ticket.taken_[i];
        if (each.lease) {
            any |= std::visit(
                [&](const auto& strategy) { return strategy.refund(each.lease, now, each.receipt, each.cost); },
                gauges_[i].strategy);
        }
    }
    return any;
}

bool Policy::refund(const Ticket& ticket) const noexcept {
    return ticket.owner_ == serial_ && ticket.size_ == size() && give_back(ticket, state_->now());
}

void Policy::reset(std::span<const std::string_view> keys) const noexcept {
    assert(keys.size() == 1 || keys.size() == size());
    const Nanos now = state_->now();
    for (std::size_t i = 0; i < size(); ++i) {
        if (const Lease lease = state_->table.find(gauges_[i].digest(nth(keys, i)))) {
            state_->table.end(lease, now);
        }
    }
}

}  // namespace slidegate
