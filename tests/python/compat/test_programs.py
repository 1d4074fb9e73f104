"""The programs of slowapi's documentation on a real server, as they are and with one word replaced."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from compat.conftest import SLOWAPI
from compat.library import Expectation, Library, differs, same

PROGRAMS = Path(__file__).with_name("programs")
PATIENCE_S = 60


class Call(NamedTuple):
    """The same request some times over, and what comes back."""

    path: str
    statuses: Expectation
    body: Any = None
    method: str = "GET"
    headers: Mapping[str, str] | None = None


def passes(count: int, refused: int = 1) -> Expectation:
    return same([200] * count + [429] * refused)


def refusal(detail: str) -> dict[str, str]:
    return {"error": f"Rate limit exceeded: {detail}"}


# What the documentation says of each; `body` is that of the last answer.
DOCUMENTED: dict[str, list[Call]] = {
    "quick_start_starlette": [Call("/home", passes(5), refusal("5 per 1 minute"))],
    # Two functions have one name here, so slowapi counts each request twice.
    "quick_start_fastapi": [
        Call(
            path,
            differs(
                slowapi=[200, 200, 429, 429, 429, 429],
                slidegate=[200, 200, 200, 200, 200, 429],
                difference="qualified-names",
            ),
            refusal("5 per 1 minute"),
        )
        for path in ("/home", "/mars")
    ],
    "default_limits": [
        Call("/homepage", passes(1), refusal("1 per 1 minute")),
        Call("/someroute", passes(3, refused=0), "I'm unlimited"),
    ],
    "asgi_middleware": [
        Call("/homepage", passes(1), refusal("1 per 1 minute")),
        Call("/someroute", passes(3, refused=0), "I'm unlimited"),
    ],
    "disabled": [
        Call("/someroute", passes(3, refused=0), {"limited": False}),
        Call("/home", passes(3, refused=0), {"limited": False}),
    ],
    "cost_per_hit": [Call("/someroute?text=four", passes(2), refusal("10 per 1 minute"))],
    "shared_limit": [
        Call("/t1", passes(2, refused=0), {"route": "t1"}),
        Call("/t2", passes(1), refusal("3 per 1 minute")),
        Call("/t1", passes(0)),
        Call("/t3", passes(2), refusal("2 per 1 minute")),
    ],
    "application_limits": [
        Call("/t1", passes(2, refused=0), {"route": "t1"}),
        Call("/t2", passes(1), refusal("3 per 1 minute")),
    ],
    "dynamic_limits": [
        Call("/tiers", passes(1), refusal("1 per 1 minute")),
        Call("/tiers", passes(3), refusal("3 per 1 minute"), headers={"X-User": "paying"}),
        Call("/agents", passes(1), headers={"User-Agent": "a"}),
        Call("/agents", passes(1), headers={"User-Agent": "b"}),
        Call("/agents", passes(3, refused=0), headers={"User-Agent": "a", "X-Internal": "yes"}),
        Call("/methods", passes(1), refusal("one of each")),
        Call("/methods", passes(1), refusal("one of each"), method="POST"),
    ],
    "headers": [Call("/home", passes(2), {"error": "calm down: 2 per 1 minute"})],
}


@contextmanager
def served(program: Path) -> Iterator[httpx.Client]:
    """A client of the program's `app` on a server of its own."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port, descriptor = listener.getsockname()[1], listener.fileno()
        command = [sys.executable, "-m", "uvicorn", "--fd", str(descriptor), "--app-dir", str(program.parent)]
        process = subprocess.Popen(
            [*command, f"{program.stem}:app"], pass_fds=[descriptor], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE_S) as client:
            yield client
    finally:
        process.terminate()
        print(process.communicate(timeout=PATIENCE_S)[0].decode())


@pytest.mark.parametrize("name", [SLOWAPI, "slidegate"])
@pytest.mark.parametrize("program", DOCUMENTED)
def test_a_program_of_the_documentation_does_what_it_says(program: str, name: str, tmp_path: Path) -> None:
    library = Library(name, {})
    text = (PROGRAMS / f"{program}.py").read_text()
    assert "slowapi" in text
    copy = tmp_path / f"{program}.py"
    copy.write_text(re.sub(r"\bslowapi\b", name, text))
    with served(copy) as client:
        for call in DOCUMENTED[program]:
            expected = library.expected(call.statuses)
            answers = [client.request(call.method, call.path, headers=call.headers) for _ in expected]
            assert [answer.status_code for answer in answers] == expected
            if call.body is not None:
                last = answers[-1]
                is_json = last.headers["Content-Type"] == "application/json"
                assert (last.json() if is_json else last.text) == call.body
            if program == "headers":
                told = [answer.headers.get_list("X-RateLimit-Remaining") for answer in answers]
                assert told == [["1"], ["0"], ["0"]]
                assert int(answers[-1].headers["Retry-After"]) in range(1, 63)


def test_every_program_is_run() -> None:
    assert {file.stem for file in PROGRAMS.glob("*.py")} == set(DOCUMENTED)
