"""Metrics of limiters for Prometheus. Needs prometheus_client: `pip install slidegate[metrics]`.

    from slidegate.metrics import metrics_app

    app.add_route("/metrics", metrics_app(limiter))

What is counted is read from the memory that the workers of a server share, so every worker tells of all of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from prometheus_client import CollectorRegistry, make_asgi_app
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.types import Receive, Scope, Send

from .errors import ConfigurationError
from .extension import Limiter
from .inspection import rule_rows

__all__ = ["LimiterCollector", "metrics_app"]


class LimiterCollector(Collector):
    """Reads limiters when it is asked, for a registry of one's own. Thread-safe.

    `names` are the values of the label `limiter`, by default "limiter", "limiter_2" and so on. Of a limiter on Redis
    or another server, it is what that has told the workers of this one. Raises ConfigurationError for names that do not
    fit.
    """

    def __init__(self, *limiters: Limiter, names: tuple[str, ...] = ()) -> None:
        names = names or tuple(f"limiter_{at + 1}" if at else "limiter" for at in range(len(limiters)))
        if not len(limiters) == len(set(names)) == len(names):
            raise ConfigurationError(f"names={names!r} are not one for each of {len(limiters)} limiters")
        self._limiters: list[tuple[str, Limiter, Any]] = []
        for name, limiter in zip(names, limiters, strict=True):
            self._limiters.append((name, limiter, limiter.local.engine))

    def collect(self) -> Iterator[Metric]:
        """One sample for each limit and outcome, and the state of each limiter's memory."""
        requests = CounterMetricFamily(
            "slidegate_requests",
            "Requests that a limit was asked about, since its memory was made.",
            labels=["limiter", "name", "limit", "scope", "outcome"],
        )
        errors = CounterMetricFamily(
            "slidegate_errors",
            "Requests that could not be decided as they were meant to be: they failed (raised), went on unchecked"
            " (passed), or were decided by other limits or another storage (fallback).",
            labels=["limiter", "outcome"],
        )
        fill = GaugeMetricFamily("slidegate_fill_ratio", "Part of the memory for keys in use.", labels=["limiter"])
        evictions = CounterMetricFamily(
            "slidegate_evictions", "Keys forgotten before their window ended, for want of memory.", labels=["limiter"]
        )
        full = CounterMetricFamily(
            "slidegate_inserts_failed", "New keys that no memory was left for.", labels=["limiter"]
        )
        available = GaugeMetricFamily(
            "slidegate_storage_available",
            "Whether the storage is asked now: 1, or 0 while it is out.",
            labels=["limiter"],
        )
        keys = GaugeMetricFamily(
            "slidegate_keys",
            "Keys that a limit holds memory for, those that have expired and were not reused included.",
            labels=["limiter", "name", "limit", "scope"],
        )
        for name, limiter, engine in self._limiters:
            for rule in rule_rows(engine):
                labels = [name, rule.name, rule.limit, rule.scope]
                keys.add_metric(labels, rule.keys)
                requests.add_metric([*labels, "admitted"], rule.admitted)
                requests.add_metric([*labels, "refused"], rule.refused)
            for outcome, count in engine.errors().items():
                errors.add_metric([name, outcome], count)
            stats = engine.stats()
            fill.add_metric([name], stats.bytes / stats.capacity_bytes)
            evictions.add_metric([name], stats.evictions)
            full.add_metric([name], stats.full)
            available.add_metric([name], limiter.health().is_available)
        yield from (requests, errors, keys, fill, evictions, full, available)


class _MetricsApp:
    """An object, as routes take a function for an endpoint."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._app: Any = make_asgi_app(registry)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)


def metrics_app(*limiters: Limiter, names: tuple[str, ...] = ()) -> Any:
    """An ASGI application that answers with the metrics of these limiters alone, who do not limit it.

    To be added as a route, or mounted. Raises what `LimiterCollector` does.
    """
    registry = CollectorRegistry()
    registry.register(LimiterCollector(*limiters, names=names))
    app = _MetricsApp(registry)
    for limiter in limiters:
        limiter.exempt(app)
    return app
