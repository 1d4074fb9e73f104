// How the memory of a table is divided: a page for the header, the index, an arena of cells for each size, a word for the
// owner of each cell, and the statistics.
#pragma once

#include <cstddef>
#include <cstdint>

#include "slidegate/cells/statistics.hpp"

namespace slidegate {

inline constexpr std::size_t kPage = 4096;
inline constexpr std::size_t kSlots = 15;

/// One control word and the slots that it orders the inserts of.
struct alignas(128) Bucket {
    Word control;
    Word slots[kSlots];
};
static_assert(sizeof(Bucket) == 128);

/// How large the parts of a segment are. Whoever attaches to one computes all places from this, and from nothing else.
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

    /// Bytes of index and cells: the size that was asked for.
    [[nodiscard]] std::uint64_t size() const noexcept { return buckets * sizeof(Bucket) + cell_bytes; }
    /// Whether a segment could be divided so. Layouts that were read from a file may hold anything.
    [[nodiscard]] bool is_sound() const noexcept;
    [[nodiscard]] static constexpr std::uint64_t index_offset() noexcept { return kPage; }
    [[nodiscard]] std::uint64_t arena_offset(std::size_t index) const noexcept;
    [[nodiscard]] std::uint64_t owners_offset(std::size_t index) const noexcept;
    [[nodiscard]] std::uint64_t statistics_offset() const noexcept { return owners_offset(kCellClasses.size()); }
    /// Address space that it takes: more than `size`, as all arenas share one budget, and owners are beside it.
    [[nodiscard]] std::uint64_t bytes() const noexcept { return statistics_offset() + sizeof(Statistics); }

    friend bool operator==(const Layout&, const Layout&) = default;
};

}  // namespace slidegate
