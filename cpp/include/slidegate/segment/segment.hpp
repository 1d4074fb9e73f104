// The memory that a table lives in: reserved as address space, committed as it is used. Holds no pointers, so the same words
// serve one process, all that inherit it, and all that map the same file.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "slidegate/segment/segment_file.hpp"
#include "slidegate/segment/segment_header.hpp"

namespace slidegate {

/// Of a new one, where there is room for it: half of what is free is left to others.
inline constexpr std::size_t kDefaultNamedSize = std::size_t{64} << 20;

/// Whose memory an unnamed segment is after a fork.
enum class AfterFork : std::uint8_t {
    copied,  ///< parent and child count apart from there on
    shared,  ///< both count in the same memory; it ends with the last of them
};

/// What to do with something that is no sound segment of this version: cut off, torn, or never one.
enum class OnDamage : std::uint8_t {
    error,     ///< throw SegmentDamaged
    recreate,  ///< take its place, unless somebody is using it: begins with nothing counted
};

/// How a named segment is opened.
struct Opening {
    std::size_t size = 0;  ///< of index and cells. 0: as it is found; for a new one kDefaultNamedSize, or what fits
    OnDamage on_damage = OnDamage::error;
    bool may_create = true;   ///< else SegmentMissing when there is none
    Access access = {};       ///< who may have written to it
    ProcessId owner = {};     ///< of a new one: the process whose end makes it useless; see segment_list.hpp
    int patience_ms = 5'000;  ///< for others who open or mend it at this moment
    Layout layout = {};       ///< instead of `size`, when it has buckets
    std::optional<BootMoment> moment = {};  ///< the machine's, when empty
};

/// Memory for one table, all zero when new: an empty one. Movable. Whatever stands in it, no member reaches beyond it.
class Segment {
  public:
    /// Throws SegmentError when the address space cannot be had.
    explicit Segment(const Layout& layout, AfterFork after_fork = AfterFork::copied);

    /// POSIX shared memory of this host, until it restarts or the name is removed. Made whole or not at all: of several who
    /// make it at a moment one succeeds and the others get that one. Throws SegmentError and what derives from it, and
    /// InvalidArgument for a name or size that cannot be.
    [[nodiscard]] static Segment shared(const std::string& name, const Opening& opening = {});
    /// The same in a file, which outlives a restart: see rebased_offset(). A file that loses power or is cut off while mapped
    /// may forget hits; touching a part that has been cut off ends the process (SIGBUS).
    [[nodiscard]] static Segment file(const std::string& path, const Opening& opening = {});

    Segment(Segment&& other) noexcept;
    Segment& operator=(Segment&&) = delete;
    ~Segment();

    [[nodiscard]] const Layout& layout() const noexcept { return layout_; }
    [[nodiscard]] SegmentHeader& header() const noexcept { return *reinterpret_cast<SegmentHeader*>(base_); }
    [[nodiscard]] Statistics& statistics() const noexcept {
        return *reinterpret_cast<Statistics*>(base_ + layout_.statistics_offset());
    }
    [[nodiscard]] Bucket& bucket(std::uint64_t place) const noexcept {
        return reinterpret_cast<Bucket*>(base_ + Layout::index_offset())[place & (layout_.buckets - 1)];
    }
    /// The cell; the arena's first when there is none of this index. `arena` must be one of kCellClasses.
    [[nodiscard]] Cell& cell(std::size_t arena, std::uint64_t index) const noexcept {
        const Arena& its = arenas_[arena];
        return *reinterpret_cast<Cell*>(base_ + its.offset +
                                        (index < its.cells ? index : 0) * kCellClasses[arena].bytes);
    }
    /// The word that says whose the cell is; of the same one as cell().
    [[nodiscard]] Word& owner(std::size_t arena, std::uint64_t index) const noexcept {
        const Arena& its = arenas_[arena];
        return reinterpret_cast<Word*>(base_ + its.owners)[index < its.cells ? index : 0];
    }
    /// Cells of an arena that have been handed out.
    [[nodiscard]] std::uint64_t made(std::size_t arena) const noexcept {
        return std::min(header().arenas[arena].made.load(std::memory_order_relaxed), arenas_[arena].cells);
    }
    /// Makes sure that a cell can be written to. False when the system has no memory or disk left for it; it is asked once
    /// in kAskAgain then, as long as `now` tells. Amortised O(1).
    [[nodiscard]] bool commit(std::size_t arena, std::uint64_t index, Nanos now) const noexcept;
    static constexpr Nanos kAskAgain = 1'000'000'000;
    /// Whether there is no memory or disk for more cells. Asks the system, as commit() does, when it is time to.
    [[nodiscard]] bool is_short(Nanos now) const noexcept;
    [[nodiscard]] const Place& place() const noexcept { return place_; }

    /// Of the digests: as it was when the segment was opened.
    [[nodiscard]] const detail::Key128& secret() const noexcept { return secret_; }
    /// Added to CLOCK_BOOTTIME it gives the time of this table.
    [[nodiscard]] Nanos offset() const noexcept { return offset_; }
    /// Tells a segment that may outlive this boot how late it is. For every now and then: it reads the wall clock.
    void note_wall(Nanos table_now) const noexcept;

    [[nodiscard]] bool is_named() const noexcept { return file_.has_value(); }
    /// Whether this object made it, rather than found it.
    [[nodiscard]] bool is_new() const noexcept { return is_new_; }
    /// What the user called it; empty when it has no name.
    [[nodiscard]] const std::string& name() const noexcept { return place_.name; }
    /// Takes the name away: who is here stays, nobody else can come. False when it has gone or is another one's already.
    bool unlink() const;

  private:
    static constexpr Nanos kNeverRefused = -1;

    struct Arena {
        std::uint64_t offset = 0;
        std::uint64_t owners = 0;
        std::uint64_t cells = 0;
    };

    Segment(const Layout& layout, Place place, SegmentFile file);
    [[nodiscard]] static Segment open(const Place& place, const Opening& opening);
    [[nodiscard]] static std::optional<Segment> create(const Place& place, const Opening& opening);
    [[nodiscard]] static std::optional<Segment> attach(const Place& place, const Opening& opening, SegmentFile file);
    void map(int flags, int descriptor);
    void rebase(const Opening& opening, const BootMoment& moment);
    [[nodiscard]] bool promise_first() const noexcept;
    [[nodiscard]] bool promise_again() const noexcept;
    [[nodiscard]] bool promise(std::uint64_t offset, std::uint64_t bytes) const noexcept;
    [[nodiscard]] bool extend(std::size_t arena, std::uint64_t from, std::uint64_t to) const noexcept;
    [[nodiscard]] std::uint64_t arena_bytes(std::size_t arena) const noexcept {
        return arenas_[arena].cells * kCellClasses[arena].bytes;
    }

    Layout layout_;
    std::array<Arena, kCellClasses.size()> arenas_{};
    std::byte* base_ = nullptr;
    std::uint64_t bytes_ = 0;
    detail::Key128 secret_{};
    Nanos offset_ = 0;
    Epoch* epoch_ = nullptr;
    bool is_new_ = false;
    mutable std::atomic<Nanos> refused_at_ = kNeverRefused;  ///< when the system last had nothing for this process
    Place place_;
    std::optional<SegmentFile> file_;
};

}  // namespace slidegate
