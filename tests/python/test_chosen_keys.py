"""Identities that clients can choose: told in the report and when the application starts."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from conftest import Client
from fastapi import Depends, FastAPI

from slidegate import Limiter, RateLimit
from slidegate.keys import KeyFunction, combine, first_of, header, remote_address
from slidegate.util import get_ipaddr, get_remote_address

MakeLimiter = Callable[..., Limiter]
MakeApp = Callable[[Limiter], FastAPI]

ANYBODYS = header("X-User-ID", trusted_proxies="*", fallback=remote_address())


@pytest.mark.parametrize(
    ("key", "told"),
    [
        (ANYBODYS, "anybody can send the header X-User-ID"),
        (get_ipaddr, "get_ipaddr believes the header X_FORWARDED_FOR from anybody"),
        (remote_address("*"), "remote_address(*) believes the header x-forwarded-for from anybody"),
        (remote_address(["0.0.0.0/0"]), "remote_address(0.0.0.0/0) believes the header x-forwarded-for from anybody"),
        (combine(remote_address(), ANYBODYS), "anybody can send the header X-User-ID"),
        (first_of(get_ipaddr, remote_address()), "get_ipaddr believes the header X_FORWARDED_FOR from anybody"),
    ],
)
@pytest.mark.parametrize("way", ["decorator", "dependency", "limiter"])
def test_a_key_that_clients_choose_is_told_at_start_and_in_the_report(
    way: str,
    key: KeyFunction,
    told: str,
    make_limiter: MakeLimiter,
    make_app: MakeApp,
    caplog: pytest.LogCaptureFixture,
) -> None:
    limiter = make_limiter(key_func=key if way == "limiter" else get_remote_address)
    app = make_app(limiter)
    if way == "dependency":
        app.get("/jobs", dependencies=[Depends(RateLimit("2/minute", key=key))])(lambda: "ok")
    else:
        app.get("/jobs")(limiter.limit("2/minute", key_func=key if way == "decorator" else None)(lambda: "ok"))
    Client(app).get("/")
    assert caplog.messages == [
        f"{told}, so whoever varies it is not limited: GET /jobs; slidegate.keys has safer ones",
    ]
    (route,) = [each for each in limiter.report(app).routes if each.path == "/jobs"]
    assert route.choices == (told,)
    assert "which clients can choose" in route.limits[0]


@pytest.mark.parametrize(
    "key",
    [
        get_remote_address,
        remote_address(["10.0.0.0/8"]),
        header("X-User-ID", trusted_proxies="10.0.0.1"),
        lambda: "all",
    ],
)
def test_others_are_not_told(
    key: KeyFunction, make_limiter: MakeLimiter, make_app: MakeApp, caplog: pytest.LogCaptureFixture
) -> None:
    limiter = make_limiter(key_func=key)
    app = make_app(limiter)
    app.get("/jobs", dependencies=[Depends(RateLimit("2/minute"))])(lambda: "ok")
    Client(app).get("/")
    assert caplog.messages == []
    assert [each.choices for each in limiter.report(app).routes if each.path == "/jobs"] == [()]
