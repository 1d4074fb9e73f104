"""Whether the scope of a request says who its peer is."""

from __future__ import annotations

from typing import Any

from starlette.requests import HTTPConnection

STOCK_CLIENT: Any = vars(HTTPConnection)["client"]
"""Where it is the `client` of a request's class, the scope says the same, sooner."""


def is_stock(request: Any) -> bool:
    """Whether nobody has replaced the `client` of a request, in its class or by another kind of object."""
    return getattr(type(request), "client", None) is STOCK_CLIENT
