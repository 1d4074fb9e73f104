// The sizes of cells, and which one a quota gets.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "slidegate/values/quota.hpp"

namespace slidegate {

/// A size class of cells. `ring` entries follow three words; positions count modulo `positions`.
struct CellClass {
    std::uint32_t bytes;
    std::uint32_t ring;
    std::uint32_t positions;  ///< the largest multiple of `ring` that positions can count to

    [[nodiscard]] constexpr std::uint32_t advance(std::uint32_t position, std::uint32_t by) const noexcept {
        const std::uint32_t next = position + by;
        return next >= positions ? next - positions : next;
    }
    /// Whether the position after this one is that of a new round.
    [[nodiscard]] constexpr bool is_last(std::uint32_t position) const noexcept { return position + 1 >= positions; }
};

inline constexpr std::array<CellClass, 4> kCellClasses = {{
    {32, 1, 1024},
    {128, 13, 1014},
    {256, 29, 1015},
    {512, 61, 976},
}};

/// The class whose ring holds `quota`'s hits, or the largest.
[[nodiscard]] constexpr std::uint32_t class_of(std::uint32_t amount, Strategy strategy) noexcept {
    if (strategy != Strategy::moving_window) {
        return 0;
    }
    std::uint32_t index = 1;
    while (index + 1 < kCellClasses.size() && amount > kCellClasses[index].ring) {
        ++index;
    }
    return index;
}

}  // namespace slidegate
