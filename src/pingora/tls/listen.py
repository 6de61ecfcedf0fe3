"""Listening addresses with TLS: "tls://host:port?cert=FILE&key=FILE"."""

from urllib.parse import parse_qs

from pingora.tls.certificate import Certificate
from pingora.tls.server import ClientAuth, TlsSettings

OPTIONS = ("cert", "key", "client_ca", "client_crl", "min_version")


def parse_listen(text: str, tls: TlsSettings | None) -> tuple[str, TlsSettings | None]:
    """Split what a user writes into an address and its TLS, which is `tls` unless it says otherwise.

    "http://…" is without TLS, "tls://…" with; `?cert=FILE&key=FILE` (several pairs are possible) gives it its own.
    Raises ValueError.
    """
    scheme, separator, rest = text.partition("://")
    if not separator:
        return text, tls
    if scheme == "http":
        return rest, None
    if scheme not in ("tls", "https"):
        raise ValueError(f"listen {text!r}: expected tls://host:port, http://host:port or host:port")
    address, _, query = rest.partition("?")
    if query:
        return address, settings_of(text, query)
    if tls is None:
        raise ValueError(f"listen {text!r}: it needs a certificate: tls://{address}?cert=FILE&key=FILE")
    return address, tls


def settings_of(text: str, query: str) -> TlsSettings:
    """Make the settings of a query string. Raises ValueError."""
    options = parse_qs(query, keep_blank_values=True)
    for name in options:
        if name not in OPTIONS:
            raise ValueError(f"listen {text!r}: no option {name!r}; there are {', '.join(OPTIONS)}")
    certs, keys = options.get("cert", []), options.get("key", [])
    if not certs or len(keys) not in (0, len(certs)):
        raise ValueError(f"listen {text!r}: expected cert=FILE&key=FILE, one key for each certificate")
    pairs = zip(certs, keys or certs, strict=True)  # without key= it is in the same file
    client_ca, client_crl = (options.get(name, [""])[-1] for name in ("client_ca", "client_crl"))
    return TlsSettings(
        [Certificate(chain, key) for chain, key in pairs],
        client_auth=ClientAuth(client_ca, client_crl or None) if client_ca else None,
        min_version=options.get("min_version", ["1.2"])[-1],
    )
