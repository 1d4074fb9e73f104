"""What becomes of requests while the storage of a limiter cannot be asked."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import get_args

from ..._core import Quota
from ..._rules.environment import require
from ..._rules.resolver import Hit
from ..._storage.memory import OnError
from ..._support.errors import ConfigurationError, StorageOut


def require_on_error(name: str, on_error: object) -> None:
    """Raises ConfigurationError for a policy that there is not. None leaves it to others to say."""
    require(name, on_error, (None, *get_args(OnError)))


def require_share(share: object) -> None:
    """Raises ConfigurationError for what is no part of a limit."""
    if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 < share <= 1:
        raise ConfigurationError(f"local_share={share!r} is no part of a limit; write for example 0.25 for four hosts")


def left_to_count(hits: Sequence[Hit], otherwise: OnError, share: float) -> list[Hit]:
    """The charges that are to be counted here, each against its share of the limit. Those that are open are none.

    `otherwise` is for limits that say nothing. Raises StorageOut when one is closed.
    """
    policies = [hit.group.on_error or otherwise for hit in hits]
    if "closed" in policies:
        raise StorageOut
    return [_shared(hit, share) for hit, policy in zip(hits, policies, strict=True) if policy == "local"]


def _shared(hit: Hit, share: float) -> Hit:
    quota = hit.quota
    if share == 1:
        return hit
    return hit._replace(quota=Quota(math.ceil(quota.amount * share), quota.window_ns, quota.strategy))
