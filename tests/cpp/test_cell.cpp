#include "catch.hpp"
#include "slidegate/cells/cell.hpp"

namespace slidegate {

TEST_CASE("The fields of a word do not overlap and fill 64 bits") {
    const std::uint64_t payload = (std::uint64_t{1} << 52) - 1;
    CHECK((make_word(payload, 1023) | kClaimed | kSealed) == ~std::uint64_t{0});
    CHECK(make_word(payload, 0) == ~std::uint64_t{0} << 12);
    CHECK(payload_of(make_word(payload, 1023)) == payload);
    CHECK(position_of(make_word(payload, 0)) == 0);
    CHECK(position_of(make_word(0, 1023)) == 1023);
    CHECK(payload_of(make_word(0, 1023) | kClaimed | kSealed) == 0);
}

TEST_CASE("Claimed and sealed are told apart") {
    const std::uint64_t word = make_word(77, 5);
    CHECK_FALSE((is_claimed(word) || is_sealed(word)));
    CHECK((is_claimed(word | kClaimed) && !is_sealed(word | kClaimed)));
    CHECK((is_sealed(word | kSealed) && !is_claimed(word | kSealed)));
}

TEST_CASE("A position stays a slot number where it wraps") {
    for (const CellClass& each : kCellClasses) {
        for (std::uint32_t position = 0; position < each.positions; ++position) {
            const std::uint32_t next = each.advance(position, 1);
            CHECK(next < each.positions);
            CHECK(next % each.ring == (position + 1) % each.ring);
            CHECK(each.advance(position, each.ring) % each.ring == position % each.ring);
        }
    }
}

TEST_CASE("A cell of every class fills its bytes") {
    for (const CellClass& each : kCellClasses) {
        CHECK(each.bytes == (3 + each.ring) * sizeof(Word));
    }
}

TEST_CASE("A moving window gets the smallest ring that holds its amount, or the largest") {
    const auto ring = [](std::uint32_t amount) { return kCellClasses[class_of(amount, Strategy::moving_window)].ring; };
    CHECK(ring(1) == 13);
    CHECK(ring(13) == 13);
    CHECK(ring(14) == 29);
    CHECK(ring(29) == 29);
    CHECK(ring(30) == 61);
    CHECK(ring(61) == 61);
    CHECK(ring(62) == 61);
    CHECK(ring(8'388'607) == 61);
}

TEST_CASE("Strategies of one word have the smallest cells") {
    const Strategy strategy = GENERATE(Strategy::fixed_window, Strategy::sliding_counter, Strategy::gcra);
    CHECK(kCellClasses[class_of(8'388'607, strategy)].bytes == 32);
}

TEST_CASE("A life is read back as it was written, at the ends of every field too") {
    const std::uint32_t generation = GENERATE(values<std::uint32_t>({0, 1, kGenerations - 1}));
    const auto quota = GENERATE(Quota(1, kMinWindow), Quota(8'388'607, kMaxWindow),
                                Quota(1'048'575, 60'000'000'000, Strategy::sliding_counter),
                                Quota(7, 1'000'000'000, Strategy::gcra), Quota(9, kMaxWindow, Strategy::fixed_window));
    Life life = Life::of(quota);
    life.generation = generation;
    const Life read = Life::from_word(life.to_word());
    CHECK(read.generation == generation);
    CHECK(read.strategy == quota.strategy());
    CHECK(read.ticks == quota.ticks());
    CHECK(read.coarse_limit == life.coarse_limit);
}

TEST_CASE("A life of any bits has a tick that exists") {
    CHECK(Life::from_word(~std::uint64_t{0}).ticks.index < kTickLengths.size());
}

TEST_CASE("The limit of a life is rounded down by less than an eighth, and small ones not at all") {
    for (std::uint64_t amount = 1; amount <= kMaxAmount; amount += 1 + amount / 37) {
        const std::uint64_t limit = Life::of(Quota(amount, 60'000'000'000)).limit();
        CAPTURE(amount, limit);
        CHECK(limit <= amount);
        CHECK(amount - limit <= amount / 8);
        CHECK((amount >= 16 || limit == amount));
    }
    CHECK(Life::of(Quota(kMaxAmount, 60'000'000'000)).limit() == 15U << 19);
}

}  // namespace slidegate
