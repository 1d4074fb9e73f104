"""A process that forks while other threads are in the middle of something: the child must not wait for them."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from redis_servers import RedisServer

import slidegate

CHILD = """
import logging, os, signal, sys, threading
import slidegate
from slidegate._core import Quota
from slidegate._storage.redis.storage import RedisStorage, RedisTicket
from slidegate._storage.redis.uri import parse_redis_uri
from slidegate.errors import StorageError

server, what = sys.argv[1:]
nowhere = "redis+unix:///no/such.sock"
RULES = ((Quota(1, 60_000_000_000), "fork"),)
logging.disable()

def counting(uri):
    storage = RedisStorage(parse_redis_uri(uri))
    return storage, storage.policy(RULES)

def failing(policy):
    def fail():
        for _ in range(5):
            try:
                policy.hit("key")
            except StorageError:
                pass
    return fail

if what == "breaker":
    storage, policy = counting(nowhere)
    lock, work = storage._server._breaker._lock, failing(policy)
elif what == "breaker, health":
    storage, policy = counting(nowhere)
    lock, work = storage._server._breaker._lock, storage.health
elif what == "denials":
    storage, policy = counting(server)
    policy.hit("key")
    policy.hit("key")
    lock, work = storage._denials._lock, lambda: (policy.hit("key"), policy.hit("other"), policy.hit("other"))
elif what == "denials, reset":
    storage, policy = counting(server)
    lock, work = storage._denials._lock, lambda: policy.reset("key")
elif what in ("cluster", "cluster, nodes"):
    storage, policy = counting("redis+cluster://127.0.0.1:1")
    failing(policy)()
    lock = storage._server._turn if what == "cluster" else storage._server._lock
    work = failing(policy)
elif what == "watch":
    from slidegate._storage.redis.sentinel import MasterWatch
    watch = MasterWatch(parse_redis_uri("redis+sentinel://127.0.0.1:1/name"))
    lock, work = watch._lock, lambda: watch.has_moved(None)
elif what == "outage":
    from slidegate._storage.circuit_breaker import CircuitBreaker
    breaker = CircuitBreaker(logging.getLogger("slidegate"))
    lock, work = breaker._lock, breaker.health
elif what == "refusals":
    from slidegate._http.refusal_log import RefusalLog
    log = RefusalLog(logging.getLogger("slidegate"))
    lock, work = log._lock, log._take_line
elif what == "named limits":
    limiter = slidegate.Limiter(key_func=lambda request: "key", env_prefix="FORK_")
    limiter.limit("5/minute", name="login")(lambda request: None)
    named = next(each for each in vars(limiter).values() if type(each).__name__ == "NamedLimits")
    lock, work = named._lock, lambda: limiter.set_limit("login", "6/minute")
elif what == "keys of tokens":
    from slidegate.keys.key_set import KeySet
    keys = KeySet(object())
    lock, work = keys._lock, lambda: keys.fetched("name")
elif what == "limits storage":
    from slidegate.limits_storage import _Rules
    from slidegate._core import Limiter as Engine
    rules = _Rules(Engine(), "moving-window")
    lock, work = rules._making, lambda: rules.policy(5, 60)

held, forked = threading.Event(), threading.Event()

def hold():
    with lock:
        held.set()
        forked.wait()

thread = threading.Thread(target=hold)
thread.start()
held.wait()
child = os.fork()
if not child:
    # Ends the child by a signal if it blocks.
    signal.alarm(10)
    work()
    os._exit(0)
forked.set()
thread.join()
status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
with lock:
    pass
work()
print(status)
"""

LOCKS = [
    *("breaker", "breaker, health", "denials", "denials, reset", "cluster", "cluster, nodes", "watch", "outage"),
    *("refusals", "named limits", "keys of tokens", "limits storage"),
]


@pytest.mark.parametrize("what", LOCKS)
def test_fault_36_a_fork_while_another_thread_holds_a_lock_does_not_block_the_child(
    server: RedisServer, what: str
) -> None:
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", CHILD, server.uri, what]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "0\n", "")


SOURCES = sorted(Path(slidegate.__file__).parent.rglob("*.py"))
BLOCKING = {"Lock", "RLock", "Condition", "Semaphore", "BoundedSemaphore", "Queue", "cached_property"}
ALLOWED = {("fork.py", "Lock"), ("bench.py", "Queue")}


def test_fault_36_nothing_of_the_package_has_another_lock() -> None:
    found = set()
    for source in SOURCES:
        for node in ast.walk(ast.parse(source.read_text())):
            name = {ast.Attribute: "attr", ast.Name: "id"}.get(type(node))
            if name is not None and getattr(node, name) in BLOCKING:
                found.add((source.name, getattr(node, name)))
    assert found == ALLOWED


PROBED = """
import os, signal, sys, time, logging
from slidegate._core import Quota
from slidegate._storage.redis.storage import RedisStorage
from slidegate._storage.redis.uri import parse_redis_uri
from slidegate.errors import StorageError

logging.disable()
storage = RedisStorage(parse_redis_uri("redis+unix:///no/such.sock"))
policy = storage.policy(((Quota(5, 60_000_000_000), "fork"),))
def fail():
    try:
        policy.hit("key")
    except StorageError as error:
        return str(error)
for _ in range(4):
    told = fail()
assert "not asked" in told
child = os.fork()
if not child:
    # It asks by itself, and once it has found out, a thread of its own asks on.
    signal.alarm(20)
    is_new = storage.health().is_available and "not asked" not in fail()
    fail(), fail()
    is_open = "not asked" in fail()
    import threading
    names = [each.name for each in threading.enumerate()]
    os._exit(0 if is_new and is_open and "slidegate-redis-probe" in names else 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_fault_36_a_child_of_a_process_whose_server_is_down_asks_itself() -> None:
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", PROBED]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "0\n", "")
