// The first page of a segment: what it is, which boot its times belong to, and what all users of its table share.
#pragma once

#include <optional>
#include <string>

#include "slidegate/cells/layout.hpp"
#include "slidegate/cells/lease.hpp"
#include "slidegate/detail/siphash.hpp"
#include "slidegate/values/boot.hpp"
#include "slidegate/values/process.hpp"

namespace slidegate {

/// What a segment was born with. Written before anyone else can look, and never again.
struct Birth {
    std::array<char, 8> magic{};
    std::uint64_t version = 0;  ///< of the meaning of all words
    std::uint64_t shape = 0;    ///< of the sizes that a build counts with: cells, buckets, pages
    Layout layout;
    detail::Key128 secret{};  ///< of the digests
    std::uint64_t uid = 0;    ///< of the user that it belongs to
    ProcessId owner;          ///< whose end makes it useless; nobody: it outlives them all
    Nanos wall = 0;           ///< time of birth, since 1970
    std::uint64_t check = 0;  ///< of all of the above

    [[nodiscard]] static Birth of(const Layout& layout, const detail::Key128& secret);
    void seal() noexcept { check = expected_check(); }
    /// What is wrong with it, in words, as the first bytes of a file of `file_bytes`. Empty: nothing.
    [[nodiscard]] std::string damage(std::uint64_t file_bytes) const;

  private:
    [[nodiscard]] std::uint64_t expected_check() const noexcept;
};
static_assert(std::is_trivially_copyable_v<Birth>);

/// How times in a segment relate to the clock of one boot. Written under an exclusive lock.
struct Epoch {
    BootId boot;
    Nanos offset = 0;          ///< table time less CLOCK_BOOTTIME
    Nanos begun = 0;           ///< table time at which it begins: the floor is raised to it by whoever attaches
    std::uint64_t number = 0;  ///< the sound one with the highest number counts
    std::uint64_t check = 0;   ///< of all of the above
    Word wall_ahead = 0;       ///< wall time less table time, the most that was seen; written by all users

    [[nodiscard]] bool is_sound() const noexcept;
    void write(const BootId& its_boot, Nanos its_offset, Nanos its_begin, std::uint64_t its_number) noexcept;
    /// Keeps the most that wall time was ahead of table time: the later a hit is thought to be, the later it expires.
    void note(Nanos wall, Nanos table_now) noexcept;

  private:
    [[nodiscard]] std::uint64_t expected_check() const noexcept;
};

struct SegmentHeader {
    Birth birth;
    std::array<Epoch, 2> epochs;
    alignas(128) Shared shared;
    struct alignas(128) Arena {
        Word made;       ///< cells handed out so far, those in flight included
        Word hand;       ///< next cell that the sweep looks at
        Word committed;  ///< bytes that the system has promised to hold
    } arenas[kCellClasses.size()];

    /// What becomes of cells that the system has no memory or disk for. For people to look at; nothing is decided by it.
    struct alignas(64) Shortage {
        Word since;    ///< table time at which it was short, plus one; 0 while it is not
        Word times;    ///< how often that has begun
        Word is_told;  ///< whether somebody has taken it on himself to tell of this one
    } shortage;
    Word full_told;  ///< table time at which somebody last told that the table was full, plus one

    /// The epoch that counts; null when none does.
    [[nodiscard]] Epoch* epoch() noexcept;
    /// What is wrong with it beside its birth, in words. Empty: nothing.
    [[nodiscard]] std::string damage() noexcept;
    /// Begins the first one of a new segment: table time is the clock of this boot.
    void begin(const BootMoment& moment) noexcept;
    /// Begins another one after `last`, which is epoch(), for a segment last used in another boot: see rebased_offset(). To be
    /// called by one caller at a time while nobody counts; killed at any instruction, it has either happened or not.
    void rebase(const Epoch& last, const BootMoment& moment) noexcept;
};
static_assert(sizeof(SegmentHeader) <= kPage);

/// The offset that lets table time go on from `last` as if it had stood still but for the time that has certainly passed:
/// what the wall clock says has passed since `last_wall`, and never less than this boot has lasted when `is_later_boot`.
/// A wall clock that was set back makes windows longer; one that was set forward in between is believed, up to nine years.
[[nodiscard]] Nanos rebased_offset(Nanos last, Nanos last_wall, bool is_later_boot, const BootMoment& moment) noexcept;

}  // namespace slidegate
