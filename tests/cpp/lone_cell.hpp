// A cell without a table, with a ring of any size.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "slidegate/cells/stamp.hpp"

namespace slidegate::testing {

inline constexpr Nanos kSecond = 1'000'000'000;
inline constexpr Nanos kMillisecond = 1'000'000;
inline constexpr std::uint8_t kMillisecondTicks = 18;  // its index in kTickLengths
static_assert(kTickLengths[kMillisecondTicks] == kMillisecond);

/// A size class that no table has: small rings make rare paths common.
constexpr CellClass class_with_ring(std::uint32_t ring) {
    return {static_cast<std::uint32_t>(sizeof(Word)) * (3 + ring), ring, ((1U << kPositionBits) - 1) / ring * ring};
}

class LoneCell {
  public:
    explicit LoneCell(CellClass cell_class = kCellClasses[1])
        : words_(3 + cell_class.ring), memory_(std::make_unique<Word[]>(words_)) {
        lease_.cell = reinterpret_cast<Cell*>(memory_.get());
        lease_.shared = &shared_;
        lease_.identity = make_identity(std::uint64_t{0x1234} << kGenerationBits, 1);
        lease_.cell->head = make_word(0, cell_class.advance(0, cell_class.ring));  // as a table leaves it
        begin_life(lease_.generation());
    }

    /// Of the present life.
    [[nodiscard]] const Lease& lease() const { return lease_; }
    [[nodiscard]] Cell& cell() { return *lease_.cell; }
    [[nodiscard]] Shared& shared() { return shared_; }
    void begin_life(std::uint32_t generation) {
        Life life;
        life.generation = generation;
        lease_.cell->life = life.to_word();
        lease_.cell->identity = make_identity(lease_.identity, generation);
    }
    /// Ends the present life and begins the next one, as a reset and the hit after it do.
    template <class SomeStrategy>
    void begin_anew(const SomeStrategy& strategy, CellClass cell_class, Nanos now) {
        if (!lease_.end(now)) {
            return;
        }
        Cell& cell = *lease_.cell;
        const Beginning next =
            strategy.begin(cell_class.advance(position_of(cell.head), 1), lease_.shared->instant(now));
        begin_life(lease_.generation() + 1);
        lease_.identity = cell.identity;
        cell.ring[next.behind] = make_barrier(lease_.generation());
        cell.head = next.head;
    }
    /// All words, as they are now.
    [[nodiscard]] std::vector<std::uint64_t> words() const { return {memory_.get(), memory_.get() + words_}; }

  private:
    std::size_t words_;
    std::unique_ptr<Word[]> memory_;
    Shared shared_{};
    Lease lease_;
};

}  // namespace slidegate::testing
