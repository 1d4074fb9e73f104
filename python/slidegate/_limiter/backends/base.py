"""The protocol of what a limiter counts in: memory, a server, the `limits` package, or what stands in for them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from ..._rules.hit import Hit, Outcome
from ..._rules.limit_group import LimitGroup
from ..._rules.plan import RequestContext
from ..._storage.base import Health
from ..._storage.circuit_breaker import CircuitBreaker
from ..._support.steps import Steps
from ..._support.waiting import Wait


class Backend(Protocol):
    """Takes hits, all or none. Thread-safe: everything about a request is passed in."""

    def policy(self, hits: Sequence[Hit]) -> Any:
        """What takes these hits of any one key with one call, `hit(key, costs)`, for checks that are compiled.

        One that has a `hit_async` is to be awaited on event loops, and blocks in `hit`. None where only `take` knows
        how to take them now.
        """
        ...

    def take(self, hits: Sequence[Hit], context: RequestContext) -> Steps[Outcome | None]:
        """Takes all of the hits or none, and says of which there is least or too little; None if they pass uncounted.

        What depends on the response is reserved in the record of the context. Raises what the storage does.
        """
        ...

    def peek(self, hits: Sequence[Hit], wait: Wait) -> Steps[Outcome | None]:
        """What `take` would say. Takes nothing."""
        ...

    def health(self) -> Health:
        """Whether it is asked now. Asks nobody."""
        ...


class PrimaryBackend(Backend, Protocol):
    """One that knows about the storage that it asks."""

    @property
    def is_exact(self) -> bool:
        """Whether decisions tell how much is left. Where they do not, headers have to ask what counts."""
        ...

    @property
    def watches_itself(self) -> bool:
        """Whether it knows when to ask again, and raises StorageError when, and only when, it cannot be asked."""
        ...

    def probe(self, breaker: CircuitBreaker) -> Steps[bool]:
        """Asks whether it is back, which closes the breaker, and keeps nobody waiting. Whether it is known to be."""
        ...


class FallbackBackend(Backend, Protocol):
    """One that counts in a `primary` one, and knows what becomes of hits that this cannot take."""

    @property
    def primary(self) -> PrimaryBackend: ...

    @property
    def limits(self) -> tuple[LimitGroup, ...]:
        """Those in the place of all others while `primary` is out."""
        ...

    def tally(self, hits: Sequence[Hit]) -> Any:
        """Tells metrics what `policy` has decided, as in `tally(allowed, index)`; None where it does so itself."""
        ...

    def take_instead(self, hits: Sequence[Hit], context: RequestContext, error: Exception) -> Steps[Outcome | None]:
        """Takes hits that `primary` has failed to take, with that error. Raises it, if it is the request's."""
        ...
