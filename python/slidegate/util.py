"""The key functions of slowapi."""

from __future__ import annotations

from typing import Any

from starlette.requests import HTTPConnection
from starlette.requests import Request as Request

# Where it is the `client` of a request's class, the scope says the same, sooner.
_STOCK_CLIENT: Any = vars(HTTPConnection)["client"]


def get_remote_address(request: HTTPConnection) -> str:
    """The address of the peer; empty when the server does not tell one, for which `on_missing_key` then decides.

    Behind a proxy that is the proxy's address, unless the server rewrites it (uvicorn: --proxy-headers with
    --forwarded-allow-ips).
    """
    if getattr(type(request), "client", None) is _STOCK_CLIENT:
        peer = request.scope.get("client")
        return (peer[0] or "") if peer else ""
    client = request.client
    return (client.host or "") if client else ""


def get_ipaddr(request: HTTPConnection) -> str:
    """The header "X_FORWARDED_FOR" as it was sent, else the address of the peer.

    Anybody can send that header and so choose an identity. It is kept for programs written for slowapi; behind a proxy
    let the server resolve the address and use `get_remote_address`.
    """
    return request.headers.get("X_FORWARDED_FOR") or get_remote_address(request)
