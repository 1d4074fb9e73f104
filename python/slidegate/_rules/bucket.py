"""Where limits count: names that cannot be mistaken for each other, whatever a client puts into them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, TypeAlias

from .._core import Quota

Kind: TypeAlias = Literal["url", "endpoint", "shared", "custom"]
KeyStyle: TypeAlias = Literal["url", "endpoint"]
Rule: TypeAlias = tuple[Quota, str] | tuple[Quota, str, str] | tuple[Quota, str, str, bool]
"""A quota and a scope; what people call the limit, and whether requests make it, with a scope or a quota of their own.
Metrics tell of the latter two, and no count depends on them."""

_LONGEST_NAME = 256
_KEPT_OF_NAME = 200


class Bucket(NamedTuple):
    """A bucket but for its key.

    `label` is what people see. The engine counts under `rule_scope` and the key `lead + key`; what requests can vary
    freely, such as a path, is in `lead`, so that there are no more rules than declarations.
    """

    label: str
    rule_scope: str
    lead: str = ""


def joined(*parts: str) -> str:
    """The parts as one string that no other parts have."""
    return "".join(f"{len(part)}:{part}" for part in parts)


class _ShortName(str):
    """A name that was shortened, and is not to be again."""

    __slots__ = ()


def short_name(name: str) -> str:
    """The name of a bucket, of a length that can be kept: the beginning and a digest of what is longer than that.

    So is what has no UTF-8, which not every storage could tell. No two texts become the same.
    """
    if isinstance(name, _ShortName):
        return name
    if len(name) <= _LONGEST_NAME:
        try:
            name.encode()
        except UnicodeEncodeError:
            pass
        else:
            return name
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()
    kept = name[:_KEPT_OF_NAME].encode("utf-8", "backslashreplace").decode()
    # Longer than any name that is kept as it is.
    return _ShortName(f"{kept.ljust(_KEPT_OF_NAME)}... {digest}")


def counted_path(scope: Mapping[str, Any]) -> str:
    """The path that a request counts under, of those that lead to the same route.

    Starlette serves a path with the root path and without; one without a parameter also with a line feed after it.
    """
    path: str = scope["path"].removesuffix("\n")
    root: str = scope.get("root_path", "")
    if not root:
        return path
    is_below = path.startswith(root) and path[len(root) : len(root) + 1] in ("", "/")
    return path if is_below else root + path


def bucket_of(prefix: str, kind: Kind, name: str, method: str | None) -> Bucket:
    """The bucket of a path, an endpoint or a shared limit, apart for each method when one is given."""
    if kind == "shared":
        # Requests may have made it.
        name = short_name(name)
    by_method = () if method is None else (method,)
    label = ":".join((name, *by_method))
    counted = f"{kind}/method" if by_method else kind
    if kind == "url":
        return Bucket(label, joined(prefix, counted), joined(name, *by_method))
    return Bucket(label, joined(prefix, counted, name), joined(*by_method))


def route_bucket(prefix: str, route: str, endpoint: str) -> Bucket:
    """The bucket of a route, by its methods and the template of its path, and by what serves it: applications that are
    mounted have templates of their own."""
    return Bucket(route, joined(prefix, "route", route, endpoint))


def parts_in(text: str, most: int | None = None) -> tuple[list[str], str]:
    """What `joined` has joined at the beginning of a text, at most so many parts, and what comes after them."""
    parts: list[str] = []
    while len(parts) != most and (match := re.match(r"(\d{1,9}):", text, re.ASCII)):
        end = match.end() + int(match[1])
        if end > len(text):
            break
        parts.append(text[match.end() : end])
        text = text[end:]
    return parts, text


def is_led(lead: str) -> bool:
    """Whether this is what stands before the keys of a path."""
    parts, rest = parts_in(lead)
    return bool(parts) and not rest
