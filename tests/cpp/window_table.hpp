// A table of moving windows with one quota, for tests below the limiter.
#pragma once

#include "slidegate/segment/table.hpp"
#include "slidegate/strategies/moving_window.hpp"

namespace slidegate::testing {

/// Judges all cells by one strategy.
class WindowJudge final : public Judge {
  public:
    explicit WindowJudge(const MovingWindow& strategy) : strategy_(strategy) {}
    [[nodiscard]] std::uint64_t used(const Cell& cell, std::uint64_t head, Life life, CellClass,
                                     Instant instant) const noexcept override {
        return life.ticks.window == 0 ? 0 : strategy_.used(cell, head, instant);
    }
    [[nodiscard]] bool is_expired(std::uint64_t head, Life life, CellClass, Instant instant) const noexcept override {
        return life.ticks.window == 0 || strategy_.is_expired(head, instant);
    }
    [[nodiscard]] Beginning begin(std::uint32_t position, Life, CellClass, Instant instant) const noexcept override {
        return strategy_.begin(position, instant);
    }

  private:
    MovingWindow strategy_;
};

/// Cells of 128 bytes under one quota. Budgets: eighth guaranteed, half shared, so 1 KiB is five cells.
struct WindowTable {
    /// `cell_class` may have a smaller ring than the cells.
    WindowTable(Layout layout, OnFull on_full, const Quota& quota, CellClass cell_class = kCellClasses[1])
        : WindowTable(Segment(layout), on_full, quota, cell_class) {}
    /// In any segment; claims are taken for abandoned after `patience`.
    WindowTable(Segment in, OnFull on_full, const Quota& quota, CellClass cell_class, Nanos patience = kClaimPatience)
        : segment(std::move(in)),
          strategy(quota.ticks(), quota.amount(), cell_class),
          judge(strategy),
          table(segment, judge, on_full, patience),
          life(Life::of(quota)) {}
    WindowTable(const WindowTable&) = delete;
    WindowTable& operator=(const WindowTable&) = delete;

    [[nodiscard]] Lease obtain(const Digest& digest, Nanos now) const { return obtain_of(digest, 1, life, now); }
    [[nodiscard]] Lease obtain_of(const Digest& digest, std::size_t arena, Life its_life, Nanos now,
                                  std::uint64_t owner = 1) const {
        Lack lack{};
        return table.obtain(digest, arena, its_life, owner, now, lack);
    }
    /// Whether a key of an owner gets a cell, and this much of it.
    [[nodiscard]] bool takes(const Digest& digest, std::uint64_t owner, std::uint64_t cost) const {
        if (!table.find(digest) && !obtain_of(digest, 1, life, 0, owner)) {
            return false;
        }
        return admits(digest, 0, cost);
    }
    /// What a limiter does for a hit. `lease` becomes the one that was hit.
    [[nodiscard]] Outcome hit(const Digest& digest, Nanos now, std::uint64_t cost, Lease& lease) const {
        for (;;) {
            lease = table.find(digest);
            if (!lease) {
                lease = obtain(digest, now);
            }
            if (!lease) {
                return {Verdict::refused, 0, 0, 0, 0};
            }
            if (const Outcome outcome = strategy.hit(lease, now, cost); outcome.verdict != Verdict::gone) {
                return outcome;
            }
        }
    }
    [[nodiscard]] bool admits(const Digest& digest, Nanos now, std::uint64_t cost = 1) const {
        Lease lease;
        return hit(digest, now, cost, lease).verdict == Verdict::admitted;
    }

    Segment segment;
    MovingWindow strategy;
    WindowJudge judge;
    Table table;
    Life life;
};

}  // namespace slidegate::testing
