"""Destinations: the hosts and ports that a forward proxy opens tunnels to."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

IpAddress = IPv4Address | IPv6Address

NAME = re.compile(r"(\*|(\*\.)?[a-z0-9_-]+(\.[a-z0-9_-]+)*)")
PORTS = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?")


@dataclass(frozen=True)
class Destination:
    """One entry: a name, a pattern of names, or a network, with ports."""

    name: str | None  # "a.example", "*.a.example" for all below it, or "*"
    network: IPv4Network | IPv6Network | None
    ports: range

    @classmethod
    def parse(cls, text: str) -> "Destination":
        """Read "host:ports". Raises ValueError."""
        host, colon, ports = text.rpartition(":")
        numbers = PORTS.fullmatch(ports)
        if not colon or numbers is None:
            raise ValueError(f"destination {text!r}: expected 'host:port' or 'host:port-port'")
        first, last = int(numbers[1]), int(numbers[2] or numbers[1])
        if not 1 <= first <= last <= 65535:
            raise ValueError(f"destination {text!r}: ports are from 1 to 65535, the smaller one first")
        host = host.lower()
        if NAME.fullmatch(host) and not re.fullmatch(r"[0-9.]+", host):
            return cls(host, None, range(first, last + 1))
        try:
            return cls(None, ip_network(host.removeprefix("[").removesuffix("]")), range(first, last + 1))
        except ValueError:
            raise ValueError(
                f"destination {text!r}: expected a name, '*.name', '*', an address or a network before the port"
            ) from None

    def names(self, host: str) -> bool:
        """Whether the name is meant, by itself or by a pattern."""
        if self.name is None or self.name == host:
            return self.name is not None
        return self.name == "*" or (self.name.startswith("*.") and host.endswith(self.name[1:]))

    def is_pattern(self) -> bool:
        """Whether it means names that are not written down."""
        return self.name is not None and self.name.startswith("*")

    def holds(self, host: str, address: IpAddress) -> bool:
        """Whether a tunnel to `host` may lead to `address`: by a pattern only if that is a public one."""
        if self.network is not None:
            return address in self.network
        return self.names(host) and (not self.is_pattern() or is_public(address))


class Destinations:
    """Where tunnels may lead: entries such as "api.example:443", "*.example:443", "10.1.0.0/16:8000-8999", "*:443".

    What is no entry is refused. A pattern with `*` allows public addresses only: none of this machine, of a private
    network or of a link, whatever a name resolves to; a name in full, or a network, allows what it says. Raises
    ValueError for an entry that makes no sense.
    """

    def __init__(self, entries: Iterable[str]) -> None:
        if isinstance(entries, str):
            raise TypeError(f"destinations: expected a list such as ['api.example:443'], got the text {entries!r}")
        self._entries = [Destination.parse(entry) for entry in entries]

    def may_hold(self, host: str, port: int) -> bool:
        """Whether `host` is to be resolved at all."""
        address = literal(host)
        for entry in self._entries:
            if port not in entry.ports:
                continue
            if entry.holds(host, address) if address is not None else entry.network is not None or entry.names(host):
                return True
        return False

    def hold(self, host: str, port: int, address: IpAddress) -> bool:
        """Whether a tunnel to `host` and `port` may be made at this address, which `host` is or resolved to."""
        return any(port in entry.ports and entry.holds(host, address) for entry in self._entries)


def is_public(address: IpAddress) -> bool:
    """Whether an address is one of the Internet, and carries none that is not."""
    if isinstance(address, IPv6Address) and (address.sixtofour or address.teredo or address in NAT64):
        return False
    return address.is_global and not address.is_multicast


NAT64 = ip_network("64:ff9b::/96")


def literal(host: str) -> IpAddress | None:
    """Read a host that is an address; None if it is a name."""
    try:
        return plain(ip_address(host))
    except ValueError:
        return None


def plain(address: IpAddress) -> IpAddress:
    """Give the IPv4 address that an IPv6 address stands for, else the address."""
    return getattr(address, "ipv4_mapped", None) or address
