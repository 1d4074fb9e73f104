// Moving window on one cell: docs/engine.md, "Moving window". Lock-free; nothing here reads a clock or throws.
#pragma once

#include "slidegate/cells/stamp.hpp"

namespace slidegate {

/// Counts hits so that no window of the quota's length ever holds more than its amount.
class MovingWindow {
  public:
    /// For cells of `cell_class`, which need not be the one that the amount would get: small rings make rare paths common.
    MovingWindow(Ticks ticks, std::uint64_t amount, CellClass cell_class) noexcept;

    /// Takes `cost` (at least 1) at `now` or changes nothing. O(ring). Thread-safe.
    [[nodiscard]] Outcome hit(const Lease& lease, Nanos now, std::uint64_t cost) const noexcept;
    /// What hit() would answer, changing nothing.
    [[nodiscard]] Outcome peek(const Lease& lease, Nanos now, std::uint64_t cost) const noexcept;
    /// Gives back `cost` of the hit whose Outcome::receipt this is. At most once per receipt is the caller's duty.
    /// False: the window has passed, or the life has ended, and there is nothing to give back.
    bool refund(const Lease& lease, Nanos now, std::uint64_t receipt, std::uint64_t cost) const noexcept;

    /// A life that holds nothing.
    [[nodiscard]] Beginning begin(std::uint32_t position, Instant instant) const noexcept;
    /// Whether the head was written more than a window ago.
    [[nodiscard]] bool is_expired(std::uint64_t head, Instant instant) const noexcept;
    /// Units still in the window; 0 means that the cell is indistinguishable from a fresh one as long as its
    /// head is `head`.
    [[nodiscard]] std::uint64_t used(const Cell& cell, std::uint64_t head, Instant instant) const noexcept;

  private:
    struct Survey;

    [[nodiscard]] bool survey(const Cell& cell, std::uint64_t head, const Moment& moment, std::uint64_t cost,
                              Survey& into) const noexcept;
    [[nodiscard]] bool merges(std::uint64_t head, std::uint64_t seen, const Survey& survey,
                              std::int64_t stamp) const noexcept;
    [[nodiscard]] bool close(Cell& cell, std::uint64_t head, std::uint64_t seen) const noexcept;
    [[nodiscard]] Word& slot_of(Cell& cell, std::uint64_t word) const noexcept;
    [[nodiscard]] bool is_entry(std::uint64_t word, std::uint64_t receipt) const noexcept;
    [[nodiscard]] Outcome admitted(const Moment& moment, std::uint64_t used, std::int64_t latest,
                                   std::uint64_t word) const noexcept;
    [[nodiscard]] Outcome refused(const Moment& moment, const Survey& survey, std::uint64_t cost) const noexcept;

    CellClass class_;
    Timeline timeline_;
    std::uint64_t limit_;
    std::int64_t quantum_;  ///< ticks whose hits may share an entry; 1 when the ring holds the limit
};

}  // namespace slidegate
