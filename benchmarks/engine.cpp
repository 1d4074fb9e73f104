// Times the engine from C++. Prints one line per figure: name, median and least nanoseconds, separated by tabs.
//
//     slidegate_bench [ROUNDS [FIGURE]]
//
// All figures take turns in every round, so that what else the machine does falls on all of them.
#include <algorithm>
#include <atomic>
#include <barrier>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <new>
#include <string>
#include <string_view>
#include <sys/mman.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>
#include <vector>

#include "inputs.hpp"
#include "slidegate/limiter/limiter.hpp"

namespace {

using benchmark::Key;
using benchmark::kKeys;
using benchmark::kMicrosecond;
using benchmark::kMinute;
using benchmark::kSecond;
using benchmark::RandomKeys;
using benchmark::SteppingClock;
using slidegate::Nanos;

constexpr double kRoundNs = 10e6;
constexpr std::size_t kMostRuns = 1 << 20;
constexpr std::size_t kInserts = 100'000;  // enough that most of them find their part of the index touched already

/// What is computed goes here, so that it has to be computed.
std::atomic<std::uint64_t> sink;

/// A limiter of its own with one policy of one rule.
struct Counting {
    Counting(std::uint64_t amount, std::shared_ptr<const slidegate::Clock> clock,
             std::shared_ptr<slidegate::Segment> segment = nullptr)
        : limiter({.clock = std::move(clock), .layout = {}, .segment = std::move(segment)}),
          policy(limiter.policy({{{amount, kMinute}, "benchmark"}})) {}

    slidegate::Limiter limiter;
    slidegate::Policy policy;
};

template <class Step>
double elapsed_ns(std::size_t runs, Step step) {
    std::uint64_t sum = 0;
    const auto start = std::chrono::steady_clock::now();
    for (std::size_t i = 0; i < runs; ++i) {
        sum += step(i);
    }
    const auto end = std::chrono::steady_clock::now();
    sink.fetch_add(sum, std::memory_order_relaxed);
    return std::chrono::duration<double, std::nano>(end - start).count();
}

double elapsed_hitting(const slidegate::Policy& policy, std::string_view key, std::size_t runs) {
    return elapsed_ns(runs, [&](std::size_t) { return policy.hit(key).remaining; });
}

double clock_alone(std::size_t runs) {
    const std::unique_ptr<slidegate::Clock> clock = std::make_unique<slidegate::BootClock>();
    return elapsed_ns(runs, [&](std::size_t) { return static_cast<std::uint64_t>(clock->now()); });
}

double digest_alone(std::size_t runs) {
    const slidegate::detail::SipHash<1, 3> prefix({1, 2});
    std::uint64_t last = 0;
    return elapsed_ns(runs, [&](std::size_t) {
        auto hasher = prefix;
        const Key key(last);
        hasher.word(key.view().size());
        const auto digest = hasher.finish(key.view().data(), key.view().size());
        return last = digest[0] ^ digest[1];
    });
}

double choice_of_a_key(std::size_t runs) {
    RandomKeys keys;
    return elapsed_ns(runs, [&](std::size_t) {
        const Key key = keys.next();
        return static_cast<std::uint64_t>(key.view()[0]);
    });
}

/// One key with a limit that is not reached in a round. `step` decides how many entries of the ring are alive.
std::function<double(std::size_t)> hot_admitted(Nanos step) {
    auto counting = std::make_shared<Counting>(slidegate::kMaxAmount, std::make_shared<SteppingClock>(step));
    const Key key(7);
    elapsed_hitting(counting->policy, key.view(), kMostRuns);
    return [=](std::size_t runs) {
        if (step < kMicrosecond) {
            counting->policy.reset(key.view());
        }
        return elapsed_hitting(counting->policy, key.view(), runs);
    };
}

/// One key of 10/minute: six seconds from hit to hit admits all of them, each closing an entry; no time refuses them.
std::function<double(std::size_t)> hot_exact(Nanos step) {
    auto counting = std::make_shared<Counting>(10, std::make_shared<SteppingClock>(step));
    const Key key(7);
    elapsed_hitting(counting->policy, key.view(), 1000);
    return [=](std::size_t runs) { return elapsed_hitting(counting->policy, key.view(), runs); };
}

/// A million keys of 10/minute, each hit six times a minute on average.
std::function<double(std::size_t)> million_keys() {
    auto counting = std::make_shared<Counting>(10, std::make_shared<SteppingClock>(10 * kMicrosecond));
    for (std::uint64_t number = 0; number < kKeys; ++number) {
        (void)counting->policy.hit(Key(number).view());
    }
    auto keys = std::make_shared<RandomKeys>();
    const auto run = [=](std::size_t runs) {
        return elapsed_ns(runs, [&](std::size_t) { return counting->policy.hit(keys->next().view()).remaining; });
    };
    run(6 * kKeys);
    return run;
}

double elapsed_inserting(Counting& counting, std::uint64_t first, std::size_t runs) {
    return elapsed_ns(runs, [&](std::size_t i) { return counting.policy.hit(Key(first + i).view()).remaining; });
}

/// New keys in memory that was never touched: most of it is the system handing out pages.
double insert_in_new_memory(std::size_t runs) {
    Counting counting(10, std::make_shared<SteppingClock>(kMicrosecond));
    return elapsed_inserting(counting, 0, runs);
}

/// New keys where as many have expired: every insert takes over one of their cells.
std::function<double(std::size_t)> insert_in_used_memory() {
    auto clock = std::make_shared<SteppingClock>(kMicrosecond);
    auto counting = std::make_shared<Counting>(10, clock);
    auto next = std::make_shared<std::uint64_t>(0);
    elapsed_inserting(*counting, 0, kMostRuns);
    *next = kMostRuns;
    return [=](std::size_t runs) {
        clock->skip(2 * kMinute);
        *next += runs;
        return elapsed_inserting(*counting, *next - runs, runs);
    };
}

/// Two threads at once, on one key or on one each; nanoseconds that one of them takes for a hit.
std::function<double(std::size_t)> two_threads(bool is_same_key) {
    auto counting = std::make_shared<Counting>(slidegate::kMaxAmount, nullptr);
    return [=](std::size_t runs) {
        counting->limiter.reset();
        std::barrier start(2);
        double elapsed[2] = {};
        const auto body = [&](std::size_t thread) {
            const Key key(is_same_key ? 0 : thread);
            start.arrive_and_wait();
            elapsed[thread] = elapsed_hitting(counting->policy, key.view(), runs);
        };
        std::thread other(body, 1);
        body(0);
        other.join();
        return (elapsed[0] + elapsed[1]) / 2;
    };
}

/// What processes tell each other.
struct Meeting {
    std::atomic<int> arrived = 0;
    std::atomic<double> elapsed = 0;
};

Meeting& meeting_place() {
    void* const page = mmap(nullptr, sizeof(Meeting), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED) {
        std::perror("mmap");
        std::exit(1);
    }
    return *new (page) Meeting;
}

/// One process, or two at once, on one key of one shared segment; nanoseconds that one of them takes for a hit.
std::function<double(std::size_t)> processes(int count) {
    auto segment = std::make_shared<slidegate::Segment>(slidegate::Layout::for_size(slidegate::kDefaultNamedSize),
                                                        slidegate::AfterFork::shared);
    auto counting = std::make_shared<Counting>(slidegate::kMaxAmount, nullptr, segment);
    Meeting& meeting = meeting_place();
    return [=, &meeting](std::size_t runs) {
        counting->limiter.reset();
        meeting.arrived = 0;
        const auto body = [&] {
            const Key key(0);
            elapsed_hitting(counting->policy, key.view(), 1000);
            ++meeting.arrived;
            while (meeting.arrived < count) {
            }
            return elapsed_hitting(counting->policy, key.view(), runs);
        };
        if (count == 1) {
            return body();
        }
        const pid_t other = fork();
        const double elapsed = body();
        if (other == 0) {
            meeting.elapsed = elapsed;
            _exit(0);
        }
        int status = 0;
        if (other < 0 || waitpid(other, &status, 0) != other || status != 0) {
            std::fprintf(stderr, "the other process failed\n");
            std::exit(1);
        }
        return (elapsed + meeting.elapsed) / 2;
    };
}

/// Opening the segment of a name that somebody else has made.
std::function<double(std::size_t)> attaching() {
    const std::string name = "bench-" + std::to_string(getpid());
    const auto remove = [](slidegate::Segment* made) {
        made->unlink();
        delete made;
    };
    const std::shared_ptr<slidegate::Segment> made(new slidegate::Segment(slidegate::Segment::shared(name)), remove);
    // Keeps it in being.
    return [name, made](std::size_t runs) {
        return elapsed_ns(runs, [&](std::size_t) { return slidegate::Segment::shared(name).layout().buckets; });
    };
}

/// Something to time. `run` does it so often and returns how long that took; `make` prepares it, when it is wanted.
struct Figure {
    const char* name;
    std::function<std::function<double(std::size_t)>()> make;
    std::function<double(std::size_t)> run = nullptr;
    std::size_t runs = 1024;
    std::vector<double> ns = {};

    void prepare() {
        run = make();
        while (runs < kMostRuns && run(runs) < kRoundNs) {
            runs *= 2;
        }
    }
    void measure() { ns.push_back(run(runs) / static_cast<double>(runs)); }
    void print() {
        std::sort(ns.begin(), ns.end());
        std::printf("%s\t%.2f\t%.2f\n", name, ns[ns.size() / 2], ns.front());
    }
};

std::vector<Figure> all_figures() {
    return {
        {"clock", [] { return clock_alone; }},
        {"digest", [] { return digest_alone; }},
        {"choice", [] { return choice_of_a_key; }},
        {"hot-head", [] { return hot_admitted(1); }},
        {"hot-ring", [] { return hot_admitted(100 * kMicrosecond); }},
        {"hot-refused", [] { return hot_exact(0); }},
        {"hot-exact", [] { return hot_exact(6 * kSecond); }},
        {"million", million_keys},
        {.name = "insert-new", .make = [] { return insert_in_new_memory; }, .runs = kInserts},
        {"insert-used", insert_in_used_memory},
        {"threads-same", [] { return two_threads(true); }},
        {"threads-own", [] { return two_threads(false); }},
        {"process-one", [] { return processes(1); }},
        {"process-two", [] { return processes(2); }},
        {"attach", attaching},
    };
}

}  // namespace

int main(int count, char** arguments) {
    const int rounds = count > 1 ? std::atoi(arguments[1]) : 21;
    std::vector<Figure> figures = all_figures();
    if (count > 2) {
        std::erase_if(figures, [&](const Figure& figure) { return std::string_view(figure.name) != arguments[2]; });
    }
    if (rounds < 1 || figures.empty()) {
        std::fprintf(stderr, "usage: slidegate_bench [ROUNDS [FIGURE]]\n");
        return 2;
    }
    for (Figure& figure : figures) {
        figure.prepare();
    }
    for (int round = 0; round < rounds; ++round) {
        for (Figure& figure : figures) {
            figure.measure();
        }
    }
    for (Figure& figure : figures) {
        figure.print();
    }
    return 0;
}
