"""Listening addresses that say how to listen: "tls://host:port?cert=FILE&key=FILE", "http://:80?proxy_protocol=…"."""

from typing import NamedTuple

from pingora.proxy_protocol import AcceptProxyProtocol
from pingora.tls.certificate import Certificate
from pingora.tls.options import options_of
from pingora.tls.rules import PROTOCOLS
from pingora.tls.server import ClientAuth, TlsSettings

FILES = ("cert", "key", "client_ca", "client_crl")
TLS_OPTIONS = (*FILES, "min_version")
PROXY_OPTIONS = ("proxy_protocol", "optional_proxy_protocol")
TLS_SCHEMES = ("tls", "https")


class Listen(NamedTuple):
    """What a user's text says about a listener."""

    address: str
    tls: TlsSettings | None
    proxy_protocol: AcceptProxyProtocol | None


def parse_listen(
    text: str, tls: TlsSettings | None, proxy_protocol: AcceptProxyProtocol | None = None, plain: str = "http"
) -> Listen:
    """Split what a user writes into an address, its TLS and who introduces clients, as given unless it says otherwise.

    "http://…" (or another scheme that `plain` names) is without TLS, "tls://…" with. `?cert=FILE&key=FILE` (several
    pairs are possible) gives it its own TLS, `?proxy_protocol=NETWORK` its own proxies in front. Raises ValueError.
    """
    scheme, separator, rest = text.partition("://")
    if not separator:
        return Listen(text, tls, proxy_protocol)
    if scheme not in (plain, *TLS_SCHEMES):
        raise ValueError(f"listen {text!r}: expected tls://host:port, {plain}://host:port or host:port")
    address, _, query = rest.partition("?")
    is_secure = scheme != plain
    known = (*TLS_OPTIONS, *PROXY_OPTIONS) if is_secure else PROXY_OPTIONS
    options = options_of(query)
    for name in options:
        if name not in known:
            raise ValueError(f"listen {text!r}: no option {name!r}; there are {', '.join(known)}")
    for name in PROXY_OPTIONS:
        if name in options:
            proxy_protocol = AcceptProxyProtocol(options[name], required=name == "proxy_protocol")
    if not is_secure:
        return Listen(address, None, proxy_protocol)
    if any(name in options for name in TLS_OPTIONS):
        tls = settings_of(text, options, PROTOCOLS if plain == "http" else ())
    elif tls is None:
        raise ValueError(f"listen {text!r}: it needs a certificate: tls://{address}?cert=FILE&key=FILE")
    return Listen(address, tls, proxy_protocol)


def files_of_address(text: str) -> list[str]:
    """Give the paths of the files that an address names."""
    options = options_of(text.partition("?")[2])
    return [path for name in FILES for path in options.get(name, ()) if path]


def settings_of(text: str, options: dict[str, list[str]], alpn: tuple[str, ...]) -> TlsSettings:
    """Make the settings of a query string. Raises ValueError."""
    certs, keys = options.get("cert", []), options.get("key", [])
    if not certs or len(keys) not in (0, len(certs)):
        raise ValueError(f"listen {text!r}: expected cert=FILE&key=FILE, one key for each certificate")
    pairs = zip(certs, keys or certs, strict=True)  # without key= it is in the same file
    client_ca, client_crl = (options.get(name, [""])[-1] for name in ("client_ca", "client_crl"))
    if client_crl and not client_ca:
        raise ValueError(f"listen {text!r}: client_crl takes a client_ca=FILE as well")
    return TlsSettings(
        [Certificate(chain, key) for chain, key in pairs],
        client_auth=ClientAuth(client_ca, client_crl or None) if "client_ca" in options else None,
        min_version=options.get("min_version", ["1.2"])[-1],  # type: ignore[arg-type]  # checked there
        alpn=alpn,
    )
