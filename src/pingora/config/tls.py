"""TLS in pingora.toml: its tables, and what is made of them. Paths are relative to the file."""

from collections.abc import Iterator, Mapping
from pathlib import Path as FilePath
from typing import Annotated, Any, ClassVar

from msgspec import Struct

from pingora.config.fields import one_of, parse_flag, parse_path, parsed
from pingora.config.positions import Path
from pingora.config.problems import Source
from pingora.tls.certificate import Certificate
from pingora.tls.rules import PROTOCOLS, VERSIONS
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


class ListenerTlsTable(Struct, frozen=True):
    """TLS towards clients."""

    certificates: list[CertificateTable]
    client_ca: Text | None = None
    client_crl: Text | None = None
    client_required: Flag = True
    strict_host: Flag = False
    min_version: Version = "1.2"


class UpstreamTlsTable(Struct, frozen=True):
    """TLS towards upstreams whose address begins with https://."""

    verify: Flag = True
    ca: Text | None = None
    crl: Text | None = None
    server_name: Text | None = None
    certificate: CertificateTable | None = None
    min_version: Version = "1.2"


FILES = ("chain", "key", "ocsp", "client_ca", "client_crl", "ca", "crl")  # of these tables


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
        for inner in value if isinstance(value, list) else [value]:
            yield from names_in(inner)


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
        if len(certificates) < len(table.certificates):
            return None
        made = self._made(path, lambda: [self._settings(table, certificates)])
        return made[0] if made else None

    def _settings(self, table: ListenerTlsTable, certificates: list[Certificate]) -> TlsSettings:
        auth = None
        if table.client_ca is not None:
            auth = ClientAuth(
                str(self._directory / table.client_ca), self._place(table.client_crl), table.client_required
            )
        elif table.client_crl is not None:
            raise ValueError("client_crl: it takes a client_ca as well")
        return TlsSettings(
            certificates,
            client_auth=auth,
            strict_host=table.strict_host,
            min_version=table.min_version,
            alpn=() if self._is_tcp else PROTOCOLS,
        )

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
                    certificate=None if table.certificate is None else self._certificate(table.certificate),
                    min_version=table.min_version,
                    alpn=() if self._is_tcp else ("http/1.1",),  # HTTP/2 comes with the protocol of a peer
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
