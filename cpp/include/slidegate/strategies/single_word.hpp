// Strategies whose whole state is the payload of one word: the loop around their arithmetic.
#pragma once

#include "slidegate/cells/lease.hpp"

namespace slidegate {

/// Runs `Rule`, a pure step function on payloads, on the head of a cell.
///
/// A Rule is made of a window in ticks and an amount, and has
///   Outcome take(payload, instant, cost, next&)   what a hit comes to, and the payload that it leaves behind
///   bool give_back(payload, instant, receipt, cost, next&)
///   bool is_disturbed_by_refund(payload, receipt) whether other receipts are void once this one has been given back
///   payload fresh(instant)                        holding nothing
///   units used(payload, instant)
///   bool is_expired(payload, instant)             whether it was written more than a window ago
/// and needs no clock of its own. As state and word are one, a word that comes back within a life is a state that came back: a
/// compare-and-swap cannot mistake the one for the other. `position` counts lives, so that no word of one comes back in another,
/// and what ends the receipts given so far: that the cell began with nothing again, so that what they were for has drained
/// away, or that a refund disturbed them.
template <class Rule>
class SingleWord {
  public:
    SingleWord(Ticks ticks, std::uint64_t amount) noexcept : rule_(ticks, amount) {}

    /// Takes `cost` (at least 1) at `now` or changes nothing. O(1). Thread-safe, lock-free.
    [[nodiscard]] Outcome hit(const Lease& lease, Nanos now, std::uint64_t cost) const noexcept {
        for (;;) {
            std::uint64_t head = lease.cell->head.load(std::memory_order_acquire);  // (1) pairs with (2)
            if (is_claimed(head) || !lease.holds()) {
                return {};
            }
            const Instant at = lease.shared->instant(now);
            std::uint64_t next = 0;
            Outcome outcome = rule_.take(payload_of(head), at, cost, next);
            if (outcome.verdict == Verdict::refused) {
                return outcome;
            }
            lease.shared->follow(at.now);
            const std::uint32_t begun = rule_.used(payload_of(head), at) == 0 ? 1 : 0;
            if (begun != 0 && kCellClasses[0].is_last(position_of(head)) && !is_expired(head, at)) {
                // Positions come round only where some time has passed. It holds nothing: another cell does as well.
                lease.shared->raise(at.now);
                static_cast<void>(swap(lease, head, make_free(at.now, head)));
                return {};
            }
            outcome.receipt = make_word(next, kCellClasses[0].advance(position_of(head), begun));
            if (swap(lease, head, outcome.receipt)) {
                return outcome;
            }
        }
    }

    /// What hit() would answer, changing nothing, and with the cost not yet taken.
    [[nodiscard]] Outcome peek(const Lease& lease, Nanos now, std::uint64_t cost) const noexcept {
        const std::uint64_t head = lease.cell->head.load(std::memory_order_acquire);  // (1)
        if (is_claimed(head) || !lease.holds()) {
            return {};
        }
        const Instant at = lease.shared->instant(now);
        std::uint64_t unused = 0;
        Outcome outcome = rule_.take(payload_of(head), at, cost, unused);
        if (outcome.verdict == Verdict::admitted) {
            const Outcome empty = rule_.take(payload_of(head), at, 0, unused);
            outcome.remaining = empty.remaining;
            outcome.reset_after = empty.reset_after;
        }
        return outcome;
    }

    /// Gives back `cost` of the hit whose Outcome::receipt this is; false when it no longer counts, or when there is no telling
    /// any more.
    bool refund(const Lease& lease, Nanos now, std::uint64_t receipt, std::uint64_t cost) const noexcept {
        for (;;) {
            std::uint64_t head = lease.cell->head.load(std::memory_order_acquire);  // (1)
            const Instant at = lease.shared->instant(now);
            std::uint64_t next = 0;
            if (is_claimed(head) || !lease.holds() || position_of(head) != position_of(receipt) ||
                !rule_.give_back(payload_of(head), at, payload_of(receipt), cost, next)) {
                return false;
            }
            // It may write the number of a window that has begun since the last hit.
            lease.shared->follow(at.now);
            const std::uint32_t ended = Rule::is_disturbed_by_refund(payload_of(head), payload_of(receipt)) ? 1 : 0;
            if (ended != 0 && kCellClasses[0].is_last(position_of(head))) {
                // Positions would come round while tickets of the first ones still count.
                return false;
            }
            if (swap(lease, head, make_word(next, kCellClasses[0].advance(position_of(head), ended)))) {
                return true;
            }
        }
    }

    /// A life that holds nothing.
    [[nodiscard]] Beginning begin(std::uint32_t position, Instant instant) const noexcept {
        return {make_word(rule_.fresh(instant), position), 0};
    }
    [[nodiscard]] bool is_expired(std::uint64_t head, Instant instant) const noexcept {
        return rule_.is_expired(payload_of(head), instant);
    }
    [[nodiscard]] std::uint64_t used(const Cell&, std::uint64_t head, Instant instant) const noexcept {
        return rule_.used(payload_of(head), instant);
    }

  private:
    static bool swap(const Lease& lease, std::uint64_t& head, std::uint64_t next) noexcept {
        if (lease.cell->head.compare_exchange_strong(head, next, std::memory_order_acq_rel,
                                                     std::memory_order_relaxed)) {  // (2)
            return true;
        }
        lease.shared->collided();
        return false;
    }

    Rule rule_;
};

}  // namespace slidegate
