"""The applications of `examples/`, started as their texts say, and what is around them: clients, nginx, a browser."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jwt
from ports import free_port
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

EXAMPLES = Path(__file__).parents[3] / "examples"
SECRET = "a secret of at least thirty-two bytes"
PATIENCE_S = 60


class Answer(NamedTuple):
    status: int
    headers: http.client.HTTPMessage
    body: Any
    """Of JSON, else as text."""


class Program:
    """One that listens on a port of the loopback."""

    def __init__(self, port: int, log: Path) -> None:
        self.port = port
        self._log = log

    @property
    def log(self) -> str:
        return self._log.read_text()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def request(
        self, method: str, path: str, body: object = None, *, source: str = "127.0.0.1", **headers: str
    ) -> Answer:
        """From an address of the loopback; the underscores of header names stand for dashes."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S, source_address=(source, 0))
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        try:
            connection.request(method, path, json.dumps(body), {"Content-Type": "application/json", **given})
            response = connection.getresponse()
            text = response.read().decode()
            is_json = response.headers.get_content_type() == "application/json"
            return Answer(response.status, response.headers, json.loads(text) if is_json else text)
        finally:
            connection.close()

    def post(self, path: str, body: object = None, **options: str) -> Answer:
        return self.request("POST", path, body, **options)

    def get(self, path: str, **options: str) -> Answer:
        return self.request("GET", path, **options)


@contextlib.contextmanager
def example(name: str, directory: Path, **variables: object) -> Iterator[Program]:
    """`python app.py`, in a copy, as somebody would have it in a project."""
    copy = directory / name
    if not copy.exists():
        shutil.copytree(EXAMPLES / name, copy, ignore=shutil.ignore_patterns("__pycache__"))
    port = free_port()
    settings = {key: str(value) for key, value in variables.items()}
    command = [sys.executable, "app.py"]
    with started(command, copy, directory / f"{name}.log", port, {"PORT": str(port), **settings}) as program:
        yield program


@contextlib.contextmanager
def nginx(config: Path, behind: Program, directory: Path) -> Iterator[Program]:
    """nginx with this configuration, but for the ports."""
    port = free_port()
    text = config.read_text().replace(":8080", f":{port}").replace(":8000", f":{behind.port}")
    assert text.count(f":{port}") == 1
    assert text.count(f":{behind.port}") == 1
    (directory / "nginx.conf").write_text(text)
    program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    assert program is not None, "nginx is not installed: run .ci/setup tests"
    command = [program, "-p", str(directory), "-c", "nginx.conf", "-g", "daemon off;"]
    with started(command, directory, directory / "nginx.log", port, {}) as front:
        yield front


@contextlib.contextmanager
def browser() -> Iterator[webdriver.Chrome]:
    """Chromium without a window."""
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    assert None not in (chromium, driver), "chromium and chromedriver are not installed: run .ci/setup tests"
    options = webdriver.ChromeOptions()
    options.binary_location = str(chromium)
    for each in ("headless=new", "no-sandbox", "disable-dev-shm-usage", "disable-gpu", "window-size=900,700"):
        options.add_argument(f"--{each}")
    chrome = webdriver.Chrome(options=options, service=Service(driver))
    try:
        yield chrome
    finally:
        chrome.quit()


def token(**claims: object) -> str:
    """What the applications take for one of their own."""
    return jwt.encode({"exp": int(time.time()) + 3600, **claims}, SECRET, "HS256")


def bearing(**claims: object) -> dict[str, str]:
    return {"Authorization": f"Bearer {token(**claims)}"}


@contextlib.contextmanager
def started(command: list[str], directory: Path, log: Path, port: int, variables: dict[str, str]) -> Iterator[Program]:
    own = ("RATELIMIT_", "LLM_RATE_", "PYTHONWARNINGS")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(own)}
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=directory, env={**environment, **variables}, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        until = time.monotonic() + PATIENCE_S
        while not _listens(port):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < until, log.read_text()
            time.sleep(0.02)
        yield Program(port, log)
    finally:
        process.terminate()
        process.wait(PATIENCE_S)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
