"""Where a request comes from: the address of whoever asks, and whether it is this machine itself.

Not here: what follows from it (``gate``).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence

from mdp.errors import ConfigError

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

FORWARDING = frozenset(
    (
        b"forwarded", b"via", b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto", b"x-real-ip",
        b"cf-connecting-ip", b"true-client-ip",
    )
)  # fmt: skip
"""A request that has one of these came through somebody else, however near that one is."""

LOOPBACK_PEERS = frozenset(("127.0.0.1", "::1", "::ffff:127.0.0.1"))
_LOOPBACK_NAMES = frozenset((b"localhost", b"127.0.0.1", b"[::1]"))


def parse_networks(texts: Sequence[str]) -> tuple[Network, ...]:
    """Understand addresses and networks of proxies.

    Raises:
        ConfigError: one is none.
    """
    networks = []
    for text in texts:
        try:
            networks.append(ipaddress.ip_network(text))
        except ValueError as error:
            expected = "addresses or networks such as 10.0.0.0/8"
            raise ConfigError("MDP_API__TRUSTED_PROXIES", got=text, expected=expected) from error
    return tuple(networks)


def is_loopback_host(host: bytes) -> bool:
    """Tell whether a ``Host`` names this machine to itself: a page that had its name point here says its own name.

    Examples:
        >>> [is_loopback_host(host) for host in (b"localhost:8000", b"[::1]", b"evil.example:8000", b"localhost.evil")]
        [True, True, False, False]
    """
    name, colon, port = host.lower().rpartition(b":")
    if not colon or host.endswith(b"]"):
        return host.lower() in _LOOPBACK_NAMES
    return name in _LOOPBACK_NAMES and port.isdigit()


def caller_address(peer: str, headers: Mapping[bytes, bytes], trusted: Sequence[Network]) -> str:
    """Return the address of whoever asks: the peer, or whom a trusted proxy says it asks for.

    ``X-Forwarded-For`` is read from its end, and only as far as each that added a part is trusted: whatever stands
    before was written by whoever asks.
    """
    hops = headers.get(b"x-forwarded-for", b"").decode("latin-1").split(",") if trusted else []
    address = peer
    while hops and is_within(address, trusted):
        said = _address(hops.pop())
        if said is None:
            break
        address = said
    return address


def is_within(address: str, networks: Sequence[Network]) -> bool:
    """Tell whether an address is of one of the networks."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped:
        found = found.ipv4_mapped
    return any(found in network for network in networks)


def throttled_as(address: str) -> str:
    """Return what tries are counted by: an IPv4 address, or the /64 that one IPv6 customer has at least.

    Examples:
        >>> throttled_as("2001:db8:0:1:aaaa::1")
        '2001:db8:0:1::/64'
    """
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return ""
    if isinstance(found, ipaddress.IPv4Address):
        return str(found)
    return str(found.ipv4_mapped or ipaddress.IPv6Network((int(found) >> 64 << 64, 64)))


def _address(text: str) -> str | None:
    """Return one part of ``X-Forwarded-For`` as an address, without its port; None: it is none."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return None
