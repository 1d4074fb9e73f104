#include "catch.hpp"
#include "oracle.hpp"

namespace slidegate::testing {

TEST_CASE("The oracle counts what lies in the window that ends now") {
    Oracle oracle(10, 60);
    oracle.record(0, 8);
    CHECK(oracle.would_admit(59, 2));
    CHECK_FALSE(oracle.would_admit(59, 3));
    CHECK_FALSE(oracle.would_admit(60, 11));
    CHECK(oracle.used(59) == 8);
    CHECK(oracle.used(60) == 0);
}

TEST_CASE("The oracle names the first moment at which a cost fits again") {
    Oracle oracle(10, 60);
    oracle.record(0, 4);
    oracle.record(10, 4);
    oracle.record(20, 2);
    CHECK(oracle.retry_after(30, 4) == 30);
    CHECK(oracle.retry_after(30, 5) == 40);
    CHECK(oracle.retry_after(30, 10) == 50);
    CHECK(oracle.reset_after(30) == 50);
    CHECK(oracle.reset_after(80) == 0);
}

TEST_CASE("The oracle forgets what is refunded") {
    Oracle oracle(10, 60);
    oracle.record(0, 4);
    oracle.record(5, 4);
    oracle.refund(0, 4);
    CHECK(oracle.used(5) == 4);
    CHECK(oracle.reset_after(5) == 60);
}

TEST_CASE("The fullest window is found wherever it starts") {
    std::vector<Admission> log = {{100, 1}, {0, 2}, {59, 3}, {60, 4}, {119, 5}};
    CHECK(fullest_window(log, 60) == 10);
    CHECK(fullest_window(log, 61) == 13);
    CHECK(fullest_window(log, 1) == 5);
    std::vector<Admission> none;
    CHECK(fullest_window(none, 60) == 0);
}

}  // namespace slidegate::testing
