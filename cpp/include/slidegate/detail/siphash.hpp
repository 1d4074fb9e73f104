// SipHash with 128-bit output (Aumasson, Bernstein 2012; reference code of 2014 for the 128-bit form).
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace slidegate::detail {

static_assert(std::endian::native == std::endian::little, "words are read as they lie in memory");

using Key128 = std::array<std::uint64_t, 2>;
using Hash128 = std::array<std::uint64_t, 2>;

/// SipHash-c-d-128 of bytes given in pieces. A value: a copy taken after a prefix hashes on from there.
template <int kCompressRounds, int kFinalRounds>
class SipHash {
  public:
    explicit constexpr SipHash(Key128 key) noexcept
        : v_{0x736f6d6570736575U ^ key[0], 0x646f72616e646f6dU ^ key[1] ^ 0xee, 0x6c7967656e657261U ^ key[0],
             0x7465646279746573U ^ key[1]} {}

    /// Feeds one 8-byte word; only at a multiple of 8 bytes.
    constexpr void word(std::uint64_t word) noexcept {
        length_ += 8;
        compress(word);
    }

    /// Feeds the last bytes and returns the hash. O(size).
    [[nodiscard]] Hash128 finish(const void* data, std::size_t size) noexcept {
        const auto* bytes = static_cast<const unsigned char*>(data);
        length_ += size;
        for (; size >= 8; size -= 8, bytes += 8) {
            std::uint64_t word = 0;
            std::memcpy(&word, bytes, 8);
            compress(word);
        }
        std::uint64_t last = std::uint64_t{length_ & 0xff} << 56;
        for (std::size_t i = 0; i < size; ++i) {
            last |= std::uint64_t{bytes[i]} << (8 * i);
        }
        compress(last);
        v_[2] ^= 0xee;
        const std::uint64_t first = squeeze();
        v_[1] ^= 0xdd;
        return {first, squeeze()};
    }

  private:
    constexpr void round() noexcept {
        v_[0] += v_[1];
        v_[1] = std::rotl(v_[1], 13) ^ v_[0];
        v_[0] = std::rotl(v_[0], 32);
        v_[2] += v_[3];
        v_[3] = std::rotl(v_[3], 16) ^ v_[2];
        v_[0] += v_[3];
        v_[3] = std::rotl(v_[3], 21) ^ v_[0];
        v_[2] += v_[1];
        v_[1] = std::rotl(v_[1], 17) ^ v_[2];
        v_[2] = std::rotl(v_[2], 32);
    }
    constexpr void compress(std::uint64_t word) noexcept {
        v_[3] ^= word;
        for (int i = 0; i < kCompressRounds; ++i) {
            round();
        }
        v_[0] ^= word;
    }
    constexpr std::uint64_t squeeze() noexcept {
        for (int i = 0; i < kFinalRounds; ++i) {
            round();
        }
        return v_[0] ^ v_[1] ^ v_[2] ^ v_[3];
    }

    std::array<std::uint64_t, 4> v_;
    std::uint64_t length_ = 0;
};

}  // namespace slidegate::detail
