"""Subjects of JSON Web Tokens, as identities. Needs PyJWT: `pip install slidegate[jwt]`."""

from __future__ import annotations

import importlib
import json
import logging
import re
from collections.abc import Callable, Iterable, Sequence
from time import monotonic
from typing import Any

import anyio.to_thread
from starlette.requests import HTTPConnection

from .._support.errors import ConfigurationError
from .._support.escaping import escaped_error
from .._support.fork import ForkableLock, begins_in_children
from .._support.threads import ThreadsOfLoops
from .composed import with_fallback
from .identity import Identity, KeyFunction
from .key_set import KeySet

_MOST_CHARACTERS = 16_384
_MOST_OF_SUBJECT = 1024
_PLAIN_CLAIM = re.compile(r"[\w.-]+", re.ASCII)
_MOST_THREADS = 4
_MOST_WAITING = 256
_PAUSE_S = 10


def jwt_subject(
    key: Any,
    algorithms: Sequence[str],
    *,
    fallback: KeyFunction | None = None,
    audience: str | Iterable[str] | None = None,
    issuer: str | Sequence[str] | None = None,
    leeway_s: float = 0,
    claim: str = "sub",
    header: str = "Authorization",
    scheme: str = "Bearer",
) -> KeyFunction:
    """The subject of the token that a request bears, if its signature, times, audience and issuer are right.

    - `key`: the secret or public key; or `jwt.PyJWKClient(...)`, whose keys are fetched all at once, and again for
      names that are not among them, at most once in ten seconds; or what is called with the token for its key, in a
      worker thread. Whatever these raise, the token is no right one; at most 256 wait for an answer, and those beyond
      are none either. Where the keys cannot be fetched, none are for ten seconds. Give the client a short `timeout`.
    - `algorithms`: those that your issuer signs with, all of one family. "none" is not to be had.
    - `fallback`: counts requests without a token, or with one that is not right. Without one their key is empty, and
      `on_missing_key` applies.
    - `audience`, `issuer`: what the token has to say. Without an `audience` a token must not have any.
    - `leeway_s`: by how much clocks may differ. `claim`: instead of the subject.
    - `header`, `scheme`: where the token is. With an empty scheme it is the whole header.

    Keys are "token:<claim>:<subject>", and 'token:<claim>@"<issuer>":<subject>' for a token that names its issuer: the
    same subject of another issuer is somebody else. Nothing that a client sends raises. Raises ConfigurationError for
    what cannot work.
    """
    options = {"audience": audience, "issuer": issuer, "leeway": leeway_s}
    kind: type[_ByKey | _ByKeySet | _BySomebody] = _ByKey
    if _is_key_set(_pyjwt(), key):
        kind = _ByKeySet
    elif callable(key) or hasattr(key, "get_signing_key_from_jwt"):
        kind = _BySomebody
    return with_fallback(kind(key, algorithms, options, claim, header, scheme), fallback)


class _Token(Identity):
    def __init__(
        self, key: Any, algorithms: Sequence[str], options: dict[str, Any], claim: str, header: str, scheme: str
    ) -> None:
        self._jwt = _pyjwt()
        self._algorithms = _checked(self._jwt, algorithms)
        self._options = options
        self._claim = claim
        self._header = header.lower()
        self._scheme = scheme.lower()
        self._key = key
        # A claim may be called by a URL, with colons in it.
        self._lead = f"token:{claim if _PLAIN_CLAIM.fullmatch(claim) else json.dumps(claim)}"
        self.kinds = frozenset({self._lead})
        self.told = f"the {claim} of a verified token"

    def _token(self, request: HTTPConnection) -> str:
        values = request.headers.getlist(self._header)
        value = values[0].strip() if len(values) == 1 and len(values[0]) <= _MOST_CHARACTERS else ""
        if not self._scheme:
            return value
        scheme, _, token = value.partition(" ")
        return token.strip() if scheme.lower() == self._scheme else ""

    def _subject(self, token: str, key: Any) -> str:
        required = {"require": [self._claim]}
        try:
            claims = self._jwt.decode(token, key, algorithms=self._algorithms, options=required, **self._options)
            issuer = f"@{json.dumps(claims['iss'])}" if claims.get("iss") is not None else ""
        except Exception:
            # Whatever a client may have put together; keys are looked at beforehand.
            return ""
        subject = claims.get(self._claim)
        if isinstance(subject, int) and not isinstance(subject, bool):
            subject = str(subject)
        is_right = isinstance(subject, str) and 0 < len(subject) <= _MOST_OF_SUBJECT - len(issuer)
        return f"{self._lead}{issuer}:{subject}" if is_right else ""


class _ByKey(_Token):
    def __init__(self, key: Any, algorithms: Sequence[str], *more: Any) -> None:
        super().__init__(key, algorithms, *more)
        for name in self._algorithms:
            try:
                prepared = self._jwt.get_algorithm_by_name(name).prepare_key(getattr(key, "key", key))
            except Exception as error:
                raise ConfigurationError(f"jwt_subject: the key cannot be one of {name}: {error}") from error
            if prepared in (b"", ""):
                raise ConfigurationError("jwt_subject: the key is empty, so that anybody could sign")

    def __call__(self, request: HTTPConnection) -> str:
        token = self._token(request)
        return self._subject(token, self._key) if token else ""


class _LookedUp(_Token):
    """By a key that takes time to be had, in threads apart. So many wait for them; what comes beyond is no token."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self._threads = ThreadsOfLoops(_MOST_THREADS)
        self._lock = ForkableLock()
        self.begin_in_child()
        begins_in_children(self)

    def begin_in_child(self) -> None:
        # Those who wait stayed with the parent.
        self._waiting = 0

    async def _in_thread(self, function: Callable[..., Any], *given: Any, otherwise: Any) -> Any:
        with self._lock:
            if self._waiting >= _MOST_WAITING:
                return otherwise
            self._waiting += 1
        try:
            return await anyio.to_thread.run_sync(function, *given, limiter=self._threads.own())
        finally:
            with self._lock:
                self._waiting -= 1


class _ByKeySet(_LookedUp):
    """By the keys of a server, of which the token names one."""

    def __init__(self, client: Any, *given: Any) -> None:
        super().__init__(client, *given)
        self._keys = KeySet(client)

    async def __call__(self, request: HTTPConnection) -> str:
        token = self._token(request)
        name = self._name_of_key(token) if token else ""
        if not name:
            return ""
        key = self._keys.known(name)
        if self._keys.is_to_be_fetched(key):
            key = await self._in_thread(self._keys.fetched, name, otherwise=key)
        return "" if key is None else self._subject(token, getattr(key, "key", key))

    def _name_of_key(self, token: str) -> str:
        try:
            name = self._jwt.get_unverified_header(token).get("kid")
        except Exception:
            return ""
        return name if isinstance(name, str) else ""


class _BySomebody(_LookedUp):
    """By what a function says that knows the token."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self._paused_until_s = 0.0
        self._quiet_until_s = 0.0

    async def __call__(self, request: HTTPConnection) -> str:
        token = self._token(request)
        if not token or monotonic() < self._paused_until_s:
            return ""
        key: str = await self._in_thread(self._found, token, otherwise="")
        return key

    def _found(self, token: str) -> str:
        if monotonic() < self._paused_until_s:
            return ""
        find: Callable[[str], Any] = getattr(self._key, "get_signing_key_from_jwt", self._key)
        try:
            found = find(token)
        except self._jwt.PyJWKClientConnectionError as error:
            self._paused_until_s = monotonic() + _PAUSE_S
            self._tell("keys to verify tokens with cannot be fetched, and are not for %d s: %s", error)
            return ""
        except (self._jwt.PyJWTError, LookupError, ValueError):
            # There is no such key: the client has made it up.
            return ""
        except Exception as error:
            # Tokens can make libraries fail in many ways. It may be a mistake of the program as well.
            self._tell("looking up the key of a token failed, so that it is none; told once in %d s: %s", error)
            return ""
        return self._subject(token, getattr(found, "key", found))

    def _tell(self, text: str, error: Exception) -> None:
        is_first = monotonic() >= self._quiet_until_s
        self._quiet_until_s = monotonic() + _PAUSE_S
        if is_first:
            logging.getLogger("slidegate").warning(text, _PAUSE_S, escaped_error(error))


def _is_key_set(jwt: Any, key: Any) -> bool:
    """Whether this is a PyJWKClient that finds keys by their names and nothing else, as a subclass may not."""
    names = ("get_signing_key_from_jwt", "get_signing_key", "match_kid")
    is_own = all(getattr(type(key), name, None) is getattr(jwt.PyJWKClient, name, None) for name in names)
    return isinstance(key, jwt.PyJWKClient) and is_own and "get_signing_key_from_jwt" not in vars(key)


def _pyjwt() -> Any:
    try:
        return importlib.import_module("jwt")
    except ImportError as error:
        raise ConfigurationError("jwt_subject needs PyJWT: pip install 'slidegate[jwt]'") from error


def _checked(jwt: Any, algorithms: Sequence[str]) -> list[str]:
    names = [algorithms] if isinstance(algorithms, str) else list(algorithms)
    known = set(jwt.algorithms.get_default_algorithms()) - {"none"}
    unknown = [name for name in names if name not in known]
    if not names or unknown:
        told = "none was given" if not names else f"{unknown[0]!r} is none that can be had"
        raise ConfigurationError(f"jwt_subject: algorithms={algorithms!r}: {told}; known: {', '.join(sorted(known))}")
    if len({name.startswith("HS") for name in names}) > 1:
        raise ConfigurationError(
            f"jwt_subject: algorithms={algorithms!r} has secrets and public keys, so that whoever knows a public key"
            " could sign with it; name those of one family"
        )
    return names
