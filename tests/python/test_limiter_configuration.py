"""How a limiter is set up, and what it says when that cannot work."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import limits.errors
import pytest
import slowapi
from conftest import Client
from fastapi import FastAPI

from slidegate import ConfigurationError, Limiter
from slidegate.util import get_remote_address

MakeApp = Callable[[Limiter], FastAPI]
MakeLimiter = Callable[..., Limiter]

NONSENSE = ["10/fortnight", "10", "", "ten/minute", "10/minute;", "10 per", 10, ["10/minute"]]
UNCOUNTABLE = ["1/6 years", "0/6 years", "99999999999999999999999/6 years", "1/99999999999 years"]


@pytest.mark.parametrize("method", ["__init__", "limit", "shared_limit", "exempt", "reset"])
def test_signatures_begin_with_those_of_slowapi(method: str) -> None:
    theirs = inspect.signature(getattr(slowapi.Limiter, method)).parameters.values()
    ours = inspect.signature(getattr(Limiter, method)).parameters.values()
    assert [(p.name, p.kind, p.default) for p in theirs] == [
        (p.name, p.kind, p.default) for p in list(ours)[: len(theirs)]
    ]
    assert all(p.kind is p.KEYWORD_ONLY for p in list(ours)[len(theirs) :])


@pytest.mark.parametrize("limit", NONSENSE)
def test_a27_a_typo_is_an_error_that_names_endpoint_and_string_where_it_is_declared(
    limit: Any, limiter: Limiter
) -> None:
    def chat() -> str:
        return "ok"

    with pytest.raises(ConfigurationError) as caught:
        limiter.limit(limit)(chat)
    assert chat.__qualname__ in str(caught.value)
    assert repr(limit) in str(caught.value)
    assert '"10/minute"' in str(caught.value)


@pytest.mark.parametrize("limit", UNCOUNTABLE)
def test_a27_a_limit_that_cannot_be_counted_is_an_error_that_names_it_and_what_can(
    limit: str, limiter: Limiter
) -> None:
    with pytest.raises(
        ConfigurationError, match=r'lambda>: the limit "\d+ per \d+ (minute|year)" cannot be counted: .+'
    ):
        limiter.limit(limit)(lambda: "ok")


@pytest.mark.parametrize("where", ["default_limits", "application_limits", "in_memory_fallback"])
def test_a27_a_typo_in_the_limiters_own_limits_names_the_parameter(where: str, make_limiter: MakeLimiter) -> None:
    with pytest.raises(ConfigurationError, match=f"{where}: cannot read the limit '5 a day'"):
        make_limiter(**{where: ["1/second", "5 a day"]})


@pytest.mark.parametrize("form", ["1/second", ["1/second"], ("1/second",), {"1/second": 1}, lambda: "1/second"])
def test_a27_default_limits_may_be_a_bare_string(form: Any, make_limiter: MakeLimiter, make_app: MakeApp) -> None:
    limiter = make_limiter(default_limits=form)
    app = make_app(limiter)
    app.get("/")(limiter.limit("9/minute", override_defaults=False)(lambda: "ok"))
    assert Client(app).statuses("/", 2) == [200, 429]


def test_configuration_errors_are_value_errors_and_those_of_limits() -> None:
    assert issubclass(ConfigurationError, ValueError)
    assert issubclass(ConfigurationError, limits.errors.ConfigurationError)


def test_unknown_strategies_are_refused_with_a_list_of_the_known(make_limiter: MakeLimiter) -> None:
    with pytest.raises(ConfigurationError, match="strategy='sliding' is none of moving-window, fixed-window, "):
        make_limiter(strategy="sliding")


@pytest.mark.parametrize("uri", [None, "memory://"])
def test_memory_is_a_storage(uri: str | None, make_limiter: MakeLimiter) -> None:
    assert make_limiter(storage_uri=uri)._storage_uri == uri


def test_unknown_storages_are_refused_without_telling_passwords(make_limiter: MakeLimiter) -> None:
    with pytest.raises(ConfigurationError, match=r"no storage 'mongo://'; supported: memory://") as caught:
        make_limiter(storage_uri="mongo://user:secret@host/db")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "options",
    [{"key_style": "path"}, {"on_missing_key": "ignore"}, {"on_full": "panic"}, {"size": 1}, {"size": "big"}],
)
def test_other_wrong_options_are_refused_by_name(options: dict[str, Any], make_limiter: MakeLimiter) -> None:
    ((name, value),) = options.items()
    with pytest.raises(ConfigurationError, match=f"{name}={value!r}"):
        make_limiter(**options)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"methods": "POST"}, "methods='POST' is not a list of methods, such as ['POST']"),
        ({"methods": 5}, "methods=5 is not a list of methods, such as ['GET', 'POST']"),
        ({"methods": [5]}, "methods=[5] is not a list of methods, such as ['GET', 'POST']"),
        ({"error_message": 5}, "error_message=5 is neither a text nor a callable"),
        ({"exempt_when": True}, "exempt_when=True is not callable"),
    ],
)
def test_an_option_that_would_silently_not_limit_is_an_error_where_it_is_declared(
    options: dict[str, Any], complaint: str, limiter: Limiter
) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(f"<lambda>: {complaint}")):
        limiter.limit("5/minute", **options)(lambda: "ok")


def test_more_limits_than_the_engine_takes_at_once_are_an_error_where_they_are_declared(limiter: Limiter) -> None:
    with pytest.raises(ConfigurationError, match=r"17 limits for one request: .*16"):
        limiter.limit("; ".join(f"{amount}/minute" for amount in range(1, 18)))(lambda: "ok")


@pytest.mark.parametrize("scope", ["", None, 5])
def test_a_shared_limit_needs_a_scope(scope: Any, limiter: Limiter) -> None:
    with pytest.raises(ConfigurationError, match="is neither a name nor a callable"):
        limiter.shared_limit("1/minute", scope)


@pytest.mark.parametrize("cost", [0, -1, float("nan"), float("inf"), "2"])
def test_a_fixed_cost_that_is_none_is_an_error_where_it_is_declared(cost: Any, limiter: Limiter) -> None:
    with pytest.raises(ConfigurationError, match=r"lambda>: a cost must be a finite number above 0"):
        limiter.limit("5/minute", cost=cost)(lambda: "ok")


def test_a42_settings_are_read_from_the_environment(monkeypatch: pytest.MonkeyPatch, make_limiter: MakeLimiter) -> None:
    settings = {
        "ENABLED": "false",
        "HEADERS_ENABLED": "true",
        "SWALLOW_ERRORS": "1",
        "STRATEGY": "gcra",
        "STORAGE_URL": "memory://",
        "STORAGE_OPTIONS": '{"size": 16777216}',
        "DEFAULT": "1/second; 5/minute",
        "APPLICATION": "100/day",
        "IN_MEMORY_FALLBACK": "1/minute",
        "HEADER_RETRY_AFTER_VALUE": "http-date",
        "KEY_PREFIX": "app",
    }
    for name, value in settings.items():
        monkeypatch.setenv(f"RATELIMIT_{name}", value)
    limiter = make_limiter()
    assert (limiter.enabled, limiter._headers_enabled, limiter._swallow_errors) == (False, True, True)
    assert (limiter._strategy, limiter._storage_uri, limiter._storage_options) == (
        "gcra",
        "memory://",
        {"size": 1 << 24},
    )
    declared = (limiter._default_limits, limiter._application_limits, limiter._in_memory_fallback)
    assert [[str(limit.limit) for group in groups for limit in group] for groups in declared] == [
        ["1 per 1 second", "5 per 1 minute"],
        ["100 per 1 day"],
        ["1 per 1 minute"],
    ]
    assert limiter._in_memory_fallback_enabled
    assert (limiter._retry_after, limiter._key_prefix) == ("http-date", "app")
    assert limiter.get_app_config("RATELIMIT_STRATEGY") == "gcra"
    assert limiter.get_app_config("RATELIMIT_OTHER", 5) == 5


def test_a42_parameters_come_before_the_environment(monkeypatch: pytest.MonkeyPatch, make_limiter: MakeLimiter) -> None:
    for name, value in {"STRATEGY": "gcra", "DEFAULT": "1/second", "KEY_PREFIX": "env", "STORAGE_URL": "no://"}.items():
        monkeypatch.setenv(f"RATELIMIT_{name}", value)
    limiter = make_limiter(
        strategy="fixed-window", default_limits=["2/second"], key_prefix="own", storage_uri="memory://"
    )
    assert (limiter._strategy, limiter._key_prefix) == ("fixed-window", "own")
    assert [str(limit.limit) for group in limiter._default_limits for limit in group] == ["2 per 1 second"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("RATELIMIT_ENABLED", "perhaps"),
        ("RATELIMIT_STRATEGY", "sliding"),
        ("RATELIMIT_DEFAULT", "often"),
        ("RATELIMIT_STORAGE_OPTIONS", "size=5"),
        ("RATELIMIT_HEADER_RETRY_AFTER_VALUE", "soon"),
    ],
)
def test_a42_a_wrong_setting_is_an_error_that_quotes_it(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch, make_limiter: MakeLimiter
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError, match=f"'{value}'"):
        make_limiter()


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_a42_a_dot_env_file_of_the_working_directory_is_not_read(
    encoding: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_limiter: MakeLimiter
) -> None:
    (tmp_path / ".env").write_text("RATELIMIT_STRATEGY=gcra\n", encoding=encoding)
    monkeypatch.chdir(tmp_path)
    assert make_limiter()._strategy == "moving-window"


def test_a42_a_file_that_is_named_is_read(tmp_path: Path, make_limiter: MakeLimiter) -> None:
    file = tmp_path / "limits.env"
    file.write_text("RATELIMIT_STRATEGY=gcra\n")
    assert make_limiter(config_filename=str(file))._strategy == "gcra"
    file.write_text("RATELIMIT_STRATEGY=gcra\n", encoding="utf-16")
    with pytest.raises(ConfigurationError, match=r"config_filename='.*limits.env' cannot be read"):
        make_limiter(config_filename=str(file))


def test_a_limiter_without_a_clock_counts_in_real_time() -> None:
    limiter = Limiter(get_remote_address, size=1 << 24, on_full="refuse")
    app = FastAPI()
    app.get("/")(limiter.limit("1/hour")(lambda: "ok"))
    assert Client(app).statuses("/", 2) == [200, 429]


def test_a_key_function_and_lists_of_limits_are_looked_at_first(make_limiter: MakeLimiter) -> None:
    with pytest.raises(ConfigurationError, match=r"key_func='ip' is not callable; .* get_remote_address"):
        make_limiter(key_func="ip")
    with pytest.raises(ConfigurationError, match=r'default_limits=5 is no list of limits, such as \["10/minute"\]'):
        make_limiter(default_limits=5)
    assert make_limiter(key_func=None).limit("1/minute", key_func=lambda: "everybody")


def test_storage_options_that_nobody_reads_are_named(
    make_limiter: MakeLimiter, caplog: pytest.LogCaptureFixture
) -> None:
    make_limiter(storage_options={"sise": 1 << 20, "size": 1 << 20})
    assert caplog.messages == [
        "storage_options: these options have no meaning here, and are left aside: 'sise'; known: size, on_damage, mode,"
        " group"
    ]
