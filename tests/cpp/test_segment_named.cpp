// Segments that have a name: made, found, refused and replaced.
#include <cstdint>
#include <string>
#include <sys/stat.h>
#include <unistd.h>

#include "catch.hpp"
#include "errors_of.hpp"
#include "scratch.hpp"
#include "slidegate/limiter/limiter.hpp"
#include "slidegate/values/errors.hpp"

namespace slidegate {

using testing::Kind;
using testing::mentions;
using testing::message_of;
using testing::Scratch;

namespace {

constexpr Layout kSmall{4, 1 << 14};

const Opening kAttach = [] {
    Opening opening;
    opening.may_create = false;
    return opening;
}();

Opening small(OnDamage on_damage = OnDamage::error) {
    Opening opening;
    opening.layout = kSmall;
    opening.on_damage = on_damage;
    opening.patience_ms = 50;
    return opening;
}

Limiter limiter_in(Segment segment, std::shared_ptr<const Clock> clock) {
    Options options;
    options.clock = std::move(clock);
    options.segment = std::make_shared<Segment>(std::move(segment));
    return Limiter(options);
}

const std::vector<Rule> kFive = {{Quota(5, 60'000'000'000), "chat"}};

}  // namespace

TEST_CASE("Two mappings of one segment count together, whoever made it") {
    const Scratch scratch(GENERATE(Kind::shared, Kind::file));
    const auto clock = std::make_shared<ManualClock>(0);
    const Limiter one = limiter_in(scratch.open(small()), clock);
    const Limiter other = limiter_in(scratch.open(), clock);
    const Policy of_one = one.policy(kFive);
    const Policy of_other = other.policy(kFive);
    CHECK(of_one.hit("alice", 2).remaining == 3);
    CHECK(of_other.hit("alice", 3).remaining == 0);
    CHECK_FALSE(of_one.hit("alice").allowed);
    CHECK(of_one.hit("bob").allowed);
    SECTION("a ticket of one is refunded for both") {
        Ticket ticket;
        CHECK(of_other.hit("bob", 4, &ticket).allowed);
        CHECK_FALSE(of_one.hit("bob").allowed);
        CHECK(of_other.refund(ticket));
        CHECK(of_one.hit("bob").allowed);
    }
    SECTION("a reset by one is a reset for both") {
        one.reset();
        CHECK(of_other.peek("alice").remaining == 5);
    }
    SECTION("counters are of the segment") {
        CHECK(other.stats().cells == one.stats().cells);
        CHECK(one.stats().cells == 2);
    }
    SECTION("rules that differ in scope or quota share nothing") {
        CHECK(other.policy({{Quota(5, 60'000'000'000), "else"}}).hit("alice").allowed);
        CHECK(other.policy({{Quota(6, 60'000'000'000), "chat"}}).hit("alice").allowed);
    }
}

TEST_CASE("A full named segment does what on_full says, and counts it for all") {
    const Scratch scratch(Kind::shared);
    const auto clock = std::make_shared<ManualClock>(0);
    Opening tiny;
    tiny.layout = {1, 1024};
    Options options;
    options.clock = clock;
    options.on_full = OnFull::refuse;
    options.segment = std::make_shared<Segment>(scratch.open(tiny));
    const Policy refusing = Limiter(options).policy(kFive);
    options.on_full = OnFull::evict;
    options.segment = std::make_shared<Segment>(scratch.open());
    const Limiter evicting(options);
    for (int key = 0; key < 8; ++key) {
        CHECK(refusing.hit(std::to_string(key)).allowed == (key < 5));
    }
    CHECK(evicting.stats().full == 3);
    CHECK(evicting.policy(kFive).hit("another").allowed);
    CHECK(evicting.stats().evictions == 1);
}

TEST_CASE("What was counted is there when all have gone and somebody comes back") {
    const Scratch scratch(GENERATE(Kind::shared, Kind::file));
    const auto clock = std::make_shared<ManualClock>(0);
    CHECK(limiter_in(scratch.open(small()), clock).policy(kFive).hit("alice", 5).allowed);
    CHECK_FALSE(limiter_in(scratch.open(kAttach), clock).policy(kFive).hit("alice").allowed);
}

TEST_CASE("A named segment is its user's alone, whatever the umask") {
    const Scratch scratch(GENERATE(Kind::shared, Kind::file));
    const mode_t before = umask(GENERATE(as<mode_t>(), 0, 0777));
    const Segment segment = scratch.open(small());
    umask(before);
    struct stat status{};
    REQUIRE(stat(scratch.path().c_str(), &status) == 0);
    CHECK((status.st_mode & 07777) == 0600);
    CHECK(status.st_uid == geteuid());
}

TEST_CASE("Every named segment has a secret of its own, and all who attach know it") {
    const Scratch scratch(Kind::shared);
    const Scratch other(Kind::shared);
    const Segment segment = scratch.open(small());
    CHECK(segment.secret() == scratch.open().secret());
    CHECK(segment.secret() != other.open(small()).secret());
    CHECK(segment.secret() != detail::Key128{});
}

TEST_CASE("A size is taken as it is found, and another one is refused with both") {
    const Scratch scratch(Kind::shared);
    Opening opening;
    opening.size = 2 << 20;
    const Segment segment = scratch.open(opening);
    CHECK(segment.layout() == Layout::for_size(2 << 20));
    CHECK(scratch.open().layout() == segment.layout());
    CHECK(scratch.open(opening).layout() == segment.layout());
    opening.size = 3 << 20;
    const std::string message = message_of<SegmentMismatch>([&] { static_cast<void>(scratch.open(opening)); });
    CHECK(mentions(message, "2097152 bytes, not 3145728"));
    CHECK(mentions(message, scratch.path()));
}

TEST_CASE("Attaching without making finds nothing where there is nothing") {
    const Scratch scratch(GENERATE(Kind::shared, Kind::file));
    CHECK(mentions(message_of<SegmentMissing>([&] { static_cast<void>(scratch.open(kAttach)); }), scratch.path()));
    CHECK(access(scratch.path().c_str(), F_OK) != 0);
}

TEST_CASE("Names that could lead out of their directory are refused") {
    for (const char* name : {"", ".hidden", "a/b", "..", "a b", "a\n"}) {
        CHECK(mentions(message_of<InvalidArgument>([&] { static_cast<void>(Segment::shared(name, small())); }),
                       "letters, digits"));
    }
    CHECK_THROWS_AS(Segment::shared(std::string(201, 'a'), small()), InvalidArgument);
    CHECK_THROWS_AS(Segment::file("", small()), InvalidArgument);
    CHECK_THROWS_AS(Segment::shared("name",
                                    [] {
                                        Opening opening;
                                        opening.size = 1;
                                        return opening;
                                    }()),
                    InvalidArgument);
}

TEST_CASE("A directory that is not there is named") {
    Opening opening = small();
    CHECK(mentions(message_of<SegmentError>([&] { static_cast<void>(Segment::file("/nowhere/to/be/found", opening)); }),
                   "/nowhere/to/be"));
}

TEST_CASE("A damaged segment is an error that says what was found, or is made anew, as was asked for") {
    const Scratch scratch(GENERATE(Kind::shared, Kind::file));
    static_cast<void>(scratch.open(small()));
    std::string bytes = scratch.bytes();
    std::string found;
    SECTION("empty") {
        bytes.clear();
        found = "0 bytes";
    }
    SECTION("shorter than a header") {
        bytes.resize(100);
        found = "100 bytes";
    }
    SECTION("cut off") {
        bytes.resize(bytes.size() - 1);
        found = std::to_string(bytes.size()) + " bytes of the " + std::to_string(bytes.size() + 1);
    }
    SECTION("something else") {
        bytes.replace(0, 8, "%PDF-1.4");
        found = "'%PDF-1.4', not with 'slidegat'";
    }
    SECTION("of another version") {
        bytes[offsetof(Birth, version)] = 9;
        found = "of version 9, and this is version";
    }
    SECTION("with a torn header") {
        bytes[offsetof(Birth, secret)] = static_cast<char>(~bytes[offsetof(Birth, secret)]);
        found = "checksum";
    }
    SECTION("without a whole record of a boot") {
        bytes[offsetof(SegmentHeader, epochs)] = static_cast<char>(~bytes[offsetof(SegmentHeader, epochs)]);
        found = "record";
    }
    SECTION("made by a build with other cells") {
        Birth birth = *reinterpret_cast<const Birth*>(bytes.data());
        birth.shape ^= 1;
        birth.seal();
        bytes.replace(0, sizeof birth, reinterpret_cast<const char*>(&birth), sizeof birth);
        found = "other sizes of cells";
    }
    SECTION("with a layout that cannot be") {
        Birth birth = *reinterpret_cast<const Birth*>(bytes.data());
        birth.layout = GENERATE(Layout{3, 1024}, Layout{0, 1024}, Layout{std::uint64_t{1} << 63, 1024}, Layout{1, 0},
                                Layout{1, ~std::uint64_t{0}});
        birth.seal();
        bytes.replace(0, sizeof birth, reinterpret_cast<const char*>(&birth), sizeof birth);
        found = "cannot be";
    }
    scratch.write(bytes);
    const std::string message = message_of<SegmentDamaged>([&] { static_cast<void>(scratch.open()); });
    CAPTURE(message);
    CHECK(mentions(message, found));
    CHECK(mentions(message, scratch.path()));
    CHECK(scratch.bytes() == bytes);
    const Segment fresh = scratch.open(small(OnDamage::recreate));
    CHECK(fresh.layout() == kSmall);
    CHECK(scratch.open().secret() == fresh.secret());
}

TEST_CASE("A damaged segment that somebody is using is not replaced under him") {
    const Scratch scratch(Kind::shared);
    const Segment used = scratch.open(small());
    used.header().birth.magic[0] = 'S';
    CHECK(mentions(message_of<SegmentBusy>([&] { static_cast<void>(scratch.open(small(OnDamage::recreate))); }),
                   "in use by others, and damaged"));
    CHECK(access(scratch.path().c_str(), F_OK) == 0);
}

TEST_CASE("What is no regular file is refused without being opened for good") {
    const Scratch scratch(Kind::file);
    SECTION("a directory") { REQUIRE(mkdir(scratch.path().c_str(), 0700) == 0); }
    SECTION("a pipe") { REQUIRE(mkfifo(scratch.path().c_str(), 0600) == 0); }
    CHECK(mentions(message_of<SegmentDamaged>([&] { static_cast<void>(scratch.open(small())); }), "regular file"));
    ::rmdir(scratch.path().c_str());
}

TEST_CASE("A shared name that is a link elsewhere is not followed, a path of a file is") {
    const Scratch target(Kind::file);
    static_cast<void>(target.open(small()));
    const Scratch shared(Kind::shared);
    REQUIRE(symlink(target.path().c_str(), shared.path().c_str()) == 0);
    CHECK_THROWS_AS(shared.open(), SegmentDamaged);
    const Scratch file(Kind::file);
    REQUIRE(symlink(target.path().c_str(), file.path().c_str()) == 0);
    CHECK(file.open().secret() == target.open().secret());
}

TEST_CASE("A segment that other users may write to is refused") {
    const Scratch scratch(GENERATE(Kind::shared, Kind::file));
    static_cast<void>(scratch.open(small()));
    REQUIRE(chmod(scratch.path().c_str(), 0660) == 0);
    const std::string message =
        message_of<SegmentForeign>([&] { static_cast<void>(scratch.open(small(OnDamage::recreate))); });
    CHECK(mentions(message, "mode 0660"));
    CHECK(mentions(message, "0600"));
}

TEST_CASE("A segment of another user is refused with both users, unless any will do") {
    const Scratch scratch(Kind::shared);
    static_cast<void>(scratch.open(small()));
    if (chown(scratch.path().c_str(), 1, 1) != 0) {
        SUCCEED("only root can give a file away");
        return;
    }
    const std::string message =
        message_of<SegmentForeign>([&] { static_cast<void>(scratch.open(small(OnDamage::recreate))); });
    CHECK(mentions(message, "belongs to user 1"));
    CHECK(mentions(message, "user " + std::to_string(geteuid())));
    Opening any;
    any.access.may_be_foreign = true;
    CHECK(scratch.open(any).layout() == kSmall);
}

TEST_CASE("A segment without a name any more goes on for those who have it, and others make another") {
    const Scratch scratch(GENERATE(Kind::shared, Kind::file));
    const Segment one = scratch.open(small());
    const Segment with_it = scratch.open();
    CHECK(one.unlink());
    CHECK_FALSE(with_it.unlink());
    CHECK(one.secret() == with_it.secret());
    one.header().shared.full = 7;
    CHECK(with_it.header().shared.full == 7);
    const Segment another = scratch.open(small());
    CHECK(another.secret() != one.secret());
    CHECK_FALSE(one.unlink());
    CHECK(access(scratch.path().c_str(), F_OK) == 0);
}

TEST_CASE("Only what is used is committed, and the system has promised it") {
    const Scratch scratch(Kind::shared);
    Opening opening;
    opening.size = 16 << 20;
    const Segment segment = scratch.open(opening);
    const auto blocks = [&] {
        struct stat status{};
        stat(scratch.path().c_str(), &status);
        return status.st_blocks * 512;
    };
    const auto at_first = blocks();
    const auto first = static_cast<std::int64_t>(segment.header().arenas[1].committed.load());
    CHECK(at_first >= static_cast<std::int64_t>(kPage + segment.layout().buckets * sizeof(Bucket)));
    CHECK(at_first < 3 << 20);
    CHECK(segment.commit(1, 9'999, 0));
    CHECK(blocks() >= at_first + 10'000 * 128 - first);
    const auto then = blocks();
    CHECK(segment.commit(1, 9'999, 0));
    CHECK(blocks() == then);
    CHECK(segment.commit(3, segment.layout().arena_cells(3) - 1, 0));
}

TEST_CASE("Descriptors that the program closed and gave to others are not touched, and the segment works on") {
    const Scratch scratch(Kind::shared);
    const Scratch other(Kind::shared);
    const int next = dup(0);
    close(next);
    Opening opening;
    opening.size = 4 << 20;
    {
        const Segment segment = scratch.open(opening);
        close(next);
        const Segment of_another = other.open(small());
        CHECK(segment.commit(1, 5'000, 0));
        CHECK(segment.header().arenas[1].committed >= 5'001 * 128);
    }
    CHECK(access(other.path().c_str(), F_OK) == 0);
}

}  // namespace slidegate
