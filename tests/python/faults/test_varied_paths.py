"""Limits that count each concrete path apart, and so do not limit whoever varies it."""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Client
from fastapi import Depends, FastAPI

from slidegate import Limiter, RateLimit, cli
from slidegate.middleware import SlowAPIMiddleware

ROOT = Path(__file__).parents[3]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PROGRAM = """
from fastapi import FastAPI
from slidegate import Limiter
from slidegate.util import get_remote_address

app = FastAPI(openapi_url=None)
app.state.limiter = limiter = Limiter(get_remote_address, key_style="{style}", storage_uri="memory://")
app.get("/reports/{{name}}")(limiter.limit("5/minute")(lambda name: name))
"""


@pytest.mark.parametrize("style", ["url", "endpoint"])
def test_fault_06_strict_fails_for_a_route_that_counts_each_path_apart_and_names_the_fix(
    style: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / f"varied_by_{style}.py").write_text(PROGRAM.format(style=style))
    ran = cli.main(["routes", f"varied_by_{style}:app", "--app-dir", str(tmp_path), "--strict"])
    printed = capsys.readouterr()
    assert ran == (1 if style == "url" else 0)
    for text in (printed.out, printed.err):
        assert ('Limiter(key_style="endpoint") counts a route as one' in text) is (style == "url")
    assert ("GET /reports/{name}" in printed.err) is (style == "url")


def limited_by_decorator(app: Any, limiter: Limiter) -> None:
    app.get("/{name}")(limiter.limit("1/minute")(lambda name: name))


def limited_by_middleware(app: Any, limiter: Limiter) -> None:
    limiter._default_limits = limiter._in_memory_fallback
    app.add_middleware(SlowAPIMiddleware)
    app.get("/{name}")(lambda name: name)


def limited_by_shared_limit(app: Any, limiter: Limiter) -> None:
    app.get("/{name}")(limiter.shared_limit("1/minute", "all")(lambda name: name))


def limited_by_dependency(app: Any, limiter: Limiter) -> None:
    app.get("/{name}", dependencies=[Depends(RateLimit("1/minute"))])(lambda name: name)


@pytest.mark.parametrize("style", ["url", "endpoint"])
@pytest.mark.parametrize(
    "limit", [limited_by_decorator, limited_by_middleware, limited_by_shared_limit, limited_by_dependency]
)
def test_fault_06_the_report_marks_just_what_varied_paths_get_around(
    limit: Callable[[Any, Limiter], None], style: str, make_limiter: Callable[..., Limiter]
) -> None:
    app = FastAPI(openapi_url=None)
    limiter = app.state.limiter = make_limiter(key_style=style, in_memory_fallback=["1/minute"])
    limit(app, limiter)
    report = limiter.report(app)
    client = Client(app)
    is_got_around = [client.get(path).status_code for path in ("/a", "/b")] == [200, 200]
    assert bool(report.varied) is is_got_around
    assert ("counts each path apart" in str(report)) is is_got_around
    assert [each["is_varied_by_path"] for each in report.as_json()["routes"]] == [is_got_around]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_fault_06_what_documents_show_counts_routes_and_not_paths(path: Path) -> None:
    for block in re.findall(r"```python\n(.*?)```", path.read_text(), re.S):
        made = re.findall(r"(?<!\w\.)\bLimiter\((?:[^()]|\([^()]*\))*\)", block)
        if "limiter.limit(" in block or "SlowAPIMiddleware" in block:
            assert all('key_style="endpoint"' in each for each in made), block


@pytest.mark.parametrize("name", ["quickstart", "job_search/app", "server_triage/app", "vault_chat/app"])
def test_fault_06_no_limit_of_the_examples_is_got_around_by_other_paths(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    source = ROOT / "examples" / f"{name}.py"
    monkeypatch.syspath_prepend(source.parent)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JWT_SECRET", "a-secret-of-at-least-32-bytes-for-tests")
    spec = importlib.util.spec_from_file_location(name.replace("/", "_"), source)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    report = module.limiter.report(module.app)
    assert report.varied == ()
    assert any(each.limits for each in report.routes)


def test_fault_06_the_quickstart_limits_whoever_varies_the_name(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = importlib.util.spec_from_file_location("quickstart_of_faults", ROOT / "examples" / "quickstart.py")
    assert spec is not None
    assert spec.loader is not None
    quickstart = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(quickstart)
    client = Client(quickstart.app)
    assert [client.get(f"/reports/{number}").status_code for number in range(7)].count(200) == 5
