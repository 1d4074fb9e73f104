"""Where requests say who their peer is."""

from __future__ import annotations

from typing import Any

from starlette.requests import HTTPConnection

STOCK_CLIENT: Any = vars(HTTPConnection)["client"]
"""Where it is the `client` of a request's class, the scope says the same, sooner."""
