"""TLS in pingora.toml: its tables, and what is made of them. Paths are relative to the file."""

from collections.abc import Iterator, Mapping
from pathlib import Path as FilePath
from typing import Annotated, Any, ClassVar

from msgspec import Struct

from pingora.config.fields import one_of, parse_flag, parse_lifetime, parse_path, parsed
from pingora.config.positions import Path
from pingora.config.problems import Source
from pingora.tls import files
from pingora.tls.certificate import Certificate
from pingora.tls.names import check_host_name
from pingora.tls.rules import CIPHER_SUITES, CIPHERS, PROTOCOLS, VERSIONS
from pingora.tls.server import ClientAuth, TlsSettings
from pingora.tls.upstream import UpstreamTls

Text = Annotated[str, parsed(parse_path)]
Flag = Annotated[bool, parsed(parse_flag)]
Version = Annotated[str, one_of(*VERSIONS)]


class CertificateTable(Struct, frozen=True):
    """A chain with its key. In short the chain's file, which has the key as well."""

    SHORT: ClassVar[str] = "chain"
    chain: Text
    key: Text | None = None
    ocsp: Text | None = None


class RulesTable(Struct, frozen=True, kw_only=True):
    """Versions, ciphers and groups, towards clients or upstreams."""

    min_version: Version = "1.2"
    max_version: Version = "1.3"
    ciphers: Text = CIPHERS
    cipher_suites: Text = CIPHER_SUITES
    groups: Text | None = None


class HostTable(Struct, frozen=True):
    """Certificates of the clients of one host: without a client_ca, none is asked for."""

    client_ca: Text | None = None
    client_crl: Text | None = None
    client_required: Flag = True


class ListenerTlsTable(RulesTable, frozen=True, kw_only=True):
    """TLS towards clients. `alpn` None: what the protocol of the proxy speaks."""

    certificates: list[CertificateTable]
    client_ca: Text | None = None
    client_crl: Text | None = None
    client_required: Flag = True
    hosts: dict[str, HostTable] = {}
    strict_host: Flag = False
    alpn: list[Annotated[str, one_of(*PROTOCOLS)]] | None = None
    tickets: Flag = True
    ticket_lifetime: Annotated[int, parsed(parse_lifetime)] = 28800
    ticket_secret: Text | None = None
    ja4: Flag = False


class UpstreamTlsTable(RulesTable, frozen=True, kw_only=True):
    """TLS towards upstreams whose address begins with https://."""

    verify: Flag = True
    ca: Text | None = None
    crl: Text | None = None
    server_name: Text | None = None
    alternative_name: Text | None = None
    certificate: CertificateTable | None = None


FILES = ("chain", "key", "ocsp", "client_ca", "client_crl", "ca", "crl", "ticket_secret")  # of these tables


def files_of(source: Source, tables: Mapping[str, Any]) -> Iterator[str]:
    """Give the paths of all files that the TLS of a configuration names, as `Files` writes them."""
    directory = FilePath(source.name).parent
    for table in (*tables.get("listeners", ()), tables.get("upstreams")):
        for name in names_in(getattr(table, "tls", None)):
            yield str(directory / name)


def names_in(table: Any) -> Iterator[str]:
    """Give the files that a table names, and the tables in it."""
    for key in getattr(table, "__struct_fields__", ()):
        value = getattr(table, key)
        if isinstance(value, str) and key in FILES:
            yield value
        tables = value.values() if isinstance(value, dict) else value if isinstance(value, list) else [value]
        for inner in tables:
            yield from names_in(inner)


def rules_of(table: RulesTable) -> dict[str, Any]:
    """Give the arguments that TlsSettings and UpstreamTls have in common."""
    return {name: getattr(table, name) for name in RulesTable.__struct_fields__}


class Files:
    """Makes objects of tables whose files stand beside a configuration; notes what is wrong with them."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._is_tcp = source.values.get("protocol") == "tcp"  # of other protocols we know no names
        self._directory = FilePath(source.name).parent

    def _place(self, name: str | None) -> str | None:
        return None if name is None else str(self._directory / name)

    def _certificate(self, table: CertificateTable) -> Certificate:
        return Certificate(str(self._directory / table.chain), self._place(table.key), self._place(table.ocsp))

    def listener(self, table: ListenerTlsTable, path: Path) -> TlsSettings | None:
        """Make the settings of a listener; None if that cannot be."""
        certificates: list[Certificate] = []
        for index, entry in enumerate(table.certificates):
            certificates += self._made((*path, "certificates", index), lambda entry=entry: [self._certificate(entry)])
        n_problems = len(self._source.problems)
        self._check_policies(table, path)
        if len(certificates) < len(table.certificates) or len(self._source.problems) > n_problems:
            return None
        made = self._made(path, lambda: [self._settings(table, certificates)])
        return made[0] if made else None

    def _settings(self, table: ListenerTlsTable, certificates: list[Certificate]) -> TlsSettings:
        alpn = None if table.alpn is None else tuple(table.alpn)
        secret = self._place(table.ticket_secret)
        return TlsSettings(
            certificates,
            client_auth=self._client_auth(table),
            hosts={name: self._client_auth(entry) for name, entry in table.hosts.items()},
            strict_host=table.strict_host,
            alpn=(() if self._is_tcp else PROTOCOLS) if alpn is None else alpn,
            tickets=table.tickets,
            ticket_lifetime=table.ticket_lifetime,
            ticket_secret=None if secret is None else files.read("ticket_secret", secret, "32 random bytes or more"),
            ja4=table.ja4,
            **rules_of(table),
        )

    def _check_policies(self, table: ListenerTlsTable, path: Path) -> None:
        """Note what of the policies would never apply."""
        written: Any = self._source.values
        for part in path:
            written = written[part]
        for name in table.hosts:
            try:
                check_host_name(name)
            except ValueError as error:
                self._source.key_problem((*path, "hosts", name), str(error))
        tables = {path: written, **{(*path, "hosts", name): written["hosts"][name] for name in table.hosts}}
        for at, keys in tables.items():
            if "client_required" in keys and "client_ca" not in keys:
                self._source.key_problem((*at, "client_required"), "it takes a client_ca as well")

    def _client_auth(self, table: ListenerTlsTable | HostTable) -> ClientAuth | None:
        if table.client_ca is not None:
            return ClientAuth(
                str(self._directory / table.client_ca), self._place(table.client_crl), table.client_required
            )
        if table.client_crl is not None:
            raise ValueError("client_crl: it takes a client_ca as well")
        return None

    def upstream(self, table: UpstreamTlsTable, path: Path) -> UpstreamTls | None:
        """Make the settings of upstreams; None if that cannot be."""
        made = self._made(
            path,
            lambda: [
                UpstreamTls(
                    verify=table.verify,
                    ca=self._place(table.ca),
                    crl=self._place(table.crl),
                    server_name=table.server_name,
                    alternative_name=table.alternative_name,
                    certificate=None if table.certificate is None else self._certificate(table.certificate),
                    alpn=() if self._is_tcp else ("http/1.1",),  # HTTP/2 comes with the protocol of a peer
                    **rules_of(table),
                )
            ],
        )
        return made[0] if made else None

    def _made(self, path: Path, make: Any) -> list[Any]:
        """Make something, or nothing and note why."""
        try:
            return list(make())
        except (OSError, ValueError) as error:
            self._source.value_problem(path, str(error))
            return []
