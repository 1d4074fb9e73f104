// A key as the table knows it.
#pragma once

#include <cstdint>

namespace slidegate {

/// 128 bits of a keyed hash: where a key belongs, and who it is.
struct Digest {
    std::uint64_t place = 0;
    std::uint64_t identity = 0;
};

}  // namespace slidegate
