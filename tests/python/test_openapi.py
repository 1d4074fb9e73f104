"""The schema of an application: a 429 with its headers where a `RateLimit` stands, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import pytest
from fastapi import APIRouter, Depends, FastAPI, Header
from fastapi.openapi.utils import get_openapi
from starlette.requests import Request
from starlette.responses import PlainTextResponse

from slidegate import Limiter, RateLimit, RateLimitExceeded
from slidegate.openapi import describe_refusals

MakeLimiter = Callable[..., Limiter]
MakeApp = Callable[[Limiter], FastAPI]


async def user(user: Annotated[str, Header()] = "") -> str:
    return user


def application(limiter: Limiter, make_app: MakeApp) -> FastAPI:
    app = make_app(limiter)
    router = APIRouter(prefix="/jobs", dependencies=[Depends(RateLimit("100/minute"))])
    router.post("/{job_id}/letter")(lambda: "ok")
    router.get("/{path:path}", responses={429: {"description": "mine"}})(lambda: "ok")
    app.include_router(router, prefix="/v1")
    app.get("/free")(lambda: "ok")
    app.get("/decorated")(limiter.limit("1/minute")(lambda: "ok"))
    app.get("/injected", dependencies=[Depends(RateLimit("1/minute", key=Depends(user)))])(lambda: "ok")
    return app


def test_routes_with_a_limit_have_a_429_with_its_headers(limiter: Limiter, make_app: MakeApp) -> None:
    paths = application(limiter, make_app).openapi()["paths"]
    refusal = paths["/v1/jobs/{job_id}/letter"]["post"]["responses"]["429"]
    assert refusal["description"] == "Too Many Requests"
    assert refusal["headers"]["Retry-After"]["schema"] == {"type": "integer", "minimum": 1}
    assert refusal["content"] == {
        "application/json": {"schema": {"type": "object", "properties": {"error": {"type": "string"}}}}
    }
    assert list(refusal["headers"]) == ["Retry-After"]
    assert paths["/v1/jobs/{path}"]["get"]["responses"]["429"] == {"description": "mine"}
    assert "429" not in paths["/free"]["get"]["responses"]
    assert "429" not in paths["/decorated"]["get"]["responses"]
    assert "429" in paths["/injected"]["get"]["responses"]
    assert [each["name"] for each in paths["/injected"]["get"]["parameters"]] == ["user"]
    assert "parameters" not in paths["/free"]["get"]


@pytest.mark.parametrize(
    ("headers", "names"),
    [
        ("x-ratelimit", {"X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset"}),
        ("ietf", {"ratelimit", "ratelimit-policy"}),
        ("openai", {"x-ratelimit-limit-requests", "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"}),
    ],
)
def test_the_headers_are_those_that_the_limiter_tells(
    headers: str, names: set[str], make_limiter: MakeLimiter, make_app: MakeApp
) -> None:
    schema = application(make_limiter(headers=headers), make_app).openapi()
    refusal = schema["paths"]["/injected"]["get"]["responses"]["429"]
    assert refusal["headers"].keys() - {"Retry-After"} == names


def test_the_body_is_that_of_the_handler(make_limiter: MakeLimiter, make_app: MakeApp) -> None:
    def content(app: FastAPI) -> Any:
        return app.openapi()["paths"]["/injected"]["get"]["responses"]["429"]["content"]

    app = application(make_limiter(problem_details_enabled=True), make_app)
    assert "violated-policies" in content(app)["application/problem+json"]["schema"]["properties"]
    plain = application(make_limiter(), make_app)
    plain.exception_handlers.pop(RateLimitExceeded)
    assert content(plain)["application/json"]["schema"]["properties"] == {"detail": {"type": "string"}}
    own = application(make_limiter(), make_app)

    def handler(request: Request, error: Exception) -> PlainTextResponse:
        return PlainTextResponse("no")

    own.add_exception_handler(RateLimitExceeded, handler)
    assert content(own) == {"application/json": {}}


def test_a_schema_that_is_made_in_another_way_can_be_added_to(limiter: Limiter, make_app: MakeApp) -> None:
    app = application(limiter, make_app)
    schema = get_openapi(title="mine", version="1", routes=app.routes)
    assert "429" not in schema["paths"]["/injected"]["get"]["responses"]
    assert "429" in describe_refusals(app, schema)["paths"]["/injected"]["get"]["responses"]
