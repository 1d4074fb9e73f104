// A caller's hold on the cell it found: which life of the cell it belongs to, and the clock that all holders share.
#pragma once

#include "slidegate/cells/cell.hpp"
#include "slidegate/values/decision.hpp"

namespace slidegate {

/// A caller's time, as cells are judged by it.
struct Instant {
    Nanos now;    ///< not before `floor`
    Nanos floor;  ///< the table's, read after the words to be judged
};

/// What all users of one table share beside its cells.
struct Shared {
    Word floor;       ///< newest `now` published; raised by writers, never lowered
    Word collisions;  ///< compare-and-swaps that lost; written by whoever lost
    Word evictions;   ///< live cells given away because the table was full
    Word full;        ///< inserts that found no room

    /// How far a head may be ahead of the floor that is read after it, in nanoseconds.
    static constexpr Nanos kStep = Nanos{1} << 20;

    /// The latest time that there can be, less one: 146 years. A floor read from a torn file may hold anything.
    static constexpr std::uint64_t kTimes = std::uint64_t{1} << 62;

    [[nodiscard]] static constexpr Nanos read(std::uint64_t time) noexcept {
        return static_cast<Nanos>(time & (kTimes - 1));
    }
    /// The instant of a caller whose clock says `now`. (1) Relaxed: a head read before, with acquire, carries the raise that
    /// its writer made.
    [[nodiscard]] Instant instant(Nanos now) const noexcept {
        const Nanos published = read(floor.load(std::memory_order_relaxed));
        return {std::max(now, published), published};
    }
    /// Makes the floor at least `now`. Pairs with (1) through the head or slot written next, with release.
    void raise(Nanos now) noexcept {
        std::uint64_t seen = floor.load(std::memory_order_relaxed);
        while (read(seen) < now && !floor.compare_exchange_weak(seen, static_cast<std::uint64_t>(now),
                                                                std::memory_order_release, std::memory_order_relaxed)) {
        }
    }
    /// Keeps the floor within kStep of `now`: what a writer of a head does first.
    void follow(Nanos now) noexcept {
        if (now - read(floor.load(std::memory_order_relaxed)) >= kStep) {
            raise(now);
        }
    }
    void collided() noexcept { collisions.fetch_add(1, std::memory_order_relaxed); }
};

/// One life of one cell. Copyable; owns nothing. Empty when no cell could be had.
struct Lease {
    Cell* cell = nullptr;
    Shared* shared = nullptr;
    std::uint64_t identity = 0;   ///< the key's, with the generation: which life of the cell
    std::uint32_t reference = 0;  ///< which cell of the table

    explicit operator bool() const noexcept { return cell != nullptr; }
    [[nodiscard]] std::uint32_t generation() const noexcept { return generation_of(identity); }

    /// Whether the cell is still in this life. To be asked after the head was read with acquire: as long as that head
    /// stands, nobody has claimed the cell, so the identity is the one that was stored before it (relaxed is enough).
    [[nodiscard]] bool holds() const noexcept { return cell->identity.load(std::memory_order_relaxed) == identity; }

    /// Ends this life: all that it counted is forgotten, its tickets are void, and the key finds another cell. False when it
    /// had ended before. Thread-safe, lock-free.
    bool end(Nanos now) const noexcept {
        std::uint64_t head = cell->head.load(std::memory_order_acquire);  // (2) pairs with (3) and all writers of heads
        while (!is_claimed(head) && holds()) {
            // A caller whose clock is late is not to begin the next life before the end of this one.
            shared->raise(now);
            if (cell->head.compare_exchange_weak(head, make_free(shared->instant(now).now, head),
                                                 std::memory_order_acq_rel, std::memory_order_acquire)) {  // (3)
                return true;
            }
        }
        return false;
    }
};

/// What a step on one cell came to.
enum class Verdict : std::uint8_t {
    admitted,
    refused,
    gone,      ///< the cell has begun another life: find the key again
    unstored,  ///< there is no cell, as the system has no memory for one
};

struct Outcome {
    Verdict verdict = Verdict::gone;
    std::uint64_t remaining = 0;
    Nanos reset_after = 0;
    Nanos retry_after = 0;
    std::uint64_t receipt = 0;  ///< the word that took the cost, for a refund
};

}  // namespace slidegate
