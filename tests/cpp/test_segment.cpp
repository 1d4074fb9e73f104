#include <cstdint>
#include <set>

#include "catch.hpp"
#include "errors_of.hpp"
#include "slidegate/segment/segment.hpp"
#include "slidegate/values/errors.hpp"

namespace slidegate {

using testing::mentions;
using testing::message_of;

TEST_CASE("A size is divided between an index of a power of two and cells") {
    const std::size_t size = GENERATE(values<std::size_t>(
        {std::size_t{1} << 20, (std::size_t{1} << 20) + 1, 3'000'000, std::size_t{256} << 20, std::size_t{1} << 36}));
    const Layout layout = Layout::for_size(size);
    CAPTURE(size, layout.buckets);
    CHECK((layout.buckets & (layout.buckets - 1)) == 0);
    CHECK(layout.buckets * sizeof(Bucket) <= size / 8);
    CHECK(layout.buckets * sizeof(Bucket) > size / 16);
    CHECK(layout.buckets * sizeof(Bucket) + layout.cell_bytes == size);
}

TEST_CASE("Sizes out of range are refused with the range") {
    for (const std::size_t size : {std::size_t{0}, Layout::kMinSize - 1, Layout::kMaxSize + 1}) {
        const std::string message = message_of<InvalidArgument>([&] { static_cast<void>(Layout::for_size(size)); });
        CHECK(mentions(message, "from 1048576 to 68719476736 bytes"));
        CHECK(mentions(message, "not " + std::to_string(size)));
    }
}

TEST_CASE("What every size of cell is guaranteed and what they share is the whole budget") {
    const Layout layout = Layout::for_size(Layout::kMinSize);
    CHECK(layout.guaranteed_bytes() * kCellClasses.size() + layout.shared_bytes() <= layout.cell_bytes);
    for (std::size_t i = 0; i < kCellClasses.size(); ++i) {
        CHECK(layout.arena_cells(i) * kCellClasses[i].bytes >= layout.guaranteed_bytes() + layout.shared_bytes());
    }
}

TEST_CASE("A new segment is an empty table") {
    const Segment segment(Layout{4, 1 << 14});
    for (std::uint64_t place = 0; place < 4; ++place) {
        CHECK(segment.bucket(place).control == 0);
        for (const Word& slot : segment.bucket(place).slots) {
            CHECK(slot == 0);
        }
    }
    CHECK(segment.header().shared.floor == 0);
    CHECK(segment.cell(3, 0).head == 0);
}

TEST_CASE("Places name buckets modulo their number") {
    const Segment segment(Layout{4, 1 << 14});
    CHECK(&segment.bucket(1) == &segment.bucket(5));
    CHECK(&segment.bucket(1) == &segment.bucket(~std::uint64_t{0} - 2));
    CHECK(&segment.bucket(1) != &segment.bucket(2));
}

TEST_CASE("Parts of a segment do not overlap") {
    const Layout layout{2, 1 << 14};
    const Segment segment(layout);
    std::set<const void*> words;
    std::size_t expected = 0;
    const auto add = [&](const Word& word) {
        words.insert(&word);
        ++expected;
    };
    for (std::uint64_t place = 0; place < layout.buckets; ++place) {
        add(segment.bucket(place).control);
        for (const Word& slot : segment.bucket(place).slots) {
            add(slot);
        }
    }
    for (std::size_t arena = 0; arena < kCellClasses.size(); ++arena) {
        for (std::uint64_t index = 0; index < layout.arena_cells(arena); ++index) {
            Cell& cell = segment.cell(arena, index);
            add(cell.head);
            add(cell.identity);
            add(cell.life);
            for (std::uint32_t i = 0; i < kCellClasses[arena].ring; ++i) {
                cell.ring[i] = 1;
                add(cell.ring[i]);
            }
        }
    }
    CHECK(words.size() == expected);
    CHECK(segment.header().shared.floor == 0);
}

TEST_CASE("Every segment has a secret of its own") {
    const Segment one(Layout{1, 1 << 12});
    const Segment other(Layout{1, 1 << 12});
    CHECK(one.secret() != other.secret());
}

}  // namespace slidegate
