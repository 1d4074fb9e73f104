"""The job-search assistant: limits for every user and endpoint, whatever the job, from the environment."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from examples.programs import EXAMPLES, Program, example

GATEWAY = "127.0.0.7"
QUESTION = {"text": "why us?"}
ENDPOINTS = {
    "/api/jobs/{}/cover_letter/generate": ("LLM_RATE_COVER_LETTER", 20),
    "/api/jobs/{}/research/generate": ("LLM_RATE_RESEARCH", 10),
    "/api/jobs/{}/qa/suggest": ("LLM_RATE_QA", 30),
    "/api/jobs/{}/survey/assist": ("LLM_RATE_SURVEY", 30),
    "/api/wizard/ai/interview": ("LLM_RATE_INTERVIEW", 60),
}


def statuses(program: Program, path: str, count: int, **options: str) -> list[int]:
    """Of as many requests, each about another job."""
    return [program.post(path.format(at), QUESTION, **options).status for at in range(1, count + 1)]


def test_every_endpoint_has_its_limit_for_a_user_whatever_the_job(tmp_path: Path) -> None:
    with example("job_search", tmp_path, CLOUD_MODE="true", CLOUD_GATEWAY=GATEWAY) as program:
        for path, (_, amount) in ENDPOINTS.items():
            for user in ("ann", "bob"):
                found = statuses(program, path, amount + 1, source=GATEWAY, X_CF_User_ID=user)
                assert found == [200] * amount + [429], path
        refused = program.post("/api/jobs/99/research/generate", source=GATEWAY, X_CF_User_ID="ann")
        assert refused.status == 429
        assert refused.body == {"error": "Rate limit exceeded: 10 per 1 hour"}
        assert 3500 < int(refused.headers["Retry-After"]) <= 3601


@pytest.mark.parametrize("is_cloud", [True, False])
def test_nobody_outside_chooses_a_user_id(is_cloud: bool, tmp_path: Path) -> None:
    variables = {"CLOUD_MODE": "true", "CLOUD_GATEWAY": GATEWAY} if is_cloud else {}
    with example("job_search", tmp_path, LLM_RATE_RESEARCH="2/hour", **variables) as program:
        path = "/api/jobs/1/research/generate"
        ids = [program.post(path, source="127.0.0.8", X_CF_User_ID=f"u{at}").status for at in range(3)]
        assert ids == [200, 200, 429]
        forwarded = [program.post(path, source="127.0.0.8", X_Forwarded_For=f"192.0.2.{at}").status for at in range(2)]
        assert forwarded == [429, 429]
        assert program.post(path, source="127.0.0.9").status == 200, "somebody else"


def test_behind_the_gateway_who_has_no_id_is_counted_by_address(tmp_path: Path) -> None:
    variables = {"CLOUD_MODE": "true", "CLOUD_GATEWAY": GATEWAY, "LLM_RATE_RESEARCH": "1/hour"}
    with example("job_search", tmp_path, **variables) as program:
        path = "/api/jobs/1/research/generate"
        found = [
            program.post(path, source=GATEWAY, X_Forwarded_For=address).status
            for address in ("192.0.2.1", "192.0.2.1", "192.0.2.2", "198.51.100.1, 192.0.2.2")
        ]
        assert found == [200, 429, 200, 429]


def test_the_environment_changes_limits_and_the_demo_has_none(tmp_path: Path) -> None:
    changed = {variable: f"{at}/minute" for at, (variable, _) in enumerate(ENDPOINTS.values(), 1)}
    with example("job_search", tmp_path, **changed) as program:
        for at, path in enumerate(ENDPOINTS, 1):
            assert statuses(program, path, at + 1) == [200] * at + [429], path
    with example("job_search", tmp_path, IS_DEMO="true", **changed) as program:
        assert statuses(program, "/api/jobs/{}/research/generate", 12) == [200] * 12
    with example("job_search", tmp_path, LLM_RATE_RESEARCH="off", LLM_RATE_QA="1/minute") as program:
        assert statuses(program, "/api/jobs/{}/research/generate", 12) == [200] * 12
        assert statuses(program, "/api/jobs/{}/qa/suggest", 2) == [200, 429]


def test_a_typo_is_told_at_start(tmp_path: Path) -> None:
    told = subprocess.run(
        [sys.executable, "app.py"],
        cwd=EXAMPLES / "job_search",
        env={"PATH": "", "LLM_RATE_QA": "thirty/hour"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert told.returncode != 0
    assert "LLM_RATE_QA: cannot read the limit 'thirty/hour'" in told.stderr
    with example("job_search", tmp_path, LLM_RATE_RESERCH="1/hour") as program:
        assert "no limit is named by LLM_RATE_RESERCH; there are: cover-letter, interview" in program.log
