// Segments that outlive a boot: windows go on, and become longer rather than shorter.
#include <array>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "catch.hpp"
#include "errors_of.hpp"
#include "lone_cell.hpp"
#include "processes.hpp"
#include "scratch.hpp"
#include "slidegate/limiter/limiter.hpp"
#include "slidegate/values/errors.hpp"

namespace slidegate {

using testing::Inherited;
using testing::Kind;
using testing::kSecond;
using testing::Scratch;
using testing::step_through;
using testing::Stops;

namespace {

constexpr Nanos kHour = 3'600 * kSecond;
constexpr Nanos kNoon = 1'800'000'000 * kSecond;
constexpr BootId kMonday{{1, 2}, 3};
constexpr BootId kTuesday{{4, 5}, 3};

Opening at(const BootId& boot, Nanos since_boot, Nanos wall) {
    Opening opening;
    opening.layout = {4, 1 << 14};
    opening.patience_ms = 50;
    opening.moment = BootMoment{boot, since_boot, wall};
    return opening;
}

/// A limiter of five an hour as a program has it that runs in a boot.
struct Program {
    Program(const Scratch& scratch, const BootId& boot, Nanos since_boot, Nanos wall)
        : clock(std::make_shared<ManualClock>(since_boot)), limiter([&] {
              Options options;
              options.clock = clock;
              options.segment = std::make_shared<Segment>(scratch.open(at(boot, since_boot, wall)));
              return Limiter(options);
          }()) {}

    [[nodiscard]] Decision hit() const { return limiter.policy({{Quota(5, kHour), "chat"}}).hit("alice", 5); }

    std::shared_ptr<ManualClock> clock;
    Limiter limiter;
};

void use_up_on_monday(const Scratch& scratch) {
    const Program program(scratch, kMonday, 100 * kHour, kNoon);
    REQUIRE(program.hit().allowed);
}

// How long a program that starts on Tuesday, 10 s after the machine, still refuses what was used up on Monday.
Nanos wait_on_tuesday(const Scratch& scratch, Nanos wall) {
    const Program program(scratch, kTuesday, 10 * kSecond, wall);
    const Decision refused = program.hit();
    if (refused.allowed) {
        return 0;
    }
    program.clock->advance(refused.retry_after - kSecond);
    REQUIRE_FALSE(program.hit().allowed);
    program.clock->advance(2 * kSecond);
    REQUIRE(program.hit().allowed);
    return refused.retry_after;
}

}  // namespace

TEST_CASE("After a restart a window goes on where the wall clock says it is, to a second") {
    const Scratch scratch(GENERATE(Kind::file, Kind::shared));
    use_up_on_monday(scratch);
    const Nanos since = GENERATE(20 * kSecond, 1'800 * kSecond, 3'590 * kSecond);
    const Nanos wait = wait_on_tuesday(scratch, kNoon + since);
    CHECK(wait >= kHour - since);
    CHECK(wait <= kHour - since + kSecond);
}

TEST_CASE("After a restart that took longer than the window nothing is counted") {
    const Scratch scratch(Kind::file);
    use_up_on_monday(scratch);
    CHECK(wait_on_tuesday(scratch, kNoon + kHour + kSecond) == 0);
}

TEST_CASE("A wall clock that was set back makes the window longer, by no more than the machine was off") {
    const Scratch scratch(Kind::file);
    use_up_on_monday(scratch);
    const Nanos wall = GENERATE(values<Nanos>({kNoon, kNoon - 1'000 * kHour, 0}));
    const Nanos wait = wait_on_tuesday(scratch, wall);
    CHECK(wait >= kHour - 10 * kSecond);
    CHECK(wait <= kHour - 9 * kSecond);
}

TEST_CASE("A wall clock that was corrected while the segment was in use is not believed to have passed") {
    const Scratch scratch(Kind::file);
    {
        const Program early(scratch, kMonday, 10 * kSecond, 0);
        const Program later(scratch, kMonday, 20 * kSecond, kNoon);  // as it has been told since
        REQUIRE(later.hit().allowed);
    }
    const Nanos wait = wait_on_tuesday(scratch, kNoon + 600 * kSecond);
    CHECK(wait >= kHour - 600 * kSecond);
    CHECK(wait <= kHour - 599 * kSecond);
}

TEST_CASE("Several restarts add up, and a reading of the same boot changes nothing") {
    const Scratch scratch(Kind::file);
    use_up_on_monday(scratch);
    Nanos wall = kNoon;
    for (std::uint64_t boot = 10; boot < 15; ++boot) {
        wall += 600 * kSecond;
        for (int i = 0; i < 3; ++i) {
            const Program program(scratch, {{boot, 0}, 3}, 5 * kSecond, wall);
            const Decision refused = program.hit();
            REQUIRE_FALSE(refused.allowed);
            const Nanos rest = kHour - (wall - kNoon);
            CHECK(refused.retry_after >= rest);
            CHECK(refused.retry_after <= rest + kSecond);
        }
    }
    const Program last(scratch, {{15, 0}, 3}, 5 * kSecond, wall + 601 * kSecond);
    CHECK(last.hit().allowed);
}

TEST_CASE("In another namespace of times the clock starts elsewhere, and the wall clock tells") {
    const Scratch scratch(Kind::file);
    use_up_on_monday(scratch);
    const Program program(scratch, {kMonday.boot, 99}, 7'000 * kHour, kNoon + 60 * kSecond);
    const Decision refused = program.hit();
    CHECK_FALSE(refused.allowed);
    CHECK(refused.retry_after >= kHour - 60 * kSecond);
    CHECK(refused.retry_after <= kHour - 59 * kSecond);
}

TEST_CASE("What is in use by one namespace of times is refused to another") {
    const Scratch scratch(Kind::shared);
    const Segment used = scratch.open(at(kMonday, 0, 0));
    CHECK_THROWS_AS(scratch.open(at({kMonday.boot, 99}, 0, 0)), SegmentBusy);
    CHECK(scratch.open(at(kMonday, 0, 0)).offset() == 0);
}

TEST_CASE("Whoever is killed at any instruction while rebasing leaves it done or undone") {
    const Scratch scratch(Kind::file);
    use_up_on_monday(scratch);
    const Segment segment = scratch.open(at(kMonday, 100 * kHour, kNoon));
    // Stepped through as a function on the header: what a file holds is what memory holds.
    const Inherited<std::array<std::uint64_t, kPage / 8>> page;
    std::memcpy(&*page, &segment.header(), kPage);
    auto* const header = reinterpret_cast<SegmentHeader*>(&*page);
    const BootMoment moment{kTuesday, 10 * kSecond, kNoon + 600 * kSecond};
    int undone = 0;
    int done = 0;
    const std::int64_t instructions = step_through(
        Stops::instructions, [&] { header->rebase(*header->epoch(), moment); },
        [&] {
            alignas(SegmentHeader) std::array<std::uint64_t, kPage / 8> left = *page;
            auto* const after = reinterpret_cast<SegmentHeader*>(&left);
            Epoch* epoch = after->epoch();
            REQUIRE(epoch != nullptr);
            const bool is_done = epoch->boot == kTuesday;
            REQUIRE((is_done || done == 0));
            ++(is_done ? done : undone);
            if (!is_done) {
                after->rebase(*epoch, moment);
                epoch = after->epoch();
            }
            REQUIRE(epoch->boot == kTuesday);
            REQUIRE(epoch->begun == Shared::read(after->shared.floor) + 600 * kSecond);
            return true;
        });
    if (instructions < 0) {
        WARN("children cannot be traced here: nothing was killed");
        return;
    }
    REQUIRE(undone > 20);
    REQUIRE(done > 0);
}

TEST_CASE("Whoever is killed at any system call while rebasing a file leaves it to the next") {
    std::int64_t all = 1;
    for (std::int64_t last = 0; last < all; ++last) {
        const Scratch scratch(Kind::file);
        use_up_on_monday(scratch);
        std::int64_t stop = 0;
        all = step_through(
            Stops::system_calls,
            [&] { static_cast<void>(scratch.open(at(kTuesday, 5 * kSecond, kNoon + 600 * kSecond))); },
            [&] { return stop++ < last; });
        if (all < 0) {
            WARN("children cannot be traced here: nothing was killed");
            return;
        }
        all = all == last ? all + 2 : all;
        const Nanos wait = wait_on_tuesday(scratch, kNoon + 605 * kSecond);
        REQUIRE(wait >= kHour - 605 * kSecond);
        REQUIRE(wait <= kHour - 599 * kSecond);
    }
    REQUIRE(all > 20);
}

TEST_CASE("Many who open a segment of another boot agree on its time") {
    const Scratch scratch(GENERATE(Kind::file, Kind::shared));
    for (std::uint64_t boot = 10; boot < 30; ++boot) {
        constexpr std::size_t kChildren = 6;
        const auto today = kNoon + static_cast<Nanos>(boot) * 24 * kHour;
        static_cast<void>(scratch.open(at({{boot, 0}, 0}, 0, today)));
        const Inherited<std::array<std::atomic<Nanos>, kChildren>> offsets;
        std::vector<pid_t> children;
        for (std::size_t i = 0; i < kChildren; ++i) {
            children.push_back(testing::start_child([&] {
                Opening opening = at({{boot, 1}, 0}, 100 * kSecond + static_cast<Nanos>(i), today + kHour);
                opening.patience_ms = 5'000;
                const Segment segment = scratch.open(opening);
                (*offsets)[i] = segment.offset();
                usleep(1'000);
            }));
        }
        for (const pid_t child : children) {
            REQUIRE(testing::ended_well(child));
        }
        for (const auto& offset : *offsets) {
            REQUIRE(offset == (*offsets)[0]);
        }
    }
}

TEST_CASE("The machine tells which boot it is, and the same all along") {
    const BootMoment one = BootMoment::now();
    const BootMoment other = BootMoment::now();
    CHECK(one.id == other.id);
    CHECK(one.id != BootId{});
    CHECK(other.since_boot >= one.since_boot);
    CHECK(one.wall > kNoon / 2);
}

}  // namespace slidegate
