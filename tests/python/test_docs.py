"""What the documentation shows, run as it stands."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Client
from fakes import NEW_YEAR_2100, frozen_by_time_machine
from websocket_clients import talk

ROOT = Path(__file__).parents[2]


def blocks(document: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (ROOT / document).read_text(), re.DOTALL)


@pytest.mark.parametrize("at", range(len(blocks("docs/testing.md"))))
def test_the_tests_of_the_guide_to_testing_pass(at: int, tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(blocks("README.md")[0])
    (tmp_path / "test_app.py").write_text(blocks("docs/testing.md")[at])
    # Starlette's own client warns of the httpx that it uses.
    warnings = ["-W", "error", "-W", "ignore::DeprecationWarning", "-W", "ignore::UserWarning"]
    command = [sys.executable, "-m", "pytest", "-q", *warnings, "-p", "no:cacheprovider", "test_app.py"]
    told = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stdout + told.stderr
    assert re.search(r"^\d+ passed", told.stdout, re.MULTILINE)
    assert "skipped" not in told.stdout


@pytest.fixture
def _frozen() -> Iterator[None]:
    with frozen_by_time_machine(NEW_YEAR_2100):
        yield


def program(document: str, at: int) -> dict[str, Any]:
    """The names that a block of a document leaves."""
    names: dict[str, Any] = {"__name__": f"block_{at}_of_{Path(document).stem}"}
    exec(compile(blocks(document)[at], f"{document} {at}", "exec", dont_inherit=True), names)
    return names


@pytest.mark.parametrize("document", ["docs/fastapi.md", "docs/keys.md", "docs/headers.md", "docs/configuration.md"])
def test_applications_of_the_documents_start_without_a_warning(document: str, caplog: pytest.LogCaptureFixture) -> None:
    assert blocks(document)
    for at in range(len(blocks(document))):
        assert Client(program(document, at)["app"]).get("/nowhere").status_code == 404
    assert caplog.messages == []


@pytest.mark.usefixtures("_frozen")
def test_the_guide_to_dependencies_limits_what_it_says() -> None:
    client = Client(program("docs/fastapi.md", 0)["app"])
    answers = [client.post(f"/jobs/{at}/letter") for at in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert answers[-1].json() == {"error": "Rate limit exceeded: 2 per 1 second"}
    assert answers[-1].headers["X-RateLimit-Limit"] == "2"

    client = Client(program("docs/fastapi.md", 1)["app"])
    free, pro = ({"Authorization": f"Bearer token-of-{name}"} for name in ("bob", "ada"))
    for headers, limit in ((free, 10), (pro, 100)):
        statuses = [client.post("/chat", headers=headers).status_code for _ in range(limit + 1)]
        assert statuses == [200] * limit + [429]
        assert [client.post("/triage", headers=headers).status_code for _ in range(21)] == [200] * 20 + [429]
    assert client.post("/triage", headers={"Authorization": "Bearer nobody"}).status_code == 401

    told = talk(program("docs/fastapi.md", 2)["app"], "/chat", *"abcdef")
    assert [kind for kind, _ in told] == ["accept", *["send"] * 6]
    assert json.loads(told[-1][1]) == {"error": "slow down", "retry_after_s": 1}


@pytest.mark.usefixtures("_frozen")
def test_the_guide_to_keys_believes_whom_it_says() -> None:
    app = program("docs/keys.md", 0)["app"]
    proxy, stranger = Client(app, "10.0.0.1"), Client(app, "192.0.2.1")
    for client, passing in ((proxy, 30), (stranger, 20)):
        sent = [{"X-User-ID": f"user {at}"} for at in range(30)]
        assert [client.post("/jobs", headers=headers).status_code for headers in sent].count(200) == passing


@pytest.mark.usefixtures("_frozen")
def test_the_guide_to_headers_shows_what_is_sent() -> None:
    client = Client(program("docs/headers.md", 0)["app"])
    first, _, refused = (client.get("/") for _ in range(3))
    assert first.headers["RateLimit"] == '"search-60s";r=1;t=60'
    assert first.headers["RateLimit-Policy"] == '"search-60s";q=2;w=60, "search-86400s";q=100;w=86400'
    (shown,) = re.findall(r"```json\n(.*?)```", (ROOT / "docs/headers.md").read_text(), re.DOTALL)
    assert refused.json() == json.loads(shown)
    assert first.headers["RateLimit"] in (ROOT / "docs/headers.md").read_text()


@pytest.mark.usefixtures("_frozen")
def test_the_guide_to_configuration_has_its_limits_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLM_RATE_COVER_LETTER", "2/hour")
    monkeypatch.setenv("LLM_RATE_RESEARCH", "1/hour")
    client = Client(program("docs/configuration.md", 0)["app"])
    assert [client.post("/letter").status_code for _ in range(3)] == [200, 200, 429]
    assert client.post("/admin/letter-limit?limit=3/hour").status_code == 200
    assert [client.post("/letter").status_code for _ in range(2)] == [200, 429]
    client = Client(program("docs/configuration.md", 1)["app"])
    assert [client.post("/letter").status_code for _ in range(3)] == [200, 200, 429]
    assert [client.post("/research").status_code for _ in range(3)] == [200] * 3
    monkeypatch.setenv("IS_DEMO", "true")
    client = Client(program("docs/configuration.md", 0)["app"])
    assert [client.post("/letter").status_code for _ in range(3)] == [200] * 3
