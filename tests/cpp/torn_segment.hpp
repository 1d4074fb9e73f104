// Segments that hold anything at all: what a power cut, a stray write or a forger can leave. Nothing that is done with
// one may end the process, reach beyond the segment, or go on for ever.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <sys/mman.h>
#include <sys/stat.h>
#include <vector>

#include "scratch.hpp"
#include "slidegate/limiter/limiter.hpp"
#include "slidegate/values/errors.hpp"

namespace slidegate::testing {

/// Bytes that decide what is done; zeroes when they are used up.
class Script {
  public:
    explicit Script(std::span<const std::uint8_t> bytes) : bytes_(bytes) {}
    template <class T = std::uint64_t>
    T next() {
        T value{};
        const std::size_t size = std::min(sizeof value, bytes_.size());
        std::memcpy(&value, bytes_.data(), size);
        bytes_ = bytes_.subspan(size);
        return value;
    }
    std::uint8_t byte() { return next<std::uint8_t>(); }
    [[nodiscard]] bool is_over() const { return bytes_.empty(); }

  private:
    std::span<const std::uint8_t> bytes_;
};

/// Memory on both sides of what is mapped next that nobody may touch, as far as any word of a segment could point.
class Fences {
  public:
    Fences() : above_(fence()), hole_(mmap(nullptr, kHole, PROT_NONE, kFlags, -1, 0)), below_(fence()) {
        munmap(hole_, kHole);
    }
    Fences(const Fences&) = delete;
    Fences& operator=(const Fences&) = delete;
    ~Fences() {
        munmap(above_, kSize);
        munmap(below_, kSize);
    }

  private:
    static constexpr int kFlags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    static constexpr std::size_t kSize = std::size_t{40} << 30;
    static constexpr std::size_t kHole = std::size_t{1} << 20;
    static void* fence() { return mmap(nullptr, kSize, PROT_NONE, kFlags, -1, 0); }

    void* above_;
    void* hole_;
    void* below_;
};

inline constexpr Layout kTornLayout{2, 1 << 13};

inline void check_that(bool holds, const char* what) {
    if (!holds) {
        throw std::logic_error(what);
    }
}

/// A word of the segment becomes another: any, one with a bit turned, one that stands elsewhere, or a claim.
inline void tear(const Segment& segment, Script& script) {
    auto* const words = reinterpret_cast<Word*>(&segment.header());
    const std::size_t number = segment.layout().bytes() / sizeof(Word);
    const std::uint8_t how = script.byte();
    Word& word = words[script.next<std::uint32_t>() % number];
    switch (how % 5) {
        case 0:
            word = script.next();
            break;
        case 1:
            word ^= std::uint64_t{1} << script.byte() % 64;
            break;
        case 2:
            word = words[script.next<std::uint32_t>() % number].load();
            break;
        case 3:
            word ^= script.next<std::uint16_t>() * 0x0001'0001'0001'0001U;
            break;
        default:
            word = ~std::uint64_t{0};
    }
}

inline std::uint64_t most_cells(const Layout& layout) {
    std::uint64_t cells = 0;
    for (std::size_t i = 0; i < kCellClasses.size(); ++i) {
        cells += layout.arena_cells(i);
    }
    return cells;
}

/// Uses a segment by limiters of every strategy, tearing it all the time.
inline void use_torn(Segment in, Script& script) {
    const auto segment = std::make_shared<Segment>(std::move(in));
    const auto clock = std::make_shared<ManualClock>(static_cast<Nanos>(script.next() >> 4));
    Options options;
    options.clock = clock;
    options.on_full = static_cast<OnFull>(script.byte() % 3);
    options.segment = segment;
    const Limiter limiter(options);
    constexpr Nanos kMinute = 60'000'000'000;
    const std::array<Policy, 6> policies = {
        limiter.policy({{Quota(3, kMinute), "a"}}),
        limiter.policy({{Quota(20, kMinWindow), "a"}}),
        limiter.policy({{Quota(kMaxAmount, kMaxWindow), "a"}}),
        limiter.policy({{Quota(5, kMinute, Strategy::fixed_window), "a"}, {Quota(7, kMinute), "b"}}),
        limiter.policy({{Quota(6, kMinute, Strategy::sliding_counter), "a"}}),
        limiter.policy({{Quota(9, kMinute, Strategy::gcra), "a"}, {Quota(3, kMinute), "a"}}),
    };
    std::vector<std::pair<const Policy*, Ticket>> tickets;
    while (!script.is_over()) {
        const std::uint8_t what = script.byte();
        const Policy& policy = policies[script.byte() % policies.size()];
        const std::string key(1, static_cast<char>('a' + script.byte() % 24));
        switch (what % 8) {
            case 0:
            case 1: {
                Ticket ticket;
                const Decision decision = policy.hit(key, 1 + script.byte() % 4, &ticket);
                check_that(decision.remaining <= kMaxAmount, "more remains than any limit");
                check_that(decision.reset_after >= 0 && decision.retry_after >= kNever, "a wait is negative");
                if (decision.allowed) {
                    tickets.emplace_back(&policy, ticket);
                }
                break;
            }
            case 2:
                check_that(policy.peek(key).remaining <= kMaxAmount, "more remains than any limit");
                break;
            case 3:
                if (!tickets.empty()) {
                    tickets.back().first->refund(tickets.back().second);
                    tickets.pop_back();
                }
                break;
            case 4:
                policy.reset(key);
                break;
            case 5:
                if (script.byte() % 8 == 0) {
                    limiter.reset();
                }
                check_that(limiter.stats().cells <= most_cells(segment->layout()), "more cells than there is room for");
                break;
            case 6:
                clock->advance(static_cast<Nanos>(script.next() >> (4 + script.byte() % 60)) % (std::int64_t{1} << 50));
                break;
            default:
                tear(*segment, script);
        }
    }
}

/// Tears an unnamed segment.
inline void tear_memory(std::span<const std::uint8_t> bytes) {
    static const Fences fences;
    Script script(bytes);
    use_torn(Segment(kTornLayout), script);
}

/// Tears the file of a named segment, opens it, and uses what comes of it: an error, or a segment.
inline void tear_file(std::span<const std::uint8_t> bytes) {
    static const Fences fences;
    static const Scratch scratch(Kind::shared);
    Opening opening;
    opening.layout = kTornLayout;
    opening.patience_ms = 0;
    Script script(bytes);
    ::unlink(scratch.path().c_str());
    static_cast<void>(scratch.open(opening));
    {
        const Segment whole = scratch.open();
        SegmentHeader& header = whole.header();
        const std::uint8_t changes = script.byte() % 8;
        for (std::uint8_t i = 0; i < changes; ++i) {
            auto* const words = reinterpret_cast<Word*>(&header);
            words[script.byte() % (offsetof(SegmentHeader, shared) / sizeof(Word) + 4)] ^=
                script.next() >> (script.byte() % 64);
        }
        const std::uint8_t forgery = script.byte();
        if (forgery % 2 != 0) {
            header.birth.seal();
        }
        if (forgery % 4 > 1) {
            header.epochs[0].write(header.epochs[0].boot, static_cast<Nanos>(script.next()),
                                   static_cast<Nanos>(script.next()), script.byte());
        }
        for (std::uint8_t i = script.byte() % 8; i > 0; --i) {
            tear(whole, script);
        }
    }
    if (script.byte() % 8 == 0) {
        check_that(::truncate(scratch.path().c_str(), script.next<std::uint16_t>()) == 0, "cannot cut off the file");
    }
    opening.on_damage = script.byte() % 2 == 0 ? OnDamage::error : OnDamage::recreate;
    opening.layout = {};
    try {
        use_torn(scratch.open(opening), script);
    } catch (const SegmentError&) {
        // As good as a segment. Other errors are not.
    }
}

}  // namespace slidegate::testing
