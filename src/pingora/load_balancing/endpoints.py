"""What a user may write as endpoints, and names among them resolved."""

import socket
from collections.abc import Iterable
from typing import TypeAlias

from pingora.tls.targets import Target, parse_target
from pingora.tls.upstream import UpstreamTls
from pingora_c.upstream.address import Address, parse_address, parse_host_port
from pingora_c.upstream.endpoint import Endpoint

EndpointLike: TypeAlias = str | Address | Endpoint | tuple[str | Address, int]


def make_endpoints(entries: Iterable[EndpointLike], tls: UpstreamTls | None) -> list[Endpoint]:
    """Turn what a user writes into endpoints, several for a name with several addresses."""
    if isinstance(entries, str):
        raise TypeError(f"endpoints: expected a list of addresses, got the text {entries!r}")
    made: list[Endpoint] = []
    for entry in entries:
        if isinstance(entry, Endpoint):
            made.append(entry)
            continue
        address, weight = entry if isinstance(entry, tuple) else (entry, 1)
        if isinstance(address, str):
            target = parse_target(address, tls)
            made += [endpoint_of(target, resolved, weight) for resolved in resolve(target.address)]
        else:
            made.append(Endpoint(address, weight, tls=tls))
    return made


def endpoint_of(target: Target, address: Address | str, weight: int) -> Endpoint:
    """Make the endpoint for one address of a target."""
    return Endpoint(
        address,
        weight,
        name=target.address,
        tls=target.tls,
        server_name=target.server_name,
        protocol=target.protocol,
    )


def resolve(text: str) -> list[Address]:
    """Give the addresses of an IP literal, a Unix path or a "name:port", in the order of the resolver."""
    if not is_name(text):
        return [parse_address(text)]
    host, port = parse_host_port(text)
    try:
        rows = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        remedy = f"correct the name: `getent hosts {host}` has to find it"
        raise ValueError(f"address {text!r}: cannot resolve {host!r}: {reason}; {remedy}") from error
    hosts = [f"[{row[4][0]}]" if row[0] == socket.AF_INET6 else row[4][0] for row in rows]
    return [parse_address(f"{host}:{port}") for host in dict.fromkeys(hosts)]


def is_name(text: str) -> bool:
    """True for what has to be resolved."""
    return not text.startswith("unix:") and not is_numeric(parse_host_port(text)[0])


def is_numeric(host: str) -> bool:
    """True for an IP literal, also a wrong one: the resolver would read "127.1" and "0x7f.1" as addresses."""
    last_label = host.rstrip(".").rpartition(".")[2].lower()
    return host.startswith("[") or last_label.isdigit() or last_label.startswith("0x")
