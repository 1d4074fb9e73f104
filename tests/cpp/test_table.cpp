#include <algorithm>
#include <cstdint>
#include <iterator>
#include <set>
#include <vector>

#include "catch.hpp"
#include "lone_cell.hpp"
#include "window_table.hpp"

namespace slidegate {

using testing::kMillisecond;
using testing::kSecond;
using testing::WindowTable;

namespace {

constexpr std::uint64_t kEntry = std::uint64_t{1} << 63;
constexpr std::uint64_t kPending = std::uint64_t{1} << 63;
constexpr std::uint64_t kFiveCells = 1024;

// Keys of one bucket; the upper 14 bits of an identity are its fingerprint, the lower 21 are not kept.
Digest key(std::uint64_t number, std::uint64_t place = 0) { return {place, number << 50 | number << 21}; }

const Quota kTwoASecond(2, kSecond);

// What an inserter leaves that stopped after announcing its cell for this slot.
std::uint64_t pending_in(std::uint64_t slot, const Lease& prepared) {
    return kPending | slot << 59 | std::uint64_t{prepared.generation()} << 28 | prepared.reference;
}

std::size_t entries(const Bucket& bucket) {
    return static_cast<std::size_t>(std::count_if(std::begin(bucket.slots), std::end(bucket.slots),
                                                  [](const Word& slot) { return (slot & kEntry) != 0; }));
}

}  // namespace

TEST_CASE("A key is found where it was made, and only it") {
    const WindowTable t({2, 1 << 14}, OnFull::refuse, kTwoASecond);
    CHECK_FALSE(t.table.find(key(1)));
    const Lease made = t.obtain(key(1), 0);
    REQUIRE(made);
    CHECK(t.table.find(key(1)).reference == made.reference);
    CHECK(t.obtain(key(1), 0).reference == made.reference);
    CHECK_FALSE(t.table.find(key(2)));
    CHECK_FALSE(t.table.find(key(1, 1)));
    CHECK(t.table.stats().cells == 1);
}

TEST_CASE("Keys of equal fingerprint are told apart by their identity") {
    const WindowTable t({1, 1 << 14}, OnFull::refuse, kTwoASecond);
    const Digest one{0, 5 << 21};
    const Digest other{0, 6 << 21};
    CHECK(t.admits(one, 0, 2));
    CHECK(t.admits(other, 0, 2));
    CHECK_FALSE(t.admits(one, 0));
    CHECK(t.table.find(one).reference != t.table.find(other).reference);
}

TEST_CASE("A fresh cell holds nothing, at any time of the clock") {
    const Nanos now = GENERATE(values<Nanos>({0, 1, kSecond, 1'800'000'000'000'000'000}));
    const WindowTable t({1, 1 << 14}, OnFull::refuse, kTwoASecond);
    const Lease made = t.obtain(key(1), now);
    CHECK(t.strategy.peek(made, now, 1).remaining == 2);
    CHECK(made.cell->identity == made.identity);
    CHECK(made.identity == (key(1).identity | 1));
    CHECK(t.table.shared().floor == static_cast<std::uint64_t>(now));
}

TEST_CASE("An expired cell is given to the next new key, in a life of its own") {
    const WindowTable t({2, 1 << 14}, OnFull::refuse, kTwoASecond);
    CHECK(t.admits(key(1, 0), 0, 2));
    const Lease old = t.table.find(key(1, 0));
    CHECK(t.admits(key(2, 1), kSecond, 2));
    const Lease reclaimed = t.table.find(key(2, 1));
    CHECK(reclaimed.reference == old.reference);
    CHECK(reclaimed.generation() == old.generation() + 1);
    CHECK(t.table.stats().cells == 1);
    CHECK(t.table.stats().evictions == 0);
    SECTION("the lease of the old life holds nothing") {
        CHECK_FALSE(old.holds());
        CHECK(t.strategy.hit(old, kSecond, 1).verdict == Verdict::gone);
    }
    SECTION("the word of the old life is stale, is not followed and is cleared") {
        CHECK(entries(t.segment.bucket(0)) == 1);
        CHECK_FALSE(t.table.find(key(1, 0)));
        CHECK(entries(t.segment.bucket(0)) == 0);
        CHECK(t.table.find(key(2, 1)).reference == reclaimed.reference);
    }
    SECTION("a cell whose key comes back is another one") {
        CHECK(t.admits(key(1, 0), kSecond, 2));
        CHECK_FALSE(t.admits(key(2, 1), kSecond));
        CHECK(t.table.stats().cells == 2);
    }
}

TEST_CASE("Whoever comes late to a new cell leaves it to the sweeper who was faster") {
    const WindowTable t({2, 1 << 14}, OnFull::refuse, kTwoASecond);
    CHECK(t.admits(key(1, 0), 0, 2));
    t.segment.header().arenas[1].made = 0;  // so that the next caller is handed this cell, as one who slept since
    CHECK(t.admits(key(2, 1), 0));
    CHECK(t.table.find(key(2, 1)).reference != t.table.find(key(1, 0)).reference);
    CHECK_FALSE(t.admits(key(1, 0), 0));
}

TEST_CASE("Expired cells are used again long before a table is full") {
    const WindowTable t({1'024, 1 << 20}, OnFull::refuse, kTwoASecond);
    // Ten keys are live at a time.
    for (std::uint64_t i = 0; i < 2'000; ++i) {
        CHECK(t.admits(key(1 + i, i * 37), static_cast<Nanos>(i) * kSecond / 10));
    }
    CHECK(t.table.stats().cells <= 40);
}

TEST_CASE("An empty word differs from all that stood there before") {
    const WindowTable t({2, 1 << 14}, OnFull::refuse, kTwoASecond);
    std::set<std::uint64_t> seen = {t.segment.bucket(0).slots[0]};
    Nanos now = 0;
    for (std::uint64_t i = 0; i < 100; ++i, now += 2 * kSecond) {
        CHECK(t.admits(key(1 + i % 2, i % 2), now));
        CHECK_FALSE(t.table.find(key(2 - i % 2, 1 - i % 2)));  // clears the stale word
        const std::uint64_t word = t.segment.bucket(0).slots[0];
        CHECK((seen.insert(word).second || (word & kEntry) == 0));
    }
    CHECK(t.table.stats().cells == 1);
    CHECK(seen.size() == 101);
}

TEST_CASE("A live cell is not reclaimed, however many new keys come") {
    const WindowTable t({1, kFiveCells}, OnFull::refuse, kTwoASecond);
    for (std::uint64_t i = 0; i < 5; ++i) {
        CHECK(t.admits(key(i), kSecond / 2));
    }
    for (std::uint64_t i = 5; i < 50; ++i) {
        CHECK_FALSE(t.admits(key(i), kSecond));
    }
    for (std::uint64_t i = 0; i < 5; ++i) {
        CHECK(t.admits(key(i), kSecond));
        CHECK_FALSE(t.admits(key(i), kSecond));
    }
    CHECK(t.table.stats().full == 45);
    CHECK(t.table.stats().evictions == 0);
    CHECK(t.table.stats().bytes <= t.table.stats().capacity_bytes);
    for (std::uint64_t i = 5; i < 10; ++i) {
        CHECK(t.admits(key(i), 3 * kSecond));
    }
}

TEST_CASE("A full table that evicts takes the emptiest cell and counts it") {
    const WindowTable t({1, kFiveCells}, OnFull::evict, Quota(8, kSecond));
    for (std::uint64_t i = 0; i < 5; ++i) {
        CHECK(t.admits(key(i), 0, i == 3 ? 2 : 5));
    }
    CHECK(t.admits(key(9), 0, 8));
    CHECK(t.table.stats().evictions == 1);
    CHECK_FALSE(t.table.find(key(3)));
    for (const std::uint64_t i : {0, 1, 2, 4}) {
        CHECK_FALSE(t.admits(key(i), 0, 4));
    }
}

TEST_CASE("A full table never evicts a cell that is refusing") {
    const WindowTable t({1, kFiveCells}, OnFull::evict, kTwoASecond);
    for (std::uint64_t i = 0; i < 5; ++i) {
        CHECK(t.admits(key(i), 0, 2));
    }
    for (std::uint64_t i = 5; i < 40; ++i) {
        CHECK_FALSE(t.admits(key(i), 0));
    }
    for (std::uint64_t i = 0; i < 5; ++i) {
        CHECK_FALSE(t.admits(key(i), 0));
    }
    CHECK(t.table.stats().evictions == 0);
    CHECK(t.table.stats().full == 35);
}

TEST_CASE("The owner of most cells of a full table loses one to another owner, even a refusing one, and gets none") {
    const WindowTable t({1, kFiveCells}, OnFull::evict, kTwoASecond);
    CHECK(t.takes(key(0), 2, 2));
    for (std::uint64_t i = 1; i < 5; ++i) {
        CHECK(t.takes(key(i), 1, 2));
    }
    CHECK_FALSE(t.takes(key(10), 1, 1));
    CHECK(t.takes(key(11), 3, 2));
    CHECK(t.table.find(key(0)));
    CHECK(t.table.find(key(11)));
    CHECK(t.table.stats().evictions == 1);
    CHECK(t.table.stats().full == 1);
    // Three to one and one: still more than twice as much. Then two to two and one: those may not take from each other.
    CHECK(t.takes(key(12), 3, 2));
    CHECK_FALSE(t.takes(key(13), 1, 1));
    CHECK_FALSE(t.takes(key(14), 3, 1));
    CHECK(t.table.find(key(0)));
    const auto holdings = t.table.holdings();
    CHECK((holdings.at(1) == 2 && holdings.at(2) == 1 && holdings.at(3) == 2));
}

TEST_CASE("A cell that is not refusing goes to those who hold less, and never to those who hold more") {
    const WindowTable t({1, kFiveCells}, OnFull::evict, Quota(8, kSecond));
    CHECK(t.takes(key(0), 2, 1));
    for (std::uint64_t i = 1; i < 5; ++i) {
        CHECK(t.takes(key(i), 1, 5));
    }
    // Its own, though another is emptier.
    CHECK(t.takes(key(10), 1, 6));
    CHECK(t.table.find(key(0)));
    CHECK(t.takes(key(11), 3, 6));
    CHECK(t.table.find(key(0)));
    CHECK(t.table.stats().evictions == 2);
}

TEST_CASE("A full bucket is as fair as a full table") {
    const WindowTable t({1, 1 << 16}, OnFull::evict, kTwoASecond);
    for (std::uint64_t i = 0; i < kSlots; ++i) {
        CHECK(t.takes(key(i), i < 3 ? 2 : 1, 2));
    }
    CHECK_FALSE(t.takes(key(98), 1, 1));
    CHECK(t.takes(key(99), 3, 2));
    CHECK(t.takes(key(100), 2, 2));
    for (std::uint64_t i = 0; i < 3; ++i) {
        CHECK(t.table.find(key(i)));
    }
    CHECK(t.table.find(key(99)));
}

TEST_CASE("What a table is full of is told by who holds most of it") {
    const WindowTable t({1, kFiveCells}, OnFull::evict, kTwoASecond);
    CHECK(t.takes(key(0), 2, 2));
    for (std::uint64_t i = 1; i < 5; ++i) {
        CHECK(t.takes(key(i), 1, 2));
    }
    CHECK_FALSE(t.table.has_news());
    CHECK_FALSE(t.takes(key(10), 1, 1));
    REQUIRE(t.table.has_news());
    const Holder holder = t.table.largest_holder();
    CHECK((holder.owner == 1 && holder.cells == 4 && holder.of == 5 && holder.arena == 1));
}

TEST_CASE("A full bucket of a table with room makes room as a full table does") {
    const OnFull on_full = GENERATE(values<OnFull>({OnFull::evict, OnFull::refuse}));
    const WindowTable t({1, 1 << 16}, on_full, Quota(8, kSecond));
    for (std::uint64_t i = 0; i < kSlots; ++i) {
        CHECK(t.admits(key(i), 0, i == 7 ? 1 : 4));
    }
    CHECK(t.admits(key(99), 0) == (on_full == OnFull::evict));
    CHECK(static_cast<bool>(t.table.find(key(7))) == (on_full == OnFull::refuse));
    CHECK(t.table.stats().evictions == (on_full == OnFull::evict ? 1U : 0U));
    SECTION("an expired cell of the bucket is taken before any other") {
        CHECK(t.admits(key(0), 500 * kMillisecond));
        CHECK(t.admits(key(200), 1'100 * kMillisecond));
        CHECK(t.table.find(key(0)));
        CHECK(t.table.stats().evictions == (on_full == OnFull::evict ? 1U : 0U));
    }
}

TEST_CASE("A bucket of cells that all refuse takes no new key") {
    const WindowTable t({1, 1 << 16}, OnFull::evict, kTwoASecond);
    for (std::uint64_t i = 0; i < kSlots; ++i) {
        CHECK(t.admits(key(i), 0, 2));
    }
    CHECK_FALSE(t.admits(key(99), 0));
    CHECK(t.table.stats().full == 1);
    CHECK(t.table.stats().evictions == 0);
}

TEST_CASE("A claimer that died leaves its cell unused for some seconds, and its word is cleared") {
    const WindowTable t({1, kFiveCells}, OnFull::refuse, Quota(2, 60 * kSecond));
    CHECK(t.admits(key(1), 0));
    const Lease dead = t.table.find(key(1));
    dead.cell->head = make_claim(0, position_of(dead.cell->head) + 1);
    CHECK_FALSE(t.table.find(key(1)));
    CHECK(entries(t.segment.bucket(0)) == 0);
    for (std::uint64_t i = 1; i < 5; ++i) {
        CHECK(t.admits(key(i), 0));
        CHECK(t.table.find(key(i)).reference != dead.reference);
    }
    CHECK_FALSE(t.admits(key(6), 0));
    CHECK_FALSE(t.admits(key(6), kClaimPatience));
    CHECK(is_claimed(dead.cell->head));
    t.table.reset(0, 0);
    CHECK(is_claimed(dead.cell->head));
    SECTION("then it is somebody's again, in another life") {
        CHECK(t.admits(key(6), kClaimPatience + kSecond));
        CHECK(t.table.find(key(6)).reference == dead.reference);
        CHECK(t.table.find(key(6)).generation() == dead.generation() + 1);
        CHECK(t.table.stats().cells == 5);
    }
}

TEST_CASE("A claimer that died after writing the life, or the identity too, is succeeded in a life of its own") {
    const WindowTable t({1, kFiveCells}, OnFull::refuse, Quota(2, 60 * kSecond));
    CHECK(t.admits(key(1), 0));
    const Lease dead = t.table.find(key(1));
    dead.cell->head = make_claim(0, position_of(dead.cell->head) + 1);
    Life life = t.life;
    life.generation = dead.generation() + 1;
    dead.cell->life = life.to_word();
    const bool is_identity_written = GENERATE(false, true);
    if (is_identity_written) {
        dead.cell->identity = make_identity(key(1).identity, life.generation);
    }
    CHECK(t.admits(key(1), kClaimPatience + kSecond, 2));
    CHECK_FALSE(t.admits(key(1), kClaimPatience + kSecond));
    const Lease next = t.table.find(key(1));
    CHECK(next.reference == dead.reference);
    CHECK(next.generation() == dead.generation() + 2);
}

TEST_CASE("An inserter that died between announcing and writing is finished by the next") {
    const WindowTable t({1, 1 << 14}, OnFull::refuse, kTwoASecond);
    const Lease prepared = t.obtain(key(1), 0);
    CHECK(t.strategy.hit(prepared, 0, 1).verdict == Verdict::admitted);
    Bucket& bucket = t.segment.bucket(0);
    bucket.slots[0] = 0;
    bucket.control = pending_in(0, prepared);
    CHECK_FALSE(t.table.find(key(1)));
    const Digest digest = GENERATE(key(1), key(2));
    CHECK(t.admits(digest, 0));
    CHECK(t.table.find(key(1)).reference == prepared.reference);
    CHECK(t.table.find(key(1)).generation() == prepared.generation());
    CHECK((bucket.control & kPending) == 0);
    CHECK(entries(bucket) == (digest.identity == key(1).identity ? 1U : 2U));
}

TEST_CASE("A cell that was claimed again after it was announced is not published for its former life") {
    const WindowTable t({1, 1 << 14}, OnFull::refuse, kTwoASecond);
    Lease former = t.obtain(key(1), 0);
    Bucket& bucket = t.segment.bucket(0);
    bucket.slots[0] = 0;
    --former.identity;
    bucket.control = pending_in(0, former);
    CHECK(t.admits(key(2), 0));
    CHECK((bucket.control & kPending) == 0);
    CHECK_FALSE(t.table.find(key(1)));
    CHECK(entries(bucket) == 1);
}

TEST_CASE("test_fault_36_a_late_helper_publishes_no_other_life_however_many_there_were_between") {
    const unsigned power = GENERATE(range(0U, kGenerationBits));
    const WindowTable t({1, 1 << 14}, OnFull::refuse, kTwoASecond);
    const Lease announced = t.obtain(key(1), 0);
    Bucket& bucket = t.segment.bucket(0);
    bucket.slots[0] = 0;
    bucket.control = pending_in(0, announced);
    // Since then the cell has been given to the same key by another inserter, who has yet to announce it.
    Life life = Life::from_word(announced.cell->life);
    life.generation += 1U << power;
    announced.cell->life = life.to_word();
    announced.cell->identity = make_identity(announced.identity, life.generation);
    CHECK(t.admits(key(2), 0));
    CHECK((bucket.control & kPending) == 0);
    CHECK_FALSE(t.table.find(key(1)));
    CHECK(entries(bucket) == 1);
}

TEST_CASE("An entry that has come and gone is not published again by a late helper") {
    const WindowTable t({1, 1 << 14}, OnFull::refuse, kTwoASecond);
    const Lease prepared = t.obtain(key(1), 0);
    Bucket& bucket = t.segment.bucket(0);
    bucket.slots[0] = bucket.slots[0] & ~kEntry;
    bucket.control = pending_in(0, prepared);
    CHECK(t.admits(key(2), 0));
    CHECK((bucket.control & kPending) == 0);
    CHECK_FALSE(t.table.find(key(1)));
}

TEST_CASE("An inserter that died after writing is finished without a second entry") {
    const WindowTable t({1, 1 << 14}, OnFull::refuse, kTwoASecond);
    const Lease prepared = t.obtain(key(1), 0);
    Bucket& bucket = t.segment.bucket(0);
    bucket.control = pending_in(0, prepared);
    CHECK(t.admits(key(2), 0));
    CHECK(entries(bucket) == 2);
    CHECK((bucket.control & kPending) == 0);
}

TEST_CASE("Every insert gives its bucket a control word that it never had") {
    const WindowTable t({1, kFiveCells}, OnFull::refuse, kTwoASecond);
    std::set<std::uint64_t> seen = {t.segment.bucket(0).control};
    for (std::uint64_t i = 0; i < 100; ++i) {
        CHECK(t.admits(key(i % 7), static_cast<Nanos>(i) * kSecond / 2));
        seen.insert(t.segment.bucket(0).control);
    }
    // Each key comes back after its window.
    CHECK(seen.size() == 101);
}

TEST_CASE("A late caller cannot start its key afresh in the past after a reclaim") {
    // A hits at 0 and is expired at 1 s. L reads its clock at 0.5 s and sleeps. B takes A's cell at 1.2 s. L wakes, finds
    // A's cell gone and makes another one: its hit must count from 1.2 s on, not from 0.5 s.
    const WindowTable t({2, 1 << 14}, OnFull::refuse, Quota(1, kSecond));
    const Digest a = key(1, 0);
    const Digest b = key(2, 1);
    CHECK(t.admits(a, 0));
    const Lease of_a = t.table.find(a);
    CHECK(t.admits(b, 1'200 * kMillisecond));
    REQUIRE(t.table.find(b).reference == of_a.reference);
    REQUIRE_FALSE(t.table.find(a));
    CHECK(t.admits(a, 500 * kMillisecond));
    CHECK_FALSE(t.admits(a, 1'600 * kMillisecond));
    CHECK_FALSE(t.admits(a, 2'200 * kMillisecond - 1));
    CHECK(t.admits(a, 2'200 * kMillisecond));
}

TEST_CASE("A late caller does not take a live cell for an expired one, nor an old one for live") {
    const WindowTable t({1, kFiveCells}, OnFull::refuse, Quota(1, kSecond));
    CHECK(t.admits(key(1), 10 * kSecond));
    for (std::uint64_t i = 2; i <= 5; ++i) {
        CHECK(t.admits(key(i), 10 * kSecond));
    }
    CHECK_FALSE(t.admits(key(6), 3 * kSecond));
    CHECK_FALSE(t.admits(key(1), 3 * kSecond));
    CHECK(t.admits(key(6), 11 * kSecond));
    CHECK(t.table.stats().cells == 5);
}

TEST_CASE("Generations count lives and come round without a clash") {
    const WindowTable t({2, 1 << 14}, OnFull::refuse, kTwoASecond);
    const Lease first = t.obtain(key(1, 0), 0);
    Life life = Life::from_word(first.cell->life);
    life.generation = kGenerations - 1;
    first.cell->life = life.to_word();
    first.cell->identity = make_identity(first.identity, life.generation);
    CHECK_FALSE(first.holds());
    CHECK(t.admits(key(2, 1), kSecond));
    const Lease next = t.table.find(key(2, 1));
    CHECK(next.reference == first.reference);
    CHECK(next.generation() == 0);
}

TEST_CASE("A reset of a table ends the lives of all cells, and their keys begin others in them") {
    const WindowTable t({1, 1 << 14}, OnFull::refuse, kTwoASecond);
    for (std::uint64_t i = 0; i < 10; ++i) {
        CHECK(t.admits(key(i), 0, 2));
    }
    const Lease before = t.table.find(key(3));
    t.table.reset(0, 0);
    CHECK_FALSE(t.table.find(key(3)));
    CHECK(t.strategy.hit(before, 0, 1).verdict == Verdict::gone);
    for (std::uint64_t i = 0; i < 10; ++i) {
        CHECK(t.admits(key(i), 0, 2));
        CHECK_FALSE(t.admits(key(i), 0));
    }
    CHECK(t.table.find(key(3)).reference == before.reference);
    CHECK(t.table.find(key(3)).generation() == before.generation() + 1);
    CHECK(t.table.stats().cells == 10);
}

TEST_CASE("Every size of cell has room of its own that others cannot take") {
    const WindowTable t({64, 1 << 14}, OnFull::refuse, kTwoASecond);
    std::uint64_t large = 0;
    while (t.obtain_of(key(large % 100, large), 3, Life::of(Quota(60, 3'600 * kSecond)), 0)) {
        const Lease taken = t.table.find(key(large % 100, large));
        taken.cell->head = stamped(0, 1, 61);
        ++large;
    }
    CHECK(large >= ((1U << 14) * 5 / 8) / 512);
    CHECK(t.obtain_of(key(1, 7), 1, t.life, 0));
    CHECK(t.obtain_of(key(2, 7), 0, Life::of(Quota(1, kSecond, Strategy::gcra)), 0));
    CHECK(t.table.stats().bytes <= t.table.stats().capacity_bytes);
}

}  // namespace slidegate
