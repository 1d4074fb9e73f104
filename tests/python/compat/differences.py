"""The differences from slowapi that are meant, by name. docs/migrating.md lists the same."""

from __future__ import annotations

from typing import NamedTuple


class Difference(NamedTuple):
    """What slowapi does, what slidegate does, and how to have it slowapi's way; Markdown for a cell of a table."""

    slowapi: str
    slidegate: str
    back: str = "-"


COUNTING = {
    "moving-window": Difference(
        "fixed window: twice the limit passes around its boundary",
        "moving window: the limit holds for every window",
        '`strategy="fixed-window"`',
    ),
    "refusals-are-not-counted": Difference("a refused request is counted, too", "it is not"),
    "all-or-none": Difference("of several limits, each counts until one refuses", "all count, or none"),
    "counted-once": Difference(
        "the same limit twice counts twice; of two limiters on one endpoint only the outer counts",
        "a limit counts once; every limiter counts",
    ),
    "whole-costs": Difference(
        "a cost of 0, below 0, NaN or a fraction is counted as it is",
        "a fraction is rounded up, the others are errors at start, and from a callable a 422",
        "`exempt_when` for what is free",
    ),
    "missing-keys": Difference(
        "an empty key is not limited; without an address everybody is 127.0.0.1",
        "all of them share one bucket, with one warning",
        '`on_missing_key="skip"`',
    ),
    "qualified-names": Difference(
        "functions of one name in one module share their limits and exemptions",
        "they are apart; names in `_route_limits` and for `key_style` are qualified: `module.Class.method`",
    ),
    "constant-time": Difference("a moving window takes longer as it fills", "always the same"),
}

APPLYING = {
    "the-route-that-serves": Difference(
        "middleware asks the last route that matches, and none in included routers, mounts and hosts",
        "the route that the router dispatches to",
        "`@limiter.exempt` on what is to stay unlimited",
    ),
    "indexed-routes": Difference("middleware tries every route for every request", "looks it up"),
    "application-limits-everywhere": Difference(
        "`application_limits` hold in the middleware, and not for decorated routes",
        "for decorated routes too",
    ),
    "dependencies-beside-endpoints": Difference(
        "a limit on a dependency takes the place of the endpoint's own",
        "both count",
    ),
    "every-method-that-is-served": Difference(
        '`methods=["GET"]` leaves HEAD, which runs the same endpoint, unlimited', "GET means HEAD too"
    ),
    "dynamic-limits-override": Difference(
        "behind the middleware, a dynamic limit leaves the defaults in force, or counts them twice",
        "replaces them, as a fixed one does",
        "`override_defaults=False`",
    ),
    "dynamic-limits-apart": Difference("two requests at once may get each other's dynamic limit", "never"),
    "no-limit-is-lost": Difference(
        "a dynamic limit that raises `ValueError` or is nonsense is dropped",
        "what it last was for the key, `default_limits` and the route's other limits apply; without any, the request is"
        " an error",
    ),
    "typos-are-errors": Difference(
        "a limit that cannot be read is logged, or an error of every request",
        "`ConfigurationError` where it is declared",
    ),
    "decorator-above-the-route": Difference(
        "`@limiter.limit` above the route decorator does nothing",
        "it limits through the middleware; without middleware, an error at start",
    ),
    "exempt-and-limited": Difference("an exempt endpoint below a limit is a 500", "is exempt"),
    "auto-check": Difference(
        "`auto_check=False`: a 500, unless somebody sets `request.state.view_rate_limit`", "the decorator is inert"
    ),
    "start-up-checks": Difference(
        "nothing is said about limits that do nothing, or count every path apart",
        "one warning each when the application starts",
        'a filter on `logging.getLogger("slidegate")`',
    ),
}

WRITING = {
    "optional-parameters": Difference(
        "endpoints need a parameter `request`, with headers also `response`", "used when there, not needed"
    ),
    "every-kind-of-endpoint": Difference(
        "no instances with `__call__`, partials or WebSockets", "all are limited; a WebSocket by its decorator"
    ),
    "awaited-callables": Difference(
        "asynchronous callables: no limit, always exempt, or a 500", "awaited, for keys, limits, costs, everything"
    ),
    "parameters-of-callables": Difference(
        "each callable has its own rule for its parameters", "`request`, under any name, or nothing; limits also `key`"
    ),
    "callable-scopes": Difference("a callable scope is a 500", "it gets the name of the endpoint, or `request`"),
    "one-string-is-a-list": Difference('`default_limits="1/second"` is read letter by letter', 'it is `["1/second"]`'),
    "exception-handlers": Difference(
        "`SlowAPIMiddleware` ignores asynchronous handlers, and both ignore one for 429", "they run"
    ),
    "typed": Difference("`add_exception_handler` and decorated endpoints do not check strictly", "they do"),
    "no-warnings": Difference("deprecation warnings on Python 3.14", "none"),
    "additions": Difference(
        "-",
        "`deduct_when`, `on_error`, `health`, `name`, `unmatched_limited`, `preflights_limited`,"
        " `RateLimitExceeded.decision`",
    ),
}

TELLING = {
    "whole-seconds-in-headers": Difference(
        "Reset is a float, a second late; Retry-After is on every response",
        "whole seconds, on time; Retry-After on refusals",
        "`retry_after_on_success=True`",
    ),
    "retry-after-on-refusals": Difference(
        "no Retry-After without `headers_enabled`", "every refusal has it", "an exception handler of your own"
    ),
    "headers-of-the-scarcest-limit": Difference(
        "of several limits, headers tell the one with the shortest window", "the one with the least left"
    ),
    "one-set-of-headers": Difference("headers twice for dynamic limits behind `SlowAPIMiddleware`", "once"),
    "one-plain-middleware": Difference(
        "one middleware on `BaseHTTPMiddleware`, one that starts a stream with every chunk",
        "the same plain ASGI middleware under both names",
    ),
}

SETTING_UP = {
    "swallowed-errors": Difference("`swallow_errors=True`: a decorated endpoint is a 500", "the request passes"),
    "one-limit-per-server": Difference(
        "every worker counts alone: 4 workers allow 4 times the limit",
        "the workers of one server count together; a limiter that is made after the start needs a `name` for that",
        '`storage_uri="memory://"`',
    ),
    "loops-go-on": Difference(
        "a storage of `limits` stops the event loop until it answers", "it is asked in a worker thread"
    ),
    "redis-is-asked-once": Difference(
        "the event loop stands still for every answer of Redis, and for every limit",
        "requests await one answer for all of their limits, those of a moment together",
    ),
    "closed-while-redis-is-down": Difference(
        "while Redis is down, a request is a 500",
        "a 503 with Retry-After; `on_error` can let it pass, or count here, also for single limits",
    ),
    "counts-in-redis-are-new": Difference(
        "counts in Redis lie under `LIMITS:LIMITER/...`", "under `slidegate:1:...`: they begin afresh"
    ),
    "dotenv-only-when-named": Difference(
        "a `.env` in the working directory is read, or fails to be",
        "only a file that is named",
        '`config_filename=".env"`',
    ),
    "names-that-cannot-be-set": Difference(
        "`_strategy` and what else is read only once can be set, and nothing comes of it", "raises"
    ),
    "typed-variables": Difference(
        "`RATELIMIT_HEADERS_ENABLED=false` and its like mean true; storage options are a `ValueError`",
        "booleans are read as such, options as JSON",
    ),
}

DIFFERENCES = {**COUNTING, **APPLYING, **WRITING, **TELLING, **SETTING_UP}
