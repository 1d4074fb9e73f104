"""What only looks at counts leaves no trace in the statistics, and so none in the metrics."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import Client
from fastapi import FastAPI
from limits import parse

from slidegate import Limiter
from slidegate._core import Segment
from slidegate.cli import main
from slidegate.inspection import Inspection, rule_rows, segment_named
from slidegate.util import get_remote_address


@pytest.fixture
def name() -> Iterator[str]:
    name = f"test-{uuid.uuid4().hex}"
    yield name
    (Path(Segment.shared_directory) / f"{Segment.shared_prefix}{name}").unlink(missing_ok=True)


@pytest.fixture
def limiter(name: str) -> Limiter:
    limiter, app = Limiter(get_remote_address, storage_uri=f"shared://{name}?size=1MiB"), FastAPI()
    app.get("/chat")(limiter.limit("3/minute", name="chat")(lambda: "ok"))
    app.get("/mail")(limiter.shared_limit("2/second; 100/hour", scope="post", name="post")(lambda: "ok"))
    client = Client(app)
    assert client.statuses("/chat", 4) == [200, 200, 200, 429]
    assert client.statuses("/mail", 1) == [200]
    return limiter


LOOKS: dict[str, Callable[[str, Limiter], object]] = {
    "inspect": lambda name, limiter: main(["inspect", name, "192.0.2.1", "--path", "/chat"]),
    "inspect in vain": lambda name, limiter: main(["inspect", name, "nobody"]),
    "reset of a key": lambda name, limiter: main(["reset", name, "192.0.2.1", "--path", "/chat"]),
    "top": lambda name, limiter: main(["top", name, "--once"]),
    "find": lambda name, limiter: Inspection(segment_named(name)).find("192.0.2.1", "/chat"),
    "peek": lambda name, limiter: limiter.peek_sync(None, "7/minute", key="ada", scope="unheard of"),
    "test": lambda name, limiter: limiter.limiter.test(parse("9/minute"), "ada", "/unheard-of"),
    "stats": lambda name, limiter: limiter.limiter.get_window_stats(parse("9/minute"), "ada", "/unheard-of"),
}


@pytest.mark.parametrize("look", LOOKS)
def test_fault_29_who_looks_adds_no_limit_to_the_statistics_and_no_series_to_the_metrics(
    look: str, name: str, limiter: Limiter
) -> None:
    engine = limiter.local.engine
    before = engine.rules(), rule_rows(engine)
    assert len(before[0]) == 3
    LOOKS[look](name, limiter)
    assert len(engine.rules()) == 3
    assert [row.told for row in rule_rows(engine)] == [row.told for row in before[1]]


def test_fault_29_what_is_looked_at_is_found(name: str, limiter: Limiter, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", name, "192.0.2.1", "--path", "/chat"]) == 0
    assert "3 of 3, refused" in capsys.readouterr().out
    assert main(["reset", name, "192.0.2.1", "--path", "/chat"]) == 0
    assert main(["inspect", name, "192.0.2.1", "--path", "/chat"]) == 1


def test_what_was_peeked_at_and_then_counts_is_told_of() -> None:
    limiter = Limiter(get_remote_address)
    engine = limiter.local.engine
    assert limiter.peek_sync(None, "2/minute", key="ada", scope="mail").remaining == 2
    limiter.check_sync(None, "2/minute", key="ada", scope="mail")
    assert limiter.peek_sync(None, "2/minute", key="ada", scope="mail").remaining == 1
    assert [(row.limit, row.admitted) for row in rule_rows(engine)] == [("2 per minute, moving-window", 1)]
