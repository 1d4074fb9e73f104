// Several processes that make, mend and remove one segment at a moment, and die of it.
#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <string>
#include <sys/stat.h>
#include <vector>

#include "catch.hpp"
#include "processes.hpp"
#include "scratch.hpp"
#include "slidegate/values/errors.hpp"

namespace slidegate {

using testing::Dice;
using testing::ended_well;
using testing::Inherited;
using testing::Kind;
using testing::kIsSanitized;
using testing::Scratch;
using testing::start_child;
using testing::step_through;
using testing::Stops;

namespace {

constexpr std::size_t kChildren = 6;
constexpr int kRounds = kIsSanitized ? 15 : 60;

struct Meeting {
    std::atomic<bool> is_open = false;
    std::array<std::atomic<std::uint64_t>, kChildren> secrets;
};

Opening opening_of(OnDamage on_damage = OnDamage::error) {
    Opening opening;
    opening.layout = {4, 1 << 14};
    opening.on_damage = on_damage;
    return opening;
}

/// All at once, and those of `dying` killed at random instants. The secret that those who were left have found: one.
std::uint64_t meet(const Scratch& scratch, const Opening& opening, std::size_t dying, Dice& dice) {
    const Inherited<Meeting> meeting;
    std::vector<pid_t> children;
    for (std::size_t i = 0; i < kChildren; ++i) {
        children.push_back(start_child([&] {
            while (!meeting->is_open) {
            }
            const Segment segment = scratch.open(opening);
            meeting->secrets[i] = segment.secret()[0];
            // Not to end before the others have come: what one leaves they would only find.
            usleep(3'000);
        }));
    }
    meeting->is_open = true;
    for (std::size_t i = 0; i < dying; ++i) {
        usleep(static_cast<useconds_t>(dice.roll(0, 300)));
        kill(children[i], SIGKILL);
    }
    std::uint64_t secret = 0;
    for (std::size_t i = 0; i < kChildren; ++i) {
        const bool is_well = ended_well(children[i]);
        REQUIRE((is_well || i < dying));
        const std::uint64_t found = meeting->secrets[i];
        REQUIRE((found != 0 || i < dying));
        REQUIRE((found == 0 || secret == 0 || found == secret));
        secret = found != 0 ? found : secret;
    }
    return secret;
}

std::size_t files_like(const Scratch& scratch) {
    std::size_t files = 0;
    for (const auto& entry : std::filesystem::directory_iterator(std::filesystem::path(scratch.path()).parent_path())) {
        files += entry.path().string().starts_with(scratch.path()) ? 1U : 0U;
    }
    return files;
}

}  // namespace

TEST_CASE("Of many who make a segment at a moment one does, and all get that one") {
    const Kind kind = GENERATE(Kind::shared, Kind::file);
    const std::size_t dying = GENERATE(as<std::size_t>(), 0, 3);
    Dice dice(3);
    for (int round = 0; round < kRounds; ++round) {
        const Scratch scratch(kind);
        const std::uint64_t secret = meet(scratch, opening_of(), dying, dice);
        REQUIRE(scratch.open().secret()[0] == secret);
        REQUIRE(files_like(scratch) == 1);
    }
}

TEST_CASE("Of many who replace a damaged segment at a moment one does, and all get that one") {
    const Kind kind = GENERATE(Kind::shared, Kind::file);
    const std::size_t dying = GENERATE(as<std::size_t>(), 0, 3);
    Dice dice(4);
    for (int round = 0; round < kRounds; ++round) {
        const Scratch scratch(kind);
        const std::uint64_t before = scratch.open(opening_of()).secret()[0];
        std::string bytes = scratch.bytes();
        bytes[offsetof(Birth, check)] = static_cast<char>(~bytes[offsetof(Birth, check)]);
        scratch.write(bytes);
        const std::uint64_t secret = meet(scratch, opening_of(OnDamage::recreate), dying, dice);
        REQUIRE(secret != before);
        REQUIRE(scratch.open().secret()[0] == secret);
        REQUIRE(files_like(scratch) == 1);
    }
}

TEST_CASE("A creator killed at any system call leaves nothing or a whole segment") {
    const Scratch scratch(GENERATE(Kind::shared, Kind::file));
    std::vector<std::size_t> files;
    const std::int64_t stops = step_through(
        Stops::system_calls, [&] { static_cast<void>(scratch.open(opening_of())); },
        [&] {
            files.push_back(files_like(scratch));
            if (files.back() != 0) {
                Opening attach = opening_of();
                attach.may_create = false;
                REQUIRE(scratch.open(attach).layout() == opening_of().layout);
            }
            return true;
        });
    if (stops < 0) {
        WARN("children cannot be traced here: nothing was killed");
        return;
    }
    REQUIRE(stops > 20);
    REQUIRE(files.front() == 0);
    REQUIRE(files.back() == 1);
    REQUIRE(std::is_sorted(files.begin(), files.end()));
}

TEST_CASE("A mender killed at any system call leaves something to mend or a whole segment") {
    const Scratch scratch(GENERATE(Kind::shared, Kind::file));
    std::int64_t all = 1;
    for (std::int64_t last = 0; last < all; ++last) {
        scratch.write("no segment at all");
        REQUIRE(chmod(scratch.path().c_str(), 0600) == 0);
        std::int64_t stop = 0;
        all = step_through(
            Stops::system_calls, [&] { static_cast<void>(scratch.open(opening_of(OnDamage::recreate))); },
            [&] { return stop++ < last; });
        if (all < 0) {
            WARN("children cannot be traced here: nothing was killed");
            return;
        }
        all = all == last ? all + 2 : all;
        REQUIRE(scratch.open(opening_of(OnDamage::recreate)).layout() == opening_of().layout);
        REQUIRE(files_like(scratch) == 1);
    }
    REQUIRE(all > 20);
}

TEST_CASE("A segment that was used before a fork is used after it by both") {
    const bool is_shared = GENERATE(false, true);
    const Segment segment({4, 1 << 14}, is_shared ? AfterFork::shared : AfterFork::copied);
    segment.header().shared.full = 1;
    REQUIRE(ended_well(start_child([&] { segment.header().shared.full += 1; })));
    REQUIRE(segment.header().shared.full == (is_shared ? 2 : 1));
}

}  // namespace slidegate
