// Which boot of the machine it is, and what its clocks say: how times are carried from one boot to the next.
#pragma once

#include <array>
#include <cstdint>

#include "slidegate/values/clock.hpp"

namespace slidegate {

/// What one reading of CLOCK_BOOTTIME can be compared within: a boot, and in it a namespace of times.
struct BootId {
    std::array<std::uint64_t, 2> boot{};  ///< the kernel's random id of this boot
    std::uint64_t time_namespace = 0;     ///< 0 where there are none

    friend bool operator==(const BootId&, const BootId&) = default;
};

/// One look at the machine's clocks.
struct BootMoment {
    BootId id;
    Nanos since_boot = 0;  ///< CLOCK_BOOTTIME
    Nanos wall = 0;        ///< CLOCK_REALTIME, since 1970

    /// As they are. Throws SegmentError when the system does not say which boot it is.
    [[nodiscard]] static BootMoment now();
};

}  // namespace slidegate
