// The exact sliding log: what a moving window has to agree with.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "slidegate/values/clock.hpp"

namespace slidegate::testing {

/// Remembers every admission. Times must not decrease; they and the window may be in any one unit.
class Oracle {
  public:
    Oracle(std::uint64_t limit, std::int64_t window) : limit_(limit), window_(window) {}

    [[nodiscard]] std::uint64_t used(std::int64_t now) const {
        std::uint64_t sum = 0;
        for (const Hit& hit : log_) {
            sum += is_live(hit, now) ? hit.cost : 0;
        }
        return sum;
    }
    [[nodiscard]] bool would_admit(std::int64_t now, std::uint64_t cost) const {
        return cost <= limit_ && used(now) <= limit_ - cost;
    }
    void record(std::int64_t now, std::uint64_t cost) { log_.push_back({now, cost}); }
    /// The newest admission that is not refunded yet and was this one.
    void refund(std::int64_t now, std::uint64_t cost) {
        const auto found = std::find(log_.rbegin(), log_.rend(), Hit{now, cost});
        log_.erase(std::next(found).base());
    }
    [[nodiscard]] std::int64_t reset_after(std::int64_t now) const {
        std::int64_t newest = now - window_;
        for (const Hit& hit : log_) {
            newest = std::max(newest, hit.at);
        }
        return newest + window_ - now;
    }
    /// 0 when it would be admitted. `cost` must not exceed the limit.
    [[nodiscard]] std::int64_t retry_after(std::int64_t now, std::uint64_t cost) const {
        std::int64_t wait = 0;
        for (auto hit = log_.begin(); hit != log_.end() && !would_admit(now + wait, cost); ++hit) {
            wait = std::max(wait, hit->at + window_ - now);
        }
        return wait;
    }

  private:
    struct Hit {
        std::int64_t at;
        std::uint64_t cost;
        friend bool operator==(const Hit&, const Hit&) = default;
    };
    [[nodiscard]] bool is_live(const Hit& hit, std::int64_t now) const { return now < hit.at + window_; }

    std::uint64_t limit_;
    std::int64_t window_;
    std::vector<Hit> log_;
};

/// An admission as a log of many threads keeps it.
struct Admission {
    std::int64_t at = 0;
    std::uint64_t cost = 0;
    friend auto operator<=>(const Admission&, const Admission&) = default;
};

/// The most that was admitted in any window, whichever moment it starts at. Sorts the log.
inline std::uint64_t fullest_window(std::vector<Admission>& log, std::int64_t window) {
    std::sort(log.begin(), log.end());
    std::uint64_t most = 0;
    std::uint64_t sum = 0;
    auto oldest = log.begin();
    for (const Admission& newest : log) {
        sum += newest.cost;
        for (; oldest->at <= newest.at - window; ++oldest) {
            sum -= oldest->cost;
        }
        most = std::max(most, sum);
    }
    return most;
}

}  // namespace slidegate::testing
