#include "slidegate/strategies/moving_window.hpp"

namespace slidegate {

namespace {

constexpr bool same_entry(std::uint64_t a, std::uint64_t b) noexcept {
    return position_of(a) == position_of(b) && stamp_of(a) == stamp_of(b);
}
}  // namespace

struct MovingWindow::Survey {
    std::uint64_t used = 0;
    std::uint32_t span = 0;    ///< entries behind the head, up to the oldest that still counts
    std::int64_t newest = 0;   ///< stamp of the head, unwrapped
    std::int64_t latest = 0;   ///< of the newest entry that counts anything; of the head when none does
    std::int64_t release = 0;  ///< stamp whose expiry makes room for the cost
};

MovingWindow::MovingWindow(Ticks ticks, std::uint64_t amount, CellClass cell_class) noexcept
    : class_(cell_class),
      timeline_(ticks),
      limit_(amount),
      quantum_(amount <= class_.ring ? 1 : (ticks.window + class_.ring - 2) / (class_.ring - 1)) {}

// False when the head has changed meanwhile.
bool MovingWindow::survey(const Cell& cell, std::uint64_t head, const Moment& moment, std::uint64_t cost,
                          Survey& into) const noexcept {
    const std::uint32_t position = position_of(head);

    into.newest = timeline_.unwrap(head, moment);
    if (!timeline_.is_live(into.newest, moment)) {
        return true;
    }
    std::uint64_t count = count_of(head);
    if (is_sealed(head)) {
        // (2) acquire pairs with (5), (6)
        const std::uint64_t closed = cell.ring[position % class_.ring].load(std::memory_order_acquire);
        if (same_entry(closed, head)) {
            count = count_of(closed);
        }
    }
    const std::uint64_t room = limit_ - std::min(limit_, cost);
    const std::int64_t live_ages = timeline_.live_ages(moment);
    std::uint64_t release = head;
    std::uint64_t latest = head;
    std::uint32_t expected = position;
    std::uint32_t slot = position % class_.ring;
    bool is_complete = true;
    into.used = count;
    for (std::uint32_t back = 1; back < class_.ring; ++back) {
        expected = (expected == 0 ? class_.positions : expected) - 1;
        slot = (slot == 0 ? class_.ring : slot) - 1;
        const std::uint64_t word = cell.ring[slot].load(std::memory_order_acquire);  // (2)
        if (position_of(word) != expected) {
            is_complete = cell.head.load(std::memory_order_acquire) == head;
            break;
        }
        if (timeline_.age(word, moment) >= live_ages) {
            break;
        }
        if (count_of(word) != 0) {
            latest = into.used == 0 ? word : latest;
            release = into.used <= room ? word : release;
            into.used += count_of(word);
            into.span = back;
        }
    }
    into.release = timeline_.unwrap(release, moment);
    into.latest = timeline_.unwrap(latest, moment);
    return is_complete;
}

bool MovingWindow::merges(std::uint64_t head, std::uint64_t seen, const Survey& survey,
                          std::int64_t stamp) const noexcept {
    if (is_sealed(head)) {
        return false;
    }
    // The last: an entry of an earlier round of stamps may look like this one, and be taken for its own.
    return count_of(head) == 0 || stamp == survey.newest ||
           (stamp - survey.newest < quantum_ && stamp / quantum_ == survey.newest / quantum_) ||
           survey.span >= class_.ring - 1 || same_entry(seen, head);
}

Word& MovingWindow::slot_of(Cell& cell, std::uint64_t word) const noexcept {
    return cell.ring[position_of(word) % class_.ring];
}

// `seen` was read in the slot before the head was last known to be `head`. Read later, it could be an entry that has taken
// the slot since. False when the head has moved on.
bool MovingWindow::close(Cell& cell, std::uint64_t head, std::uint64_t seen) const noexcept {
    const std::uint64_t closed = head & ~kSealed;
    Word& slot = slot_of(cell, head);
    while (!same_entry(seen, closed)) {
        if (cell.head.load(std::memory_order_acquire) != head) {  // (3)
            return false;
        }
        if (slot.compare_exchange_strong(seen, closed, std::memory_order_acq_rel, std::memory_order_acquire)) {  // (5)
            return true;
        }
    }
    return true;
}

Outcome MovingWindow::hit(const Lease& lease, Nanos now, std::uint64_t cost) const noexcept {
    Cell& cell = *lease.cell;
    for (;;) {
        std::uint64_t head = cell.head.load(std::memory_order_acquire);  // (3) pairs with (4), (7), (8)
        if (is_claimed(head) || !lease.holds()) {
            return {};
        }
        const Moment at = timeline_.at(lease.shared->instant(now));
        Survey found;
        if (!survey(cell, head, at, cost, found)) {
            continue;
        }
        if (cost > limit_ || found.used > limit_ - cost) {
            if (cell.head.load(std::memory_order_acquire) != head) {  // (3)
                continue;
            }
            return refused(at, found, cost);
        }
        lease.shared->follow(at.now);
        const std::int64_t stamp = std::max(at.ceil, found.newest);
        std::uint64_t next = 0;
        // Read before the seal: see close().
        const std::uint64_t seen = slot_of(cell, head).load(std::memory_order_acquire);  // (2)
        if (!timeline_.is_live(found.newest, at)) {
            next = stamped(stamp, cost, class_.advance(position_of(head), class_.ring));
        } else if (merges(head, seen, found, stamp)) {
            next = stamped(stamp, count_of(head) + cost, position_of(head));
        } else {
            if (!is_sealed(head)) {
                if (!cell.head.compare_exchange_strong(head, head | kSealed, std::memory_order_acq_rel,
                                                       std::memory_order_relaxed)) {  // (4)
                    lease.shared->collided();
                    continue;
                }
                head |= kSealed;
            }
            if (!close(cell, head, seen)) {
                continue;
            }
            next = stamped(stamp, cost, class_.advance(position_of(head), 1));
        }
        if (cell.head.compare_exchange_strong(head, next, std::memory_order_acq_rel,
                                              std::memory_order_relaxed)) {  // (4)
            return admitted(at, found.used + cost, stamp, next);
        }
        lease.shared->collided();
    }
}

Outcome MovingWindow::peek(const Lease& lease, Nanos now, std::uint64_t cost) const noexcept {
    const Cell& cell = *lease.cell;
    for (;;) {
        const std::uint64_t head = cell.head.load(std::memory_order_acquire);  // (3)
        if (is_claimed(head) || !lease.holds()) {
            return {};
        }
        const Moment at = timeline_.at(lease.shared->instant(now));
        Survey found;
        if (!survey(cell, head, at, cost, found) || cell.head.load(std::memory_order_acquire) != head) {  // (3)
            continue;
        }
        return cost > limit_ || found.used > limit_ - cost ? refused(at, found, cost)
                                                           : admitted(at, found.used, found.latest, head);
    }
}

bool MovingWindow::is_entry(std::uint64_t word, std::uint64_t receipt) const noexcept {
    // Merging makes an entry's stamp newer, by less than a window as long as it is the same entry.
    const std::int64_t newer = (stamp_of(word) - stamp_of(receipt)) & (kStamps - 1);
    return position_of(word) == position_of(receipt) && newer < timeline_.ticks().window;
}

bool MovingWindow::refund(const Lease& lease, Nanos now, std::uint64_t receipt, std::uint64_t cost) const noexcept {
    Cell& cell = *lease.cell;
    Word& slot = slot_of(cell, receipt);
    for (;;) {
        std::uint64_t head = cell.head.load(std::memory_order_acquire);  // (3)
        if (is_claimed(head) || !lease.holds()) {
            return false;
        }
        const Moment at = timeline_.at(lease.shared->instant(now));
        if (!timeline_.is_live(timeline_.unwrap(receipt, at), at)) {
            return false;
        }
        if (is_entry(head, receipt)) {
            if (!is_sealed(head)) {
                if (count_of(head) < cost) {
                    return false;
                }
                if (cell.head.compare_exchange_strong(head, with_count(head, count_of(head) - cost),
                                                      std::memory_order_acq_rel, std::memory_order_relaxed)) {  // (7)
                    return true;
                }
                lease.shared->collided();
                continue;
            }
            if (!close(cell, head, slot.load(std::memory_order_acquire))) {  // (2)
                continue;
            }
        }
        std::uint64_t word = slot.load(std::memory_order_acquire);  // (2)
        if (!is_entry(word, receipt) || count_of(word) < cost) {
            if (cell.head.load(std::memory_order_acquire) != head) {  // (3)
                continue;
            }
            return false;
        }
        if (slot.compare_exchange_strong(word, with_count(word, count_of(word) - cost), std::memory_order_acq_rel,
                                         std::memory_order_relaxed)) {  // (6)
            return true;
        }
        lease.shared->collided();
    }
}

Beginning MovingWindow::begin(std::uint32_t position, Instant instant) const noexcept {
    return {stamped(timeline_.at(instant).ceil, 0, position), (position + class_.ring - 1) % class_.ring};
}

bool MovingWindow::is_expired(std::uint64_t head, Instant instant) const noexcept {
    const Moment at = timeline_.at(instant);
    return !timeline_.is_live(timeline_.unwrap(head, at), at);
}

std::uint64_t MovingWindow::used(const Cell& cell, std::uint64_t head, Instant instant) const noexcept {
    Survey found;
    // A head that moved on is not the caller's `head` any more: what is counted here will not be acted on.
    return survey(cell, head, timeline_.at(instant), 1, found) ? found.used : 1;
}

Outcome MovingWindow::admitted(const Moment& moment, std::uint64_t used, std::int64_t latest,
                               std::uint64_t word) const noexcept {
    return {Verdict::admitted, limit_ - used, used == 0 ? 0 : timeline_.until_expired(latest, moment), 0, word};
}

Outcome MovingWindow::refused(const Moment& moment, const Survey& survey, std::uint64_t cost) const noexcept {
    return {Verdict::refused, limit_ - std::min(limit_, survey.used),
            survey.used == 0 ? 0 : timeline_.until_expired(survey.latest, moment),
            cost > limit_ ? kNever : timeline_.until_expired(survey.release, moment), 0};
}

}  // namespace slidegate
