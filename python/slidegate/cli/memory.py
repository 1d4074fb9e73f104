"""`slidegate ls`, `rm`, `inspect`, `reset` and `top`: memory that limiters count in."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from dataclasses import asdict
from typing import Any

from .._storage.redis.storage import RedisStorage
from .._storage.redis.uri import parse_redis_uri
from .._storage.uri import is_redis
from .._support.escaping import escaped
from .._support.text_table import aligned
from ..inspection import Inspection, segment_named, segments
from .errors import FAILED, Unusable
from .text import cells_of, memory_text, size_text

_MOST_TOLD = 3
# A command says once what is wrong, and ends.
_SILENT = logging.Logger("slidegate.reset", logging.CRITICAL)


def add_memory_commands(commands: Any) -> None:
    """Adds the commands to the subparsers."""
    where = "a segment, as `slidegate ls` lists it, or the path of a file, with a slash in it"
    also = f"{where}, or the URI of a Redis server"

    ls = _added(commands, "ls", "list the segments of shared memory that limiters of this user count in")
    ls.add_argument("--json", action="store_true", help="print JSON")
    ls.set_defaults(run=_ls)

    rm = _added(commands, "rm", "take the name of a segment away: who counts in it goes on, nobody else can come")
    rm.add_argument("names", nargs="+", metavar="NAME", help=where)
    rm.add_argument("--force", action="store_true", help="also if a server that is running has made it")
    rm.set_defaults(run=_rm)

    inspect = _added(commands, "inspect", "show what the limits have counted for a key")
    reset = _added(commands, "reset", "forget all hits, or those of a key")
    for command, run in ((inspect, _inspect), (reset, _reset)):
        command.add_argument("name", metavar="NAME", help=also if command is reset else where)
        command.add_argument(
            "key", metavar="KEY", nargs="?" if command is reset else None, help="as the key function returns it"
        )
        command.add_argument(
            "--path",
            help="for limits that count every path apart: the path of the requests (without: those of recorded keys)",
        )
        command.set_defaults(run=run)
    inspect.add_argument("--json", action="store_true", help="print JSON")

    top = _added(commands, "top", "show the fullest keys and what the limits admit and refuse, as it changes")
    top.add_argument("name", metavar="NAME", nargs="?", help=f"{where}; may be left out when there is one only")
    top.add_argument("--most", type=int, default=20, metavar="N", help="so many keys (default: 20)")
    top.add_argument("--interval", type=float, default=1.0, metavar="S", help="seconds between looks (default: 1)")
    top.add_argument("--once", action="store_true", help="look once, and print plain text")
    top.add_argument("--json", action="store_true", help="look once, and print JSON")
    top.set_defaults(run=_top)


def _added(commands: Any, name: str, does: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(name, help=does, description=f"{does[0].upper()}{does[1:]}.")
    return parser


def _ls(options: argparse.Namespace) -> int:
    rows = segments()
    if options.json:
        print(json.dumps([asdict(row) for row in rows], indent=2))
    elif not rows:
        print("no limiter of this user counts in shared memory")
    else:
        head = ("NAME", "SIZE", "SERVER", "SINCE (UTC)", "STATE")
        body = [(row.name, size_text(row.size), str(row.server_pid or "-"), row.born, row.state) for row in rows]
        print(*aligned([head, *body]), sep="\n")
    return 0


def _rm(options: argparse.Namespace) -> int:
    owned = {row.name: row for row in segments() if row.server_pid is not None and row.state != "left over"}
    for name in options.names:
        owner = owned.get(name.removeprefix("shared://"))
        if owner is not None and not options.force:
            raise Unusable(
                f"{name} is counted in by the server {owner.server_pid}, whose workers would count apart once they are"
                " started again; it goes when the server ends (--force removes it all the same)"
            )
        segment_named(name).unlink()
    return 0


def _inspect(options: argparse.Namespace) -> int:
    inspection = Inspection(segment_named(options.name))
    rows = inspection.find(options.key, options.path)
    if options.json:
        print(json.dumps([asdict(row) for row in rows], indent=2))
    elif rows:
        head = ("KEY", "LIMIT", "SCOPE", "USED", "WHOLE AGAIN IN")
        print(*aligned([head, *((*cells_of(row), f"{row.reset_after_s or 0:.0f} s") for row in rows)]), sep="\n")
    else:
        _tell_of_nothing(inspection, options)
    return 0 if rows else FAILED


def _reset(options: argparse.Namespace) -> int:
    if is_redis(options.name):
        return _reset_redis(options)
    inspection = Inspection(segment_named(options.name))
    count = inspection.reset(options.key, options.path)
    elsewhere = inspection.elsewhere()
    if elsewhere:
        told = ", ".join(elsewhere[:_MOST_TOLD]) + (" and others" if len(elsewhere) > _MOST_TOLD else "")
        raise Unusable(
            f"{escaped(options.name)} only tells of {told}: they are counted by what the storage_uri of their limiter"
            " names, and nothing was forgotten there; for Redis: slidegate reset redis://HOST [KEY]"
        )
    if options.key is not None and not count:
        _tell_of_nothing(inspection, options)
        return FAILED
    print(f"forgot {_forgotten(options)}, of {count} limit{'' if count == 1 else 's'}")
    return 0


def _reset_redis(options: argparse.Namespace) -> int:
    target = parse_redis_uri(options.name)
    storage = RedisStorage(target, logger=_SILENT)
    try:
        count = storage.forget(options.key, options.path)
    finally:
        storage.close()
    if options.key is not None and not count:
        where = "" if options.path is None else f" at {options.path}"
        print(f"slidegate: {target.name} has counted nothing for {options.key!r}{where}", file=sys.stderr)
        return FAILED
    print(f"forgot {_forgotten(options)} in {target.name}: {count} count{'' if count == 1 else 's'}")
    return 0


def _forgotten(options: argparse.Namespace) -> str:
    return "all hits" if options.key is None else f"the hits of {options.key!r}"


def _tell_of_nothing(inspection: Inspection, options: argparse.Namespace) -> None:
    where = "" if options.path is None else f" at {options.path}"
    similar = ", ".join(map(repr, inspection.similar(options.key)))
    hints = [
        *(["limits that count every path apart need --path /the/path"] if options.path is None else []),
        *([f"recorded keys like it: {similar}"] if similar else []),
    ]
    print("; ".join([f"slidegate: nothing is counted for {options.key!r}{where}", *hints]), file=sys.stderr)


def _top(options: argparse.Namespace) -> int:
    if options.interval <= 0 or options.most < 1:
        raise Unusable("--interval and --most are above 0")
    inspection = Inspection(segment_named(options.name or _only_name()))
    if options.json:
        rows = [asdict(row) | {"is_used_up": row.is_used_up} for row in inspection.keys(options.most)]
        stats = inspection.stats
        memory = {
            "used_bytes": stats.bytes,
            "capacity_bytes": stats.capacity_bytes,
            "evictions": stats.evictions,
            "inserts_failed": stats.full,
            "errors": inspection.errors(),
        }
        print(json.dumps({"keys": rows, "limits": [asdict(row) for row in inspection.rules()], **memory}, indent=2))
    elif options.once:
        keys = [cells_of(row) for row in inspection.keys(options.most)]
        limits = [(row.told, escaped(row.scope), str(row.admitted), str(row.refused)) for row in inspection.rules()]
        print(*aligned([("KEY", "LIMIT", "SCOPE", "USED"), *keys]), "", sep="\n")
        print(*aligned([("LIMIT", "SCOPE", "ADMITTED", "REFUSED"), *limits]), "", sep="\n")
        print(memory_text(inspection))
    elif not sys.stdout.isatty():
        raise Unusable("the live table needs a terminal; --once prints a table, --json prints JSON")
    else:
        try:
            from .top import watch
        except ModuleNotFoundError as error:
            raise Unusable(f"{error}; pip install rich, or use --once") from error
        watch(inspection, options.most, options.interval)
    return 0


def _only_name() -> str:
    names = [row.name for row in segments() if row.state == "in order"]
    if len(names) == 1:
        return names[0]
    hint = "those of a running server with workers and those named shared://... are listed by `slidegate ls`"
    raise Unusable(f"name one of {', '.join(names)}" if names else f"there is no segment to look into; {hint}")
