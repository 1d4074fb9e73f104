"""How much passes, and what is counted together."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from typing import Any

import pytest
from conftest import Client
from fastapi import Request, Response
from limits import RateLimitItemPerDay
from starlette.responses import PlainTextResponse

from compat.apps import ADDRESS, left, stacked
from compat.conftest import Wall
from compat.library import Library, attempt, differs, same


def endpoint(request: Request) -> Response:
    return PlainTextResponse("ok")


def by_query(request: Request) -> Any:
    return int(request.query_params["cost"])


@pytest.mark.parametrize(
    "limits", [("100/minute; 2/second",), ("100/minute", "2/second"), ("2/second", "100/minute")], ids=str
)
def test_a14_a_request_that_one_limit_refuses_is_counted_by_none(limits: tuple[str, ...], library: Library) -> None:
    limiter, client = stacked(library, *limits)
    statuses = client.statuses("/items", 10)
    # slowapi checks the decorator that is nearest to the function first.
    is_minute_first = limits[-1] != "2/second" or len(limits) == 1
    expected = differs(slowapi=90, slidegate=98, difference="all-or-none") if is_minute_first else same(98)
    assert (statuses, left(limiter, "100/minute")) == ([200] * 2 + [429] * 8, library.expected(expected))


def test_a14_a_refused_request_is_not_counted_by_its_own_limit(library: Library, wall: Wall) -> None:
    limiter, client = stacked(library, "2/minute")
    client.statuses("/items", 5)
    counted = limiter._storage.get(f"LIMITER/{ADDRESS}//items/2/1/minute")
    assert counted == library.expected(differs(slowapi=5, slidegate=2, difference="refusals-are-not-counted"))


def test_a15_a_refused_cost_is_not_counted(library: Library) -> None:
    _, client = stacked(library, "10/minute", cost=by_query)
    statuses = [client.get(f"/items?cost={cost}").status_code for cost in (8, 5, 2)]
    assert statuses == library.expected(
        differs(slowapi=[200, 429, 429], slidegate=[200, 429, 200], difference="refusals-are-not-counted")
    )


def test_a15_costs_that_fit_are_counted(library: Library) -> None:
    limiter, client = stacked(library, "10/minute", cost=by_query)
    statuses = [client.get(f"/items?cost={cost}").status_code for cost in (8, 2)]
    assert (statuses, left(limiter, "10/minute")) == library.expected(same(([200, 200], 0)))


def test_a16_a_cost_above_the_limit_is_refused_and_consumes_nothing(library: Library) -> None:
    _, client = stacked(library, "10/minute", cost=by_query)
    statuses = [client.get(f"/items?cost={cost}").status_code for cost in (11, 1)]
    assert statuses == library.expected(
        differs(slowapi=[429, 429], slidegate=[429, 200], difference="refusals-are-not-counted")
    )


@pytest.mark.parametrize(
    ("cost", "slowapi"),
    [
        pytest.param(0, [200, 200, 200, 429], id="zero passes uncounted"),
        pytest.param(-5, [200, 200, 200, 200], id="negative is credited"),
        pytest.param(math.nan, [429, 200, 200, 429], id="NaN is refused"),
        pytest.param("2", [500, 200, 200, 429], id="text"),
        pytest.param(None, [500, 200, 200, 429], id="None"),
    ],
)
def test_a16_what_is_no_cost_is_an_error_and_changes_nothing(cost: Any, slowapi: list[int], library: Library) -> None:
    costs = iter([cost, 1, 1, 1])
    _, client = stacked(library, "2/minute", cost=lambda request: next(costs))
    assert client.statuses("/items", 4) == library.expected(
        differs(slowapi=slowapi, slidegate=[422, 200, 200, 429], difference="whole-costs")
    )


@pytest.mark.parametrize("cost", [0, -1, math.nan, "2"])
def test_a16_a_fixed_cost_that_is_none_is_refused_when_it_is_declared(cost: Any, library: Library) -> None:
    declared = attempt(lambda: library.limiter().limit("2/minute", cost=cost)(endpoint).__name__)
    assert declared == library.expected(
        differs(slowapi="endpoint", slidegate="ConfigurationError", difference="whole-costs")
    )


def test_a16_a_fraction_is_rounded_up(library: Library) -> None:
    limiter, client = stacked(library, "10/minute", cost=7.5)
    client.get("/items")
    assert left(limiter, "10/minute") == library.expected(differs(slowapi=2.5, slidegate=2, difference="whole-costs"))


def steps_of(function: Callable[[], Any]) -> int:
    """How many lines of Python a call runs, generators too."""
    count = 0

    def trace(frame: Any, event: str, argument: Any) -> Any:
        nonlocal count
        count += event == "line"
        return trace

    function()
    before = sys.gettrace()
    sys.settrace(trace)
    try:
        function()
    finally:
        sys.settrace(before)
    return count


def test_a17_a_full_limit_of_70000_per_day_costs_what_one_of_10_does(library: Library) -> None:
    def steps(amount: int) -> int:
        limiter = library.limiter(strategy="moving-window").limiter
        item = RateLimitItemPerDay(amount)
        assert limiter.hit(item, ADDRESS, "/items", cost=amount)

        def hit_and_peek() -> None:
            assert not limiter.hit(item, ADDRESS, "/items")
            assert limiter.get_window_stats(item, ADDRESS, "/items")[1] == 0

        return steps_of(hit_and_peek)

    is_equal = steps(70_000) == steps(10)
    assert is_equal == library.expected(differs(slowapi=False, slidegate=True, difference="constant-time"))


def test_a18_a_burst_on_each_side_of_a_boundary_is_one_burst(library: Library, wall: Wall) -> None:
    _, client = stacked(library, "5/minute")
    client.statuses("/items", 1)
    wall.advance(59)
    before = client.statuses("/items", 4)
    wall.advance(1)
    after = client.statuses("/items", 5)
    assert (before, after) == library.expected(
        differs(
            slowapi=([200] * 4, [200] * 5),
            slidegate=([200] * 4, [200, 429, 429, 429, 429]),
            difference="moving-window",
        )
    )


def test_a18_the_moving_window_can_be_had_in_both(library: Library, wall: Wall) -> None:
    limiter = library.limiter(strategy="moving-window")
    app = library.app(limiter)
    app.get("/items")(limiter.limit("5/minute")(endpoint))
    client = Client(app)
    outcomes = [client.statuses("/items", 1)]
    for seconds in (59, 1.5, 58.6):
        wall.advance(seconds)
        outcomes.append(client.statuses("/items", 4))
    assert outcomes == library.expected(same([[200], [200] * 4, [200] + [429] * 3, [200] * 4]))


def test_a18_the_fixed_window_can_be_had_in_both(library: Library, wall: Wall) -> None:
    limiter = library.limiter(strategy="fixed-window")
    app = library.app(limiter)
    app.get("/items")(limiter.limit("5/minute")(endpoint))
    client = Client(app)
    outcomes = [client.statuses("/items", 6)]
    for seconds in (30, 120):
        wall.advance(seconds)
        outcomes.append(client.statuses("/items", 6))
    assert outcomes[::2] == library.expected(same([[200] * 5 + [429]] * 2))
