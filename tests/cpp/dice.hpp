// Random numbers that are the same in every run.
#pragma once

#include <cstdint>
#include <random>

namespace slidegate::testing {

class Dice {
  public:
    explicit Dice(std::uint64_t seed) : engine_(static_cast<std::uint32_t>(seed)) {}
    std::int64_t roll(std::int64_t low, std::int64_t high) {
        return std::uniform_int_distribution<std::int64_t>(low, high)(engine_);
    }
    bool is_one_in(int n) { return roll(1, n) == 1; }

  private:
    std::mt19937 engine_;
};

}  // namespace slidegate::testing
