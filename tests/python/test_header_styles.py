"""RateLimit and RateLimit-Policy as an independent parser of structured fields reads them, and OpenAI's headers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import http_sf
import httpx
import pytest
from conftest import Client
from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.responses import PlainTextResponse, StreamingResponse
from hypothesis import given
from hypothesis import strategies as st
from limits import parse

from slidegate import ConfigurationError, Limiter, RateLimit
from slidegate._http.current_limit import Policy
from slidegate._http.header_styles import duration, ietf_fields
from slidegate.middleware import SlowAPIMiddleware
from slidegate.testing import ManualClock, advance

MakeLimiter = Callable[..., Limiter]
MakeApp = Callable[[Limiter], FastAPI]


def structured(response: httpx.Response, name: str) -> list[tuple[str, dict[str, Any]]]:
    """The members of a list, of which there has to be one field, by the rules of RFC 9651."""
    (value,) = [value for key, value in response.headers.multi_items() if key == name]
    parsed: Any = http_sf.parse(value.encode("ascii"), tltype="list")
    return [(item, dict(parameters)) for item, parameters in parsed]


def make_client(make_limiter: MakeLimiter, make_app: MakeApp, *limits: RateLimit, **options: Any) -> Client:
    app = make_app(make_limiter(**{"headers": "ietf", **options}))
    app.get("/", dependencies=[Depends(limit) for limit in limits])(lambda: {"answer": "ok"})
    return Client(app)


def test_what_is_left_and_all_policies_are_told_in_structured_fields(
    make_limiter: MakeLimiter, make_app: MakeApp, clock: ManualClock
) -> None:
    limits = RateLimit("2/minute"), RateLimit("100/day; 10/hour", name="chat")
    client = make_client(make_limiter, make_app, *limits)
    response = client.get("/")
    assert structured(response, "ratelimit") == [("2 per 1 minute", {"r": 1, "t": 60})]
    assert structured(response, "ratelimit-policy") == [
        ("2 per 1 minute", {"q": 2, "w": 60}),
        ("chat-86400s", {"q": 100, "w": 86400}),
        ("chat-3600s", {"q": 10, "w": 3600}),
    ]
    assert "retry-after" not in response.headers
    assert not [name for name in response.headers if name.startswith("x-ratelimit")]
    client.get("/")
    advance(clock, seconds=20)
    refused = client.get("/")
    assert structured(refused, "ratelimit") == [("2 per 1 minute", {"r": 0, "t": 40})]
    assert len(structured(refused, "ratelimit-policy")) == 3
    assert refused.headers["Retry-After"] == "40"


def test_every_decision_about_a_request_is_told_in_one_set(make_limiter: MakeLimiter, make_app: MakeApp) -> None:
    limiter = make_limiter(headers=["x-ratelimit", "ietf", "openai"], default_limits=["50/day"])
    app = make_app(limiter)
    app.add_middleware(SlowAPIMiddleware)

    async def between(request: Request) -> None:
        await limiter.check(request, "20/hour", scope="by hand")

    dependencies = [Depends(RateLimit("30/hour", override_defaults=False)), Depends(between)]
    app.get("/", dependencies=dependencies)(lambda: "ok")
    app.get("/decorated", dependencies=dependencies)(limiter.limit("9/hour", name="own")(lambda: "ok"))
    response = Client(app).get("/")
    names = [name for name, _ in response.headers.multi_items()]
    assert len(names) == len(set(names))
    assert structured(response, "ratelimit") == [("20 per 1 hour", {"r": 19, "t": 3600})]
    told = {name for name, _ in structured(response, "ratelimit-policy")}
    assert told == {"50 per 1 day", "30 per 1 hour", "20 per 1 hour"}
    assert (response.headers["X-RateLimit-Limit"], response.headers["X-RateLimit-Remaining"]) == ("20", "19")
    assert response.headers["x-ratelimit-limit-requests"] == "20"
    assert response.headers["x-ratelimit-remaining-requests"] == "19"
    assert response.headers["x-ratelimit-reset-requests"] == "1h0m0s"
    decorated = Client(app).get("/decorated")
    assert structured(decorated, "ratelimit") == [("own", {"r": 8, "t": 3600})]
    assert {name for name, _ in structured(decorated, "ratelimit-policy")} == {"own", "30 per 1 hour", "20 per 1 hour"}


@pytest.mark.parametrize("has_middleware", [False, True])
@pytest.mark.parametrize("headers", ["x-ratelimit", "ietf"])
def test_headers_are_on_every_kind_of_response(
    headers: str, has_middleware: bool, make_limiter: MakeLimiter, make_app: MakeApp
) -> None:
    app = make_app(make_limiter(headers=headers))
    if has_middleware:
        app.add_middleware(SlowAPIMiddleware)
    limit = [Depends(RateLimit("2/minute"))]

    async def chunks() -> AsyncIterator[str]:
        yield "a"
        yield "b"

    def not_there() -> None:
        raise HTTPException(404)

    app.get("/dict", dependencies=limit)(lambda: {"answer": "ok"})
    app.get("/response", dependencies=limit)(lambda: PlainTextResponse("ok"))
    app.get("/stream", dependencies=limit)(lambda: StreamingResponse(chunks()))
    app.get("/cached", dependencies=limit)(lambda: Response(status_code=304))
    app.get("/missing", dependencies=limit)(not_there)
    app.get("/broken", dependencies=limit)(lambda: 1 / 0)
    name = "ratelimit" if headers == "ietf" else "x-ratelimit-remaining"
    client = Client(app)
    for path in ("/dict", "/response", "/stream", "/cached", "/missing", "/broken"):
        for status in (None, None, 429):
            response = client.get(path)
            assert len(response.headers.get_list(name)) == 1, (path, response.status_code)
            assert status is None or response.status_code == status
    assert name not in client.get("/nowhere").headers


def test_headers_of_checks_by_hand_are_told_where_the_limiter_names_headers(
    make_limiter: MakeLimiter, make_app: MakeApp
) -> None:
    limiter = make_limiter(headers="openai")
    app = make_app(limiter)

    @app.get("/")
    async def endpoint(request: Request) -> PlainTextResponse:
        await limiter.check(request, "2/minute")
        return PlainTextResponse("ok")

    client = Client(app)
    assert client.get("/").headers["x-ratelimit-remaining-requests"] == "1"
    assert client.get("/").headers["x-ratelimit-reset-requests"] == "1m0s"
    assert client.get("/").headers["x-ratelimit-remaining-requests"] == "0"


def test_decorators_and_middleware_tell_them_too(make_limiter: MakeLimiter, make_app: MakeApp) -> None:
    limiter = make_limiter(headers=("ietf-draft-10",), default_limits=["5/minute"])
    app = make_app(limiter)
    app.add_middleware(SlowAPIMiddleware)
    app.get("/own")(limiter.limit("3/minute; 30/hour")(lambda: "ok"))
    app.get("/default")(lambda: "ok")
    own, default = Client(app).get("/own"), Client(app).get("/default")
    assert structured(own, "ratelimit") == [("3 per 1 minute", {"r": 2, "t": 60})]
    assert [name for name, _ in structured(own, "ratelimit-policy")] == ["3 per 1 minute", "30 per 1 hour"]
    assert structured(default, "ratelimit") == [("5 per 1 minute", {"r": 4, "t": 60})]
    assert structured(default, "ratelimit-policy") == [("5 per 1 minute", {"q": 5, "w": 60})]


def test_without_a_handler_a_refusal_has_the_headers_too(make_limiter: MakeLimiter) -> None:
    app = FastAPI()
    app.state.limiter = make_limiter(headers="ietf")
    app.get("/", dependencies=[Depends(RateLimit("1/minute"))])(lambda: "ok")
    Client(app).get("/")
    refused = Client(app).get("/")
    assert refused.json() == {"detail": "1 per 1 minute"}
    assert structured(refused, "ratelimit") == [("1 per 1 minute", {"r": 0, "t": 60})]


@pytest.mark.parametrize("headers", ["retry", [], ["ietf", "x"], "ietf-draft-9"])
def test_headers_that_there_are_not_are_an_error(headers: Any, make_limiter: MakeLimiter) -> None:
    with pytest.raises(ConfigurationError, match=r"headers=.* is none, or no list, of 'x-ratelimit', 'ietf', 'openai'"):
        make_limiter(headers=headers)


@given(st.text(max_size=40), st.integers(0, 10**9), st.integers(0, 10**18), st.integers(1, 8_388_607))
def test_whatever_a_limit_is_called_the_fields_can_be_read(name: str, left: int, reset_ns: int, amount: int) -> None:
    item = parse(f"{amount}/minute")
    essentials = (True, 0, left, reset_ns, 0)
    fields = ietf_fields(item, essentials, (Policy(name, item, essentials),))
    ((told, parameters),) = http_sf.parse(fields["ratelimit"].encode("ascii"), tltype="list")
    assert dict(parameters) == {"r": left, "t": -(-reset_ns // 10**9)}
    assert told == "".join(each if " " <= each <= "~" else "?" for each in name)
    ((again, parameters),) = http_sf.parse(fields["ratelimit-policy"].encode("ascii"), tltype="list")
    assert (again, dict(parameters)) == (told, {"q": amount, "w": 60})


@pytest.mark.parametrize(
    ("seconds", "told"), [(0, "0s"), (59, "59s"), (60, "1m0s"), (360, "6m0s"), (3600, "1h0m0s"), (90061, "25h1m1s")]
)
def test_durations_are_told_as_openai_does(seconds: int, told: str) -> None:
    assert duration(seconds) == told


def test_a46_problem_details_tell_which_limit_what_of_and_when_it_resets(
    make_limiter: MakeLimiter, make_app: MakeApp
) -> None:
    limit = RateLimit("1/hour", name="cover-letter")
    client = make_client(make_limiter, make_app, limit, problem_details_enabled=True)
    client.get("/")
    refused = client.get("/")
    assert refused.headers["Content-Type"] == "application/problem+json"
    assert refused.json() == {
        "type": "https://iana.org/assignments/http-problem-types#quota-exceeded",
        "title": "Request cannot be satisfied as assigned quota has been exceeded",
        "status": 429,
        "detail": "Rate limit exceeded: 1 per 1 hour",
        "violated-policies": ["cover-letter"],
        "limit": 1,
        "window_s": 3600,
        "scope": "GET /",
        "retry_after_s": 3600,
    }
    assert structured(refused, "ratelimit") == [("cover-letter", {"r": 0, "t": 3600})]
