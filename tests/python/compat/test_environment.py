"""Settings from the environment and from files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from conftest import Client
from fastapi import Request, Response
from starlette.responses import PlainTextResponse

from compat.library import Library, attempt, differs, same


async def endpoint(request: Request) -> Response:
    return PlainTextResponse("ok")


async def other(request: Request) -> Response:
    return PlainTextResponse("ok")


@pytest.fixture(autouse=True)
def _an_empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def statuses_of(library: Library, middleware: str | None = None, **options: Any) -> list[int]:
    app = library.app(library.limiter(**options), middleware)
    app.get("/items")(endpoint)
    return Client(app).statuses("/items", 2)


def test_a42_the_default_limits_of_the_environment_are_honoured(
    library: Library, middleware: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RATELIMIT_DEFAULT", "1/minute")
    assert statuses_of(library, middleware) == library.expected(same([200, 429]))


def test_a42_the_default_limits_of_the_program_go_before(
    library: Library, middleware: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RATELIMIT_DEFAULT", "1/minute")
    assert statuses_of(library, middleware, default_limits=["5/minute"]) == library.expected(same([200, 200]))


DOTENV: dict[str, bytes] = {
    "UTF-16": "RATELIMIT_DEFAULT=1/minute\n".encode("utf-16"),
    "binary": b"\xff\xfe\x00\x80=\x9c\n",
}


@pytest.mark.parametrize("content", DOTENV.values(), ids=list(DOTENV))
def test_a42_a_dotenv_file_that_is_no_utf8_is_not_read(content: bytes, library: Library) -> None:
    Path(".env").write_bytes(content)
    made = attempt(lambda: library.limiter().enabled)
    assert made == library.expected(
        differs(slowapi="UnicodeDecodeError", slidegate=True, difference="dotenv-only-when-named")
    )


def test_a42_a_dotenv_file_of_the_directory_changes_nothing_unless_it_is_named(
    library: Library, middleware: str
) -> None:
    Path(".env").write_text("RATELIMIT_DEFAULT=1/minute\n")
    unnamed, named = statuses_of(library, middleware), statuses_of(library, middleware, config_filename=".env")
    assert (unnamed, named) == library.expected(
        differs(
            slowapi=([200, 429], [200, 429]),
            slidegate=([200, 200], [200, 429]),
            difference="dotenv-only-when-named",
        )
    )


def test_a42_a_file_may_have_any_name(library: Library, middleware: str) -> None:
    Path("limits.conf").write_text("RATELIMIT_DEFAULT=1/minute\n")
    assert statuses_of(library, middleware, config_filename="limits.conf") == library.expected(same([200, 429]))


def test_a42_the_environment_goes_before_a_file(
    library: Library, middleware: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("limits.conf").write_text("RATELIMIT_DEFAULT=5/minute\n")
    monkeypatch.setenv("RATELIMIT_DEFAULT", "1/minute")
    assert statuses_of(library, middleware, config_filename="limits.conf") == library.expected(same([200, 429]))


@pytest.mark.filterwarnings("ignore:Config file:UserWarning")
def test_a42_a_file_that_is_not_there(library: Library) -> None:
    # Whether that is a warning or an error is Starlette's business with slowapi, and stays so.
    made = attempt(lambda: library.limiter(config_filename="missing.conf").enabled)
    assert made == library.expected(same(True))


def test_application_limits_of_the_environment(
    library: Library, middleware: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RATELIMIT_APPLICATION", "1/minute")
    app = library.app(library.limiter(), middleware)
    app.get("/a")(endpoint)
    app.get("/b")(other)
    assert [Client(app).get(path).status_code for path in ("/a", "/b")] == library.expected(same([200, 429]))


def test_the_names_of_the_headers_come_from_the_environment(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("LIMIT", "REMAINING", "RESET"):
        monkeypatch.setenv(f"RATELIMIT_HEADER_{variable}", f"X-Own-{variable}")
    monkeypatch.setenv("RATELIMIT_HEADERS_ENABLED", "true")
    limiter = library.limiter()
    app = library.app(limiter)
    app.get("/items")(limiter.limit("5/minute")(endpoint))
    headers = Client(app).get("/items").headers
    told = (
        headers["X-Own-LIMIT"],
        headers["X-Own-REMAINING"],
        "X-Own-RESET" in headers,
        "X-RateLimit-Limit" in headers,
    )
    assert told == library.expected(same(("5", "4", True, False)))


def test_the_name_of_retry_after_comes_from_the_environment(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RATELIMIT_HEADER_RETRY_AFTER", "X-Own-Retry")
    limiter = library.limiter(headers_enabled=True)
    app = library.app(limiter)
    app.get("/items")(limiter.limit("1/minute")(endpoint))
    client = Client(app)
    client.get("/items")
    headers = client.get("/items").headers
    assert ("X-Own-Retry" in headers, "Retry-After" in headers) == library.expected(same((True, False)))


@pytest.mark.parametrize(
    ("variable", "value", "attribute", "expected"),
    [
        ("RATELIMIT_ENABLED", "false", "enabled", False),
        ("RATELIMIT_ENABLED", "0", "enabled", False),
        ("RATELIMIT_ENABLED", "true", "enabled", True),
        ("RATELIMIT_KEY_PREFIX", "shop", "_key_prefix", "shop"),
        ("RATELIMIT_HEADER_RETRY_AFTER_VALUE", "http-date", "_retry_after", "http-date"),
    ],
)
def test_a_variable_is_read(
    variable: str, value: str, attribute: str, expected: Any, library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    assert getattr(library.limiter(), attribute) == library.expected(same(expected))


@pytest.mark.parametrize(
    ("variable", "attribute"),
    [
        ("RATELIMIT_HEADERS_ENABLED", "_headers_enabled"),
        ("RATELIMIT_SWALLOW_ERRORS", "_swallow_errors"),
        ("RATELIMIT_IN_MEMORY_FALLBACK_ENABLED", "_in_memory_fallback_enabled"),
    ],
)
@pytest.mark.parametrize("value", ["true", "false"])
def test_false_in_a_variable_means_false(
    value: str, variable: str, attribute: str, library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    is_set = bool(getattr(library.limiter(), attribute))
    assert is_set == library.expected(
        same(True) if value == "true" else differs(slowapi=True, slidegate=False, difference="typed-variables")
    )


def test_the_strategy_of_the_environment_is_used(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RATELIMIT_STRATEGY", "no-such-strategy")
    assert attempt(library.limiter) == library.expected(same("ConfigurationError"))


def test_the_options_of_the_store_in_the_environment_are_json(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RATELIMIT_STORAGE_OPTIONS", '{"size": 1048576}')
    options = attempt(lambda: library.limiter()._storage_options.get("size"))
    assert options == library.expected(differs(slowapi="ValueError", slidegate=1048576, difference="typed-variables"))


@pytest.mark.parametrize("wrong", [{"storage_uri": "nosuch://"}, {"strategy": "no-such-strategy"}])
def test_what_does_not_exist_is_an_error_of_limits(wrong: dict[str, str], library: Library) -> None:
    from limits.errors import ConfigurationError

    with pytest.raises(ConfigurationError):
        library.limiter(**wrong)
