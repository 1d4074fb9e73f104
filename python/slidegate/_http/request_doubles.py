"""What programs and tests put in the place of a request: read by the attributes that slowapi reads, and no others."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from contextlib import suppress
from typing import Any

from .current_limit import Ahead
from .request_state import COMPLETE, VIEW

_TOLD = (VIEW, COMPLETE)
_KEPT = "_slidegate_stand_in"


def as_request(request: Any) -> Any:
    """The request, or where it has no ASGI scope, something that has one and is otherwise the same."""
    if type(getattr(request, "scope", None)) is dict or isinstance(request, StandIn):
        return request
    if isinstance(getattr(request, "scope", None), MutableMapping):
        return request
    kept = getattr(request, "__dict__", {}).get(_KEPT)
    return kept if isinstance(kept, StandIn) else StandIn(request)


class StandIn:
    """An object like a request, with a scope of what can be read of it. Its state is the object's own."""

    def __init__(self, request: Any) -> None:
        self._request = request
        method, path = getattr(request, "method", "GET"), _path_of(request)
        self.scope: dict[str, Any] = {
            "type": "http",
            "method": str(method),
            "path": path if isinstance(path, str) else str(path),
            "headers": [],
            "client": None,
            "state": _State(request),
        }
        with suppress(AttributeError, TypeError):
            # Where it cannot be kept, what it holds is known as long as this object is.
            setattr(request, _KEPT, self)

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        # As a mock has it that stands for a request.
        return self._request.__class__

    def __getattr__(self, name: str) -> Any:
        return getattr(self._request, name)

    def __getitem__(self, name: str) -> Any:
        return self._request[name]


class _State(MutableMapping[str, Any]):
    """The state of a stand-in: what slowapi knows by name is an attribute, everything else is kept here."""

    def __init__(self, request: Any) -> None:
        self._own: dict[str, Any] = {}
        self._told: Any = getattr(request, "state", self)

    def __getitem__(self, name: str) -> Any:
        if name not in _TOLD or self._told is self:
            return self._own[name]
        value = getattr(self._told, name, None)
        if name == COMPLETE and not isinstance(value, Ahead):
            # Whatever it is, slowapi takes it for an answer.
            if not value:
                raise KeyError(name)
            return value if value is self._own.get(name) else True
        return value

    def __setitem__(self, name: str, value: Any) -> None:
        self._own[name] = value
        if name in _TOLD and self._told is not self:
            setattr(self._told, name, value)

    def __delitem__(self, name: str) -> None:
        del self._own[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._own)

    def __len__(self) -> int:
        return len(self._own)


def _path_of(request: Any) -> Any:
    try:
        return request["path"]
    except (TypeError, KeyError, AttributeError):
        return getattr(getattr(request, "url", None), "path", "")
