#include <array>
#include <cstring>
#include <numeric>
#include <string>

#include "catch.hpp"
#include "siphash_vectors.hpp"
#include "slidegate/detail/siphash.hpp"

namespace slidegate::detail {

namespace {

constexpr Key128 kReferenceKey = {0x0706050403020100, 0x0f0e0d0c0b0a0908};

std::array<unsigned char, 64> counting() {
    std::array<unsigned char, 64> bytes{};
    std::iota(bytes.begin(), bytes.end(), static_cast<unsigned char>(0));
    return bytes;
}

std::string hex(const Hash128& hash) {
    static constexpr char kDigits[] = "0123456789abcdef";
    std::array<unsigned char, 16> bytes{};
    std::memcpy(bytes.data(), hash.data(), bytes.size());
    std::string text;
    for (const unsigned char byte : bytes) {
        text += {kDigits[byte >> 4], kDigits[byte & 15]};
    }
    return text;
}

}  // namespace

TEST_CASE("SipHash-2-4-128 agrees with the vectors of the reference implementation") {
    const auto bytes = counting();
    for (std::size_t size = 0; size < testing::kSipHash128Vectors.size(); ++size) {
        CAPTURE(size);
        CHECK(hex(SipHash<2, 4>(kReferenceKey).finish(bytes.data(), size)) == testing::kSipHash128Vectors[size]);
    }
}

TEST_CASE("SipHash-1-3-128 agrees with an independent implementation") {
    const auto bytes = counting();
    const auto hash = [&](std::size_t size) { return hex(SipHash<1, 3>(kReferenceKey).finish(bytes.data(), size)); };
    CHECK(hash(0) == "e77ebcb22788a5befd62db6add303001");
    CHECK(hash(1) == "fc6f370460d3eda85e0573cc2b2ff063");
    CHECK(hash(7) == "1084b923f2aae0c3a62f2ec80848ab77");
    CHECK(hash(8) == "aa12fee1d5e3dab4724f16ab35f9c799");
    CHECK(hash(63) == "4c5800e34efe426f079f6b0aa75260ad");
}

TEST_CASE("Words fed first hash as the bytes that they are") {
    const auto bytes = counting();
    SipHash<2, 4> hasher(kReferenceKey);
    hasher.word(0x0706050403020100);
    hasher.word(0x0f0e0d0c0b0a0908);
    SipHash<2, 4> copy = hasher;
    CHECK(hex(hasher.finish(bytes.data() + 16, 0)) == testing::kSipHash128Vectors[16]);
    CHECK(hex(copy.finish(bytes.data() + 16, 21)) == testing::kSipHash128Vectors[37]);
}

}  // namespace slidegate::detail
