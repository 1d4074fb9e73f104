// One strategy on one cell, called as a limiter would.
#pragma once

#include "lone_cell.hpp"

namespace slidegate::testing {

/// What an Outcome tells a client.
struct Answer {
    bool is_admitted = false;
    std::uint64_t remaining = 0;
    Nanos reset_after = 0;
    Nanos retry_after = 0;
    friend bool operator==(const Answer&, const Answer&) = default;
};

inline Answer answer_of(const Outcome& outcome) {
    return {outcome.verdict == Verdict::admitted, outcome.remaining, outcome.reset_after, outcome.retry_after};
}

template <class SomeStrategy>
class OneCell {
  public:
    OneCell(SomeStrategy strategy, CellClass cell_class) : class_(cell_class), cell_(cell_class), strategy_(strategy) {}

    Outcome hit(Nanos now, std::uint64_t cost = 1) { return strategy_.hit(cell_.lease(), now, cost); }
    bool admits(Nanos now, std::uint64_t cost = 1) { return hit(now, cost).verdict == Verdict::admitted; }
    Outcome peek(Nanos now, std::uint64_t cost = 1) { return strategy_.peek(cell_.lease(), now, cost); }
    bool refund(Nanos now, const Outcome& of, std::uint64_t cost = 1) {
        return strategy_.refund(cell_.lease(), now, of.receipt, cost);
    }
    void reset(Nanos now) { cell_.begin_anew(strategy_, class_, now); }
    LoneCell& lone() { return cell_; }

  private:
    CellClass class_;
    LoneCell cell_;
    SomeStrategy strategy_;
};

}  // namespace slidegate::testing
