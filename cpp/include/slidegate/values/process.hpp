// Names one process of this host, for longer than its number does.
#pragma once

#include <cstdint>
#include <span>

namespace slidegate {

/// A process by number and start: numbers are given again, starts are not. Two words of plain memory.
struct ProcessId {
    std::uint64_t pid = 0;    ///< 0: nobody
    std::uint64_t start = 0;  ///< clock ticks since boot

    /// The process with this number; nobody when there is none.
    [[nodiscard]] static ProcessId of(std::uint64_t pid) noexcept;
    [[nodiscard]] static ProcessId self() noexcept;

    explicit operator bool() const noexcept { return pid != 0; }
    /// Whether it still runs; one that has ended and was not waited for does not. Of processes that this one cannot see
    /// (of another pid namespace) it says that they do not.
    [[nodiscard]] bool is_alive() const noexcept { return pid != 0 && of(pid) == *this; }

    friend bool operator==(const ProcessId&, const ProcessId&) = default;
};

/// The 16 random bytes that the kernel gave this program when it was started (AT_RANDOM): processes that are forked from it
/// have the same, and other users cannot know them. The C library makes its own secrets of them: to be hashed, not shown.
[[nodiscard]] std::span<const char> launch_secret() noexcept;

}  // namespace slidegate
