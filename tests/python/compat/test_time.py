"""Time passes for a limiter as the libraries that tests use say."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from compat.apps import limited
from compat.conftest import SLOWAPI
from compat.library import Library, same


@contextmanager
def with_freezegun() -> Iterator[Callable[[float], Any]]:
    import freezegun

    # Frozen now: a thread of `limits` sees the true time behind freezegun's back.
    with freezegun.freeze_time(datetime.now(timezone.utc)) as frozen:
        yield lambda seconds: frozen.tick(timedelta(seconds=seconds))


@contextmanager
def with_time_machine() -> Iterator[Callable[[float], Any]]:
    import time_machine

    with time_machine.travel(datetime.now(timezone.utc), tick=False) as traveller:
        yield traveller.shift


@contextmanager
def with_hiro() -> Iterator[Callable[[float], Any]]:
    import hiro

    with hiro.Timeline().freeze() as timeline:
        yield timeline.forward


@pytest.mark.parametrize("name", [SLOWAPI, "slidegate"])
@pytest.mark.parametrize("freeze", [with_freezegun, with_time_machine, with_hiro])
def test_a43_time_passes_as_the_library_for_it_says(
    freeze: Callable[[], AbstractContextManager[Callable[[float], Any]]], name: str
) -> None:
    library = Library(name, {})
    with freeze() as advance:
        _, client = limited(library)
        outcomes = [client.statuses("/items", 2)]
        for seconds in (30, 31):
            advance(seconds)
            outcomes.append(client.statuses("/items", 2))
        assert outcomes == library.expected(same([[200, 429], [429, 429], [200, 429]]))
    assert time.time() > 0
