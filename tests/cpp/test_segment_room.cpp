#include <cerrno>
#include <functional>
#include <optional>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

#include "catch.hpp"
#include "scratch.hpp"
#include "slidegate/segment/segment.hpp"
#include "slidegate/values/errors.hpp"

namespace {

// What happens instead of an allocation, which then fails.
std::function<void()> in_place_of_allocation;

}  // namespace

// By these two segments get memory and disk.
extern "C" int fallocate(int descriptor, int mode, off_t offset, off_t bytes) {
    if (!in_place_of_allocation) {
        return static_cast<int>(syscall(SYS_fallocate, descriptor, mode, offset, bytes));
    }
    in_place_of_allocation();
    errno = ENOSPC;
    return -1;
}

extern "C" int madvise(void* memory, std::size_t bytes, int advice) noexcept {
    if (!in_place_of_allocation) {
        return static_cast<int>(syscall(SYS_madvise, memory, bytes, advice));
    }
    errno = EFAULT;
    return -1;
}

namespace slidegate {

TEST_CASE("Who finds no room for a segment, as others take it to make the same one, has theirs") {
    const testing::Scratch scratch(testing::Kind::shared);
    std::optional<Segment> theirs;
    in_place_of_allocation = [&] {
        in_place_of_allocation = {};
        theirs.emplace(scratch.open());
        in_place_of_allocation = [] {};
    };
    const Segment ours = scratch.open();
    in_place_of_allocation = {};
    CHECK(theirs->is_new());
    CHECK_FALSE(ours.is_new());
    CHECK(ours.secret() == theirs->secret());
}

TEST_CASE("Who finds no room for a segment, and nobody else's, says so in the end") {
    const testing::Scratch scratch(testing::Kind::shared);
    in_place_of_allocation = [] {};
    CHECK_THROWS_AS(scratch.open(), SegmentError);
    in_place_of_allocation = {};
}

}  // namespace slidegate
