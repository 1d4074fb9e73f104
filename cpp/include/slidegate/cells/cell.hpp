// The state of one (key, quota): a few 64-bit words in a segment, and how its life is written down.
#pragma once

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>

#include "slidegate/values/cell_class.hpp"

namespace slidegate {

using Word = std::atomic<std::uint64_t>;
static_assert(Word::is_always_lock_free && sizeof(Word) == 8);

// --- head: claimed 1, sealed 1, position 10, payload 52; of a claimed or free one the time since when ----------------

inline constexpr std::uint64_t kClaimed = 1;  ///< nobody's: a life is being prepared, or, with kSealed, it is free
inline constexpr std::uint64_t kSealed = 2;  ///< moving window: the count is final, the entry is on its way to the ring
inline constexpr unsigned kPositionShift = 2;
inline constexpr unsigned kPositionBits = 10;
inline constexpr unsigned kPayloadShift = 12;

[[nodiscard]] constexpr bool is_claimed(std::uint64_t head) noexcept { return (head & kClaimed) != 0; }
[[nodiscard]] constexpr bool is_sealed(std::uint64_t head) noexcept { return (head & kSealed) != 0; }
[[nodiscard]] constexpr std::uint32_t position_of(std::uint64_t word) noexcept {
    return static_cast<std::uint32_t>(word >> kPositionShift) & ((1U << kPositionBits) - 1);
}
[[nodiscard]] constexpr std::uint64_t payload_of(std::uint64_t word) noexcept { return word >> kPayloadShift; }
[[nodiscard]] constexpr std::uint64_t make_word(std::uint64_t payload, std::uint32_t position) noexcept {
    return payload << kPayloadShift | std::uint64_t{position} << kPositionShift;
}

/// Claimed and free heads tell since when, in steps of 2^20 ns.
inline constexpr unsigned kSinceShift = 20;
/// A head that somebody claims, to begin a life at `position`.
[[nodiscard]] constexpr std::uint64_t make_claim(Nanos now, std::uint32_t position) noexcept {
    return make_word(static_cast<std::uint64_t>(now) >> kSinceShift, position) | kClaimed;
}
/// A head whose life has ended, to follow `head`: whoever needs a cell may claim it at once.
[[nodiscard]] constexpr std::uint64_t make_free(Nanos now, std::uint64_t head) noexcept {
    return make_word(static_cast<std::uint64_t>(now) >> kSinceShift, position_of(head)) | kClaimed | kSealed;
}
[[nodiscard]] constexpr bool is_free(std::uint64_t head) noexcept { return is_claimed(head) && is_sealed(head); }
/// Whether a claimed or free head has been so for longer than `time`. One of the future, which nobody can have made, has
/// been so for longest.
[[nodiscard]] constexpr bool is_older_than(std::uint64_t head, Nanos now, Nanos time) noexcept {
    const std::uint64_t steps = (static_cast<std::uint64_t>(now) >> kSinceShift) - payload_of(head);
    return steps > (static_cast<std::uint64_t>(time) >> kSinceShift) + 1;
}

/// With what a life begins.
struct Beginning {
    std::uint64_t head = 0;
    std::uint32_t behind = 0;  ///< index of the ring's entry that would be read behind this head
};

/// Stands behind the first entry of a life, and is none of it: no entry has this position, and no other life this word.
[[nodiscard]] constexpr std::uint64_t make_barrier(std::uint32_t generation) noexcept {
    return make_word(generation, (1U << kPositionBits) - 1);
}

static_assert([] {
    return std::all_of(kCellClasses.begin(), kCellClasses.end(), [](CellClass c) {
        return c.positions % c.ring == 0 && c.positions >= 2 * c.ring &&
               c.positions <= (1U << kPositionBits) - (c.ring > 1 ? 1 : 0);  // the last is the barrier's
    });
}());

// --- identity: of the key 43, generation 21 -------------------------------------------------------------------------

inline constexpr unsigned kGenerationBits = 21;
inline constexpr std::uint32_t kGenerations = 1U << kGenerationBits;

/// Who a cell belongs to, in which of its lives: one word, so that no value of it ever returns. `identity` is a digest's.
[[nodiscard]] constexpr std::uint64_t make_identity(std::uint64_t identity, std::uint32_t generation) noexcept {
    return (identity & ~std::uint64_t{kGenerations - 1}) | generation;
}
[[nodiscard]] constexpr std::uint32_t generation_of(std::uint64_t identity) noexcept {
    return static_cast<std::uint32_t>(identity) & (kGenerations - 1);
}

// --- life: generation 21, strategy 2, tick 5, window 28, limit 8 ----------------------------------------------------

/// What a cell counts in its present life: enough for someone who knows neither key nor quota to tell how full it is.
struct Life {
    std::uint32_t generation = 0;
    Strategy strategy = Strategy::moving_window;
    Ticks ticks;
    std::uint8_t coarse_limit = 0;

    [[nodiscard]] static constexpr Life of(const Quota& quota) noexcept {
        return {0, quota.strategy(), quota.ticks(), coarse(quota.amount())};
    }
    [[nodiscard]] static constexpr Life from_word(std::uint64_t word) noexcept {
        return {static_cast<std::uint32_t>(word >> 43), static_cast<Strategy>(word >> 41 & 3),
                Ticks{static_cast<std::uint8_t>(std::min<std::uint64_t>(word >> 36 & 31, kTickLengths.size() - 1)),
                      static_cast<std::uint32_t>(word >> 8 & ((1U << 28) - 1))},
                static_cast<std::uint8_t>(word)};
    }
    [[nodiscard]] constexpr std::uint64_t to_word() const noexcept {
        return std::uint64_t{generation} << 43 | std::uint64_t{static_cast<std::uint8_t>(strategy)} << 41 |
               std::uint64_t{ticks.index} << 36 | std::uint64_t{ticks.window} << 8 | coarse_limit;
    }
    /// The limit, rounded down to four significant bits: a cell judged by it looks fuller than it is, never emptier.
    [[nodiscard]] constexpr std::uint64_t limit() const noexcept {
        const unsigned exponent = coarse_limit >> 3;
        const std::uint64_t mantissa = coarse_limit & 7U;
        return exponent < 3 ? coarse_limit : (8 + mantissa) << (exponent - 3);
    }

  private:
    static constexpr std::uint8_t coarse(std::uint64_t amount) noexcept {
        const auto exponent = static_cast<unsigned>(std::bit_width(amount) - 1);
        return static_cast<std::uint8_t>(exponent < 3 ? amount : exponent << 3 | (amount >> (exponent - 3) & 7));
    }
};

// --- owner: generation 21, whose 43; beside the cells ----------------------------------------------------------------

/// Whose memory a cell is in its present life: of which limit, and of which of the limiters that share a segment. Limits are
/// told apart by 31 bits of a hash: two of a thousand are taken for one in one of four thousand segments, which makes them
/// share what is theirs, no more.
struct Owner {
    static constexpr unsigned kLimitBits = 32;
    static constexpr std::uint64_t kOfRequests = 1;  ///< the limits that requests make
    static constexpr unsigned kBits = 64 - kGenerationBits;

    [[nodiscard]] static constexpr std::uint64_t to_word(std::uint64_t owner, std::uint32_t generation) noexcept {
        return std::uint64_t{generation} << kBits | owner;
    }
    /// Which of the limiters of a segment; 0 when they are one.
    [[nodiscard]] static constexpr std::size_t space_of(std::uint64_t owner) noexcept { return owner >> kLimitBits; }
    [[nodiscard]] static constexpr std::uint64_t in_space(std::uint64_t limit, std::size_t space) noexcept {
        return std::uint64_t{space} << kLimitBits | limit;
    }
    /// Nobody's is 0.
    [[nodiscard]] static constexpr std::uint64_t from_word(std::uint64_t word) noexcept {
        return word & ((std::uint64_t{1} << kBits) - 1);
    }
    [[nodiscard]] static constexpr std::uint32_t generation_of(std::uint64_t word) noexcept {
        return static_cast<std::uint32_t>(word >> kBits);
    }
};

/// The words of a cell as they lie in a segment; `ring` has as many entries as the cell's class says.
struct Cell {
    Word head;      ///< written by every admitted hit and refund, by whoever ends a life, and by a claimer
    Word identity;  ///< key and generation; swapped by a claimer, while the head is claimed
    Word life;      ///< a Life; swapped by a claimer, while the head is claimed
    Word ring[1];   ///< closed entries; written by whoever closes or refunds them, and one of them by a claimer
};
static_assert(sizeof(Cell) == 32 && offsetof(Cell, ring) == 24);

}  // namespace slidegate
