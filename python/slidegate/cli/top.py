"""The live table of `slidegate top`."""

from __future__ import annotations

import time

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from .._support.escaping import escaped
from ..inspection import Inspection, RuleRow
from .text import memory_text

# Of a table, beside its rows: a blank line above and below, the head, and its rule.
_FRAME = 4
_LEAST_ROWS = 3
_USUAL = ", moving-window"


def watch(inspection: Inspection, most: int, interval_s: float) -> None:
    """Shows what is counted, until Ctrl-C."""
    view = View(inspection, most)
    console = Console()
    with Live(view.drawn(console.height), console=console, screen=console.is_terminal, auto_refresh=False) as live:
        while True:
            time.sleep(interval_s)
            live.update(view.drawn(console.height), refresh=True)


class View:
    """What is shown, with rates since the last look."""

    def __init__(self, inspection: Inspection, most: int) -> None:
        self._inspection = inspection
        self._most = most
        self._before: dict[tuple[str, str], RuleRow] = {}
        self._looked_at_s = 0.0

    def drawn(self, height: int) -> RenderableType:
        """Looks, and draws at most so many lines: of limits the busiest, of keys the fullest."""
        now_s = time.monotonic()
        rules = {(rule.told, rule.scope): rule for rule in self._inspection.rules()}
        busiest = sorted(rules.values(), key=lambda rule: rule.admitted + rule.refused, reverse=True)
        busiest = busiest[: max(_LEAST_ROWS, height // 2 - _FRAME)]
        memory = Text(memory_text(self._inspection) + "; Ctrl-C ends", style="dim", no_wrap=True, overflow="ellipsis")
        limits = self._limits(busiest, now_s - self._looked_at_s)
        room = height - 1 - _FRAME - max(1, len(busiest)) - _FRAME
        drawn = Group(memory, limits, self._keys(min(self._most, max(_LEAST_ROWS, room))))
        self._before, self._looked_at_s = rules, now_s
        return drawn

    def _limits(self, rules: list[RuleRow], passed_s: float) -> Table:
        table = _table("limit", "scope")
        for name in ("admitted", "per s", "refused", "per s"):
            table.add_column(name, justify="right", no_wrap=True)
        for rule in rules:
            before = self._before.get((rule.told, rule.scope))
            pairs = ((rule.admitted, before.admitted), (rule.refused, before.refused)) if before else ()
            rates = [f"{(now - then) / passed_s:,.1f}" for now, then in pairs] or ["", ""]
            refused = Text(f"{rule.refused:,}", style="red" if rule.refused else "")
            table.add_row(_limit(rule.told), _text(rule.scope), f"{rule.admitted:,}", rates[0], refused, rates[1])
        if not rules:
            table.add_row(Text("nothing has been limited here yet", style="dim"))
        return table

    def _keys(self, most: int) -> Table:
        table = _table("key", "limit", "scope")
        table.add_column("used", justify="right", no_wrap=True)
        table.add_column("", width=10)
        rows = self._inspection.keys(most)
        for row in rows:
            style = "bold red" if row.is_used_up else ""
            used = Text(f"{row.used:,} of {row.amount:,}", style=style)
            bar = ProgressBar(total=row.amount, completed=min(row.used, row.amount), complete_style="yellow")
            table.add_row(_text(row.key, style), _limit(row.limit), _text(row.scope or "?"), used, bar)
        if not rows:
            table.add_row(Text("no key has used any of its limits", style="dim"))
        return table


def _table(*names: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, expand=True)
    for name in names:
        # Keys and scopes are as long as clients and routes have it: they share what is left.
        table.add_column(name, no_wrap=True, overflow="ellipsis", ratio=None if name == "limit" else 1)
    return table


def _limit(text: str) -> Text:
    return _text(text.removesuffix(_USUAL))


def _text(text: str, style: str = "") -> Text:
    # A mere string would be read as markup, with links and styles of whoever has chosen a key.
    return Text(escaped(text), style=style)
