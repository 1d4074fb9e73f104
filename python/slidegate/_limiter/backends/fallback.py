"""What becomes of requests while the storage of a limiter cannot be asked."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..._core import Quota
from ..._rules.options import OnError
from ..._rules.resolver import Hit
from ..._support.errors import StorageOut


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
