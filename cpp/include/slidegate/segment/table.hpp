// Finds or makes the cell of a key: docs/engine.md, "Table". Knows neither quotas nor clocks.
#pragma once

#include <unordered_map>

#include "slidegate/segment/segment.hpp"
#include "slidegate/values/digest.hpp"

namespace slidegate {

/// What a table does with a new key when it has no room.
enum class OnFull : std::uint8_t {
    evict,   ///< give it the cell of another key: docs/engine.md, "Full"
    refuse,  ///< no cell: the hit is refused
    admit,   ///< no cell: the hit is admitted uncounted
};

/// Why there is no cell for a key.
enum class Lack : std::uint8_t {
    cells,   ///< the table is full: on_full decides
    memory,  ///< the system has none for more cells, and no key that is there has expired
};

/// Who makes a table full: the owner of most of the cells that were looked at.
struct Holder {
    std::uint64_t owner = 0;
    std::size_t arena = 0;
    std::uint64_t cells = 0;  ///< of that size, about; those that have expired and were not reused included
    std::uint64_t of = 0;
};

/// What a table asks of those who know quotas. Stateless; must be callable from any thread.
class Judge {
  public:
    Judge() = default;
    Judge(const Judge&) = delete;
    Judge& operator=(const Judge&) = delete;
    virtual ~Judge() = default;
    /// Whether the cell counts nothing, and has not been written for a window: one that was prepared just now is somebody's.
    [[nodiscard]] virtual bool is_expired(std::uint64_t head, Life life, CellClass cell_class,
                                          Instant instant) const noexcept = 0;
    /// Units that the cell still counts.
    [[nodiscard]] virtual std::uint64_t used(const Cell& cell, std::uint64_t head, Life life, CellClass cell_class,
                                             Instant instant) const noexcept = 0;
    /// The head of a life that begins, and which entry of the ring is read behind it. `life` is one that obtain() was called
    /// with.
    [[nodiscard]] virtual Beginning begin(std::uint32_t position, Life life, CellClass cell_class,
                                          Instant instant) const noexcept = 0;
};

struct TableStats {
    std::uint64_t cells = 0;           ///< made so far, expired ones included
    std::uint64_t bytes = 0;           ///< that they take
    std::uint64_t capacity_bytes = 0;  ///< that they may take
    std::uint64_t evictions = 0;
    std::uint64_t full = 0;
    std::uint64_t collisions = 0;
};

/// How long a claimed cell may stay unfinished before its claimer is taken for dead. One that is not may lose it, no more.
/// And how long a free cell rests before its positions come round: longer than any tick.
inline constexpr Nanos kClaimPatience = 5'000'000'000;

/// An index of buckets over arenas of cells in a segment. All members are thread-safe and lock-free; none throws. Whatever
/// stands in the segment, each call ends, and touches nothing else.
class Table {
  public:
    /// Both must outlive the table.
    Table(Segment& segment, const Judge& judge, OnFull on_full, Nanos patience = kClaimPatience) noexcept
        : segment_(segment), judge_(judge), on_full_(on_full), patience_(patience) {}

    /// Says that find() will be called for this digest shortly.
    void prefetch(const Digest& digest) const noexcept { __builtin_prefetch(&segment_.bucket(digest.place)); }
    /// The key's cell, or an empty lease. O(1).
    [[nodiscard]] Lease find(const Digest& digest) const noexcept;
    /// The key's cell, made when it has none: of size `arena`, counting as `life` says (its generation is ignored), for the
    /// limit `owner`, 43 bits and not 0.
    /// Empty when the table is full and on_full is not evict, or nothing could be evicted, or for lack of memory, which is
    /// told in `lack`. O(1).
    [[nodiscard, gnu::noinline, gnu::cold]] Lease obtain(const Digest& digest, std::size_t arena, Life life,
                                                         std::uint64_t owner, Nanos now, Lack& lack) const noexcept;
    /// Lease::end(), and the cell is no owner's.
    void end(const Lease& lease, Nanos now) const noexcept;
    /// Ends the lives of all cells of a space, 0 for those of all. O(cells). A hit at the same time may count or not.
    void reset(std::size_t space, Nanos now) const noexcept;

    [[nodiscard]] OnFull on_full() const noexcept { return on_full_; }
    /// Whether this object has found no free cell for a key since news were last taken.
    [[nodiscard]] bool has_news() const noexcept { return has_news_.load(std::memory_order_relaxed); }
    void take_news() const noexcept { has_news_.store(false, std::memory_order_relaxed); }
    /// Who holds most cells of the size that there were too few of. O(cells of that size).
    [[nodiscard]] Holder largest_holder() const;
    /// How many cells each owner holds. O(cells).
    [[nodiscard]] std::unordered_map<std::uint64_t, std::uint64_t> holdings() const;
    [[nodiscard]] TableStats stats() const noexcept;
    [[nodiscard]] Shared& shared() const noexcept { return segment_.header().shared; }

  private:
    struct Candidate;
    struct Vacancy;

    [[nodiscard]] Lease scan(Bucket& bucket, const Digest& digest, Vacancy* vacancy) const noexcept;
    void finish(Bucket& bucket, std::uint64_t pending) const noexcept;
    [[nodiscard]] bool vacate(Bucket& bucket, std::uint64_t owner, Nanos now) const noexcept;
    [[nodiscard]] Lease prepare(const Digest& digest, const Vacancy& vacancy, std::size_t arena, Life life,
                                std::uint64_t owner, Nanos now, Lack& lack) const noexcept;
    [[nodiscard]] Candidate victim(std::size_t arena, std::uint64_t owner, std::uint64_t start,
                                   Nanos now) const noexcept;
    [[nodiscard]] bool make(std::size_t arena, Nanos now, std::uint64_t& index, Lack& lack) const noexcept;
    [[nodiscard]] Candidate look_at(std::uint32_t reference, Nanos now) const noexcept;
    [[nodiscard]] Lease claim(const Candidate& candidate, std::uint64_t identity, Life life, std::uint64_t owner,
                              Nanos now) const noexcept;
    [[nodiscard]] bool end(const Candidate& candidate, Nanos now) const noexcept;
    void disown(std::uint32_t reference, std::uint32_t generation) const noexcept;
    [[nodiscard]] Lease give_up(std::size_t arena) const noexcept;
    void evicted(std::size_t arena) const noexcept;
    void note_full(std::size_t arena) const noexcept;
    [[nodiscard]] std::uint64_t owner_of(std::uint32_t reference) const noexcept;
    [[nodiscard]] Cell& cell(std::uint32_t reference) const noexcept;
    [[nodiscard]] Lease lease(std::uint32_t reference, std::uint64_t identity, std::uint32_t generation) const noexcept;
    [[nodiscard]] bool is_current(const Lease& lease) const noexcept;
    [[nodiscard]] bool is_stale(std::uint64_t entry) const noexcept;

    Segment& segment_;
    const Judge& judge_;
    OnFull on_full_;
    Nanos patience_;
    mutable std::atomic<bool> has_news_ = false;
    mutable std::atomic<std::size_t> full_arena_ = 0;
};

}  // namespace slidegate
