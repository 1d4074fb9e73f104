"""What is read of a long header that names clients."""

from __future__ import annotations

import pytest
from test_keys import request_from

from slidegate.keys import forwarded, remote_address

PROXIES = ["10.0.0.0/8"]


@pytest.fixture
def looked_at(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The nodes and elements that were looked at."""
    seen: list[str] = []
    for name in ("address_of", "_pairs"):
        original = getattr(forwarded, name)

        def watched(text: str, original: object = original) -> object:
            seen.append(text)
            return original(text)  # type: ignore[operator]

        monkeypatch.setattr(forwarded, name, watched)
    return seen


def test_fault_11_what_stands_left_of_the_client_is_not_looked_at(looked_at: list[str]) -> None:
    read = remote_address(PROXIES, header="forwarded")
    line = "for=1.1.1.1," * 700 + "for=192.0.2.7;proto=https"
    assert read(request_from("10.0.0.1", ("Forwarded", line))) == "192.0.2.7"
    assert looked_at == ["for=192.0.2.7;proto=https", "192.0.2.7"]


@pytest.mark.parametrize("name", ["x-forwarded-for", "forwarded"])
@pytest.mark.parametrize("lines", [1, 2000])
def test_fault_11_of_a_chain_without_end_only_so_much_is_read(name: str, lines: int, looked_at: list[str]) -> None:
    node = "10.0.0.9" if name == "x-forwarded-for" else "for=10.0.0.9"
    sent = [(name, node)] * lines if lines > 1 else [(name, ",".join([node] * 2000))]
    key = remote_address(PROXIES, header=name)(request_from("10.0.0.1", *sent))  # type: ignore[arg-type]
    assert key == "unknown behind 10.0.0.9"
    assert 20 <= len(looked_at) <= 42


@pytest.mark.parametrize("name", ["x-forwarded-for", "forwarded"])
def test_fault_11_empty_elements_are_not_read_without_end(name: str, looked_at: list[str]) -> None:
    key = remote_address(PROXIES, header=name)(request_from("10.0.0.1", (name, "," * 8000)))  # type: ignore[arg-type]
    assert key == "unknown behind 10.0.0.1"
    assert len(looked_at) <= 21


@pytest.mark.parametrize("line", ['for="' + '\\"' * 4000 + '"', '"' * 8000, "for=" + "1" * 8000, '""' * 4000 + "\\"])
def test_fault_11_an_element_without_end_is_not_read_to_its_end(line: str, looked_at: list[str]) -> None:
    key = remote_address(PROXIES, header="forwarded")(request_from("10.0.0.1", ("Forwarded", line)))
    assert key == "unknown behind 10.0.0.1"
    assert looked_at == []


@pytest.mark.parametrize(
    ("line", "key"),
    [
        ('for="[2001:db8::1]";host="a,b;c", for=192.0.2.7', "192.0.2.7"),
        ('for=6.6.6.6, for="[2001:db8::1]";host="a,\\"b,c"', "2001:db8::/64"),
        ('for=6.6.6.6, for="192.0.2.7";host="\\\\"', "192.0.2.7"),
        ('for="6.6.6.6, for="192.0.2.7"', "192.0.2.7"),
        ('for="6.6.6.6\\", for="192.0.2.7"', "192.0.2.7"),
        ("for=192.0.2.7;;proto=http;, ;", "192.0.2.7"),
        ("for=192.0.2.7, for=10.0.0.2;host=x y", "unknown behind 10.0.0.1"),
    ],
)
def test_fault_11_what_the_nearest_proxy_added_is_told_whatever_was_sent_before_it(line: str, key: str) -> None:
    read = remote_address(PROXIES, header="forwarded")
    assert read(request_from("10.0.0.1", ("Forwarded", line))) == key
