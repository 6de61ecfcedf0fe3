"""UpstreamTls: how to connect to an upstream with TLS, and whom to trust there."""

import ipaddress
import os
import ssl
import weakref
from dataclasses import dataclass, field
from typing import Any, Literal

from pingora.tls import files
from pingora.tls.certificate import Certificate
from pingora.tls.files import Source
from pingora.tls.names import wire_name
from pingora.tls.rules import CIPHER_SUITES, CIPHERS, alpn_wire, make_rules
from pingora_c.net.tls_client import ClientContext

# One context for equal settings, so that their peers share connections, sessions and the memory of the CAs.
contexts: "weakref.WeakValueDictionary[tuple[Any, ...], ClientContext]" = weakref.WeakValueDictionary()


@dataclass(frozen=True)
class UpstreamTls:
    """TLS to an upstream. The chain and the name of its certificate are verified unless `verify` is False.

    `ca` is a PEM file (or its bytes) with the authorities to trust, by default the system's; `crl` one with their
    revocation lists. `server_name` is sent as SNI and must be in the certificate, or `alternative_name` must; without
    a name the certificate must be for the IP address. `certificate` is shown to upstreams that ask for one.

    `alpn` is what is offered where `protocol` of an HttpPeer does not ask for HTTP/2. Versions, `min_version` and
    `max_version`, are "1.2" and "1.3"; `ciphers` (TLS 1.2), `cipher_suites` (1.3) and `groups` are lists as OpenSSL
    writes them.

    Raises ValueError that names the file or the setting.
    """

    verify: bool = True
    ca: Source | None = field(default=None, repr=False)
    crl: Source | None = field(default=None, repr=False)
    server_name: str | None = None
    alternative_name: str | None = None
    certificate: Certificate | None = None
    alpn: tuple[str, ...] = ("http/1.1",)
    min_version: Literal["1.2", "1.3"] = "1.2"
    max_version: Literal["1.2", "1.3"] = "1.3"
    ciphers: str = CIPHERS
    cipher_suites: str = CIPHER_SUITES
    groups: str | None = None
    context: ClientContext = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        """Check everything and build what the core uses."""
        for name in ("server_name", "alternative_name"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, host_name(name, getattr(self, name)))
        object.__setattr__(self, "context", self._context())

    def names_for(self, server_name: str | None) -> tuple[str | None, tuple[str, ...]]:
        """Give the SNI to send and the names that a certificate may be for."""
        sent = self.server_name if server_name is None else host_name("server_name", server_name)
        return sent, tuple(name for name in (sent, self.alternative_name) if name is not None)

    def _context(self) -> ClientContext:
        rules = make_rules(self.min_version, self.max_version, self.ciphers, self.cipher_suites, self.groups)
        ca: tuple[bytes, ...] = ()
        crls: tuple[bytes, ...] = ()
        places: tuple[bytes | None, bytes | None] = (None, None)
        if self.ca is not None:
            ca = tuple(files.der(one) for one in files.certificates("CA", self.ca))
        elif self.verify:
            places = system_ca()
        if self.crl is not None:
            crls = tuple(files.der(one) for one in files.revocation_lists("CRL", self.crl))
        certificate = None if self.certificate is None else self.certificate.for_core()[:2]
        protocols = alpn_wire(self.alpn, ("http/1.1",))
        rule_key = (self.min_version, self.max_version, rules.ciphers, rules.suites, rules.groups)
        key = (rule_key, self.verify, ca, crls, places, certificate, protocols)
        context = contexts.get(key)
        if context is None:
            context = contexts[key] = ClientContext(
                rules,
                verifies=self.verify,
                ca=ca,
                crls=crls,
                ca_places=places,
                certificate=certificate,
                protocols=protocols,
            )
        return context


def host_name(setting: str, name: str) -> str:
    """Give a DNS name in the form of the wire. Raises ValueError."""
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        pass
    else:
        raise ValueError(f"{setting}: {name!r} is an IP address; leave it out, and the certificate must be for it")
    try:
        encoded = wire_name(name)
    except UnicodeError:
        encoded = ""
    # An empty name would match every certificate, one that begins with a dot all subdomains.
    if len(encoded) > 253 or not all(encoded.split(".")) or not all(c.isalnum() or c in "-._" for c in encoded):
        raise ValueError(f"{setting}: expected a DNS name, got {name!r}")
    return encoded


def system_ca() -> tuple[bytes | None, bytes | None]:
    """Give the file or the directory with the authorities that this system trusts. Raises ValueError."""
    paths = ssl.get_default_verify_paths()
    if paths.cafile is not None:
        return os.fsencode(paths.cafile), None
    if paths.capath is not None:
        return None, os.fsencode(paths.capath)
    raise ValueError(
        f"ca: this system has no list of authorities at {paths.openssl_cafile}; install ca-certificates or give ca="
    )
