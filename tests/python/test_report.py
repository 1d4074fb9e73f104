"""The report on an application's routes, as an object and as a command."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Client
from fastapi import APIRouter, FastAPI, Request, WebSocket
from starlette.applications import Starlette
from starlette.endpoints import HTTPEndpoint
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route, Router
from starlette.staticfiles import StaticFiles

from slidegate import Limiter
from slidegate.cli import main
from slidegate.middleware import SlowAPIMiddleware
from slidegate.report import Report

MakeLimiter = Callable[..., Limiter]

BY = "by get_remote_address"


def rows(report: Report) -> dict[str, tuple[tuple[str, ...], str]]:
    return {route.name: (route.limits, route.reason) for route in report.routes if not route.is_of_framework}


def endpoint() -> str:
    return "ok"


@pytest.mark.parametrize("has_middleware", [False, True])
def test_every_route_is_told_with_its_limits_and_why(has_middleware: bool, make_limiter: MakeLimiter) -> None:
    limiter = make_limiter(default_limits="9/minute", application_limits="99/minute")
    app = FastAPI()
    app.state.limiter = limiter
    if has_middleware:
        app.add_middleware(SlowAPIMiddleware)
    router, mounted = APIRouter(prefix="/router"), FastAPI(openapi_url=None)
    app.get("/own")(limiter.limit("1/minute;5/hour")(endpoint))
    app.get("/both")(limiter.limit("2/minute", override_defaults=False, methods=["GET"], cost=2)(endpoint))
    router.post("/dynamic")(limiter.shared_limit(tier, "chat", cost=lambda: 1)(endpoint))
    app.include_router(router, prefix="/api")
    app.get("/free")(limiter.exempt(lambda: "free"))
    app.mount("/sub", mounted)
    mounted.get("/plain/{id}")(endpoint)

    @app.websocket("/socket")
    async def socket(websocket: WebSocket) -> None: ...

    report = limiter.report(app)
    missing = "need SlowAPIMiddleware, which the application does not have"
    varied = 'counts each path apart: Limiter(key_style="endpoint") counts a route as one, and so does a RateLimit'
    app_limit = f"99 per 1 minute ({BY}, shared as 'global')"
    assert rows(report) == {
        "GET /own": (
            (f"1 per 1 minute ({BY})", f"5 per 1 hour ({BY})", app_limit),
            "decorator and application_limits",
        ),
        "GET /both": (
            (f"2 per 1 minute ({BY}, GET only, cost 2)", app_limit, f"9 per 1 minute ({BY})"),
            "decorator and application_limits and default_limits",
        ),
        "POST /api/router/dynamic": (
            (f"what {__name__}.tier returns ({BY}, shared as 'chat', cost)", app_limit),
            "decorator and application_limits",
        ),
        "GET /free": ((), "exempt"),
        "GET /sub/plain/{id}": (
            ((app_limit, f"9 per 1 minute ({BY})"), f"application_limits and default_limits; {varied}")
            if has_middleware
            else ((), f"application_limits and default_limits {missing}")
        ),
        "WEBSOCKET /socket": ((), "application_limits and default_limits do not apply to WebSockets; decorate it"),
    }
    unlimited = [] if has_middleware else ["GET /sub/plain/{id}"]
    assert sorted(each.name for each in report.unlimited) == [*unlimited, "WEBSOCKET /socket"]


def tier(key: str) -> str:
    return "1/minute"


def test_methods_of_classes_static_files_and_inert_decorators_are_told(
    make_limiter: MakeLimiter, tmp_path: Path
) -> None:
    limiter = make_limiter(default_limits="9/minute")

    class Page(HTTPEndpoint):
        @limiter.limit("1/minute")
        async def get(self, request: Request) -> Response:
            return PlainTextResponse("ok")

        async def post(self, request: Request) -> Response:
            return PlainTextResponse("ok")

    async def above(request: Request) -> Response:
        return PlainTextResponse("ok")

    app = Starlette(routes=[Route("/page", Page), Route("/above", above)])
    app.state.limiter = limiter
    app.mount("/static", StaticFiles(directory=tmp_path))
    wrapper = limiter.limit("2/minute")(above)
    assert rows(limiter.report(app)) == {
        "GET /page": ((f"1 per 1 minute ({BY})",), "decorator"),
        "POST /page": ((), "default_limits need SlowAPIMiddleware, which the application does not have"),
        "GET,HEAD /above": ((), "the decorator stands above that of the route, so nothing checks it"),
    }
    app.add_middleware(SlowAPIMiddleware)
    told = rows(limiter.report(app))
    assert told["POST /page"] == ((f"9 per 1 minute ({BY})",), "default_limits")
    assert told["GET,HEAD /above"][0] == (f"2 per 1 minute ({BY})",)
    assert "static files are not limited" in str(limiter.report(app))
    limiter.exempt(app.routes[-1].app)  # type: ignore[attr-defined]
    assert [each.reason for each in limiter.report(app).routes if each.path.startswith("/static")] == ["exempt"]
    assert wrapper


def test_what_serves_any_method_is_told_as_unlimited_too(make_limiter: MakeLimiter) -> None:
    class Everything(HTTPEndpoint):
        async def dispatch(self) -> None:
            await PlainTextResponse("ok")(self.scope, self.receive, self.send)

    # A response is an application, too.
    app = Starlette(routes=[Route("/everything", Everything), Mount("/text", app=PlainTextResponse("ok"))])
    limiter = app.state.limiter = make_limiter(default_limits="9/minute")
    assert [each.name for each in limiter.report(app).unlimited] == ["ANY /everything", "ANY /text/{path}"]


@pytest.mark.parametrize("where", ["mount", "router", "route"])
def test_middleware_of_a_mount_or_a_router_or_a_route_is_seen(where: str, make_limiter: MakeLimiter) -> None:
    limiter = make_limiter(default_limits="1/minute")
    ours = [Middleware(SlowAPIMiddleware, limiter=limiter)]

    async def index(request: Request) -> Response:
        return PlainTextResponse("ok")

    routes = [Route("/x", index)]
    mounts = {
        "mount": Mount("/sub", routes=routes, middleware=ours),
        "router": Mount("/sub", app=Router(routes=routes, middleware=ours)),
        "route": Mount("/sub", routes=[Route("/x", index, middleware=ours)]),
    }
    app = Starlette(routes=[mounts[where]])
    app.state.limiter = limiter
    assert Client(app).statuses("/sub/x", 2) == [200, 429]
    assert rows(limiter.report(app))["GET,HEAD /sub/x"] == ((f"1 per 1 minute ({BY})",), "default_limits")


def test_a_limiter_that_is_switched_off_is_told(make_limiter: MakeLimiter) -> None:
    app = FastAPI()
    for options in ({"enabled": False}, {"auto_check": False}):
        limiter = make_limiter(**options)
        app.get("/")(limiter.limit("1/minute")(endpoint))
        report = limiter.report(app)
        assert "nothing is limited" in report.notes[0]
        assert report.unlimited


PROGRAM = """
from fastapi import FastAPI
from slidegate import Limiter
from slidegate.util import get_remote_address

limiter = Limiter(get_remote_address)

def make():
    app = FastAPI()
    app.state.limiter = limiter

    @app.get("/chat")
    @limiter.limit("10/minute")
    async def chat():
        return "ok"

    @app.get("/free")
    async def free():
        return "ok"

    return app

app = make()
nothing = FastAPI()
number = 5
"""


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    name = f"program_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(PROGRAM)
    monkeypatch.chdir(tmp_path)
    return name


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    status = main(["routes", *arguments])
    printed = capsys.readouterr()
    return status, printed.out, printed.err


def test_the_command_prints_the_table(program: str, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ([f"{program}:app"], [f"{program}:make", "--factory"], [f"{program}:app", "--app-dir", "."]):
        status, out, _ = run(capsys, *arguments)
        lines = [line.split() for line in out.splitlines()]
        assert status == 0
        assert lines[0] == ["METHODS", "PATH", "LIMITS", "WHY"]
        assert ["GET", "/chat", "10", "per", "1", "minute", "(by", "get_remote_address)", "decorator"] in lines
        assert out.rstrip().endswith("still to be limited or exempted: 1")


def test_the_command_can_fail_for_a_route_without_a_limit_and_print_json(
    program: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, _ = run(capsys, f"{program}:app", "--strict", "--json")
    (report,) = json.loads(out)
    assert status == 1
    paths = {route["path"]: route["limits"] for route in report["routes"]}
    assert paths["/chat"] == ["10 per 1 minute (by get_remote_address)"]
    assert paths["/free"] == []


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("{}", "write MODULE:APP"),
        ("no_such_module:app", "there is no module 'no_such_module'"),
        ("{}:missing", "has no 'missing'"),
        ("{}:nothing", "has no limiter"),
        ("{}:number", "has no routes"),
    ],
)
def test_the_command_says_what_it_cannot_do(
    target: str, message: str, program: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, err = run(capsys, target.format(program))
    assert (status, out) == (2, "")
    assert message in err


def test_the_command_is_installed_and_a_module(capsys: pytest.CaptureFixture[str]) -> None:
    from importlib.metadata import entry_points

    (script,) = entry_points(group="console_scripts", name="slidegate")
    loaded: Any = script.load()
    assert loaded is main
    with pytest.raises(SystemExit):
        main(["--help"])
    assert "routes" in capsys.readouterr().out
