// libFuzzer: torn segments, in memory and in files. `make fuzz` runs it.
#include <cstddef>
#include <cstdint>

#include "torn_segment.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size < 2) {
        return 0;
    }
    const std::span<const std::uint8_t> bytes(data + 1, size - 1);
    if (data[0] % 4 == 0) {
        slidegate::testing::tear_file(bytes);
    } else {
        slidegate::testing::tear_memory(bytes);
    }
    return 0;
}
