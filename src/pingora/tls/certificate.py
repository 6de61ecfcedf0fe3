"""Certificate: a chain and its private key, read and checked once."""

import datetime
import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pingora.tls import files
from pingora.tls.files import Source
from pingora.tls.names import wire_name

if TYPE_CHECKING:
    from cryptography.x509 import Certificate as X509

log = logging.getLogger("pingora")


@dataclass(frozen=True)
class Certificate:
    """A certificate chain with its private key, each a path of a PEM file or the PEM itself as bytes.

    `chain` has the server's certificate first, then the intermediates; without `key` the key is in the same file.
    `ocsp` is an OCSP response (DER) to staple, `password` that of an encrypted key. Two are equal if what was read is.

    Raises ValueError that names the file: missing, damaged, a key of another certificate, an encrypted key. A
    certificate that has expired, and an OCSP response that is out of date, are logged as warnings.
    """

    chain: Source = field(compare=False, repr=False)
    key: Source | None = field(default=None, compare=False, repr=False)
    ocsp: str | Path | bytes | None = field(default=None, compare=False, repr=False)
    password: str | None = field(default=None, compare=False, repr=False)
    ders: tuple[bytes, ...] = field(init=False, repr=False)  # of the chain
    key_der: bytes = field(init=False, repr=False)
    ocsp_der: bytes | None = field(init=False, repr=False)
    ocsp_until: int | None = field(init=False, compare=False, repr=False)  # second of its nextUpdate; None: no end
    names: frozenset[str] = field(init=False, compare=False)  # DNS names, lower case, also "*.example.com"
    addresses: frozenset[str] = field(init=False, compare=False)  # IP addresses: "127.0.0.1", "::1"
    kind: str = field(init=False, compare=False)  # of the key: "RSA", "EC", "Ed25519" …
    not_after: datetime.datetime = field(init=False, compare=False)  # when it expires

    def __post_init__(self) -> None:
        """Read and check."""
        found = files.certificates("certificate", self.chain)
        leaf = found[0]
        key_source = self.chain if self.key is None else self.key
        put = object.__setattr__
        put(self, "key_der", matching_key(self.chain, found, key_source, self.password))
        put(self, "ders", tuple(files.der(one) for one in found))
        response, until = (None, None) if self.ocsp is None else ocsp_response(self.ocsp, leaf)
        put(self, "ocsp_der", response)
        put(self, "ocsp_until", until)
        names, addresses = alternative_names(leaf)
        put(self, "names", names)
        put(self, "addresses", addresses)
        put(self, "kind", files.kind_of(leaf))
        put(self, "not_after", leaf.not_valid_after_utc)
        warn_of_dates(files.describe("certificate", self.chain), leaf)

    def for_core(self) -> tuple[tuple[bytes, ...], bytes, bytes | None, int | None]:
        """Give what the core's contexts take."""
        return self.ders, self.key_der, self.ocsp_der, self.ocsp_until


def matching_key(chain: Source, found: "list[X509]", source: Source, password: str | None) -> bytes:
    """Give the private key (DER) of the first certificate. Raises ValueError if it is not that one's."""
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

    key = files.private_key("key", source, password)

    def encode(public: Any) -> Any:
        return public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

    ours = encode(key.public_key())
    if encode(found[0].public_key()) != ours:
        certificate = files.describe("certificate", chain)
        if any(encode(other.public_key()) == ours for other in found[1:]):
            raise ValueError(f"{certificate}: the certificate of the key is not the first in it; put it first")
        raise ValueError(
            f"{files.describe('key', source)}: it is not the key of {certificate}; give the one that was made with it"
        )
    return key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())


def alternative_names(leaf: "X509") -> tuple[frozenset[str], frozenset[str]]:
    """Give the DNS names of the subject alternative names, in lower case, and the IP addresses."""
    from cryptography import x509

    try:
        found = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return frozenset(), frozenset()
    names = frozenset(wire_name(name) for name in found.get_values_for_type(x509.DNSName))
    return names, frozenset(str(address) for address in found.get_values_for_type(x509.IPAddress))


def warn_of_dates(what: str, leaf: "X509") -> None:
    """Log that clients will refuse it."""
    now = datetime.datetime.now(datetime.UTC)
    if leaf.not_valid_after_utc < now:
        log.warning("%s expired on %s; clients will refuse it", what, leaf.not_valid_after_utc.date())
    elif leaf.not_valid_before_utc > now:
        log.warning("%s is not valid before %s; clients will refuse it", what, leaf.not_valid_before_utc)


def ocsp_response(source: str | Path | bytes, leaf: "X509") -> tuple[bytes | None, int | None]:
    """Give an OCSP response (DER) for `leaf`, and the second until which it is good if it says so.

    None, with a warning, if it would be refused. Raises ValueError.
    """
    from cryptography.x509 import ocsp

    what = files.describe("OCSP response", source)
    data = files.read("OCSP response", source)
    try:
        response = ocsp.load_der_ocsp_response(data)
        serial = response.serial_number
    except ValueError as error:
        raise ValueError(f"{what}: expected a successful response in DER: {error}") from None
    if serial != leaf.serial_number:
        raise ValueError(f"{what}: it is about another certificate (serial {serial:x})")
    next_update = response.next_update_utc
    if next_update is None:
        return data, None
    if next_update < datetime.datetime.now(datetime.UTC):
        log.warning("%s is out of date since %s; it is not stapled", what, next_update)
        return None, None
    return data, int(next_update.timestamp())
