// The words of the index: references to cells, slots, and controls. docs/engine.md, "Table".
#pragma once

#include "slidegate/cells/layout.hpp"

namespace slidegate {

// reference of a cell: arena 2, index 26
inline constexpr unsigned kIndexBits = 26;
inline constexpr unsigned kReferenceBits = 28;
inline constexpr std::uint64_t kReferenceMask = (std::uint64_t{1} << kReferenceBits) - 1;
static_assert(kCellClasses.size() == 1U << (kReferenceBits - kIndexBits));

constexpr std::uint32_t reference_to(std::size_t arena, std::uint64_t index) noexcept {
    return static_cast<std::uint32_t>(arena << kIndexBits | index);
}
constexpr std::uint32_t arena_of(std::uint32_t reference) noexcept { return reference >> kIndexBits; }
constexpr std::uint32_t index_of(std::uint32_t reference) noexcept { return reference & ((1U << kIndexBits) - 1); }
constexpr std::uint32_t reference_of(std::uint64_t word) noexcept {
    return static_cast<std::uint32_t>(word & kReferenceMask);
}

// slot: tag 1, fingerprint 14, generation 21, reference 28
inline constexpr std::uint64_t kEntry = std::uint64_t{1} << 63;
inline constexpr unsigned kGenerationShift = 28;
inline constexpr unsigned kFingerprintShift = 49;

constexpr std::uint64_t fingerprint_of(std::uint64_t identity) noexcept { return identity >> 50; }
constexpr bool is_entry(std::uint64_t slot) noexcept { return (slot & kEntry) != 0; }
constexpr std::uint64_t make_entry(std::uint64_t identity, std::uint32_t reference) noexcept {
    return kEntry | fingerprint_of(identity) << kFingerprintShift |
           std::uint64_t{generation_of(identity)} << kGenerationShift | reference;
}
constexpr bool may_be(std::uint64_t slot, std::uint64_t identity) noexcept {
    return slot >> kFingerprintShift == (kEntry >> kFingerprintShift | fingerprint_of(identity));
}
/// Of a slot or a control.
constexpr std::uint32_t generation_in(std::uint64_t word) noexcept {
    return static_cast<std::uint32_t>(word >> kGenerationShift) & (kGenerations - 1);
}

// control: pending 1, slot 4, unused 10, generation 21, reference 28. An idle one is what is left of the last insert: as no
// generation of a cell is announced twice, it never comes back.
inline constexpr std::uint64_t kPending = std::uint64_t{1} << 63;
inline constexpr unsigned kSlotShift = 59;
static_assert(kSlots <= 16);

constexpr bool is_pending(std::uint64_t control) noexcept { return (control & kPending) != 0; }
constexpr std::uint64_t make_pending(std::size_t slot, std::uint32_t generation, std::uint32_t reference) noexcept {
    return kPending | std::uint64_t{slot} << kSlotShift | std::uint64_t{generation} << kGenerationShift | reference;
}
constexpr std::size_t slot_of(std::uint64_t pending) noexcept { return pending >> kSlotShift & 15; }
constexpr std::uint64_t idle_after(std::uint64_t pending) noexcept { return pending & ~kPending; }

}  // namespace slidegate
