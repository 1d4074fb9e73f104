"""What proxies and clients can send, whatever it is: the nearest address that is no proxy's, or a proxy's."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from hypothesis import assume, given
from hypothesis import strategies as st
from test_keys import request_from

from slidegate.keys import remote_address
from slidegate.keys.addresses import TrustedProxies, address_of, counted_as
from slidegate.keys.forwarded import READERS

PROXY = IPv4Network("10.0.0.0/8")
NAT64 = IPv6Network("64:ff9b::/96")
proxies = st.ip_addresses(network=PROXY)
strangers = st.ip_addresses().filter(lambda each: not TrustedProxies([str(PROXY)]).trust(address_of(str(each))))
# Header values that a server lets pass: no line ends, no NUL.
sent = st.text(st.characters(min_codepoint=9, max_codepoint=255, exclude_characters="\n\r\0\v\f"), max_size=60)
odd = st.text(st.sampled_from('for="\\,;:[]%_.=1a \t'), max_size=40)
header_names = st.sampled_from(sorted(READERS))


def folded(address: IPv4Address | IPv6Address) -> str:
    known = address_of(str(address))
    assert known is not None
    return counted_as(known, 64)


def written(name: str, address: IPv4Address | IPv6Address, port: int | None) -> str:
    node = f"[{address}]" if address.version == 6 and (port is not None or name == "forwarded") else str(address)
    node += "" if port is None else f":{port}"
    if name != "forwarded":
        return node
    return f"for={node}" if address.version == 4 and port is None else f'for="{node}";proto=https'


@given(header_names, sent | odd, strangers, st.lists(proxies, max_size=3), st.none() | st.integers(0, 65535))
def test_whatever_a_client_sends_it_counts_by_the_address_that_its_proxy_saw(
    name: str,
    made_up: str,
    client: IPv4Address | IPv6Address,
    hops: list[IPv4Address],
    port: int | None,
) -> None:
    # Proxies that add a line of their own, as the standards allow.
    lines = [(name, made_up), (name, written(name, client, port)), *((name, written(name, hop, None)) for hop in hops)]
    key = remote_address([str(PROXY)], header=name)(request_from("10.0.0.1", *lines))  # type: ignore[arg-type]
    assert key == folded(client)


@given(header_names, sent | odd, strangers)
def test_what_a_client_sends_before_what_its_proxy_adds_to_the_line_changes_nothing(
    name: str, made_up: str, client: IPv4Address | IPv6Address
) -> None:
    line = f"{made_up}, {written(name, client, None)}"
    key = remote_address([str(PROXY)], header=name)(request_from("10.0.0.1", (name, line)))  # type: ignore[arg-type]
    assert key == folded(client)


@given(header_names, sent | odd, strangers)
def test_who_is_no_proxy_is_not_asked(name: str, made_up: str, peer: IPv4Address | IPv6Address) -> None:
    key = remote_address([str(PROXY)], header=name)(request_from(str(peer), (name, made_up)))  # type: ignore[arg-type]
    assert key == folded(peer)


@given(sent | odd)
def test_a_node_is_an_address_or_none(text: str) -> None:
    address = address_of(text)
    assert address is None or ip_address(str(address)) == address
    assert address is None or address_of(str(address)) == address


@given(st.ip_addresses(v=6), st.integers(1, 128))
def test_all_addresses_of_a_network_count_as_one(address: IPv6Address, prefix: int) -> None:
    network = f"{address}/{prefix}"
    first = IPv6Address(int(address) >> (128 - prefix) << (128 - prefix))
    assume(address not in NAT64 and first not in NAT64)
    assert counted_as(address, prefix) == counted_as(first, prefix)
    assert counted_as(address, prefix) == (str(address) if prefix == 128 else f"{first}/{prefix}"), network
