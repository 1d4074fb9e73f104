#include "slidegate/values/clock.hpp"

#include <ctime>

namespace slidegate {

Nanos BootClock::now() const noexcept {
#ifdef CLOCK_BOOTTIME
    constexpr clockid_t kClock = CLOCK_BOOTTIME;
#else
    constexpr clockid_t kClock = CLOCK_MONOTONIC;
#endif
    timespec time{};
    clock_gettime(kClock, &time);
    return Nanos{time.tv_sec} * 1'000'000'000 + time.tv_nsec;
}

}  // namespace slidegate
