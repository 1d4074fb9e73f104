// Which segments there are in the shared memory of this host, and which of them nobody needs any more.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "slidegate/values/clock.hpp"
#include "slidegate/values/process.hpp"

namespace slidegate {

struct SegmentInfo {
    std::string name;        ///< to be opened with
    std::string damage;      ///< what is wrong with it; empty: nothing. Then all that follows holds.
    std::uint64_t size = 0;  ///< of index and cells
    ProcessId owner;         ///< whose end makes it useless; nobody: it outlives them all
    Nanos born = 0;          ///< wall time, since 1970
};

/// This user's, by name.
[[nodiscard]] std::vector<SegmentInfo> shared_segments();

/// Takes away the names of those whose owner has ended and that nobody has open, and says which. To be called at any time, by
/// any number of processes.
std::vector<std::string> remove_leftovers();

}  // namespace slidegate
