// Processes that count in one segment and are killed: at every instruction of a call, and at random ones of many.
#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "catch.hpp"
#include "lone_cell.hpp"
#include "oracle.hpp"
#include "processes.hpp"
#include "scratch.hpp"
#include "slidegate/limiter/limiter.hpp"
#include "window_table.hpp"

namespace slidegate {

using testing::Admission;
using testing::Dice;
using testing::fullest_window;
using testing::Inherited;
using testing::InheritedClock;
using testing::Kind;
using testing::kIsSanitized;
using testing::kMillisecond;
using testing::kSecond;
using testing::Scratch;
using testing::Slaughter;
using testing::step_through;
using testing::Stops;
using testing::WindowTable;

namespace {

Digest key(std::uint64_t number) { return {0, number << 50 | number << 21}; }

constexpr std::uint64_t kFiveCells = 1024;
constexpr CellClass kRingOfTwo{128, 2, 1014};

/// Admissions as they are reported: written down before anybody is told. Memory outlives its writer.
struct Log {
    static constexpr std::size_t kMost = 400'000;
    struct Line {
        std::atomic<std::uint64_t> key;  ///< plus 1, and last: a line is whole or nothing
        std::int64_t at;
        std::int64_t until;
    };
    std::atomic<std::size_t> size = 0;
    std::array<Line, kMost> lines;
    std::atomic<bool> stop = false;

    void add(std::uint64_t its_key, std::int64_t at, std::int64_t until = 0) {
        const std::size_t line = size++;
        if (line < kMost) {
            lines[line].at = at;
            lines[line].until = until;
            lines[line].key = its_key + 1;
        }
    }
    [[nodiscard]] std::vector<Admission> of(std::uint64_t its_key) const {
        std::vector<Admission> log;
        for (std::size_t i = 0; i < std::min(size.load(), kMost); ++i) {
            if (lines[i].key == its_key + 1) {
                log.push_back({lines[i].at, 1});
            }
        }
        return log;
    }
};

// Without the statistics, which tables know nothing of, and which are a hundred times as large as these.
std::string bytes_of(const Segment& segment) {
    return {reinterpret_cast<const char*>(&segment.header()), segment.layout().statistics_offset()};
}

/// Whether the segment has these bytes. It is asked at each of a million instructions, most of whose time would be that of a
/// sanitizer that looks at each byte; nobody writes meanwhile.
__attribute__((no_sanitize("thread", "address"))) bool has_bytes(const Segment& segment, const std::string& bytes) {
    if (bytes.size() != segment.layout().statistics_offset()) {
        return false;
    }
    const auto* words = reinterpret_cast<const std::uint64_t*>(&segment.header());
    std::uint64_t differences = 0;
    for (std::size_t i = 0; i < bytes.size() / sizeof(std::uint64_t); ++i) {
        differences |= words[i] ^ reinterpret_cast<const std::uint64_t*>(bytes.data())[i];
    }
    return differences == 0;
}

Segment copy_of(const Segment& segment) {
    Segment copy(segment.layout());
    std::memcpy(static_cast<void*>(&copy.header()), static_cast<const void*>(&segment.header()),
                segment.layout().statistics_offset());
    return copy;
}

const Quota kTwoAMinute(2, 60 * kSecond);

void fill(const WindowTable& t, std::uint64_t first, std::uint64_t last, std::uint64_t cost) {
    for (std::uint64_t i = first; i <= last; ++i) {
        static_cast<void>(t.admits(key(i), 0, cost));
    }
}

/// A hit of key 1 that a child is killed in, and what came before it.
struct Scene {
    const char* name;
    OnFull on_full;
    std::function<void(const WindowTable&)> before;
    Nanos now;
    std::uint64_t taken_before = 0;             ///< of the key's two
    std::vector<std::uint64_t> full_keys = {};  ///< that must go on being refused
    int least_deaths = 2;                       ///< states of memory that a kill can leave
    Layout layout = {1, kFiveCells};
    bool has_room = true;  ///< while a claimed cell is missing
};

const std::vector<Scene> kScenes = {
    {"a new key", OnFull::refuse, [](const WindowTable&) {}, 0, 0, {}, 8},
    {"a new key beside others", OnFull::refuse, [](const WindowTable& t) { fill(t, 2, 4, 2); }, 0, 0, {2, 3, 4}, 8},
    {"a key that is there", OnFull::refuse, [](const WindowTable& t) { fill(t, 1, 1, 1); }, 0, 1, {}, 3},
    {"a key whose entry is closed", OnFull::refuse, [](const WindowTable& t) { fill(t, 1, 1, 1); }, kSecond, 1, {}, 5},
    {"a key that has expired", OnFull::refuse, [](const WindowTable& t) { fill(t, 1, 1, 2); }, 61 * kSecond},
    {"a new key in an expired cell",
     OnFull::refuse,
     [](const WindowTable& t) { fill(t, 2, 6, 2); },
     61 * kSecond,
     0,
     {},
     8},
    {"a new key for which another is evicted",
     OnFull::evict,
     [](const WindowTable& t) {
         fill(t, 2, 5, 2);
         fill(t, 6, 6, 1);
     },
     0,
     0,
     {2, 3, 4, 5},
     8,
     {1, kFiveCells},
     false},
    {"a new key in a full bucket",
     OnFull::refuse,
     [](const WindowTable& t) { fill(t, 2, 16, 2); },
     61 * kSecond,
     0,
     {},
     8,
     {1, 1 << 14}},
    {"a new key while another's insert is unfinished",
     OnFull::refuse,
     [](const WindowTable& t) {
         fill(t, 2, 2, 2);
         const Lease prepared = t.table.find(key(2));
         Bucket& bucket = t.segment.bucket(0);
         bucket.slots[0] = 0;
         bucket.control = std::uint64_t{1} << 63 | std::uint64_t{prepared.generation()} << 28 | prepared.reference;
     },
     0,
     0,
     {2},
     8},
};

std::uint64_t admitted_now(const WindowTable& t, const Digest& digest, Nanos now) {
    std::uint64_t admitted = 0;
    while (admitted < 10 && t.admits(digest, now)) {
        ++admitted;
    }
    return admitted;
}

}  // namespace

TEST_CASE("A caller killed at any instruction of a hit holds nobody up, loses no limit and admits nothing twice") {
    const Scene scene = GENERATE(from_range(kScenes));
    CAPTURE(scene.name);
    const WindowTable t(Segment(scene.layout, AfterFork::shared), scene.on_full, kTwoAMinute, kRingOfTwo);
    scene.before(t);
    Inherited<std::atomic<bool>> is_reported;
    std::string before;
    bool was_reported = false;
    int deaths = 0;
    const auto dies_here = [&] {
        if (has_bytes(t.segment, before) && *is_reported == was_reported) {
            return true;
        }
        before = bytes_of(t.segment);
        was_reported = *is_reported;
        ++deaths;
        CAPTURE(deaths);
        const WindowTable left(copy_of(t.segment), scene.on_full, kTwoAMinute, kRingOfTwo);
        const std::uint64_t admitted = admitted_now(left, key(1), scene.now);
        // The dead one's own unit may be counted though nobody was told.
        const std::uint64_t taken = scene.taken_before + (*is_reported ? 1 : 0);
        REQUIRE(admitted + taken <= 2);
        REQUIRE((admitted + taken + (*is_reported ? 0 : 1) >= 2 || !scene.has_room));
        for (const std::uint64_t other : scene.full_keys) {
            REQUIRE_FALSE(left.admits(key(other), scene.now));
        }
        // Everything is as new when all that was counted and claimed is over.
        for (std::uint64_t i = 11; i <= 15; ++i) {
            REQUIRE(admitted_now(left, key(i), scene.now + 70 * kSecond) == 2);
        }
        REQUIRE((left.table.stats().cells <= 5 || scene.layout.cell_bytes > kFiveCells));
        return true;
    };
    const std::int64_t instructions = step_through(
        Stops::instructions,
        [&] {
            if (t.admits(key(1), scene.now)) {
                *is_reported = true;
            }
        },
        dies_here);
    if (instructions < 0) {
        WARN("children cannot be traced here: nothing was killed");
        return;
    }
    REQUIRE(*is_reported);
    REQUIRE(instructions > 100);
    REQUIRE(deaths >= scene.least_deaths);
}

TEST_CASE("Processes that insert, reclaim, refund and are killed at random admit no more than the limit") {
    struct Room {
        Layout layout;
        std::uint64_t keys;
        std::uint64_t limit;
        OnFull on_full;
    };
    const auto room = GENERATE(Room{{1, 640}, 2, 1, OnFull::refuse}, Room{{1, 640}, 6, 2, OnFull::refuse},
                               Room{{1, 1024}, 6, 1, OnFull::evict}, Room{{2, 640}, 5, 3, OnFull::refuse},
                               Room{{1, 1 << 14}, 24, 2, OnFull::refuse});
    const auto kind = GENERATE(as<std::string>(), "inherited", "shared", "file");
    CAPTURE(room.layout.cell_bytes, room.keys, room.limit, kind);
    constexpr Nanos kWindow = 10 * kMillisecond;
    const Quota quota(room.limit, kWindow);
    const Nanos patience = 4 * kWindow;
    const Scratch scratch(kind == "file" ? Kind::file : Kind::shared);
    Opening opening;
    opening.layout = room.layout;
    const bool forgets = room.on_full == OnFull::evict;  // on purpose
    Inherited<Log> log;
    const InheritedClock clock;
    const auto table = [&](Segment segment) {
        return std::make_unique<WindowTable>(std::move(segment), room.on_full, quota, kRingOfTwo, patience);
    };
    const auto parents = table(kind == "inherited" ? Segment(room.layout, AfterFork::shared) : scratch.open(opening));
    Slaughter slaughter(4, 7);
    const int failures = slaughter.run(kIsSanitized ? 20 : 50, log->stop, [&](std::size_t, std::uint64_t seed) {
        const auto own = kind == "inherited" ? nullptr : table(scratch.open());
        const WindowTable& t = own ? *own : *parents;
        Dice dice(seed);
        while (!log->stop) {
            if (dice.is_one_in(10)) {
                clock.advance(kWindow / 5);
            }
            const auto number = static_cast<std::uint64_t>(dice.roll(0, static_cast<std::int64_t>(room.keys) - 1));
            Lease lease;
            const Outcome outcome = t.hit(key(number + 1), clock.now(), 1, lease);
            if (outcome.verdict != Verdict::admitted ||
                (dice.is_one_in(5) && t.strategy.refund(lease, clock.now(), outcome.receipt, 1))) {
                continue;
            }
            // Stamps come round; the clock has not gone a round since this one.
            const std::int64_t latest = clock.now() / quota.ticks().length() + 1;
            log->add(number, latest - ((latest - stamp_of(outcome.receipt)) & (kStamps - 1)));
        }
    });
    REQUIRE(failures == 0);
    REQUIRE(log->size > 100);
    for (std::uint64_t number = 0; number < room.keys; ++number) {
        std::vector<Admission> admissions = log->of(number);
        CAPTURE(number, admissions.size());
        if (!forgets) {
            REQUIRE(fullest_window(admissions, quota.ticks().window) <= room.limit);
        }
    }
    // Whatever the dead left behind, every cell is somebody's again.
    const Nanos later = clock.now() + 2 * patience + 2 * kWindow;
    std::uint64_t served = 0;
    for (std::uint64_t number = 100; number < 120; ++number) {
        served += admitted_now(*parents, key(number), later) == room.limit ? 1U : 0U;
    }
    const std::uint64_t cells = parents->table.stats().cells;
    REQUIRE(cells >= std::min<std::uint64_t>(room.keys, 3));
    REQUIRE(served >= std::min<std::uint64_t>(cells, kSlots));
}

TEST_CASE("Limiters of processes that are killed at random share one limit, under several quotas") {
    constexpr Nanos kShort = 10 * kMillisecond;
    constexpr Nanos kLong = 40 * kMillisecond;
    const Scratch scratch(GENERATE(Kind::shared, Kind::file));
    Inherited<Log> log;
    const auto clock = std::make_shared<InheritedClock>();
    Opening opening;
    opening.layout = {1, 4096};
    const auto limiter = [&] {
        Options options;
        options.on_full = OnFull::refuse;
        options.clock = clock;
        options.segment = std::make_shared<Segment>(scratch.open(opening));
        return Limiter(options);
    };
    const Limiter parents = limiter();
    const std::vector<Rule> rules = {{Quota(5, kLong), "long"}, {Quota(2, kShort), "short"}};
    const bool inherits = GENERATE(false, true);
    Slaughter slaughter(4, 11);
    const int failures = slaughter.run(kIsSanitized ? 20 : 50, log->stop, [&](std::size_t, std::uint64_t seed) {
        const Policy policy = (inherits ? parents : limiter()).policy(rules);
        Dice dice(seed);
        while (!log->stop) {
            if (dice.is_one_in(3)) {
                clock->advance(kMillisecond);
            }
            if (dice.is_one_in(4)) {
                static_cast<void>(policy.hit(std::string(static_cast<std::size_t>(dice.roll(1, 9)), 'x')));
                continue;
            }
            const Nanos before = clock->now();
            if (policy.hit("key").allowed) {
                log->add(0, before, clock->now());
            }
        }
    });
    REQUIRE(failures == 0);
    std::vector<std::pair<Nanos, Nanos>> taken;
    for (std::size_t i = 0; i < std::min<std::size_t>(log->size, Log::kMost); ++i) {
        if (log->lines[i].key == 1) {
            taken.emplace_back(log->lines[i].at, log->lines[i].until);
        }
    }
    std::sort(taken.begin(), taken.end());
    REQUIRE(taken.size() > 50);
    const auto most_within = [&](Nanos window) {
        std::ptrdiff_t most = 0;
        for (auto first = taken.begin(); first != taken.end(); ++first) {
            const Nanos end = first->first + window;
            const auto last = std::lower_bound(first, taken.end(), std::pair<Nanos, Nanos>{end, 0});
            most = std::max(most, std::count_if(first, last, [&](const auto& each) { return each.second < end; }));
        }
        return most;
    };
    REQUIRE(most_within(kShort) <= 2);
    REQUIRE(most_within(kLong) <= 5);
    clock->advance(20 * kSecond);
    const Policy policy = parents.policy(rules);
    REQUIRE(policy.hit("key", 2).allowed);
    REQUIRE_FALSE(policy.hit("key").allowed);
}

TEST_CASE("Processes that hit one key at a moment are admitted exactly the limit together") {
    constexpr std::uint64_t kLimit = 20'000;
    const Scratch scratch(Kind::shared);
    Inherited<std::atomic<std::uint64_t>> admitted;
    const auto clock = std::make_shared<ManualClock>(0);
    const auto policy = [&] {
        Options options;
        options.clock = clock;
        Opening opening;
        opening.size = std::size_t{1} << 20;
        options.segment = std::make_shared<Segment>(scratch.open(opening));
        return Limiter(options).policy({{Quota(kLimit, 60 * kSecond), "s"}});
    };
    const Policy before = policy();
    std::vector<pid_t> children;
    for (int i = 0; i < 4; ++i) {
        children.push_back(testing::start_child([&] {
            const Policy own = policy();
            for (std::uint64_t n = 0; n < kLimit / 2; ++n) {
                *admitted += own.hit("key").allowed ? 1U : 0U;
            }
        }));
    }
    for (const pid_t child : children) {
        REQUIRE(testing::ended_well(child));
    }
    REQUIRE(*admitted == kLimit);
    REQUIRE_FALSE(before.hit("key").allowed);
}

}  // namespace slidegate
