"""The native engine answers the vectors that every implementation of a strategy has to answer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from slidegate import _core

VECTORS = Path(__file__).parent.parent / "vectors"
STRATEGIES = ["moving-window", "fixed-window", "sliding-window-counter", "gcra"]


def cases() -> list[Any]:
    return [
        pytest.param(vector, id=f"{strategy}: {vector['name']}")
        for strategy in STRATEGIES
        for vector in json.loads((VECTORS / f"{strategy}.json").read_text())
    ]


@pytest.mark.parametrize("vector", cases())
def test_the_engine_answers_the_vector(vector: dict[str, Any]) -> None:
    clock = _core.ManualClock()
    limiter = _core.Limiter(size=1 << 20, clock=clock)
    policy = limiter.policy([(_core.Quota(**vector["quota"]), "vectors")])
    for now_ns, cost, *answer in vector["hits"]:
        clock.set(now_ns)
        allowed, quota, remaining, reset_after_ns, retry_after_ns = policy.hit("key", cost)
        assert [allowed, remaining, reset_after_ns, retry_after_ns] == answer, (now_ns, cost)
        assert quota == 0


def test_every_file_of_vectors_is_of_a_strategy() -> None:
    assert sorted(path.stem for path in VECTORS.glob("*.json")) == sorted(STRATEGIES)
