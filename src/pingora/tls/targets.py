"""Upstreams by URL: "https://app.example.com:8443?ca=FILE"."""

import dataclasses
import ipaddress
from dataclasses import dataclass
from urllib.parse import parse_qs

from pingora.tls.certificate import Certificate
from pingora.tls.upstream import UpstreamTls

OPTIONS = ("ca", "crl", "server_name", "cert", "key", "verify")
PORTS = {"http": "80", "https": "443"}


@dataclass(frozen=True)
class Target:
    """What a user's text says about an upstream."""

    address: str  # "host:port", "[ipv6]:port" or "unix:/path"
    tls: UpstreamTls | None
    server_name: str | None  # of a host that is a name


def parse_target(text: str, tls: UpstreamTls | None = None) -> Target:
    """Read "host:port", "http://host:port", "https://host:port" or "unix:/path".

    Connections are encrypted if `tls` is given or the text begins with "https://". Options of a query string go before
    those of `tls`: ca, crl, server_name, cert, key, and verify=off. Raises ValueError.
    """
    scheme, separator, rest = text.partition("://")
    if not separator:
        scheme, rest = "", text
    elif scheme not in PORTS:
        raise ValueError(f"upstream {text!r}: expected http://host:port, https://host:port or unix:/path")
    rest, _, query = rest.partition("?")
    address = rest.removesuffix("/")
    if "/" in address and not address.startswith("unix:"):
        raise ValueError(f"upstream {text!r}: expected no path behind host:port")
    if scheme and not address.startswith("unix:") and not has_port(address):
        address = f"{address}:{PORTS[scheme]}"
    if scheme == "http" or (not scheme and tls is None):
        if query:
            raise ValueError(f"upstream {text!r}: options are for https:// only")
        return Target(address, None, None)
    settings = with_options(text, query, tls or UpstreamTls()) if query else tls or UpstreamTls()
    return Target(address, settings, None if settings.server_name else name_in(address))


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


def with_options(text: str, query: str, tls: UpstreamTls) -> UpstreamTls:
    """Apply the options of a query string. Raises ValueError."""
    options = {name: values[-1] for name, values in parse_qs(query, keep_blank_values=True).items()}
    for name in options:
        if name not in OPTIONS:
            raise ValueError(f"upstream {text!r}: no option {name!r}; there are {', '.join(OPTIONS)}")
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
