"""The request counted by its ASGI scope alone: as the general way counts it, and never where a scope is unusual."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from fastapi import Request

from slidegate._core import Limiter as Engine
from slidegate._core import Quota, Record, taker

HTTP = {"type": "http", "method": "GET", "path": "/", "client": ("192.0.2.1", 5), "root_path": ""}


def take_of(**options: Any) -> Callable[..., Any]:
    policy = Engine().policy([(Quota(2, 60_000_000_000), "scope")])
    values = {
        "hit": policy.hit,
        "cost": 1,
        "items": ("item",),
        "labels": None,
        "view": None,
        "done": "done",
        "prefix": None,
        "endpoint": "name",
        "exempt": set(),
        "full": MemoryError,
    }
    return taker(*{**values, **options}.values())


def test_a_taker_leaves_in_the_state_what_the_general_way_does() -> None:
    take = take_of()
    first: dict[str, Any] = {**HTTP}
    record = take(first)
    assert type(record) is Record
    assert (record.scope is first, record.done, record.view) == (True, "done", first["state"]["view_rate_limit"])
    assert first["state"] == {"view_rate_limit": ("item", ["192.0.2.1", "/"]), "_rate_limiting_complete": "done"}
    second: dict[str, Any] = {**HTTP, "state": {"own": 1}}
    request = Request(second)
    assert take(request, "192.0.2.1") is None
    assert (second["_slidegate"].holder(), second["_slidegate"].scope) == (request, None)
    assert second["state"]["own"] == 1
    third: dict[str, Any] = {**HTTP}
    essentials, key, label = take(third)
    assert (essentials[0], key, label, "state" in third) == (False, "192.0.2.1", "/", False)
    assert type(take({**HTTP, "path": "/other"})) is Record, "counted apart"


@pytest.mark.parametrize(
    ("changes", "arguments"),
    [
        ({"client": None}, ()),
        ({"client": ()}, ()),
        ({"client": ("", 1)}, ()),
        ({"client": (None, 1)}, ()),
        ({"client": "192.0.2.1"}, ()),
        ({"path": None}, ()),
        ({"path": "/\n"}, ()),
        ({"state": {"_rate_limiting_complete": True}}, ()),
        ({"state": 7}, ()),
        ({"_slidegate": 7}, ()),
        ({"_slidegate": Record()}, ()),
        ({}, ("",)),
        ({}, (None,)),
        ({}, (b"bytes",)),
        ({}, ("key", "more")),
    ],
)
def test_a_taker_leaves_the_unusual_alone(changes: Any, arguments: Any) -> None:
    scope = {**HTTP, **changes}
    before = dict(scope)
    assert take_of()(scope, *arguments) == ()
    assert scope == before


def test_a_taker_exempts_and_labels_and_prefixes() -> None:
    assert take_of(exempt={"name"})({**HTTP}) == ()
    scope: dict[str, Any] = {**HTTP}
    assert take_of(labels=("shared",), prefix="app")(Request(scope), "user\ud800") is None
    assert scope["state"]["view_rate_limit"] == ("item", ["app", "user\ud800", "shared"])
    for wrong in ({"view": int}, {"view": 7}, {"labels": ()}, {"labels": ["x"]}):
        with pytest.raises(TypeError):
            take_of(**wrong)


def test_a_taker_holds_what_a_faked_time_takes_out_of_the_scope(monkeypatch: pytest.MonkeyPatch) -> None:
    take = take_of()
    scope: dict[str, Any] = {}
    others: list[str] = []

    def fill() -> dict[str, Any]:
        # Strings and a state that nobody else holds.
        own = {"path": "".join([*"/path"]), "client": ("".join([*"192.0.2.1"]), 1), "state": {}}
        scope.clear()
        scope.update(HTTP, **own)
        return scope

    def fake() -> float:
        scope.clear()
        # Whoever asks for memory now gets what the scope has let go.
        others.extend("".join(["x"] * length) for length in (5, 9) for _ in range(100))
        return 0.0

    monkeypatch.setattr(time, "time", fake)
    state = fill()["state"]
    assert type(take(scope)) is Record
    assert state["view_rate_limit"] == ("item", ["192.0.2.1", "/path"])
    assert type(take(fill())) is Record
    assert take(fill())[1:] == ("192.0.2.1", "/path")
