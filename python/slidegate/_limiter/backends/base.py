"""The protocol of what a limiter counts in: memory, a server, the `limits` package, or what stands in for them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeAlias

from ..._rules.resolver import Hit, RequestContext
from ..._storage.base import Health
from ...decision import RawDecision

Outcome: TypeAlias = tuple[Hit, RawDecision]
"""The hit that matters most, and what was decided about it."""


class Backend(Protocol):
    """Takes hits, all or none. Thread-safe: everything about a request is passed in."""

    @property
    def is_exact(self) -> bool:
        """Whether decisions tell how much is left. Where they do not, headers have to ask what counts."""
        ...

    def policy(self, hits: Sequence[Hit]) -> Any:
        """What takes these hits of any key with one call, `hit(key, cost)`, for checks that are compiled.

        One that has a `hit_async` is to be awaited on event loops, and blocks in `hit`. What raises StorageError is to
        be decided by `take_instead`. None where only `take` knows how to take them now.
        """
        ...

    async def take(self, hits: Sequence[Hit], context: RequestContext) -> Outcome | None:
        """Takes all of the hits or none, and says of which there is least or too little; None if they pass uncounted.

        What depends on the response is reserved in the record of the context. Raises StorageOut, and whatever the
        storage does.
        """
        ...

    async def take_instead(self, hits: Sequence[Hit], context: RequestContext, error: Exception) -> Outcome | None:
        """The same for hits whose policy has raised that error, and which are not asked for there again."""
        ...

    async def peek(self, hits: Sequence[Hit], context: RequestContext) -> Outcome | None:
        """What `take` would say. Takes nothing."""
        ...

    def health(self) -> Health:
        """Whether it is asked now. Asks nobody."""
        ...
