"""Metrics for Prometheus: what was admitted and refused, errors, and the state of the memory."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import ports
import pytest
import redis_servers
import servers
from conftest import Client
from fastapi import Depends, FastAPI, HTTPException, Request
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from slidegate import ConfigurationError, Limiter, RateLimit
from slidegate._core import Quota
from slidegate.cli import main
from slidegate.metrics import LimiterCollector, metrics_app
from slidegate.middleware import SlowAPIMiddleware
from slidegate.util import get_remote_address

MakeApp = Callable[[Limiter], FastAPI]
QUOTA = Quota(3, 60_000_000_000)
PER_MINUTE = "3 per minute, moving-window"


def samples(text: str) -> dict[tuple[str, ...], float]:
    """By name, and the values of all labels that are not empty."""
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            name = (sample.name, *(value for _, value in sorted(sample.labels.items()) if value))
            assert name not in found
            found[name] = sample.value
    return found


def metrics_of(*limiters: Limiter, names: tuple[str, ...] = ()) -> dict[tuple[str, ...], float]:
    registry = CollectorRegistry()
    registry.register(LimiterCollector(*limiters, names=names))
    return samples(generate_latest(registry).decode())


def client_on(limiter: Limiter, make_app: MakeApp, **options: Any) -> Client:
    app = make_app(limiter)

    @app.get("/chat")
    @limiter.limit("3/minute", **options)
    def chat() -> str:
        return "ok"

    return Client(app)


def test_admitted_and_refused_requests_are_told_by_limit(make_app: MakeApp) -> None:
    limiter, other = Limiter(get_remote_address), Limiter(get_remote_address)
    client_on(limiter, make_app).statuses("/chat", 5)
    client_on(other, make_app).statuses("/chat", 1)
    found = metrics_of(limiter, other, names=("api", "web"))
    assert found["slidegate_requests_total", PER_MINUTE, "api", "admitted", "each path"] == 3
    assert found["slidegate_requests_total", PER_MINUTE, "api", "refused", "each path"] == 2
    assert found["slidegate_requests_total", PER_MINUTE, "web", "admitted", "each path"] == 1
    assert 0 < found["slidegate_fill_ratio", "api"] < 1


def test_evicted_keys_and_those_without_memory_are_told() -> None:
    evicting = Limiter(get_remote_address, size=1 << 20)
    refusing = Limiter(get_remote_address, size=1 << 20, on_full="refuse")
    for limiter in (evicting, refusing):
        policy = limiter._native_counter.storage.policy(((QUOTA, "3:url"),))
        for number in range(20_000):
            policy.hit(str(number))
    found = metrics_of(evicting, refusing)
    assert found["slidegate_evictions_total", "limiter"] > 0
    assert found["slidegate_inserts_failed_total", "limiter"] == 0
    assert found["slidegate_evictions_total", "limiter_2"] == 0
    assert found["slidegate_inserts_failed_total", "limiter_2"] > 0
    refused = found["slidegate_requests_total", PER_MINUTE, "limiter_2", "refused", "3:url"]
    assert refused == found["slidegate_inserts_failed_total", "limiter_2"]


def key_of(request: Request) -> str:
    if request.headers["user"] == "unknown":
        raise HTTPException(401)
    return {"ada": "ada"}[request.headers["user"]]


@pytest.mark.parametrize(("swallow_errors", "outcome"), [(False, "raised"), (True, "passed")])
@pytest.mark.parametrize("options", [{}, {"per_method": True}], ids=["short-cut", "in-general"])
def test_failing_key_functions_are_errors(
    make_app: MakeApp, swallow_errors: bool, outcome: str, options: dict[str, Any]
) -> None:
    limiter = Limiter(key_of, swallow_errors=swallow_errors)
    client = client_on(limiter, make_app, **options)
    for user in ("ada", "bob", "bob", "unknown"):
        client.get("/chat", headers={"user": user})
    found = metrics_of(limiter)
    counts = {kind: found["slidegate_errors_total", "limiter", kind] for kind in ("raised", "passed", "fallback")}
    assert counts == {"raised": 0, "passed": 0, "fallback": 0} | {outcome: 2}


def test_dynamic_limits_that_fail_are_errors(make_app: MakeApp) -> None:
    def broken() -> str:
        raise LookupError

    for defaults, outcome in ((["9/minute"], "fallback"), ([], "raised")):
        limiter = Limiter(get_remote_address, default_limits=defaults)
        app = make_app(limiter)

        @app.get("/chat")
        @limiter.limit(broken)
        def chat() -> str:
            return "ok"

        Client(app).statuses("/chat", 2)
        assert metrics_of(limiter)["slidegate_errors_total", "limiter", outcome] == 2


@pytest.mark.parametrize(("scheme", "kind"), [("memcached", "fixed-window"), ("redis", "moving-window")])
def test_of_a_server_there_is_what_happens_while_it_is_out_of_reach(make_app: MakeApp, scheme: str, kind: str) -> None:
    limiter = Limiter(get_remote_address, storage_uri=f"{scheme}://127.0.0.1:1", on_error="local")
    assert client_on(limiter, make_app).statuses("/chat", 4)[-1] == 429
    found = metrics_of(limiter)
    assert found["slidegate_errors_total", "limiter", "fallback"] == 4
    assert found["slidegate_requests_total", f"3 per minute, {kind}", "limiter", "refused", "each path"] == 1


@pytest.mark.parametrize(("on_error", "status", "outcome"), [("open", 200, "passed"), ("closed", 503, "raised")])
def test_requests_that_a_server_could_not_decide_are_errors(
    make_app: MakeApp, on_error: Any, status: int, outcome: str
) -> None:
    limiter = Limiter(get_remote_address, storage_uri="redis://127.0.0.1:1", on_error="local")
    client = client_on(limiter, make_app, on_error=on_error)
    assert client.statuses("/chat", 2) == [status] * 2
    found = metrics_of(limiter)
    counts = {kind: found["slidegate_errors_total", "limiter", kind] for kind in ("raised", "passed", "fallback")}
    assert counts == {"raised": 0, "passed": 0, "fallback": 0} | {outcome: 2}


@pytest.mark.parametrize("is_ours", [True, False], ids=["redis", "a storage of limits"])
def test_what_a_server_decides_is_told_by_limit_and_name(is_ours: bool, make_app: MakeApp, tmp_path: Path) -> None:
    with redis_servers.running(tmp_path, port=ports.free_port()) as server:
        uri = f"redis://127.0.0.1:{server.port}" if is_ours else "async+memory://"
        limiter = Limiter(get_remote_address, storage_uri=uri)
        client = client_on(limiter, make_app, name="chat")
        assert client.statuses("/chat", 5) == [200] * 3 + [429] * 2
        found = metrics_of(limiter)
        requests = {name: value for name, value in found.items() if name[0] == "slidegate_requests_total"}
        counts = {name[-2:]: value for name, value in requests.items() if "chat" in name}
        assert counts == {("admitted", "each path"): 3, ("refused", "each path"): 2}
        assert found["slidegate_storage_available", "limiter"] == 1
        server.stop()
        if is_ours:
            assert Client(client.app, "192.0.2.2").statuses("/chat", 5) == [503] * 5
            assert metrics_of(limiter)["slidegate_storage_available", "limiter"] == 0
        limiter.close()


def test_limits_are_told_by_their_names(make_app: MakeApp) -> None:
    limiter = Limiter(get_remote_address)
    app = make_app(limiter)
    for name in ("one", "two"):
        app.get(f"/{name}", dependencies=[Depends(RateLimit("3/minute", name=name))])(lambda: "ok")
    app.get("/shared")(limiter.shared_limit("3/minute", "all", name="three")(lambda: "ok"))
    for path, count in (("/one", 1), ("/two", 5), ("/shared", 2)):
        Client(app).statuses(path, count)
    found = metrics_of(limiter)
    requests = {name: value for name, value in found.items() if name[0] == "slidegate_requests_total"}
    told = {name[3:5]: value for name, value in requests.items() if name[1] == PER_MINUTE}
    assert told == {
        ("one", "admitted"): 1,
        ("one", "refused"): 0,
        ("two", "admitted"): 3,
        ("two", "refused"): 2,
        ("three", "admitted"): 2,
        ("three", "refused"): 0,
    }


def test_metrics_that_cannot_be_had_are_an_error() -> None:
    limiter = Limiter(get_remote_address)
    for names in (("one", "two"), ("one",)):
        with pytest.raises(ConfigurationError, match="one for each of"):
            LimiterCollector(*[limiter] * (3 - len(names)), names=names)


def test_scopes_that_are_cut_off_are_told_as_text() -> None:
    limiter = Limiter(get_remote_address)
    limiter._native_counter.storage.policy(((QUOTA, "x" + "\u00e9" * 300), (QUOTA, "x" * 999))).hit("ada")
    scopes = {name[-1] for name in metrics_of(limiter) if name[0] == "slidegate_requests_total"}
    assert scopes == {"x" + "\u00e9" * 191 + "\\xc3...", "x" * 384 + "..."}


def test_an_application_serves_its_metrics_and_does_not_limit_them(make_app: MakeApp) -> None:
    limiter = Limiter(get_remote_address, default_limits=["3/minute"])
    client = client_on(limiter, make_app)
    client.app.add_middleware(SlowAPIMiddleware)  # type: ignore[attr-defined]
    client.app.add_route("/metrics", metrics_app(limiter))  # type: ignore[attr-defined]
    client.app.mount("/mounted", metrics_app(limiter))  # type: ignore[attr-defined]
    client.statuses("/chat", 4)
    assert client.statuses("/metrics", 5) == client.statuses("/mounted/", 5) == [200] * 5
    answer = client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    assert samples(answer.text)["slidegate_requests_total", PER_MINUTE, "limiter", "refused", "each path"] == 1


METERED = """
from slidegate.metrics import metrics_app
app.add_route("/metrics", metrics_app(limiter, other, names=("one", "other")))


@app.middleware("http")
async def name_worker(request, call_next):
    response = await call_next(request)
    response.headers["worker"] = str(os.getpid())
    return response
"""


def test_every_worker_tells_of_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with servers.running("uvicorn", tmp_path, workers=4, program=servers.PROGRAM + METERED) as server:
        workers = server.workers(4)
        assert len(workers) == 4
        statuses = [status for status, _ in server.get_often("/limited", 40)]
        assert (statuses.count(200), statuses.count(429)) == (5, 35)
        assert server.get("/other")[0] == 200
        told: set[int] = set()
        while told != workers:
            answer = httpx.get(f"http://127.0.0.1:{server.port}/metrics", trust_env=False)
            told.add(int(answer.headers["worker"]))
            found = samples(answer.text)
            limit = "5 per hour, moving-window"
            assert found["slidegate_requests_total", limit, "one", "admitted", "each path"] == 5
            assert found["slidegate_requests_total", limit, "one", "refused", "each path"] == 35
            assert found["slidegate_requests_total", limit, "other", "admitted", "each path"] == 1
        main(["ls", "--json"])
        rows = json.loads(capsys.readouterr().out)
        names = [row["name"] for row in rows if row["server_pid"] == server.process.pid]
        assert len(names) == 1
        assert main(["rm", names[0]]) == 2
        assert "--force" in capsys.readouterr().err
