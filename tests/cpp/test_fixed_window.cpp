#include "catch.hpp"
#include "one_cell.hpp"
#include "slidegate/strategies/fixed_window.hpp"

namespace slidegate {

using testing::Answer;
using testing::answer_of;
using testing::kSecond;
using testing::OneCell;

namespace {

class Window : public OneCell<FixedWindow> {
  public:
    explicit Window(std::uint64_t amount) : OneCell(FixedWindow(Ticks::of(60 * kSecond), amount), kCellClasses[0]) {}
};

}  // namespace

TEST_CASE("A fixed window opens with its first hit and is forgotten as a whole") {
    Window window(10);
    CHECK(answer_of(window.hit(7 * kSecond)) == Answer{true, 9, 60 * kSecond, 0});
    CHECK(answer_of(window.hit(60 * kSecond, 9)) == Answer{true, 0, 7 * kSecond, 0});
    CHECK(answer_of(window.hit(67 * kSecond - 1)) == Answer{false, 0, 1, 1});
    CHECK(answer_of(window.hit(67 * kSecond)) == Answer{true, 9, 60 * kSecond, 0});
}

TEST_CASE("A fixed window admits twice its amount across a boundary, and never more") {
    Window window(10);
    CHECK(window.admits(0));
    CHECK(window.admits(59 * kSecond, 9));
    CHECK(window.admits(60 * kSecond, 10));
    CHECK_FALSE(window.admits(60 * kSecond));
    CHECK_FALSE(window.admits(119 * kSecond));
}

TEST_CASE("Costs of eight, five and two on a fixed window of ten") {
    Window window(10);
    CHECK(answer_of(window.hit(0, 8)) == Answer{true, 2, 60 * kSecond, 0});
    CHECK(answer_of(window.hit(kSecond, 5)) == Answer{false, 2, 59 * kSecond, 59 * kSecond});
    CHECK(answer_of(window.hit(kSecond, 2)) == Answer{true, 0, 59 * kSecond, 0});
}

TEST_CASE("A refund to a fixed window is counted while the window is the same") {
    Window window(2);
    const Outcome first = window.hit(0, 2);
    CHECK(window.refund(59 * kSecond, first, 2));
    CHECK(answer_of(window.peek(59 * kSecond)) == Answer{true, 2, 0, 0});
    const Outcome second = window.hit(59 * kSecond, 2);
    CHECK(window.admits(119 * kSecond, 2));
    CHECK_FALSE(window.refund(119 * kSecond, second, 2));
    CHECK_FALSE(window.admits(119 * kSecond));
}

TEST_CASE("A refund to a fixed window that was reset finds nothing") {
    Window window(2);
    const Outcome old = window.hit(0, 2);
    window.reset(0);
    CHECK(window.admits(0, 2));
    CHECK_FALSE(window.refund(0, old, 2));
    CHECK_FALSE(window.admits(0));
}

TEST_CASE("A late caller counts in the fixed window that is open") {
    Window window(2);
    CHECK(window.admits(100 * kSecond));
    CHECK(window.admits(10 * kSecond));
    CHECK_FALSE(window.admits(10 * kSecond));
    CHECK_FALSE(window.admits(160 * kSecond - 1));
    CHECK(window.admits(160 * kSecond, 2));
}

TEST_CASE("A fixed window that starts between two ticks is never short") {
    Window window(1);
    CHECK(window.admits(kSecond + 1));
    CHECK_FALSE(window.admits(61 * kSecond + 1));
    CHECK(window.admits(61 * kSecond + 1'000'000));
}

TEST_CASE("A fixed window holds its largest amount") {
    Window window(kMaxAmount);
    CHECK(window.admits(0, kMaxAmount));
    CHECK(answer_of(window.hit(0)) == Answer{false, 0, 60 * kSecond, 60 * kSecond});
}

}  // namespace slidegate
