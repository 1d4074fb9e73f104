"""Counts can be read and forgotten under the keys that the `limits` package gives them."""

from __future__ import annotations

from typing import Any

import pytest
from conftest import Client
from fastapi import Request, Response
from starlette.responses import PlainTextResponse

from compat.conftest import Wall
from compat.library import Library, same

# Of a kind that both packages read through `get`.
FIXED = {"strategy": "fixed-window"}


class Program:
    """An application with one limit, and the flat key of what its last request was counted under."""

    def __init__(self, library: Library, options: dict[str, Any], **limiter_options: Any) -> None:
        self.limiter = library.limiter(**{**FIXED, **limiter_options})
        app = library.app(self.limiter)
        decorate = self.limiter.shared_limit if "scope" in options else self.limiter.limit
        self.flat_key = ""

        @app.api_route("/items/{rest:path}", methods=["GET", "POST"])
        @decorate("5/minute", **options)
        async def items(request: Request, rest: str) -> Response:
            item, identifiers = request.state.view_rate_limit
            self.flat_key = item.key_for(*identifiers)
            return PlainTextResponse("ok")

        self.client = Client(app)

    def call(self, path: str = "/items/a") -> int:
        """What is counted under the key of a request, after it."""
        assert self.client.get(path).status_code == 200
        counted: int = self.limiter._storage.get(self.flat_key)
        return counted


OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "per method": {"per_method": True},
    "shared": {"scope": "shop"},
    "shared under a name with slashes": {"scope": "shop/a/b"},
    "a key with slashes": {"key_func": lambda: "a/b//c"},
    "a key that is the prefix": {"key_func": lambda: "p"},
    "an IPv6 key": {"key_func": lambda: "2001:db8::1"},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=list(OPTIONS))
@pytest.mark.parametrize("prefix", ["", "p", "p/q"])
@pytest.mark.parametrize("key_style", ["url", "endpoint"])
def test_what_a_request_was_counted_under_can_be_read(
    key_style: str, prefix: str, options: dict[str, Any], library: Library
) -> None:
    program = Program(library, options, key_style=key_style, key_prefix=prefix)
    assert [program.call(), program.call()] == library.expected(same([1, 2]))


@pytest.mark.parametrize("path", ["/items/", "/items//", "/items/a/b//c", "/items/5/1/minute", "/items/a:GET"])
def test_the_path_may_be_any(path: str, library: Library) -> None:
    program = Program(library, {})
    assert [program.call(path), program.call("/items/other")] == library.expected(same([1, 1]))


@pytest.mark.parametrize(
    "key",
    [
        *(
            "",
            "LIMITER",
            "LIMITER/",
            "LIMITER/192.0.2.1//items/other/5/1/minute",
            "LIMITER/192.0.2.1//items/a/5/1/hour",
        ),
        *("LIMITER/192.0.2.1//items/a/5/1/eon", "LIMITER/192.0.2.1//items/a/five/1/minute", "/" * 1000),
        *("LIMITER/a/b/0/1/minute", f"LIMITER/a/b/{'9' * 5000}/1/minute", "LIMITER/a/b/9999999999999/1/minute"),
    ],
    ids=lambda key: key[:40],
)
def test_nothing_is_counted_under_other_keys(key: str, library: Library) -> None:
    program = Program(library, {})
    program.call()
    assert program.limiter._storage.get(key) == library.expected(same(0))


def test_the_end_of_a_count_can_be_read(library: Library, wall: Wall) -> None:
    program = Program(library, {})
    program.call()
    wall.advance(10)
    storage = program.limiter._storage
    told = [storage.get_expiry(key) - wall.now_s for key in (program.flat_key, "LIMITER/nobody//items/5/1/minute")]
    assert told == library.expected(same([50, 0]))


def test_one_count_can_be_forgotten(library: Library) -> None:
    program = Program(library, {})
    program.call("/items/b")
    kept = program.flat_key
    program.call("/items/a")
    program.limiter._storage.clear(program.flat_key)
    told = [program.limiter._storage.get(key) for key in (program.flat_key, kept)]
    assert told == library.expected(same([0, 1]))
