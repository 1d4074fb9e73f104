"""What is logged of refusals: one line each, that says enough, tells no key, and does not fill a disk."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable
from typing import Any

import pytest
from conftest import Client
from fastapi import Depends, FastAPI

from slidegate import Limiter, RateLimit
from slidegate._http.refusal_log import RefusalLog

MakeLimiter = Callable[..., Limiter]
MakeApp = Callable[[Limiter], FastAPI]


def pairs(line: str) -> dict[str, Any]:
    return {name: json.loads(value) for name, value in re.findall(r'(\w+)=("(?:[^"\\]|\\.)*"|\d+)(?: |$)', line)}


def refused(limiter: Limiter, make_app: MakeApp, key: str = "ada@example.com") -> Client:
    app = make_app(limiter)
    limit = RateLimit("1/hour", name="cover-letter", key=lambda: key)
    app.post("/jobs/{job_id}/cover_letter", dependencies=[Depends(limit)])(lambda: "ok")
    client = Client(app)
    for job in ("1", "2"):
        client.post(f"/jobs/{job}/cover_letter")
    return client


def test_a_refusal_is_one_line_with_limit_route_hashed_key_and_time(
    make_limiter: MakeLimiter, make_app: MakeApp, caplog: pytest.LogCaptureFixture
) -> None:
    refused(make_limiter(log_salt="salt"), make_app)
    (record,) = [each for each in caplog.records if each.name == "slidegate.refusals"]
    told = record.__dict__["slidegate"]
    assert pairs(record.getMessage()) == told
    key_hash = told.pop("key_hash")
    assert told == {
        "event": "rate_limit_refused",
        "limit": "cover-letter",
        "quota": "1 per 1 hour",
        "route": "POST /jobs/{job_id}/cover_letter",
        "scope": "POST /jobs/{job_id}/cover_letter",
        "retry_after_s": 3600,
        "left_out": 0,
    }
    assert re.fullmatch("[0-9a-f]{16}", key_hash)
    assert "ada" not in record.getMessage()


def test_the_hash_of_a_key_is_the_same_where_the_salt_is() -> None:
    logger = logging.getLogger("test")
    one, same, other = (RefusalLog(logger, salt).hashed("ada") for salt in ("a", "a", "b"))
    assert one == same != other
    assert RefusalLog(logger).hashed("ada") != RefusalLog(logger).hashed("ada")
    assert RefusalLog(logger, "a").hashed("\ud800") != one


def test_a_key_cannot_forge_lines(
    make_limiter: MakeLimiter, make_app: MakeApp, caplog: pytest.LogCaptureFixture
) -> None:
    refused(make_limiter(), make_app, key='x"\n left_out=7')
    assert [len(message.splitlines()) for message in caplog.messages] == [1]


def test_lines_are_limited_and_what_was_left_out_is_told(
    make_limiter: MakeLimiter, make_app: MakeApp, caplog: pytest.LogCaptureFixture
) -> None:
    now_s = 5.0
    log = RefusalLog(logging.getLogger("slidegate.refusals"), most_per_s=3, now_s=lambda: now_s)
    limiter = make_limiter()
    limiter.check_sync(None, "1/minute", key="ada", scope="mail")
    decision = limiter.peek_sync(None, "1/minute", key="ada", scope="mail")
    for _ in range(10):
        log.tell(decision, limit=None, route="script", is_shadow=False)
    now_s = 5.99
    log.tell(decision, limit=None, route="script", is_shadow=False)
    now_s = 6.0
    log.tell(decision, limit=None, route="script", is_shadow=False)
    log.tell(decision, limit=None, route="script", is_shadow=False)
    # A clock that goes back does not silence it.
    now_s = 1.0
    log.tell(decision, limit=None, route="script", is_shadow=False)
    assert [record.__dict__["slidegate"]["left_out"] for record in caplog.records] == [0, 0, 0, 8, 0, 0]


@pytest.mark.parametrize("structured_log", [False, True])
def test_decorators_log_in_the_words_of_slowapi_unless_told_otherwise(
    structured_log: bool, make_limiter: MakeLimiter, make_app: MakeApp, caplog: pytest.LogCaptureFixture
) -> None:
    limiter = make_limiter(structured_log=structured_log)
    app = make_app(limiter)
    app.get("/")(limiter.limit("1/minute")(lambda: "ok"))
    Client(app).statuses("/", 2)
    (message,) = caplog.messages
    assert message.startswith(
        'event="rate_limit_refused"' if structured_log else "ratelimit 1 per 1 minute (192.0.2.1)"
    )
