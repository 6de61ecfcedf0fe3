"""Upstreams by URL: "https://app.example.com:8443?ca=FILE"."""

import dataclasses
import ipaddress
from dataclasses import dataclass
from typing import Literal, TypeAlias, cast

from pingora.tls.certificate import Certificate
from pingora.tls.options import options_of
from pingora.tls.upstream import UpstreamTls
from pingora_c.upstream.peer import PROTOCOLS

OPTIONS = ("ca", "crl", "server_name", "cert", "key", "verify", "protocol")
PORTS = {"http": "80", "https": "443", "h2c": "80", "grpc": "80", "grpcs": "443"}
ENCRYPTED = ("https", "grpcs")
HTTP2 = ("h2c", "grpc", "grpcs")

UpstreamProtocol: TypeAlias = Literal["h1", "h2", "h2h1"]


@dataclass(frozen=True)
class Target:
    """What a user's text says about an upstream."""

    address: str  # "host:port", "[ipv6]:port" or "unix:/path"
    tls: UpstreamTls | None
    server_name: str | None  # of a host that is a name
    protocol: UpstreamProtocol | None = None  # None: nothing is said


def parse_target(text: str, tls: UpstreamTls | None = None) -> Target:
    """Read "host:port", "http://host:port", "https://host:port" or "unix:/path".

    Connections are encrypted if `tls` is given or the text begins with "https://". Options of a query string go before
    those of `tls`: ca, crl, server_name, cert, key, verify=off, and protocol=h1, h2 or h2h1. "h2c://" is HTTP/2 without
    TLS, which "grpc://" is another name for; "grpcs://" is "https://" with protocol=h2. Raises ValueError.
    """
    scheme, separator, rest = text.partition("://")
    if not separator:
        scheme, rest = "", text
    elif scheme not in PORTS:
        raise ValueError(
            f"upstream {text!r}: expected http://host:port (or https, h2c, grpc, grpcs for http) or unix:/path"
        )
    rest, _, query = rest.partition("?")
    address = rest.removesuffix("/")
    if "/" in address and not address.startswith("unix:"):
        raise ValueError(f"upstream {text!r}: expected no path behind host:port")
    if scheme and not address.startswith("unix:") and not has_port(address):
        address = f"{address}:{PORTS[scheme]}"
    protocol: UpstreamProtocol | None = "h2" if scheme in HTTP2 else None
    if scheme not in ENCRYPTED and (scheme or tls is None):
        if query:
            raise ValueError(f"upstream {text!r}: options are for https:// only")
        return Target(address, None, None, protocol)
    options = read_options(text, query)
    asked = options.pop("protocol", protocol)
    if asked not in (None, *PROTOCOLS) or (protocol is not None and asked != protocol):
        raise ValueError(f"upstream {text!r}: expected protocol={protocol or 'h1, h2 or h2h1'}")
    settings = with_options(text, options, tls or UpstreamTls()) if options else tls or UpstreamTls()
    return Target(
        address, settings, None if settings.server_name else name_in(address), cast("UpstreamProtocol | None", asked)
    )


def has_port(address: str) -> bool:
    """True if something stands behind the host."""
    return address.rpartition("]")[2].find(":") >= 0


def name_in(address: str) -> str | None:
    """Give the host of an address if it is a name."""
    host = address.rpartition(":")[0].strip("[]")
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return None if address.startswith("unix:") else host
    return None


def read_options(text: str, query: str) -> dict[str, str]:
    """Read a query string. Raises ValueError for an option that there is not."""
    options = {name: values[-1] for name, values in options_of(query).items()}
    for name in options:
        if name not in OPTIONS:
            raise ValueError(f"upstream {text!r}: no option {name!r}; there are {', '.join(OPTIONS)}")
    return options


def with_options(text: str, options: dict[str, str], tls: UpstreamTls) -> UpstreamTls:
    """Apply options to settings. Raises ValueError."""
    changes: dict[str, object] = {name: options[name] for name in ("ca", "crl", "server_name") if name in options}
    if options.get("verify", "on") not in ("on", "off"):
        raise ValueError(f"upstream {text!r}: expected verify=on or verify=off")
    if "verify" in options:
        changes["verify"] = options["verify"] == "on"
    if "cert" in options:
        changes["certificate"] = Certificate(options["cert"], options.get("key"))
    elif "key" in options:
        raise ValueError(f"upstream {text!r}: key= needs cert=")
    return dataclasses.replace(tls, **changes)  # type: ignore[arg-type]
