#include "slidegate/segment/table.hpp"

#include <optional>

#include "index_word.hpp"

namespace slidegate {

namespace {

constexpr unsigned kSweepPerInsert = 2;
constexpr unsigned kSweepWhenFull = 64;
constexpr unsigned kSample = 256;
constexpr unsigned kLooksAtSample = 64;
// More than any crowd of callers makes necessary: whoever is overtaken so often is going round in a torn segment.
constexpr unsigned kAttempts = 10'000;

bool clear(Word& slot, std::uint64_t entry) noexcept {
    // (1) release pairs with (2). Fails when somebody cleared it before, which is as good.
    return slot.compare_exchange_strong(entry, entry & ~kEntry, std::memory_order_acq_rel, std::memory_order_relaxed);
}

}  // namespace

/// How many cells of a few hundred each owner holds, and from whom somebody else may take one.
class Census {
  public:
    explicit Census(std::uint64_t newcomer) noexcept : newcomer_(newcomer) {}

    void add(std::uint64_t owner) noexcept {
        if (owner == 0) {
            return;
        }
        ++size_;
        Entry& its = entry(owner);
        its.owner = owner;
        ++its.cells;
        if (owner != newcomer_ && its.cells > most_) {
            most_ = its.cells;
            largest_ = owner;
        }
    }
    /// Whether another owner holds so much more than the newcomer that it has to give cells away that are refusing.
    [[nodiscard]] bool is_crowded_by_another() const noexcept {
        return most_ > 2 * cells(newcomer_) + size_ / kLeastShare;
    }
    [[nodiscard]] bool is_largest(std::uint64_t owner) const noexcept { return owner == largest_; }
    /// Whether the newcomer may have a cell of this owner that is not refusing.
    [[nodiscard]] bool may_lose(std::uint64_t owner) const noexcept {
        return owner == newcomer_ || cells(owner) > cells(newcomer_);
    }

  private:
    static constexpr std::size_t kLeastShare = 32;
    static constexpr std::size_t kEntries = 2 * std::size_t{kSample};
    static_assert(std::has_single_bit(kEntries));
    struct Entry {
        std::uint64_t owner = 0;
        std::uint64_t cells = 0;
    };

    // Never full: there are twice as many as cells are looked at.
    [[nodiscard]] Entry& entry(std::uint64_t owner) noexcept {
        std::size_t at = owner % kEntries;
        while (entries_[at].owner != 0 && entries_[at].owner != owner) {
            at = (at + 1) % kEntries;
        }
        return entries_[at];
    }
    [[nodiscard]] std::uint64_t cells(std::uint64_t owner) const noexcept {
        return const_cast<Census*>(this)->entry(owner).cells;
    }

    std::uint64_t newcomer_;
    std::uint64_t size_ = 0;
    std::uint64_t most_ = 0;
    std::uint64_t largest_ = 0;
    std::array<Entry, kEntries> entries_{};
};

struct Table::Vacancy {
    std::size_t slot = kSlots;
    std::optional<std::uint32_t> former = {};  ///< a cell that may have been the key's
};

/// A cell as it was looked at.
struct Table::Candidate {
    std::uint32_t reference = 0;
    std::uint64_t head = kClaimed;
    Life life;
    std::uint64_t used = 0;
    bool is_expired = false;  ///< or free, or abandoned

    [[nodiscard]] bool is_claimable() const noexcept { return is_expired || !is_claimed(head); }
    [[nodiscard]] bool is_refusing() const noexcept { return used >= life.limit(); }
    /// Whether a newcomer may have it. Of the owner who crowds him out anything that is not claimed.
    [[nodiscard]] bool may_go(const Census& census, std::uint64_t owner) const noexcept {
        if (is_expired || !is_claimable() || owner == 0) {
            return false;
        }
        return census.is_crowded_by_another() ? census.is_largest(owner) : !is_refusing() && census.may_lose(owner);
    }
    [[nodiscard]] bool is_emptier_than(const Candidate& other) const noexcept {
        return used * other.life.limit() < other.used * life.limit();
    }
};

Cell& Table::cell(std::uint32_t reference) const noexcept {
    return segment_.cell(arena_of(reference), index_of(reference));
}

Lease Table::lease(std::uint32_t reference, std::uint64_t identity, std::uint32_t generation) const noexcept {
    return {&cell(reference), &shared(), make_identity(identity, generation), reference};
}

bool Table::is_current(const Lease& lease) const noexcept {
    return !is_claimed(lease.cell->head.load(std::memory_order_acquire)) && lease.holds();  // (3)
}

bool Table::is_stale(std::uint64_t entry) const noexcept {
    const Cell& named = cell(reference_of(entry));
    return is_claimed(named.head.load(std::memory_order_acquire)) ||  // (3) pairs with (6), (7)
           generation_of(named.identity.load(std::memory_order_relaxed)) != generation_in(entry);
}

Lease Table::scan(Bucket& bucket, const Digest& digest, Vacancy* vacancy) const noexcept {
    for (std::size_t i = 0; i < kSlots; ++i) {
        const std::uint64_t slot = bucket.slots[i].load(std::memory_order_acquire);  // (2) pairs with (1), (5)
        if (may_be(slot, digest.identity)) {
            const Lease found = lease(reference_of(slot), digest.identity, generation_in(slot));
            if (!is_claimed(found.cell->head.load(std::memory_order_acquire))) {  // (3)
                const std::uint64_t identity = found.cell->identity.load(std::memory_order_relaxed);
                if (identity == found.identity) {
                    return found;
                }
                if (generation_of(identity) == found.generation()) {
                    continue;
                }
            }
            clear(bucket.slots[i], slot);
        } else if (is_entry(slot)) {
            continue;
        }
        if (vacancy == nullptr) {
            continue;
        }
        if (vacancy->slot == kSlots) {
            vacancy->slot = i;
        }
        if (slot != 0 && may_be(slot | kEntry, digest.identity)) {
            vacancy->former = reference_of(slot);
        }
    }
    return {};
}

Lease Table::find(const Digest& digest) const noexcept { return scan(segment_.bucket(digest.place), digest, nullptr); }

Lease Table::obtain(const Digest& digest, std::size_t arena, Life life, std::uint64_t owner, Nanos now,
                    Lack& lack) const noexcept {
    lack = Lack::cells;
    Bucket& bucket = segment_.bucket(digest.place);
    Lease spare;
    for (unsigned attempt = 0; attempt < kAttempts; ++attempt) {
        std::uint64_t idle = bucket.control.load(std::memory_order_acquire);  // (4) pairs with (4), (8)
        if (is_pending(idle)) {
            finish(bucket, idle);
            continue;
        }
        Vacancy vacancy;
        if (const Lease found = scan(bucket, digest, &vacancy)) {
            return found;
        }
        if (vacancy.slot == kSlots) {
            if (!vacate(bucket, owner, now)) {
                return {};
            }
            continue;
        }
        if (!spare || !is_current(spare)) {
            spare = prepare(digest, vacancy, arena, life, owner, now, lack);
            if (!spare) {
                return {};
            }
        }
        const std::uint64_t pending = make_pending(vacancy.slot, spare.generation(), spare.reference);
        if (bucket.control.compare_exchange_strong(idle, pending, std::memory_order_acq_rel,
                                                   std::memory_order_relaxed)) {  // (4)
            finish(bucket, pending);
            // Whatever came of it. In a torn segment a life can come back, and its word be one that has come and gone.
            spare = {};
        } else {
            shared().collided();
        }
    }
    return give_up(arena);
}

Lease Table::give_up(std::size_t arena) const noexcept {
    shared().full.fetch_add(1, std::memory_order_relaxed);
    note_full(arena);
    return {};
}

void Table::evicted(std::size_t arena) const noexcept {
    shared().evictions.fetch_add(1, std::memory_order_relaxed);
    note_full(arena);
}

void Table::note_full(std::size_t arena) const noexcept {
    full_arena_.store(arena, std::memory_order_relaxed);
    has_news_.store(true, std::memory_order_relaxed);
}

// Nobody, when a claimer who was overtaken has left his word there, or somebody else's life has begun.
std::uint64_t Table::owner_of(std::uint32_t reference) const noexcept {
    const std::uint64_t word = segment_.owner(arena_of(reference), index_of(reference)).load(std::memory_order_relaxed);
    const std::uint64_t identity = cell(reference).identity.load(std::memory_order_relaxed);
    return Owner::generation_of(word) == generation_of(identity) ? Owner::from_word(word) : 0;
}

void Table::finish(Bucket& bucket, std::uint64_t pending) const noexcept {
    if (slot_of(pending) < kSlots) {
        Word& slot = bucket.slots[slot_of(pending)];
        std::uint64_t seen = slot.load(std::memory_order_acquire);        // (2)
        if (bucket.control.load(std::memory_order_acquire) != pending) {  // (4)
            return;
        }
        const std::uint64_t identity = cell(reference_of(pending)).identity.load(std::memory_order_relaxed);
        const std::uint64_t entry = make_entry(identity, reference_of(pending));
        // Only for the life that was prepared: its cell may have been claimed since, even for the same key by another
        // inserter, who has yet to find out whether his is the one. And once only: an empty word of this entry has seen it
        // come and go.
        if (!is_entry(seen) && generation_of(identity) == generation_in(pending) && seen != (entry & ~kEntry)) {
            slot.compare_exchange_strong(seen, entry, std::memory_order_acq_rel, std::memory_order_relaxed);  // (5)
        }
    }
    bucket.control.compare_exchange_strong(pending, idle_after(pending), std::memory_order_acq_rel,
                                           std::memory_order_relaxed);  // (8)
}

Table::Candidate Table::look_at(std::uint32_t reference, Nanos now) const noexcept {
    const Cell& candidate = cell(reference);
    const std::uint64_t head = candidate.head.load(std::memory_order_acquire);  // (3)
    const Instant instant = shared().instant(now);
    const CellClass cell_class = kCellClasses[arena_of(reference)];
    if (is_claimed(head)) {
        // Before its positions come round a free cell rests for a while: so no two lives in a tick have a position in common,
        // and no head is one that somebody has read in a former life.
        const bool may_begin = is_free(head) && !cell_class.is_last(position_of(head));
        return {reference, head, {}, 0, may_begin || is_older_than(head, instant.now, patience_)};
    }
    const Life life = Life::from_word(candidate.life.load(std::memory_order_relaxed));
    return {reference, head, life, judge_.used(candidate, head, life, cell_class, instant),
            judge_.is_expired(head, life, cell_class, instant)};
}

// docs/engine.md, "Claims". The lease is empty when somebody else has won the cell.
Lease Table::claim(const Candidate& candidate, std::uint64_t identity, Life life, std::uint64_t owner,
                   Nanos now) const noexcept {
    Cell& claimed = cell(candidate.reference);
    const CellClass cell_class = kCellClasses[arena_of(candidate.reference)];
    std::uint64_t head = candidate.head;
    // Whoever abandoned a claim has not come to use its position.
    const bool is_taken_over = is_claimed(head) && !is_free(head);
    const std::uint32_t position = cell_class.advance(position_of(head), is_taken_over ? 0 : 1);
    shared().raise(now);
    std::uint64_t claim = make_claim(shared().instant(now).now, position);
    // Words are swapped only while the claim stands after they were read: a claimer who slept for long wakes up to a head
    // that is not his, or swaps from a word that his successor has replaced.
    const auto swap_while_claimed = [&](Word& word, const auto& next) {
        std::uint64_t seen = word.load(std::memory_order_acquire);  // (9) pairs with (10)
        do {
            if (claimed.head.load(std::memory_order_acquire) != claim) {  // (3)
                return false;
            }
        } while (!word.compare_exchange_weak(seen, next(seen), std::memory_order_acq_rel,
                                             std::memory_order_acquire));  // (10)
        return true;
    };
    const auto lost = [&] {
        shared().collided();
        return Lease{};
    };
    if (!claimed.head.compare_exchange_strong(head, claim, std::memory_order_acq_rel,
                                              std::memory_order_relaxed) ||  // (6)
        !swap_while_claimed(claimed.life,
                            [&](std::uint64_t before) {
                                life.generation = (Life::from_word(before).generation + 1) % kGenerations;
                                return life.to_word();
                            }) ||
        !swap_while_claimed(claimed.identity,
                            [&](std::uint64_t) { return make_identity(identity, life.generation); }) ||
        !swap_while_claimed(segment_.owner(arena_of(candidate.reference), index_of(candidate.reference)),
                            [&](std::uint64_t) { return Owner::to_word(owner, life.generation); })) {
        return lost();
    }
    const Beginning beginning = judge_.begin(position, life, cell_class, shared().instant(now));
    if (!swap_while_claimed(claimed.ring[beginning.behind],
                            [&](std::uint64_t) { return make_barrier(life.generation); }) ||
        !claimed.head.compare_exchange_strong(claim, beginning.head, std::memory_order_acq_rel,
                                              std::memory_order_relaxed)) {  // (7)
        return lost();
    }
    return lease(candidate.reference, identity, life.generation);
}

// Whether the life that was seen has ended by this.
bool Table::end(const Candidate& candidate, Nanos now) const noexcept {
    std::uint64_t head = candidate.head;
    shared().raise(now);
    if (is_claimed(head) ||
        !cell(candidate.reference)
             .head.compare_exchange_strong(head, make_free(shared().instant(now).now, head), std::memory_order_acq_rel,
                                           std::memory_order_relaxed)) {  // (6)
        return false;
    }
    disown(candidate.reference, candidate.life.generation);
    return true;
}

void Table::end(const Lease& lease, Nanos now) const noexcept {
    if (lease.end(now)) {
        disown(lease.reference, lease.generation());
    }
}

// A free cell is counted to nobody. Only the word of the life that has ended is taken away: another one may have begun.
void Table::disown(std::uint32_t reference, std::uint32_t generation) const noexcept {
    Word& owner = segment_.owner(arena_of(reference), index_of(reference));
    std::uint64_t seen = owner.load(std::memory_order_acquire);  // (9)
    if (Owner::generation_of(seen) == generation) {
        owner.compare_exchange_strong(seen, 0, std::memory_order_acq_rel, std::memory_order_relaxed);  // (10)
    }
}

bool Table::vacate(Bucket& bucket, std::uint64_t owner, Nanos now) const noexcept {
    Census census(owner);
    std::array<Candidate, kSlots> candidates;
    std::array<std::uint64_t, kSlots> entries{};
    std::array<std::uint64_t, kSlots> owners{};
    for (std::size_t i = 0; i < kSlots; ++i) {
        const std::uint64_t entry = bucket.slots[i].load(std::memory_order_acquire);  // (2)
        if (!is_entry(entry) || (is_stale(entry) && clear(bucket.slots[i], entry))) {
            return true;
        }
        const Candidate candidate = look_at(reference_of(entry), now);
        if (candidate.is_expired && end(candidate, now)) {
            clear(bucket.slots[i], entry);
            return true;
        }
        candidates[i] = candidate;
        entries[i] = entry;
        owners[i] = owner_of(candidate.reference);
        census.add(owners[i]);
    }
    if (on_full_ != OnFull::evict) {
        static_cast<void>(give_up(arena_of(candidates[0].reference)));
        return false;
    }
    std::size_t emptiest = kSlots;
    for (std::size_t i = 0; i < kSlots; ++i) {
        if (candidates[i].may_go(census, owners[i]) &&
            (emptiest == kSlots || candidates[i].is_emptier_than(candidates[emptiest]))) {
            emptiest = i;
        }
    }
    if (emptiest == kSlots) {
        static_cast<void>(give_up(arena_of(candidates[0].reference)));
        return false;
    }
    if (end(candidates[emptiest], now)) {
        evicted(arena_of(candidates[emptiest].reference));
        clear(bucket.slots[emptiest], entries[emptiest]);
    }
    return true;
}

// The cell that a newcomer gets of a full arena, or one that nobody may have. From a start that clients cannot choose, evenly
// over all: neighbours are often of one limit.
Table::Candidate Table::victim(std::size_t arena, std::uint64_t owner, std::uint64_t start, Nanos now) const noexcept {
    const std::uint64_t made = segment_.made(arena);
    const std::uint64_t size = std::min<std::uint64_t>(made, kSample);
    std::array<std::uint32_t, kSample> references{};
    std::array<std::uint64_t, kSample> owners{};
    Census census(owner);
    for (std::uint64_t i = 0; i < size; ++i) {
        const std::uint64_t index = (start % made + i * made / size) % made;
        references[i] = reference_to(arena, index);
        owners[i] = Owner::from_word(segment_.owner(arena, index).load(std::memory_order_relaxed));
        census.add(owners[i]);
    }
    Candidate emptiest;
    unsigned looks = 0;
    for (std::uint64_t i = 0; i < size && looks < kLooksAtSample; ++i) {
        if (!(census.is_crowded_by_another() ? census.is_largest(owners[i]) : census.may_lose(owners[i]))) {
            continue;
        }
        ++looks;
        const Candidate candidate = look_at(references[i], now);
        // What it was before it was looked at may have been another life's.
        if (owner_of(candidate.reference) != owners[i]) {
            continue;
        }
        if (candidate.is_expired) {
            return candidate;
        }
        if (candidate.may_go(census, owners[i]) && (is_claimed(emptiest.head) || candidate.is_emptier_than(emptiest))) {
            emptiest = candidate;
        }
    }
    return emptiest;
}

bool Table::make(std::size_t arena, Nanos now, std::uint64_t& index, Lack& lack) const noexcept {
    lack = Lack::cells;
    const Layout& layout = segment_.layout();
    std::uint64_t shared_bytes = 0;
    std::uint64_t own_bytes = 0;
    for (std::size_t i = 0; i < kCellClasses.size(); ++i) {
        const std::uint64_t bytes = segment_.made(i) * kCellClasses[i].bytes;
        shared_bytes += bytes - std::min(bytes, layout.guaranteed_bytes());
        own_bytes = i == arena ? bytes : own_bytes;
    }
    const std::uint64_t size = kCellClasses[arena].bytes;
    if (own_bytes + size > layout.guaranteed_bytes() && shared_bytes + size > layout.shared_bytes()) {
        return false;
    }
    // Relaxed: the number is all that is handed over; the cell itself is won by the CAS on its head.
    Word& made = segment_.header().arenas[arena].made;
    index = made.load(std::memory_order_relaxed);
    while (index < layout.arena_cells(arena)) {
        if (!segment_.commit(arena, index, now)) {
            lack = Lack::memory;
            return false;
        }
        if (made.compare_exchange_weak(index, index + 1, std::memory_order_relaxed)) {
            return true;
        }
    }
    return false;
}

Lease Table::prepare(const Digest& digest, const Vacancy& vacancy, std::size_t arena, Life life, std::uint64_t owner,
                     Nanos now, Lack& lack) const noexcept {
    Word& hand = segment_.header().arenas[arena].hand;
    const auto take = [&](const Candidate& candidate) { return claim(candidate, digest.identity, life, owner, now); };
    const auto sweep = [&](unsigned steps) -> Lease {
        const std::uint64_t made = segment_.made(arena);
        for (unsigned i = 0; i < steps && i < made; ++i) {
            // Not modulo `made`: as that grows with every insert, the hand could stay among the newest cells for ever.
            std::uint64_t index = hand.fetch_add(1, std::memory_order_relaxed);
            if (index >= made) {
                index = 0;
                hand.store(1, std::memory_order_relaxed);
            }
            const Candidate candidate = look_at(reference_to(arena, index), now);
            if (candidate.is_expired) {
                if (const Lease taken = take(candidate)) {
                    return taken;
                }
            }
        }
        return {};
    };

    // After a reset its own cell is free again: to look for another one could cost somebody his.
    if (vacancy.former && arena_of(*vacancy.former) == arena) {
        const Candidate former = look_at(*vacancy.former, now);
        if (former.is_expired) {
            if (const Lease taken = take(former)) {
                return taken;
            }
        }
    }
    for (unsigned attempt = 0; attempt < kAttempts; ++attempt) {
        if (const Lease swept = sweep(kSweepPerInsert)) {
            return swept;
        }
        std::uint64_t index = 0;
        if (make(arena, now, index, lack)) {
            // A sweeper may be faster, and the cell be somebody's by now.
            const Candidate made = look_at(reference_to(arena, index), now);
            if (made.is_expired) {
                if (const Lease taken = take(made)) {
                    return taken;
                }
            }
            continue;
        }
        if (const Lease swept = sweep(kSweepWhenFull)) {
            return swept;
        }
        // Not by what others have used: limits would fail one by one, unseen, in whatever memory there happens to be. A
        // larger table would not help either, so this is no news of a full one.
        if (lack == Lack::memory) {
            shared().full.fetch_add(1, std::memory_order_relaxed);
            return {};
        }
        if (on_full_ != OnFull::evict) {
            break;
        }
        const Candidate emptiest = victim(arena, owner, digest.place + attempt, now);
        if (is_claimed(emptiest.head) && !emptiest.is_expired) {
            break;
        }
        if (const Lease taken = take(emptiest)) {
            if (!emptiest.is_expired) {
                evicted(arena);
            }
            return taken;
        }
    }
    return give_up(arena);
}

void Table::reset(std::size_t space, Nanos now) const noexcept {
    for (std::size_t arena = 0; arena < kCellClasses.size(); ++arena) {
        const std::uint64_t made = segment_.made(arena);
        for (std::uint64_t index = 0; index < made; ++index) {
            if (space != 0 && Owner::space_of(owner_of(reference_to(arena, index))) != space) {
                continue;
            }
            const std::uint64_t identity = segment_.cell(arena, index).identity.load(std::memory_order_relaxed);
            end(lease(reference_to(arena, index), identity, generation_of(identity)), now);
        }
    }
}

Holder Table::largest_holder() const {
    Holder holder;
    holder.arena = full_arena_.load(std::memory_order_relaxed);
    holder.of = segment_.made(holder.arena);
    std::unordered_map<std::uint64_t, std::uint64_t> cells;
    for (std::uint64_t index = 0; index < holder.of; ++index) {
        const std::uint64_t owner =
            Owner::from_word(segment_.owner(holder.arena, index).load(std::memory_order_relaxed));
        if (owner != 0 && ++cells[owner] > holder.cells) {
            holder.cells = cells[owner];
            holder.owner = owner;
        }
    }
    return holder;
}

std::unordered_map<std::uint64_t, std::uint64_t> Table::holdings() const {
    std::unordered_map<std::uint64_t, std::uint64_t> cells;
    for (std::size_t arena = 0; arena < kCellClasses.size(); ++arena) {
        for (std::uint64_t index = 0; index < segment_.made(arena); ++index) {
            ++cells[Owner::from_word(segment_.owner(arena, index).load(std::memory_order_relaxed))];
        }
    }
    return cells;
}

TableStats Table::stats() const noexcept {
    TableStats stats;
    stats.capacity_bytes = segment_.layout().cell_bytes;
    for (std::size_t i = 0; i < kCellClasses.size(); ++i) {
        const std::uint64_t made = segment_.made(i);
        stats.cells += made;
        stats.bytes += made * kCellClasses[i].bytes;
    }
    stats.evictions = shared().evictions.load(std::memory_order_relaxed);
    stats.full = shared().full.load(std::memory_order_relaxed);
    stats.collisions = shared().collisions.load(std::memory_order_relaxed);
    return stats;
}

}  // namespace slidegate
