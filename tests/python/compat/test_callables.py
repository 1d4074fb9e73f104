"""Callables for keys, limits, costs, exemptions and error messages, and what happens when they fail."""

from __future__ import annotations

import gc
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fastapi import Request

from compat.apps import client_of
from compat.library import Library, differs, same


@pytest.fixture(autouse=True)
def _coroutines_are_gone(library: Library) -> Iterator[None]:
    """What slowapi does not await is complained about when it is collected, which is to be in the same test."""
    yield
    if library.name == "slowapi":
        gc.collect()


async def address_awaited(request: Request) -> str:
    return "192.0.2.1"


def address_of_request(request: Request) -> str:
    return "192.0.2.1"


def address_of_req(req: Request) -> str:
    return "192.0.2.1"


def address_of_nobody() -> str:
    return "192.0.2.1"


@pytest.mark.parametrize("is_of_the_limiter", [False, True])
def test_a23_an_asynchronous_key_function_is_awaited(is_of_the_limiter: bool, library: Library) -> None:
    if is_of_the_limiter:
        client = client_of(library, limiter=library.limiter(key_func=address_awaited))
    else:
        client = client_of(library, key_func=address_awaited)
    assert client.statuses("/items", 8).count(200) == library.expected(
        differs(slowapi=8, slidegate=2, difference="awaited-callables")
    )


@pytest.mark.parametrize("key_func", [address_of_request, address_of_nobody])
def test_a23_a_key_function_may_take_the_request_or_nothing(key_func: Callable[..., str], library: Library) -> None:
    assert client_of(library, key_func=key_func).statuses("/items", 3) == library.expected(same([200, 200, 429]))


def test_a23_the_request_may_have_another_name_in_a_key_function(library: Library) -> None:
    assert client_of(library, key_func=address_of_req).statuses("/items", 3) == library.expected(
        differs(slowapi=[500] * 3, slidegate=[200, 200, 429], difference="parameters-of-callables")
    )


async def awaited_false(request: Request) -> bool:
    return False


async def awaited_true(request: Request) -> bool:
    return True


def test_a24_an_asynchronous_exemption_is_awaited(library: Library) -> None:
    assert client_of(library, exempt_when=awaited_false).statuses("/items", 3) == library.expected(
        differs(slowapi=[200] * 3, slidegate=[200, 200, 429], difference="awaited-callables")
    )
    assert client_of(library, exempt_when=awaited_true).statuses("/items", 3) == library.expected(same([200] * 3))


@pytest.mark.parametrize("is_exempt", [False, True])
def test_a24_an_exemption_may_take_the_request_or_nothing(is_exempt: bool, library: Library) -> None:
    exemptions: list[Callable[..., bool]] = [lambda: is_exempt, lambda request: is_exempt, lambda r: is_exempt]
    outcomes = [client_of(library, exempt_when=each).statuses("/items", 3) for each in exemptions]
    assert outcomes == library.expected(same([[200, 200, 200 if is_exempt else 429]] * 3))


async def awaited_limit() -> str:
    return "2/minute"


async def awaited_limit_of_key(key: str) -> str:
    return "2/minute" if key == "192.0.2.1" else "9/minute"


async def awaited_limit_of_request(request: Request) -> str:
    return "2/minute" if request.url.path == "/items" else "9/minute"


@pytest.mark.parametrize(
    ("limit", "slowapi"), [(awaited_limit, 200), (awaited_limit_of_key, 200), (awaited_limit_of_request, 500)]
)
def test_a25_an_asynchronous_limit_is_awaited(limit: Callable[..., Any], slowapi: int, library: Library) -> None:
    assert client_of(library, limit).statuses("/items", 3) == library.expected(
        differs(slowapi=[slowapi] * 3, slidegate=[200, 200, 429], difference="awaited-callables")
    )


def test_a25_a_limit_callable_may_take_the_key_or_nothing(library: Library) -> None:
    def of_key(key: str) -> str:
        return "2/minute" if key == "192.0.2.1" else "9/minute"

    outcomes = [client_of(library, limit).statuses("/items", 3) for limit in (of_key, lambda: "2/minute")]
    assert outcomes == library.expected(same([[200, 200, 429]] * 2))


def test_a25_a_limit_callable_may_take_the_request(library: Library) -> None:
    def of_request(request: Request) -> str:
        return "2/minute" if request.url.path == "/items" else "9/minute"

    assert client_of(library, of_request).statuses("/items", 3) == library.expected(
        differs(slowapi=[500] * 3, slidegate=[200, 200, 429], difference="parameters-of-callables")
    )


async def awaited_cost(request: Request) -> int:
    return 2


def test_a25_an_asynchronous_cost_is_awaited(library: Library) -> None:
    assert client_of(library, "4/minute", cost=awaited_cost).statuses("/items", 3) == library.expected(
        differs(slowapi=[500] * 3, slidegate=[200, 200, 429], difference="awaited-callables")
    )


def test_a25_a_cost_callable_takes_the_request(library: Library) -> None:
    costs: list[Any] = [2, lambda request: 2, lambda r: 2]
    outcomes = [client_of(library, "4/minute", cost=cost).statuses("/items", 3) for cost in costs]
    assert outcomes == library.expected(same([[200, 200, 429]] * 3))


def test_a25_a_cost_callable_may_take_nothing(library: Library) -> None:
    assert client_of(library, "4/minute", cost=lambda: 2).statuses("/items", 3) == library.expected(
        differs(slowapi=[500] * 3, slidegate=[200, 200, 429], difference="parameters-of-callables")
    )


@pytest.mark.parametrize(
    ("error_message", "text"),
    [(None, "2 per 1 minute"), ("slow down", "slow down"), (lambda: "slow down", "slow down"), ("", "2 per 1 minute")],
)
def test_the_error_message_may_be_a_text_or_a_callable(error_message: Any, text: str, library: Library) -> None:
    client = client_of(library, error_message=error_message)
    client.statuses("/items", 2)
    assert client.get("/items").json() == library.expected(same({"error": f"Rate limit exceeded: {text}"}))


def test_an_error_message_may_take_the_request(library: Library) -> None:
    client = client_of(library, error_message=lambda request: request.url.path)
    client.statuses("/items", 2)
    assert client.get("/items").status_code == library.expected(
        differs(slowapi=500, slidegate=429, difference="parameters-of-callables")
    )


def test_callables_are_asked_for_every_request(library: Library) -> None:
    keys = itertools.count()
    client = client_of(library, "1/minute", key_func=lambda: str(next(keys) // 2))
    assert client.statuses("/items", 6) == library.expected(same([200, 429] * 3))
