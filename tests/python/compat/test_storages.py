"""Storages of the `limits` package, and what befalls them."""

from __future__ import annotations

import asyncio
import threading
from typing import Any, ClassVar

import limits.storage
import pytest
from conftest import Client
from fastapi import Request, Response
from starlette.responses import PlainTextResponse

from compat.library import Library, differs, same


class Storage(limits.storage.MemoryStorage):
    """Counts, tells in which threads, and can be out of reach."""

    STORAGE_SCHEME: ClassVar = ["slidegate-test-compat"]
    is_down: ClassVar = False
    threads: ClassVar[set[int]] = set()

    def incr(self, *args: Any, **kwargs: Any) -> int:
        self.threads.add(threading.get_ident())
        if Storage.is_down:
            raise ConnectionError("nobody there")
        return super().incr(*args, **kwargs)


@pytest.fixture(autouse=True)
def _whole_storage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Storage, "is_down", False)
    monkeypatch.setattr(Storage, "threads", set())


def limited(library: Library, **options: Any) -> Client:
    return Client(app_of(library, **options))


def app_of(library: Library, **options: Any) -> Any:
    limiter = library.limiter(storage_uri="slidegate-test-compat://", strategy="fixed-window", **options)
    app = library.app(limiter)

    @app.get("/items")
    @limiter.limit("2/minute")
    async def endpoint(request: Request) -> Response:
        return PlainTextResponse("ok")

    @app.get("/much")
    @limiter.shared_limit("10/minute", scope="costs", cost=6)
    async def much(request: Request) -> Response:
        return PlainTextResponse("ok")

    @app.get("/little")
    @limiter.shared_limit("10/minute", scope="costs")
    async def little(request: Request) -> Response:
        return PlainTextResponse("ok")

    return app


def test_a_storage_of_limits_counts(library: Library) -> None:
    assert limited(library).statuses("/items", 3) == library.expected(same([200, 200, 429]))


def test_counts_are_where_slowapi_keeps_them(library: Library) -> None:
    app = app_of(library)
    assert Client(app).statuses("/items", 2) == [200, 200]
    storage = app.state.limiter._storage
    assert storage.get("LIMITER/192.0.2.1//items/2/1/minute") == library.expected(same(2))


def test_a_refusal_of_much_leaves_room_for_little(library: Library) -> None:
    client = limited(library)
    statuses = client.statuses("/much", 2) + client.statuses("/little", 1)
    expected = differs(slowapi=[200, 429, 429], slidegate=[200, 429, 200], difference="refusals-are-not-counted")
    assert statuses == library.expected(expected)


def test_a_storage_is_called_in_a_thread_of_its_own(library: Library) -> None:
    client = limited(library)

    async def run() -> bool:
        await client.send("GET", "/items")
        return threading.get_ident() in Storage.threads

    is_loop_stopped = asyncio.run(run())
    assert is_loop_stopped is library.expected(differs(slowapi=True, slidegate=False, difference="loops-go-on"))


def test_errors_of_a_storage_are_those_of_the_requests(library: Library) -> None:
    client = limited(library)
    Storage.is_down = True
    assert client.statuses("/items", 2) == library.expected(same([500, 500]))


def test_the_same_limits_are_counted_in_memory_while_a_storage_is_out_of_reach(library: Library) -> None:
    client = limited(library, in_memory_fallback_enabled=True)
    Storage.is_down = True
    assert client.statuses("/items", 3) == library.expected(same([200, 200, 429]))


def test_other_limits_apply_while_a_storage_is_out_of_reach(library: Library) -> None:
    client = limited(library, in_memory_fallback=["1/minute"])
    Storage.is_down = True
    assert client.statuses("/items", 3) == library.expected(same([200, 429, 429]))


def test_swallowed_errors_of_a_storage(library: Library) -> None:
    client = limited(library, swallow_errors=True)
    Storage.is_down = True
    expected = differs(slowapi=[500] * 3, slidegate=[200] * 3, difference="swallowed-errors")
    assert client.statuses("/items", 3) == library.expected(expected)
