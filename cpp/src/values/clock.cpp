#include "slidegate/values/clock.hpp"

#include <ctime>

namespace slidegate {

namespace {

Nanos read(clockid_t clock) noexcept {
    timespec time{};
    clock_gettime(clock, &time);
    return Nanos{time.tv_sec} * 1'000'000'000 + time.tv_nsec;
}

}  // namespace

Nanos wall_now() noexcept { return read(CLOCK_REALTIME); }

Nanos BootClock::now() const noexcept {
#ifdef CLOCK_BOOTTIME
    return read(CLOCK_BOOTTIME);
#else
    return read(CLOCK_MONOTONIC);
#endif
}

}  // namespace slidegate
