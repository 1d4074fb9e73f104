"""Where a Redis server is, and how to be let in."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from ..._support.escaping import escaped

Address: TypeAlias = tuple[str, int] | str
"""Host and port, or the path of a unix socket."""


@dataclass(frozen=True)
class RedisTarget:
    """One server, or a master that sentinels name, or a cluster, from a URI. Neither its repr nor its name tells a
    password."""

    address: Address
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    database: int = 0
    tls: ssl.SSLContext | None = None
    server_name: str | None = None
    connect_timeout_s: float = 0.25
    command_timeout_s: float = 0.1
    deny_cache_s: float = 1.0
    is_hashed: bool = False
    sentinels: tuple[RedisTarget, ...] = ()
    service: str = ""
    """What the sentinels call the master."""
    seeds: tuple[Address, ...] = ()
    """Some nodes of the cluster."""

    @property
    def name(self) -> str:
        """What messages call it."""
        if self.sentinels:
            return f"the Redis master {self.service!r}"
        kind = "cluster" if self.seeds else "server"
        if isinstance(self.address, str):
            return f"the Redis {kind} at {escaped(self.address)}"
        host, port = self.address
        # A node of a cluster names others as it likes.
        return f"the Redis {kind} at {escaped(f'[{host}]' if ':' in host else host)}:{port}"

    def at(self, address: Address) -> RedisTarget:
        """The node of this cluster at an address."""
        return replace(self, address=address, seeds=())

    @property
    def host(self) -> str | None:
        """What a certificate has to be for, if the URI does not say."""
        return self.server_name or (self.address[0] if isinstance(self.address, tuple) else None)

    def greetings(self, *, is_master: bool) -> list[tuple[bytes, ...]]:
        """The commands that a new connection begins with; with `is_master` it is asked whether it leads to one."""
        commands = list[tuple[bytes, ...]]()
        if self.password is not None:
            names = () if self.username is None else (self.username.encode(),)
            commands.append((b"AUTH", *names, self.password.encode()))
        if self.database:
            commands.append((b"SELECT", b"%d" % self.database))
        if is_master:
            commands.append((b"ROLE",))
        return commands
