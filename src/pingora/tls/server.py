"""TlsSettings: what a listener with TLS presents, allows and asks for."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import NoneType
from typing import Literal

from pingora.tls import files, ticket_store
from pingora.tls.certificate import Certificate
from pingora.tls.files import Source
from pingora.tls.names import check_host_name, wildcard_of, wire_name
from pingora.tls.rules import CIPHER_SUITES, CIPHERS, PROTOCOLS, alpn_wire, make_rules
from pingora_c.net.tls_context import TlsRules
from pingora_c.net.tls_server import HostContext, ServerContext
from pingora_c.net.tls_tickets import TicketKeys

# Shared by all settings of this process and by the workers it forks, through the store also by those of the next
# generation; each host has a scope of its own in it.
process_tickets: dict[int, TicketKeys] = {}


@dataclass(frozen=True)
class ClientAuth:
    """Client certificates: who may connect.

    `ca` is a PEM file (or its bytes) with the authorities that a client's certificate must come from, `crl` one with
    their revocation lists: of each authority, or its certificates are refused. Without `required` a client may come
    without a certificate; a bad one is refused in any case. Two are equal if what was read is.

    Raises ValueError that names the file.
    """

    ca: Source = field(compare=False, repr=False)
    crl: Source | None = field(default=None, compare=False, repr=False)
    required: bool = True
    ca_ders: tuple[bytes, ...] = field(init=False, repr=False)
    crl_ders: tuple[bytes, ...] = field(init=False, repr=False, default=())

    def __post_init__(self) -> None:
        """Read and check."""
        found = files.certificates("client CA", self.ca)
        object.__setattr__(self, "ca_ders", tuple(files.der(one) for one in found))
        if self.crl is not None:
            lists = files.revocation_lists("CRL", self.crl)
            object.__setattr__(self, "crl_ders", tuple(files.der(one) for one in lists))

    def for_core(self) -> tuple[tuple[bytes, ...], tuple[bytes, ...], bool]:
        """Give what the core's contexts take."""
        return self.ca_ders, self.crl_ders, self.required


@dataclass(frozen=True)
class TlsSettings:
    """TLS of a listener.

    Of `certificates`, a client gets the one for the name it asks for: an exact match, else a wildcard, else the first;
    of two with the same names and different kinds of keys, the one that it can verify. `client_auth` asks clients for
    certificates, `hosts` says for which names it is another ClientAuth, or None. A request for a host with another
    policy than that of its connection is answered 421, with `strict_host` also one for a name that the certificate
    shown is not for.

    `alpn` are the protocols that are offered, of "h2" and "http/1.1". Versions, `min_version` and `max_version`, are
    "1.2" and "1.3"; `ciphers` (TLS 1.2), `cipher_suites` (1.3) and `groups` are lists as OpenSSL writes
    them. Sessions can be resumed by `tickets` for `ticket_lifetime` seconds; `ticket_secret` shares them with other
    hosts and over restarts. With `ja4`, `session.tls.ja4` is the fingerprint of the client's software.

    Raises ValueError that names the file or the setting.
    """

    certificates: Certificate | Sequence[Certificate]
    client_auth: ClientAuth | None = None
    hosts: Mapping[str, ClientAuth | None] = field(default_factory=dict)
    strict_host: bool = False
    min_version: Literal["1.2", "1.3"] = "1.2"
    max_version: Literal["1.2", "1.3"] = "1.3"
    ciphers: str = CIPHERS
    cipher_suites: str = CIPHER_SUITES
    groups: str | None = None
    alpn: tuple[str, ...] = PROTOCOLS
    tickets: bool = True
    ticket_lifetime: int = 28800
    ticket_secret: bytes | None = field(default=None, repr=False)
    ja4: bool = False
    rules: TlsRules = field(init=False, compare=False, repr=False)
    context: ServerContext = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        """Check everything and build what the core uses."""
        if not 60 <= self.ticket_lifetime <= 604800:
            raise ValueError(f"ticket_lifetime: expected 60 to 604800 seconds, got {self.ticket_lifetime!r}")
        if self.ticket_secret is not None and len(self.ticket_secret) < 32:
            raise ValueError("ticket_secret: expected at least 32 random bytes, as `openssl rand 32` makes them")
        check_policies(self.client_auth, self.hosts)
        object.__setattr__(self, "hosts", by_wire_name(self.hosts))
        rules = make_rules(self.min_version, self.max_version, self.ciphers, self.cipher_suites, self.groups)
        tickets = None
        if self.tickets:
            tickets = ticket_keys(self.ticket_lifetime, self.ticket_secret)
        context = ServerContext(
            rules,
            tickets=tickets,
            protocols=alpn_wire(self.alpn),
            is_strict=self.strict_host,
            keeps_ja4=self.ja4,
        )
        object.__setattr__(self, "rules", rules)
        object.__setattr__(self, "context", context)
        self._use(as_list(self.certificates))

    def replace_certificates(self, certificates: Certificate | Sequence[Certificate]) -> None:
        """Present other certificates from the next handshake on, in this process; connections stay as they are.

        Raises ValueError, and then the present ones stay.
        """
        self._use(as_list(certificates))

    def policy_for(self, server_name: str | None) -> ClientAuth | None:
        """Give the policy of the host that a client asks for."""
        return self.client_auth if server_name is None else Hosts(self, []).policy(server_name)

    def host_context(self, certificate: Certificate, policy: ClientAuth | None) -> HostContext:
        """Make what a connection with this certificate under a policy needs."""
        return Hosts(self, []).make((certificate,), policy)

    def _use(self, certificates: list[Certificate]) -> None:
        hosts, fallback = Hosts(self, certificates).build()
        self.context.replace(hosts, fallback)
        object.__setattr__(self, "certificates", tuple(certificates))


def check_policies(client_auth: ClientAuth | None, hosts: Mapping[str, ClientAuth | None]) -> None:
    """Refuse policies that would never apply, and names that no client asks for. Raises ValueError or TypeError."""
    for where, policy in (("client_auth", client_auth), *((f"hosts[{name!r}]", hosts[name]) for name in hosts)):
        if not isinstance(policy, (ClientAuth, NoneType)):
            raise TypeError(f"{where}: expected a ClientAuth or None, got {policy!r}")
    for name in hosts:
        try:
            check_host_name(name)
        except ValueError as error:
            raise ValueError(f"hosts: {error}") from None


def as_list(certificates: Certificate | Sequence[Certificate]) -> list[Certificate]:
    """Give a list of at least one certificate. Raises ValueError or TypeError."""
    found = [certificates] if isinstance(certificates, Certificate) else list(certificates)
    if not found:
        raise ValueError("certificates: expected at least one Certificate")
    for one in found:
        if not isinstance(one, Certificate):
            raise TypeError(f"certificates: expected Certificate objects, got {one!r}")
    return found


def by_wire_name(hosts: Mapping[str, ClientAuth | None]) -> dict[str, ClientAuth | None]:
    """Give the policies by the names that handshakes have. Raises ValueError for two of one name."""
    written: dict[str, str] = {}
    for name in hosts:
        known = written.setdefault(wire_name(name), name)
        if known != name:
            raise ValueError(f"hosts: {known!r} and {name!r} are the same name; leave one out")
    return {wire: hosts[name] for wire, name in written.items()}


def ticket_keys(lifetime: int, secret: bytes | None) -> TicketKeys:
    """Give the keys of tickets of a lifetime: one set for all who give no secret."""
    if secret is not None:
        return TicketKeys(lifetime, secret)
    if lifetime not in process_tickets:
        process_tickets[lifetime] = TicketKeys(lifetime, store=ticket_store.shared)
    return process_tickets[lifetime]


def follow_tickets(store: ticket_store.TicketStore) -> None:
    """Make all tickets of this process, and of its forks, with what `store` keeps. Raises OSError."""
    ticket_store.shared = store
    for keys in process_tickets.values():
        keys.follow(store)


class Hosts:
    """Makes the contexts of virtual hosts: one for each set of certificates and policy."""

    def __init__(self, settings: TlsSettings, certificates: list[Certificate]) -> None:
        self._settings = settings
        self._certificates = certificates
        self._made: dict[tuple[tuple[Certificate, ...], ClientAuth | None], HostContext] = {}

    def build(self) -> tuple[dict[bytes, HostContext], HostContext]:
        """Give the contexts by name, and the one for other names."""
        first = self._certificates[0]
        defaults = one_per_kind(one for one in self._certificates if one is first or one.names & first.names)
        hosts = {}
        for name in {name for one in self._certificates for name in one.names} | set(self._settings.hosts):
            certificates = one_per_kind(one for one in self._certificates if name in one.names)
            if not certificates:
                wild = wildcard_of(name)
                certificates = one_per_kind(one for one in self._certificates if wild in one.names) or defaults
            hosts[name.encode("ascii")] = self.make(certificates, self.policy(name))
        return hosts, self.make(defaults, self._settings.client_auth)

    def policy(self, name: str) -> ClientAuth | None:
        """Give the policy for a name, exact before wildcard before the default."""
        for known in (name, wildcard_of(name)):
            if known in self._settings.hosts:
                return self._settings.hosts[known]
        return self._settings.client_auth

    def make(self, certificates: tuple[Certificate, ...], policy: ClientAuth | None) -> HostContext:
        """Give the context of a set of certificates, one of each kind, under a policy."""
        if (certificates, policy) not in self._made:
            names = frozenset(name for one in certificates for name in one.names | one.addresses)
            self._made[certificates, policy] = HostContext(
                self._settings.rules,
                tuple(one.for_core() for one in certificates),
                names=names,
                policy=policy,
                client_auth=None if policy is None else policy.for_core(),
                scope=scope_of(names, policy),
                protocols=alpn_wire(self._settings.alpn),
            )
        return self._made[certificates, policy]


def one_per_kind(certificates: Iterable[Certificate]) -> tuple[Certificate, ...]:
    """Give the first certificate of each kind of key: a context holds one of each."""
    found: dict[str, Certificate] = {}
    for one in certificates:
        found.setdefault(one.kind, one)
    return tuple(found.values())


def scope_of(names: frozenset[str], policy: ClientAuth | None) -> bytes:
    """Name what a session may be resumed for: the same names under the same policy, whatever the certificate."""
    digest = hashlib.sha256("\0".join(sorted(names)).encode())
    if policy is not None:
        for der in (*policy.ca_ders, b"crl", *policy.crl_ders, b"required" if policy.required else b"optional"):
            digest.update(hashlib.sha256(der).digest())
    return digest.digest()
