// The memory that a table lives in: reserved as address space, committed by touch.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "slidegate/detail/siphash.hpp"
#include "slidegate/lease.hpp"

namespace slidegate {

inline constexpr std::size_t kSlots = 15;

/// One control word and the slots that it orders the inserts of.
struct alignas(128) Bucket {
    Word control;
    Word slots[kSlots];
};
static_assert(sizeof(Bucket) == 128);

/// How large the parts of a segment are.
struct Layout {
    std::uint64_t buckets = 0;     ///< a power of two
    std::uint64_t cell_bytes = 0;  ///< budget of all cells together

    /// Seven eighths for cells, one eighth for the index. Throws InvalidArgument outside [kMinSize, kMaxSize].
    [[nodiscard]] static Layout for_size(std::size_t bytes);

    static constexpr std::size_t kMinSize = std::size_t{1} << 20;
    static constexpr std::size_t kMaxSize = std::size_t{1} << 36;

    /// Cells that arena `index` can hold at most: what every size is guaranteed, and all that they share.
    [[nodiscard]] std::uint64_t arena_cells(std::size_t index) const noexcept;
    [[nodiscard]] std::uint64_t guaranteed_bytes() const noexcept { return cell_bytes / 8; }
    [[nodiscard]] std::uint64_t shared_bytes() const noexcept { return cell_bytes / 2; }
};

/// First page of a segment.
struct Header {
    detail::Key128 secret;  ///< of the digests; written once, before anyone else can look
    alignas(128) Shared shared;
    struct alignas(128) Arena {
        Word made;  ///< cells handed out so far, those in flight included
        Word hand;  ///< next cell that the sweep looks at
    } arenas[kCellClasses.size()];
};
static_assert(sizeof(Header) <= 4096);

/// Address space for one table. Anonymous and private to the process; a fork gets a copy of its own. All zero when new:
/// an empty table. Holds no pointers, so what lies in it could lie anywhere.
class Segment {
  public:
    /// Throws SegmentError when the address space cannot be had.
    explicit Segment(const Layout& layout);
    Segment(const Segment&) = delete;
    Segment& operator=(const Segment&) = delete;
    ~Segment();

    [[nodiscard]] const Layout& layout() const noexcept { return layout_; }
    [[nodiscard]] Header& header() const noexcept { return *reinterpret_cast<Header*>(base_); }
    [[nodiscard]] Bucket& bucket(std::uint64_t place) const noexcept {
        return reinterpret_cast<Bucket*>(base_ + index_offset_)[place & (layout_.buckets - 1)];
    }
    [[nodiscard]] Cell& cell(std::size_t arena, std::uint64_t index) const noexcept {
        return *reinterpret_cast<Cell*>(base_ + arena_offsets_[arena] + index * kCellClasses[arena].bytes);
    }

  private:
    Layout layout_;
    std::size_t index_offset_ = 0;
    std::array<std::size_t, kCellClasses.size()> arena_offsets_{};
    std::size_t bytes_ = 0;
    std::byte* base_ = nullptr;
};

}  // namespace slidegate
