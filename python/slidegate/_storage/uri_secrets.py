"""What of a storage URI, however it is mistyped, may be a password, and is never to be printed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from .._support.errors import ConfigurationError

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*(?=:)", re.ASCII)
# Of a password that holds separators each part is looked for, unless it could be any word of a message.
_SHORTEST = 3
_SEPARATORS = re.compile(r"[:/?#&=@,\s]+")
_WORDS = {"user", "username", "password", "host", "port", "path", "service", "database", "number", "redis", "rediss"}
_SECRET_OPTION = re.compile(r"(?:pass|pwd|secret|token|auth|credential)\w*=([^&#]*)", re.IGNORECASE)
_NO_PORT = re.compile(r":(?!\d{1,5}(?![^/?#,]))([^/?#@,]+)")


def is_scheme(text: str) -> bool:
    """Whether this is written as schemes are, and so may be told."""
    match = _SCHEME.match(f"{text}:")
    return match is not None and match.end() == len(text)


def shown_uri(uri: str) -> str:
    """The URI for messages: as it is where nothing in it can be a password, else its scheme alone."""
    if not any(True for _ in _secrets(uri)) and not {"@", "?", "="} & set(uri):
        return repr(uri)
    scheme, separator, _ = uri.partition("://")
    return repr(f"{scheme}://...") if separator and is_scheme(scheme) else "'...'"


@contextmanager
def hiding_secrets(uri: str | None) -> Iterator[None]:
    """Has errors about a URI say no more than that it is wrong, where they would repeat what may be a password.

    Libraries that read URIs quote them, too. Raises ConfigurationError instead.
    """
    try:
        yield
    except Exception as error:
        told: BaseException | None = error
        while told is not None:
            text = f"{told} {told!r}"
            if uri is not None and any(each in text for each in _secrets(uri)):
                scheme = uri.partition("://")[0]
                which = f"{scheme}://" if "://" in uri and is_scheme(scheme) else "a URI without a scheme"
                raise ConfigurationError(
                    f"storage_uri: {which} cannot be read, and is not repeated, as it may hold a password; write"
                    " scheme://user:password@host:port, with %2F, %3F, %23, %40 and %3A for / ? # @ : in the former two"
                ) from None
            told = told.__cause__ or (None if told.__suppress_context__ else told.__context__)
        raise


def _secrets(uri: str) -> Iterator[str]:
    scheme = _SCHEME.match(uri)
    rest = uri[scheme.end() :] if scheme is not None and uri[scheme.end() :].startswith(":/") else uri
    credentials, at, _ = rest.rpartition("@")
    parts = [credentials] if at else _NO_PORT.findall(rest.removeprefix(":"))
    parts += _SECRET_OPTION.findall(uri)
    for part in parts:
        for piece in _SEPARATORS.split(part):
            if len(piece) >= _SHORTEST and piece.lower() not in _WORDS:
                yield piece
