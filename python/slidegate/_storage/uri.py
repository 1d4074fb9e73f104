"""What a storage URI names."""

from __future__ import annotations

import grp
import re
import sys
from typing import NamedTuple
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

import limits.storage

from .._support.errors import ConfigurationError
from .uri_secrets import is_scheme, shown_uri

REDIS_SCHEMES = ("redis", "rediss", "redis+unix", "redis+sentinel", "redis+cluster")
_OTHER_NAMES = {
    "valkey": "redis",
    "valkeys": "rediss",
    "valkey+unix": "redis+unix",
    "valkey+sentinel": "redis+sentinel",
    "valkey+cluster": "redis+cluster",
    "unix": "redis+unix",
}
_EXAMPLES = {
    "memory": "memory://",
    "shared": "shared://my-api?size=64MiB",
    "file": "file:///var/lib/my-api/limits?size=64MiB",
}
OF_FILES = ("size", "on_damage", "mode", "group")
_OPTIONS = {"memory": ("size",), "shared": OF_FILES, "file": OF_FILES}
_OWN_SCHEMES = (*_EXAMPLES, *REDIS_SCHEMES)
SUPPORTED = tuple(f"{scheme}://" for scheme in _OWN_SCHEMES)


def redis_scheme(written: str) -> str:
    """The one of `REDIS_SCHEMES` that has another name, too; others as they are written."""
    return _OTHER_NAMES.get(written, written)


def is_redis(uri: str | None) -> bool:
    """Whether a storage is a Redis or Valkey server. "async+" in front of the scheme changes nothing."""
    scheme, separator, _ = str(uri or "").partition("://")
    return bool(separator) and redis_scheme(scheme.removeprefix("async+")) in REDIS_SCHEMES


def is_of_limits(uri: str | None) -> bool:
    """Whether a storage is one of `limits`, and none of ours."""
    scheme, colon, _ = str(uri or "").partition("://")
    return (
        bool(colon) and not is_redis(uri) and scheme not in _OWN_SCHEMES and scheme in vars(limits.storage)["SCHEMES"]
    )


def schemes_of_limits() -> list[str]:
    """What `is_of_limits` is true for."""
    return sorted(f"{scheme}://" for scheme in vars(limits.storage)["SCHEMES"] if is_of_limits(f"{scheme}://"))


class StorageUri(NamedTuple):
    """A URI, taken apart. None for an option that is not in it."""

    scheme: str
    place: str
    """The name of shared memory, or the path of a file."""
    size: int | None
    on_damage: str | None
    mode: int | None = None
    group: int | None = None


def storage_uri(text: str) -> StorageUri:
    """Raises ConfigurationError for schemes that there are not, and for places and options that cannot be."""
    if "://" not in text:
        raise ConfigurationError(_without_scheme(text))
    if (scheme := text.partition("://")[0]) not in _EXAMPLES:
        known = ", ".join([*SUPPORTED, *schemes_of_limits()])
        told = repr(f"{scheme}://") if is_scheme(scheme) else "of what stands before ://"
        raise ConfigurationError(f"storage_uri: there is no storage {told}; supported: {known}")
    try:
        parts = urlsplit(text)
    except ValueError:
        raise ConfigurationError(f"storage_uri: {scheme}:// cannot be read; write {_EXAMPLES[scheme]!r}") from None
    options = _options_of(text, scheme, parts)
    return StorageUri(
        scheme,
        _place_of(text, scheme, parts),
        bytes_in(options["size"]) if "size" in options else None,
        options.get("on_damage"),
        mode_in(options["mode"]) if "mode" in options else None,
        group_in(options["group"]) if "group" in options else None,
    )


def _without_scheme(text: str) -> str:
    # What stands before an @ may be a password, and so may much else.
    credentials, _, place = text.rpartition("@")
    is_place = re.fullmatch(r"([\w.-]+|\[[0-9a-fA-F:.]+\])(:\d{1,5})?(/\d*)?", place)
    told = ""
    if redis_scheme(text.rstrip(":/")) in (*_EXAMPLES, *REDIS_SCHEMES):
        advice = f"did you mean {text.rstrip(':/')}://?"
    elif is_place and credentials:
        # Of a password with an @ in it, this may be the end.
        is_sure = is_place[2] or is_place[1] == "localhost"
        told = f"...@{place}" if is_sure else ""
        advice = f"did you mean redis://user:password@{place if is_sure else 'host:port'}?"
    elif is_place:
        told = text
        advice = f"did you mean redis://{place}?"
    else:
        advice = f"it begins with one of {', '.join([*SUPPORTED, *schemes_of_limits()])}"
    return f"storage_uri: there is no :// in {repr(told) if told else 'it'}; {advice}"


def bytes_in(size: object) -> int:
    """The number of bytes that is written as 67108864 or 64MiB. Raises ConfigurationError."""
    match = re.fullmatch(r"(\d{1,15})\s*([KMG]iB)?", str(size).strip(), re.ASCII)
    if match is None:
        raise ConfigurationError(f"size={size!r} is neither a number of bytes nor one of KiB, MiB or GiB, like 64MiB")
    number, unit = match.groups(default="")
    return min(int(number) << (10 * " KMG".index(unit[:1] or " ")), sys.maxsize)


def mode_in(mode: object) -> int:
    """Permissions that are written as 0660, or a number. Raises ConfigurationError."""
    is_text = isinstance(mode, str) and re.fullmatch(r"0?[0-7]{3}", mode)
    number = int(str(mode), 8) if is_text else mode
    if isinstance(number, bool) or not isinstance(number, int) or number & ~0o777 or number & 0o600 != 0o600:
        raise ConfigurationError(f"mode={mode!r} are no permissions that this user can read and write with, like 0660")
    return number


def group_in(group: object) -> int:
    """The number of a group, which is written as that or as its name. Raises ConfigurationError."""
    if isinstance(group, int) and not isinstance(group, bool) and group >= 0:
        return group
    if re.fullmatch(r"\d{1,9}", str(group), re.ASCII):
        return int(str(group))
    try:
        return grp.getgrnam(str(group)).gr_gid
    except (KeyError, ValueError):
        raise ConfigurationError(f"group={group!r}: this host has no such group") from None


def _place_of(text: str, scheme: str, parts: SplitResult) -> str:
    place = unquote(parts.path if scheme == "file" else parts.netloc + parts.path)
    is_right = {"memory": not place, "shared": bool(place), "file": not parts.netloc and len(place) > 1}[scheme]
    if not is_right or parts.fragment:
        what = {"memory": "no name", "shared": "the name of a segment", "file": "the whole path of a file"}[scheme]
        advice = f"after {scheme}:// stands {what}, as in {_EXAMPLES[scheme]!r}"
        raise ConfigurationError(f"storage_uri={shown_uri(text)}: {advice}")
    return place


def _options_of(text: str, scheme: str, parts: SplitResult) -> dict[str, str]:
    options = parse_qs(parts.query, keep_blank_values=True)
    for name, values in options.items():
        if name not in _OPTIONS[scheme]:
            known = ", ".join(_OPTIONS[scheme])
            # Without a value it may be anything that stood after a question mark.
            told = (
                f"no option {name!r}"
                if re.fullmatch(r"\w+", name) and any(values)
                else "not every option that is there"
            )
            raise ConfigurationError(f"storage_uri={shown_uri(text)}: {scheme}:// has {told}; known: {known}")
        if len(values) > 1:
            raise ConfigurationError(f"storage_uri={shown_uri(text)}: {name} is there twice")
    return {name: value for name, (value,) in options.items()}
