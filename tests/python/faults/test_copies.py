"""Copies, and what is sent to other processes."""

from __future__ import annotations

import copy
import multiprocessing
import pickle
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import pytest
from conftest import Client
from fastapi import APIRouter, Depends, FastAPI

from slidegate import Limiter, RateLimit, RateLimitExceeded
from slidegate._core import Quota
from slidegate.errors import ConfigurationError, StorageError, StorageOut, WebSocketRateLimitExceeded
from slidegate.util import get_remote_address

COPIES = [copy.copy, copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))]
LIMITER = Limiter(get_remote_address, storage_uri="memory://", enabled=False)


def user() -> str:
    return "user"


def refusal(**options: Any) -> RateLimitExceeded:
    limiter = Limiter(**{"key_func": get_remote_address, "storage_uri": "memory://", **options})
    limiter.check_sync(None, "1/minute", key="somebody", scope="copies")
    with pytest.raises(RateLimitExceeded) as refused:
        limiter.check_sync(None, "1/minute", key="somebody", scope="copies")
    return refused.value


def refuse() -> None:
    raise refusal(key_func=lambda request: "nobody")


@pytest.mark.parametrize("made", COPIES)
@pytest.mark.parametrize("key_func", [get_remote_address, lambda request: "nobody"])
def test_fault_17_a_refusal_can_be_copied_with_all_that_it_tells(made: Any, key_func: Any) -> None:
    error = refusal(key_func=key_func)
    for original in (error, WebSocketRateLimitExceeded.of(error)):
        other = made(original)
        assert type(other) is type(original)
        told = ("detail", "status_code", "headers", "decision")
        assert [getattr(other, name) for name in told] == [getattr(original, name) for name in told]
        assert (str(other), other.limit.limit, other.limit.quota) == (
            str(original),
            original.limit.limit,
            original.limit.quota,
        )


def test_fault_17_a_refusal_comes_back_from_a_process_pool() -> None:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        error = pool.submit(refuse).exception(60)
    assert isinstance(error, RateLimitExceeded)
    assert (error.status_code, error.detail, error.limit.limit.amount) == (429, "1 per 1 minute", 1)
    assert error.decision is not None
    assert error.decision.key == "somebody"


@pytest.mark.parametrize("made", COPIES)
@pytest.mark.parametrize("error", [StorageOut(), StorageError("full"), ConfigurationError("wrong")])
def test_fault_17_so_can_other_errors(made: Any, error: Exception) -> None:
    other = made(error)
    assert (type(other), str(other), vars(other)) == (type(error), str(error), vars(error))


@pytest.mark.parametrize("made", COPIES)
@pytest.mark.parametrize("strategy", ["moving-window", "fixed-window", "sliding-window-counter", "gcra"])
def test_fault_17_so_can_quotas(made: Any, strategy: Any) -> None:
    quota = Quota(5, 60_000_000_000, strategy)
    assert (made(quota), repr(made(quota))) == (quota, repr(quota))


@pytest.mark.parametrize("made", COPIES[1:])
def test_fault_17_a_copied_limit_exempts_whom_the_original_exempts(made: Any) -> None:
    limiter = Limiter(user, storage_uri="memory://")
    limiter.limit("3/minute", exempt_when=user, cost=2)(lambda: "ok")
    [[limit]] = limiter._route_limits.values()
    other = made(limit)
    assert (other.limit, other.quota, other.cost, other.key_func) == (limit.limit, limit.quota, 2, user)
    assert other.is_exempt() == "user"
    assert other is not limit
    other.limit.amount = 7
    assert limit.limit.amount == 3, "a copy is changed by itself"


@pytest.mark.parametrize("made", [copy.copy, copy.deepcopy])
def test_fault_17_a_copy_of_a_limiter_counts_together_with_it(made: Any) -> None:
    limiter = Limiter(user, storage_uri="memory://")
    other = made(limiter)
    taken = [each.check_sync(None, "2/minute", key="k", scope="s").remaining for each in (limiter, other)]
    assert taken == [1, 0]
    other.reset()
    assert limiter.peek_sync(None, "2/minute", key="k", scope="s").remaining == 2


def test_fault_17_a_limiter_is_sent_by_the_name_that_it_has_in_a_module() -> None:
    assert pickle.loads(pickle.dumps(LIMITER)) is LIMITER
    with pytest.raises(pickle.PicklingError, match="no module has a variable for this one"):
        pickle.dumps(Limiter(user, storage_uri="memory://"))


@pytest.mark.parametrize("options", [{}, {"limiter": LIMITER}, {"key": Depends(user), "cost": 2}])
def test_fault_17_a_limit_of_dependencies_can_be_sent(options: Any) -> None:
    rate_limit = RateLimit("2/minute", name="sent", **options)
    other = pickle.loads(pickle.dumps(rate_limit))
    told = [(repr(each), each.limiter, str(each.__signature__)) for each in (rate_limit, other)]
    assert told[0] == told[1]
    app = FastAPI()
    app.state.limiter = Limiter(user, storage_uri="memory://")
    app.get("/", dependencies=[Depends(other)])(lambda: "ok")
    is_unlimited, is_dear = "limiter" in options, "cost" in options
    expected = [200] * 3 if is_unlimited else [200, 429, 429] if is_dear else [200, 200, 429]
    assert Client(app).statuses("/", 3) == expected


@pytest.mark.parametrize("is_decorated", [True, False])
def test_fault_17_versions_of_an_api_that_are_copies_of_routes_count_as_their_originals(
    is_decorated: bool, make_limiter: Callable[..., Limiter]
) -> None:
    limiter = make_limiter()
    router = APIRouter()
    if is_decorated:
        router.get("/items")(limiter.shared_limit("3/minute", "items")(lambda: "ok"))
    else:
        shared = RateLimit("3/minute", limiter=limiter, scope="items")
        router.get("/items", dependencies=[Depends(shared)])(lambda: "ok")
    app = FastAPI()
    app.state.limiter = limiter
    for version in ("/v1", "/v2"):
        routed = FastAPI()
        routed.state.limiter = limiter
        # As tools for versions do, which change the copies.
        routed.router.routes.extend(copy.deepcopy(router.routes))
        app.mount(version, routed)
    client = Client(app)
    assert [client.get(f"/{version}/items").status_code for version in ("v1", "v2", "v1", "v2")] == [200, 200, 200, 429]
