#include "slidegate/cells/layout.hpp"

#include <string>

#include "slidegate/values/errors.hpp"

namespace slidegate {

namespace {

constexpr std::uint64_t kMaxCells = std::uint64_t{1} << 26;  // what the index can name in one arena

constexpr std::uint64_t whole_pages(std::uint64_t bytes) { return (bytes + kPage - 1) / kPage * kPage; }

}  // namespace

Layout Layout::for_size(std::size_t bytes) {
    if (bytes < kMinSize || bytes > kMaxSize) {
        throw InvalidArgument("size must be from " + std::to_string(kMinSize) + " to " + std::to_string(kMaxSize) +
                              " bytes, not " + std::to_string(bytes));
    }
    const std::uint64_t buckets = std::bit_floor(bytes / 8 / sizeof(Bucket));
    return {buckets, bytes - buckets * sizeof(Bucket)};
}

std::uint64_t Layout::arena_cells(std::size_t index) const noexcept {
    return std::min(kMaxCells, (guaranteed_bytes() + shared_bytes()) / kCellClasses[index].bytes + 1);
}

bool Layout::is_sound() const noexcept {
    return std::has_single_bit(buckets) && buckets <= kMaxSize / sizeof(Bucket) && cell_bytes != 0 &&
           cell_bytes <= kMaxSize;
}

std::uint64_t Layout::arena_offset(std::size_t index) const noexcept {
    std::uint64_t offset = index_offset() + whole_pages(buckets * sizeof(Bucket));
    for (std::size_t i = 0; i < index; ++i) {
        offset += whole_pages(arena_cells(i) * kCellClasses[i].bytes);
    }
    return offset;
}

std::uint64_t Layout::owners_offset(std::size_t index) const noexcept {
    std::uint64_t offset = arena_offset(kCellClasses.size());
    for (std::size_t i = 0; i < index; ++i) {
        offset += whole_pages(arena_cells(i) * sizeof(Word));
    }
    return offset;
}

}  // namespace slidegate
