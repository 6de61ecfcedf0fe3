from typing import Any, final

@final
class ClientCertificate:
    """A certificate that the client proved to have and that was verified."""

    def __init__(self, der: bytes) -> None: ...
    @property
    def der(self) -> bytes:
        """The certificate as it was sent."""

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the certificate, in hexadecimal."""

    @property
    def subject(self) -> str:
        """The subject as RFC 4514 writes it, "CN=alice,O=Example"."""

    @property
    def common_name(self) -> str | None:
        """The subject's first common name, or None."""

    @property
    def names(self) -> tuple[str, ...]:
        """Subject alternative names: DNS names, mail addresses, URIs and IP addresses, in the certificate's order."""

    @property
    def parsed(self) -> Any:
        """The same as `cryptography.x509.Certificate`."""

@final
class TlsInfo:
    """The encryption of a client's connection. Made by the core."""

    @property
    def version(self) -> str:
        """Of TLS: "TLSv1.2" or "TLSv1.3"."""

    @property
    def cipher(self) -> str:
        """OpenSSL's name of the suite."""

    @property
    def server_name(self) -> str | None:
        """The name that the client asked for (SNI), None: none was sent."""

    @property
    def alpn(self) -> str | None:
        """The protocol that was chosen, None: not negotiated."""

    @property
    def ja4(self) -> str | None:
        """Fingerprint of the client's software, None: not asked for."""

    @property
    def resumed(self) -> bool:
        """Whether an earlier session went on, without a whole handshake."""

    @property
    def client_certificate(self) -> ClientCertificate | None:
        """The client's certificate, verified; None: it gave none."""
