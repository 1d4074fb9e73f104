"""No room in /dev/shm or on a disk is an error of the storage, and on_error decides."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from servers import Server, running, wait_until

from slidegate._core import Quota, Segment
from slidegate._storage.memory import MemoryStorage

PROGRAM = """
import os
from fastapi import FastAPI, Request
from slidegate import Limiter, RateLimitExceeded, _rate_limit_exceeded_handler
from slidegate.metrics import metrics_app

limiter = Limiter(key_func=lambda request: request.query_params["key"]{options})
app = FastAPI()
app.state.limiter = limiter
app.add_exception_handler(RateLimitExceeded, _rate_limit_exceeded_handler)
app.add_route("/metrics", metrics_app(limiter))

@app.get("/big")
@limiter.limit("100/hour")
async def big(request: Request):
    return {}

@app.get("/login")
@limiter.limit("{limit}")
async def login(request: Request):
    return {}

@app.get("/pid")
async def pid():
    return os.getpid()

@app.get("/health")
async def health():
    return limiter.health()
"""

ON_A_DISK = """
import json, logging, os, sys
from collections import Counter
from fastapi import FastAPI, Request
from fastapi.testclient import TestClient
from slidegate import Limiter
from slidegate._core import Quota
from slidegate.errors import StorageFull

logging.basicConfig(stream=sys.stderr)
logging.getLogger("httpx").setLevel(logging.ERROR)
directory, on_error = sys.argv[1:]
limiter = Limiter(
    key_func=lambda request: request.query_params["key"],
    storage_uri=f"file://{directory}/counts?size=16MiB",
    on_error=on_error,
)
app = FastAPI()
app.state.limiter = limiter

@app.get("/")
@limiter.limit("2/hour")
async def root(request: Request):
    return {}

client = TestClient(app)

def statuses(key, times):
    return [client.get("/", params={"key": key}).status_code for _ in range(times)]

early = statuses("early", 3)
storage = limiter._storage
one, other = (Quota(2, 3_600_000_000_000), "one"), (Quota(2, 3_600_000_000_000), "other")
alone = storage.policy((one,))
alone.hit("early")
with open(f"{directory}/others", "wb", buffering=0) as others:
    try:
        while True:
            others.write(bytes(4096))
    except OSError:
        pass
new = [statuses(f"key {at}", 3) for at in range(400)]
told = {"early": early + statuses("early", 1), "new": new, "health": limiter.health().is_available}
told["errors"] = limiter.local.engine.errors()
try:
    storage.policy((one, other)).hit("early")
except StorageFull:
    told["left"] = alone.peek("early")[2]
os.unlink(f"{directory}/others")
limiter.reset()
told["outages"] = limiter.health().outages
print(json.dumps(told))
"""


def inside_a_small(directory: str, size: str) -> list[str]:
    return ["unshare", "-m", "sh", "-c", f'mount -t tmpfs -o size={size} tmpfs {directory} && exec "$@"', "sh"]


@pytest.fixture
def small_disk(tmp_path: Path) -> list[str]:
    """A command that runs others where a directory named "small" is a file system of 3 MiB."""
    (tmp_path / "small").mkdir()
    command = inside_a_small(str(tmp_path / "small"), "3m")
    if subprocess.run([*command, "true"], capture_output=True).returncode != 0:
        pytest.skip("may not mount a file system here")
    return command


@pytest.mark.parametrize("on_error", ["closed", "open", "local"])
def test_fault_31_a_disk_that_is_full_is_an_error_of_the_storage_and_no_refusal(
    on_error: str, small_disk: list[str], tmp_path: Path
) -> None:
    program = tmp_path / "program.py"
    program.write_text(textwrap.dedent(ON_A_DISK))
    ended = subprocess.run(
        [*small_disk, sys.executable, str(program), str(tmp_path / "small"), on_error], capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr
    told = json.loads(ended.stdout)
    assert told["early"] == [200, 200, 429, 429], "those that have a place are counted as ever"
    stored, not_stored = [200, 200, 429], {"closed": [503] * 3, "open": [200] * 3, "local": [200, 200, 429]}[on_error]
    assert set(map(tuple, told["new"])) <= {tuple(stored), tuple(not_stored)}
    assert told["new"][:200] == [stored] * 200, "the first cells of every size are there from the beginning"
    assert told["new"][-1] == not_stored
    assert (told["health"], told["outages"]) == (False, 1)
    assert told["left"] == 1, "a hit against several limits takes from all or from none"
    kind = {"closed": "raised", "open": "passed", "local": "fallback"}[on_error]
    assert told["errors"][kind] > 0
    assert sum(told["errors"].values()) == told["errors"][kind]
    warnings = [line for line in ended.stderr.splitlines() if "no memory or disk" in line]
    assert len(warnings) == 1, ended.stderr
    assert "small/counts" in warnings[0]
    assert "bytes are free there" in warnings[0]


def shared_memory_of(server: Server) -> Path:
    return Path(f"/proc/{server.process.pid}/root/dev/shm")


def fill(directory: Path) -> Path:
    with (directory / "others").open("wb", buffering=0) as others:
        try:
            while True:
                others.write(bytes(4096))
        except OSError:
            return directory / "others"


def statuses(server: Server, path: str, keys: int) -> Counter[int]:
    with ThreadPoolExecutor(16) as pool:
        answers = pool.map(server.get, [f"{path}key={at}" for at in range(keys)])
        return Counter(status for status, _ in answers)


def test_fault_31_the_workers_of_a_small_container_serve_all_of_their_new_clients(
    small_disk: list[str], tmp_path: Path
) -> None:
    with running("uvicorn", tmp_path, workers=2, program=PROGRAM, inside=inside_a_small("/dev/shm", "10m")) as server:
        assert statuses(server, "/big?", 3_000) == {200: 3_000}
        assert statuses(server, "/login?", 50) == {200: 50}
        assert json.loads(server.get("/health")[1])["is_available"]
        assert "slidegate" not in server.log, "there is nothing to tell"


def test_fault_31_the_workers_of_a_server_tell_once_that_shared_memory_is_full(
    small_disk: list[str], tmp_path: Path
) -> None:
    with running("uvicorn", tmp_path, workers=2, program=PROGRAM, inside=inside_a_small("/dev/shm", "10m")) as server:
        assert len(server.workers(least=2)) == 2
        assert [server.get("/login?key=blocked")[0] for _ in range(6)] == [200] * 5 + [429]
        others = fill(shared_memory_of(server))
        answers = statuses(server, "/login?", 600)
        assert set(answers) == {200, 503}, answers
        assert server.get("/login?key=blocked")[0] == 429
        assert not json.loads(server.get("/health")[1])["is_available"]
        told = server.get("/metrics")[1]
        assert 'slidegate_storage_available{limiter="limiter"} 0.0' in told
        assert f'slidegate_errors_total{{limiter="limiter",outcome="raised"}} {answers[503]}.0' in told
        assert server.log.count("no memory or disk for another key") == 1
        others.unlink()
        assert wait_until(lambda: json.loads(server.get("/health")[1])["is_available"])
        assert wait_until(lambda: server.get("/login?key=later")[0] == 200)
        assert 'slidegate_storage_available{limiter="limiter"} 1.0' in server.get("/metrics")[1]
        assert "no place is free" not in server.log, "the table was never full"


def test_fault_31_a_new_segment_has_cells_of_every_size_and_one_of_a_size_that_fits(tmp_path: Path) -> None:
    segment = Segment.file(str(tmp_path / "counts"))
    taken = (tmp_path / "counts").stat().st_blocks * 512
    storage = MemoryStorage(segment=segment)
    for strategy, amount in (("fixed-window", 1), ("moving-window", 13), ("moving-window", 29), ("moving-window", 61)):
        assert storage.policy(((Quota(amount, 10**9, strategy), "scope"),)).hit("key")[0]  # type: ignore[arg-type]
    assert (tmp_path / "counts").stat().st_blocks * 512 == taken, "nothing more was asked of the system"


def test_fault_31_the_default_size_leaves_half_of_what_is_free_to_others(small_disk: list[str], tmp_path: Path) -> None:
    lines = "import sys; from slidegate._core import Segment; print(Segment.file(sys.argv[1]).size)"
    command = [*inside_a_small(str(tmp_path / "small"), "32m"), sys.executable, "-c", lines]
    ended = subprocess.run([*command, str(tmp_path / "small" / "counts")], capture_output=True, text=True, check=True)
    assert 8 << 20 <= int(ended.stdout) <= 16 << 20
