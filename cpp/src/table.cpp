#include "slidegate/table.hpp"

namespace slidegate {

namespace {

// reference of a cell: arena 2, index 26
constexpr unsigned kIndexBits = 26;
constexpr unsigned kReferenceBits = 28;
constexpr std::uint64_t kReferenceMask = (std::uint64_t{1} << kReferenceBits) - 1;
static_assert(kCellClasses.size() <= 1U << (kReferenceBits - kIndexBits));

constexpr std::uint32_t reference_to(std::size_t arena, std::uint64_t index) noexcept {
    return static_cast<std::uint32_t>(arena << kIndexBits | index);
}
constexpr std::uint32_t arena_of(std::uint32_t reference) noexcept { return reference >> kIndexBits; }
constexpr std::uint32_t index_of(std::uint32_t reference) noexcept { return reference & ((1U << kIndexBits) - 1); }

// slot: tag 1, fingerprint 14, generation 21, reference 28
constexpr std::uint64_t kEntry = std::uint64_t{1} << 63;
constexpr unsigned kGenerationShift = 28;
constexpr unsigned kFingerprintShift = 49;

constexpr std::uint64_t fingerprint_of(std::uint64_t identity) noexcept { return identity >> 50; }
constexpr bool is_entry(std::uint64_t slot) noexcept { return (slot & kEntry) != 0; }
constexpr std::uint64_t make_entry(std::uint64_t identity, std::uint32_t generation, std::uint32_t reference) noexcept {
    return kEntry | fingerprint_of(identity) << kFingerprintShift | std::uint64_t{generation} << kGenerationShift |
           reference;
}
constexpr bool may_be(std::uint64_t slot, std::uint64_t identity) noexcept {
    return slot >> kFingerprintShift == (kEntry >> kFingerprintShift | fingerprint_of(identity));
}
constexpr std::uint32_t generation_of(std::uint64_t entry) noexcept {
    return static_cast<std::uint32_t>(entry >> kGenerationShift) & (kGenerations - 1);
}
constexpr std::uint32_t reference_of(std::uint64_t word) noexcept {
    return static_cast<std::uint32_t>(word & kReferenceMask);
}

// control: pending 1, slot 4, generation 8, version 23, reference 28
constexpr std::uint64_t kPending = std::uint64_t{1} << 63;
constexpr unsigned kSlotShift = 59;
constexpr unsigned kPreparedShift = 51;
constexpr std::uint64_t kPreparedMask = (1U << 8) - 1;
constexpr unsigned kVersionShift = 28;
constexpr std::uint64_t kVersionMask = (std::uint64_t{1} << 23) - 1;

constexpr bool is_pending(std::uint64_t control) noexcept { return (control & kPending) != 0; }
constexpr std::uint64_t make_pending(std::uint64_t idle, std::size_t slot, const Lease& prepared) noexcept {
    return kPending | std::uint64_t{slot} << kSlotShift | (prepared.generation & kPreparedMask) << kPreparedShift |
           idle | prepared.reference;
}
constexpr std::size_t slot_of(std::uint64_t pending) noexcept { return pending >> kSlotShift & 15; }
constexpr bool prepared_in(std::uint64_t pending, std::uint32_t generation) noexcept {
    return (pending >> kPreparedShift & kPreparedMask) == (generation & kPreparedMask);
}
constexpr std::uint64_t idle_after(std::uint64_t pending) noexcept {
    return (((pending >> kVersionShift) + 1) & kVersionMask) << kVersionShift;
}
static_assert(kSlots <= 16);

constexpr unsigned kSweepPerInsert = 2;
constexpr unsigned kSweepWhenFull = 64;

bool clear(Word& slot, std::uint64_t entry) noexcept {
    // (1) release pairs with (2). Fails when somebody cleared it before, which is as good.
    return slot.compare_exchange_strong(entry, entry & ~kEntry, std::memory_order_acq_rel, std::memory_order_relaxed);
}

}  // namespace

struct Table::Vacancy {
    std::size_t slot = kSlots;
};

/// A cell as it was looked at.
struct Table::Candidate {
    std::uint32_t reference = 0;
    std::uint64_t head = kClaimed;
    Life life;
    std::uint64_t used = 0;
    bool is_expired = false;

    [[nodiscard]] bool is_claimable() const noexcept { return !is_claimed(head); }
    [[nodiscard]] bool is_refusing() const noexcept { return used >= life.limit(); }
    [[nodiscard]] bool is_emptier_than(const Candidate& other) const noexcept {
        return used * other.life.limit() < other.used * life.limit();
    }
};

Cell& Table::cell(std::uint32_t reference) const noexcept {
    return segment_.cell(arena_of(reference), index_of(reference));
}

Lease Table::lease(std::uint32_t reference, std::uint64_t identity, std::uint32_t generation) const noexcept {
    return {&cell(reference), &shared(), identity, reference, generation};
}

bool Table::is_current(const Lease& lease) const noexcept {
    return !is_claimed(lease.cell->head.load(std::memory_order_acquire)) && lease.holds();  // (3)
}

bool Table::is_stale(std::uint64_t entry) const noexcept {
    const Cell& named = cell(reference_of(entry));
    return is_claimed(named.head.load(std::memory_order_acquire)) ||  // (3) pairs with (6), (7)
           Life::from_word(named.life.load(std::memory_order_relaxed)).generation != generation_of(entry);
}

Lease Table::scan(Bucket& bucket, const Digest& digest, Vacancy* vacancy) const noexcept {
    for (std::size_t i = 0; i < kSlots; ++i) {
        const std::uint64_t slot = bucket.slots[i].load(std::memory_order_acquire);  // (2) pairs with (1), (5)
        if (may_be(slot, digest.identity)) {
            const Lease found = lease(reference_of(slot), digest.identity, generation_of(slot));
            if (!is_stale(slot)) {
                if (found.holds()) {
                    return found;
                }
                continue;
            }
            clear(bucket.slots[i], slot);
        } else if (is_entry(slot)) {
            continue;
        }
        if (vacancy != nullptr && vacancy->slot == kSlots) {
            vacancy->slot = i;
        }
    }
    return {};
}

Lease Table::find(const Digest& digest) const noexcept { return scan(segment_.bucket(digest.place), digest, nullptr); }

Lease Table::obtain(const Digest& digest, std::size_t arena, Life life, Nanos now) const noexcept {
    Bucket& bucket = segment_.bucket(digest.place);
    Lease spare;
    for (;;) {
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
            if (!vacate(bucket, now)) {
                return {};
            }
            continue;
        }
        if (!spare || !is_current(spare)) {
            spare = prepare(digest, arena, life, now);
            if (!spare) {
                return {};
            }
        }
        const std::uint64_t pending = make_pending(idle, vacancy.slot, spare);
        if (bucket.control.compare_exchange_strong(idle, pending, std::memory_order_acq_rel,
                                                   std::memory_order_relaxed)) {  // (4)
            finish(bucket, pending);
        } else {
            shared().collided();
        }
    }
}

void Table::finish(Bucket& bucket, std::uint64_t pending) const noexcept {
    Word& slot = bucket.slots[slot_of(pending)];
    std::uint64_t seen = slot.load(std::memory_order_acquire);        // (2)
    if (bucket.control.load(std::memory_order_acquire) != pending) {  // (4)
        return;
    }
    const Cell& prepared = cell(reference_of(pending));
    const std::uint32_t generation = Life::from_word(prepared.life.load(std::memory_order_relaxed)).generation;
    const std::uint64_t entry =
        make_entry(prepared.identity.load(std::memory_order_relaxed), generation, reference_of(pending));
    // Only for the life that was prepared: its cell may have been claimed since, even for the same key by another inserter,
    // who has yet to find out whether his is the one. And once only: an empty word of this entry has seen it come and go.
    if (!is_entry(seen) && prepared_in(pending, generation) && seen != (entry & ~kEntry)) {
        slot.compare_exchange_strong(seen, entry, std::memory_order_acq_rel, std::memory_order_relaxed);  // (5)
    }
    bucket.control.compare_exchange_strong(pending, idle_after(pending), std::memory_order_acq_rel,
                                           std::memory_order_relaxed);  // (8)
}

Table::Candidate Table::look_at(std::uint32_t reference, Nanos now) const noexcept {
    const Cell& candidate = cell(reference);
    const std::uint64_t head = candidate.head.load(std::memory_order_acquire);  // (3)
    if (is_claimed(head)) {
        return {};
    }
    const Life life = Life::from_word(candidate.life.load(std::memory_order_relaxed));
    const CellClass cell_class = kCellClasses[arena_of(reference)];
    const Instant instant = shared().instant(now);
    return {reference, head, life, judge_.used(candidate, head, life, cell_class, instant),
            judge_.is_expired(head, life, cell_class, instant)};
}

bool Table::claim(const Candidate& candidate, std::uint64_t identity, Life life, Nanos now) const noexcept {
    Cell& claimed = cell(candidate.reference);
    std::uint64_t head = candidate.head;
    if (!candidate.is_claimable()) {
        return false;
    }
    shared().raise(now);
    if (!claimed.head.compare_exchange_strong(head, head | kClaimed, std::memory_order_acq_rel,
                                              std::memory_order_relaxed)) {  // (6)
        shared().collided();
        return false;
    }
    life.generation = (candidate.life.generation + 1) % kGenerations;
    claimed.life.store(life.to_word(), std::memory_order_relaxed);
    claimed.identity.store(identity, std::memory_order_relaxed);
    claimed.head.store(judge_.fresh(head, life, kCellClasses[arena_of(candidate.reference)], shared().instant(now)),
                       std::memory_order_release);  // (7)
    return true;
}

bool Table::vacate(Bucket& bucket, Nanos now) const noexcept {
    Candidate emptiest;
    std::size_t emptiest_slot = kSlots;
    std::uint64_t emptiest_entry = 0;
    for (std::size_t i = 0; i < kSlots; ++i) {
        const std::uint64_t entry = bucket.slots[i].load(std::memory_order_acquire);  // (2)
        if (!is_entry(entry) || (is_stale(entry) && clear(bucket.slots[i], entry))) {
            return true;
        }
        const Candidate candidate = look_at(reference_of(entry), now);
        if (candidate.is_expired && claim(candidate, 0, candidate.life, now)) {
            clear(bucket.slots[i], entry);
            return true;
        }
        if (candidate.is_claimable() && !candidate.is_refusing() &&
            (emptiest_slot == kSlots || candidate.is_emptier_than(emptiest))) {
            emptiest = candidate;
            emptiest_slot = i;
            emptiest_entry = entry;
        }
    }
    if (on_full_ != OnFull::evict || emptiest_slot == kSlots) {
        shared().full.fetch_add(1, std::memory_order_relaxed);
        return false;
    }
    if (claim(emptiest, 0, emptiest.life, now)) {
        shared().evictions.fetch_add(1, std::memory_order_relaxed);
        clear(bucket.slots[emptiest_slot], emptiest_entry);
    }
    return true;
}

bool Table::make(std::size_t arena, std::uint64_t& index) const noexcept {
    const Layout& layout = segment_.layout();
    std::uint64_t shared_bytes = 0;
    std::uint64_t own_bytes = 0;
    for (std::size_t i = 0; i < kCellClasses.size(); ++i) {
        const std::uint64_t bytes =
            segment_.header().arenas[i].made.load(std::memory_order_relaxed) * kCellClasses[i].bytes;
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
        if (made.compare_exchange_weak(index, index + 1, std::memory_order_relaxed)) {
            return true;
        }
    }
    return false;
}

Lease Table::prepare(const Digest& digest, std::size_t arena, Life life, Nanos now) const noexcept {
    Header::Arena& cells = segment_.header().arenas[arena];
    Candidate emptiest;
    const auto take = [&](const Candidate& candidate) {
        return claim(candidate, digest.identity, life, now)
                   ? lease(candidate.reference, digest.identity, (candidate.life.generation + 1) % kGenerations)
                   : Lease{};
    };
    const auto sweep = [&](unsigned steps) -> Lease {
        const std::uint64_t made = cells.made.load(std::memory_order_relaxed);
        for (unsigned i = 0; i < steps && i < made; ++i) {
            // Not modulo `made`: as that grows with every insert, the hand could stay among the newest cells for ever.
            std::uint64_t index = cells.hand.fetch_add(1, std::memory_order_relaxed);
            if (index >= made) {
                index = 0;
                cells.hand.store(1, std::memory_order_relaxed);
            }
            const Candidate candidate = look_at(reference_to(arena, index), now);
            if (candidate.is_expired) {
                if (const Lease taken = take(candidate)) {
                    return taken;
                }
            } else if (candidate.is_claimable() && !candidate.is_refusing() &&
                       (!emptiest.is_claimable() || candidate.is_emptier_than(emptiest))) {
                emptiest = candidate;
            }
        }
        return {};
    };

    for (;;) {
        if (const Lease swept = sweep(kSweepPerInsert)) {
            return swept;
        }
        std::uint64_t index = 0;
        if (make(arena, index)) {
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
        if (on_full_ != OnFull::evict || !emptiest.is_claimable()) {
            shared().full.fetch_add(1, std::memory_order_relaxed);
            return {};
        }
        if (const Lease evicted = take(emptiest)) {
            shared().evictions.fetch_add(1, std::memory_order_relaxed);
            return evicted;
        }
        emptiest = {};
    }
}

void Table::reset(Nanos now) const noexcept {
    shared().follow(now);
    for (std::size_t arena = 0; arena < kCellClasses.size(); ++arena) {
        const std::uint64_t made = segment_.header().arenas[arena].made.load(std::memory_order_relaxed);
        for (std::uint64_t index = 0; index < made; ++index) {
            Cell& each = segment_.cell(arena, index);
            std::uint64_t head = each.head.load(std::memory_order_acquire);  // (3)
            while (!is_claimed(head)) {
                const Life life = Life::from_word(each.life.load(std::memory_order_relaxed));
                if (each.head.compare_exchange_weak(
                        head, judge_.fresh(head, life, kCellClasses[arena], shared().instant(now)),
                        std::memory_order_acq_rel, std::memory_order_acquire)) {  // (7)
                    break;
                }
            }
        }
    }
}

TableStats Table::stats() const noexcept {
    TableStats stats;
    stats.capacity_bytes = segment_.layout().cell_bytes;
    for (std::size_t i = 0; i < kCellClasses.size(); ++i) {
        const std::uint64_t made = segment_.header().arenas[i].made.load(std::memory_order_relaxed);
        stats.cells += made;
        stats.bytes += made * kCellClasses[i].bytes;
    }
    stats.evictions = shared().evictions.load(std::memory_order_relaxed);
    stats.full = shared().full.load(std::memory_order_relaxed);
    stats.collisions = shared().collisions.load(std::memory_order_relaxed);
    return stats;
}

}  // namespace slidegate
