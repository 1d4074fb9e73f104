#include <algorithm>
#include <sys/stat.h>
#include <unistd.h>

#include "catch.hpp"
#include "processes.hpp"
#include "scratch.hpp"
#include "slidegate/segment/segment_list.hpp"

namespace slidegate {

using testing::Kind;
using testing::Scratch;

namespace {

const SegmentInfo* info_of(const std::vector<SegmentInfo>& all, const Scratch& scratch) {
    const auto found = std::ranges::find(all, scratch.name(), &SegmentInfo::name);
    return found == all.end() ? nullptr : &*found;
}

Opening owned_by(const ProcessId& owner) {
    Opening opening;
    opening.size = Layout::kMinSize;
    opening.owner = owner;
    return opening;
}

bool exists(const Scratch& scratch) { return access(scratch.path().c_str(), F_OK) == 0; }

}  // namespace

TEST_CASE("A list tells the segments of shared memory, and what is wrong with one") {
    const Scratch whole(Kind::shared);
    const Scratch torn(Kind::shared);
    static_cast<void>(whole.open(owned_by(ProcessId::self())));
    torn.write("nothing");
    chmod(torn.path().c_str(), 0600);
    const std::vector<SegmentInfo> all = shared_segments();
    const SegmentInfo* info = info_of(all, whole);
    REQUIRE(info != nullptr);
    CHECK(info->damage.empty());
    CHECK(info->size == whole.open().layout().size());
    CHECK(info->owner == ProcessId::self());
    CHECK(info->born > 0);
    info = info_of(all, torn);
    REQUIRE(info != nullptr);
    CHECK_FALSE(info->damage.empty());
    CHECK_FALSE(info->owner);
}

TEST_CASE("What a dead server left is removed, what is owned by a living one or by nobody is not") {
    const Scratch of_dead(Kind::shared);
    const Scratch of_living(Kind::shared);
    const Scratch of_nobody(Kind::shared);
    const pid_t child = testing::start_child([&] { static_cast<void>(of_dead.open(owned_by(ProcessId::self()))); });
    REQUIRE(testing::ended_well(child));
    static_cast<void>(of_living.open(owned_by(ProcessId::self())));
    static_cast<void>(of_nobody.open(owned_by({})));
    REQUIRE(exists(of_dead));
    {
        const Segment in_use = of_dead.open();
        static_cast<void>(remove_leftovers());
        CHECK(exists(of_dead));
    }
    const std::vector<std::string> removed = remove_leftovers();
    CHECK(std::ranges::find(removed, of_dead.name()) != removed.end());
    CHECK_FALSE(exists(of_dead));
    CHECK(exists(of_living));
    CHECK(exists(of_nobody));
}

TEST_CASE("Of those who open a segment one has made it") {
    const Scratch scratch(Kind::file);
    const Segment first = scratch.open();
    const Segment second = scratch.open();
    CHECK(first.is_new());
    CHECK_FALSE(second.is_new());
    CHECK_FALSE(Segment(first.layout()).is_named());
}

}  // namespace slidegate
