// What a hit or a peek answers.
#pragma once

#include <cstddef>
#include <cstdint>

#include "slidegate/values/clock.hpp"

namespace slidegate {

/// A retry_after of a cost that no wait will admit, because it is above the limit itself.
inline constexpr Nanos kNever = -1;

/// The answer to one hit against one or several quotas. Integers only; times in nanoseconds from the hit's `now`.
struct Decision {
    bool allowed = false;
    std::uint32_t quota = 0;      ///< index of the quota reported: the one that refuses longest, or has least remaining
    std::uint64_t limit = 0;      ///< amount of that quota
    std::uint64_t remaining = 0;  ///< what it would still admit at this moment
    Nanos reset_after = 0;        ///< until it is whole again
    Nanos retry_after = 0;  ///< until it would admit this cost: 0 when allowed, kNever when the cost exceeds the limit
    bool is_stored = true;  ///< false: nothing was decided, as the system has no memory or disk to count a new key in
};

}  // namespace slidegate
