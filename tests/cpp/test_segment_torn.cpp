// A bounded replay of what fuzz_segment.cpp does without end.
#include <cstdint>
#include <vector>

#include "catch.hpp"
#include "dice.hpp"
#include "errors_of.hpp"
#include "processes.hpp"
#include "slidegate/limiter/limiter.hpp"
#include "torn_segment.hpp"

namespace slidegate {

using testing::Dice;
using testing::kIsSanitized;

namespace {

std::vector<std::uint8_t> random_script(std::uint64_t seed) {
    Dice dice(seed);
    std::vector<std::uint8_t> script(static_cast<std::size_t>(dice.roll(16, 3'000)));
    for (std::uint8_t& byte : script) {
        byte = static_cast<std::uint8_t>(dice.roll(0, 255));
    }
    return script;
}

constexpr std::uint64_t kScripts = kIsSanitized ? 1'500 : 4'000;

}  // namespace

TEST_CASE("Whatever stands in a segment, no call leaves it, fails or goes on for ever") {
    for (std::uint64_t seed = 0; seed < kScripts; ++seed) {
        CAPTURE(seed);
        REQUIRE_NOTHROW(testing::tear_memory(random_script(seed)));
    }
}

TEST_CASE("Whatever stands in the file of a segment, opening it gives an error of a segment or one that can be used") {
    for (std::uint64_t seed = 0; seed < kScripts; ++seed) {
        CAPTURE(seed);
        REQUIRE_NOTHROW(testing::tear_file(random_script(seed)));
    }
}

TEST_CASE("Times that cannot be are damage, and are not carried on into the next boot") {
    const testing::Scratch scratch(GENERATE(testing::Kind::shared, testing::Kind::file));
    Opening opening;
    opening.layout = testing::kTornLayout;
    constexpr Nanos kEver = Nanos{1} << 61;
    const auto tear = [&](const auto& how) {
        const Segment segment = scratch.open(opening);
        how(segment.header());
    };
    std::string words = "s after its last start, which cannot be";
    SECTION("of the latest hit") {
        tear([](SegmentHeader& header) { header.shared.floor = kEver; });
    }
    SECTION("of a boot") {
        words = "neither of its records of a boot is whole";
        const auto [offset, begun] = GENERATE(table<Nanos, Nanos>({{2 * kEver, 0}, {-2 * kEver, 0}, {0, -1}}));
        tear([offset = offset, begun = begun](SegmentHeader& header) {
            header.epochs[0].write(header.epochs[0].boot, offset, begun, 1);
        });
    }
    CHECK(testing::mentions(testing::message_of<SegmentDamaged>([&] { static_cast<void>(scratch.open(opening)); }),
                            words));
    opening.on_damage = OnDamage::recreate;
    CHECK(scratch.open(opening).is_new());
}

TEST_CASE("A table of nothing but random words is used up and down without an end") {
    const auto fill = GENERATE(0, 1, 2);
    for (std::uint64_t seed = 0; seed < 40; ++seed) {
        CAPTURE(seed);
        Dice dice(seed);
        auto segment = std::make_shared<Segment>(testing::kTornLayout);
        auto* const words = reinterpret_cast<Word*>(&segment->header());
        for (std::size_t i = offsetof(SegmentHeader, shared) / sizeof(Word);
             i < segment->layout().bytes() / sizeof(Word); ++i) {
            const auto low = static_cast<std::uint64_t>(dice.roll(0, 0xffff'ffff));
            const auto high = static_cast<std::uint64_t>(dice.roll(0, 0xffff'ffff));
            words[i] = fill == 0 ? low << 32 | high : fill == 1 ? ~std::uint64_t{0} : low << 48 | high;
        }
        Options options;
        const auto clock = std::make_shared<ManualClock>(0);
        options.clock = clock;
        options.segment = segment;
        options.on_full = static_cast<OnFull>(seed % 3);
        const Limiter limiter(options);
        const Policy policy = limiter.policy({{Quota(3, 60'000'000'000), "a"}});
        for (int call = 0; call < 300; ++call) {
            static_cast<void>(policy.hit(std::to_string(call % 40)));
            clock->advance(1'000'000'000);
        }
        limiter.reset();
        CHECK(limiter.stats().cells < 10'000);
    }
}

TEST_CASE("A torn cell is as good as any other a while later") {
    // Of words that are garbage what refuses refuses for no longer than a window.
    for (std::uint64_t seed = 0; seed < 200; ++seed) {
        CAPTURE(seed);
        Dice dice(seed);
        auto segment = std::make_shared<Segment>(testing::kTornLayout);
        Options options;
        const auto clock = std::make_shared<ManualClock>(1'000'000'000'000);
        options.clock = clock;
        options.segment = segment;
        const Policy policy = Limiter(options).policy({{Quota(3, 60'000'000'000), "a"}});
        REQUIRE(policy.hit("key", 3).allowed);
        Cell& cell = segment->cell(1, 0);
        cell.head = static_cast<std::uint64_t>(dice.roll(0, INT64_MAX)) & ~kClaimed;
        for (Word* word = cell.ring; word != cell.ring + kCellClasses[1].ring; ++word) {
            *word = static_cast<std::uint64_t>(dice.roll(0, INT64_MAX));
        }
        clock->advance(121'000'000'000);
        REQUIRE(policy.hit("key", 3).allowed);
        REQUIRE_FALSE(policy.hit("key").allowed);
    }
}

TEST_CASE("No word that an index can hold names a cell outside of its arena") {
    const Segment segment(testing::kTornLayout);
    const auto* const begin = reinterpret_cast<const std::byte*>(&segment.header());
    const std::byte* const end = begin + segment.layout().bytes();
    for (std::size_t arena = 0; arena < kCellClasses.size(); ++arena) {
        for (std::uint64_t shift = 0; shift < 64; ++shift) {
            for (const std::uint64_t index : {std::uint64_t{1} << shift, (std::uint64_t{1} << shift) - 1,
                                              ~std::uint64_t{0} >> shift, segment.layout().arena_cells(arena)}) {
                const auto* const cell = reinterpret_cast<const std::byte*>(&segment.cell(arena, index));
                CHECK((cell >= begin && cell + kCellClasses.back().bytes <= end));
            }
        }
    }
}

}  // namespace slidegate
