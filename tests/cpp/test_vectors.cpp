#include <memory>
#include <string>

#include "catch.hpp"
#include "slidegate/limiter/limiter.hpp"
#include "strategies.hpp"
#include "vectors.hpp"

namespace slidegate {

using testing::Json;
using testing::JsonReader;

TEST_CASE("Every strategy answers its vectors") {
    const auto under_test = GENERATE(from_range(testing::kStrategies.begin(), testing::kStrategies.end()));
    const std::string name(name_of(under_test.strategy));
    const Json vectors = JsonReader::read_file(SLIDEGATE_VECTORS_DIR "/" + name + ".json");
    REQUIRE_FALSE(vectors.items.empty());
    for (const Json& vector : vectors.items) {
        const Json& quota = vector["quota"];
        REQUIRE(quota["strategy"].text == name);
        REQUIRE_FALSE(vector["hits"].items.empty());
        const auto clock = std::make_shared<ManualClock>();
        const Limiter limiter({.size = std::size_t{1} << 20, .on_full = OnFull::refuse, .clock = clock, .layout = {}});
        const Policy policy = limiter.policy(
            {{Quota(static_cast<std::uint64_t>(quota["amount"].number), quota["window_ns"].number, under_test.strategy),
              "vectors"}});
        for (const Json& hit : vector["hits"].items) {
            CAPTURE(name, vector["name"].text, hit[0].number, hit[1].number);
            REQUIRE(hit.items.size() == 6);
            clock->set(hit[0].number);
            const Decision decision = policy.hit("key", static_cast<std::uint64_t>(hit[1].number));
            CHECK(decision.allowed == (hit[2].number != 0));
            CHECK(decision.remaining == static_cast<std::uint64_t>(hit[3].number));
            CHECK(decision.reset_after == hit[4].number);
            CHECK(decision.retry_after == hit[5].number);
        }
    }
}

}  // namespace slidegate
