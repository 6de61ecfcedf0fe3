"""PEM files: read whole, checked, with messages that name the file and say what to do."""

import os
from collections.abc import Mapping
from contextvars import ContextVar
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
    from cryptography.x509 import Certificate as X509
    from cryptography.x509 import CertificateRevocationList

# A path, or the PEM itself: bytes, or text that begins with "-----BEGIN".
Source: TypeAlias = str | os.PathLike[str] | bytes

# Files by path that somebody with more rights has read for this context; a path that is not there is read.
given: ContextVar[Mapping[str, bytes]] = ContextVar("given", default=MappingProxyType({}))


def describe(what: str, source: Source) -> str:
    """Say which thing is meant, by its file if it has one."""
    return what if is_content(source) else f"{what} {os.fspath(source)!s}"


def is_content(source: Source) -> bool:
    """True if `source` is the PEM itself, not a path."""
    return isinstance(source, bytes) or (isinstance(source, str) and source.lstrip().startswith("-----BEGIN"))


def read(what: str, source: Source, expected: str = "a PEM file") -> bytes:
    """Give the bytes of a source. Raises ValueError that says what was expected."""
    if isinstance(source, bytes):
        return source
    if is_content(source):
        return str(source).encode()
    try:
        content = given.get().get(os.fspath(source))
        return Path(source).read_bytes() if content is None else content
    except OSError as error:
        raise ValueError(f"{describe(what, source)}: {error.strerror}; give the path of {expected}") from None


def certificates(what: str, source: Source) -> "list[X509]":
    """Give all certificates of a PEM source, at least one. Raises ValueError."""
    from cryptography import x509

    data = read(what, source)
    if b"-----BEGIN CERTIFICATE-----" not in data:
        hint = "it has a private key; is it the other file?" if b"PRIVATE KEY-----" in data else "expected PEM"
        raise ValueError(f"{describe(what, source)}: there is no certificate in it; {hint}")
    try:
        return x509.load_pem_x509_certificates(data)
    except ValueError as error:
        raise ValueError(f"{describe(what, source)}: a certificate in it is damaged: {error}") from None


def revocation_lists(what: str, source: Source) -> "list[CertificateRevocationList]":
    """Give all revocation lists of a PEM source, at least one. Raises ValueError."""
    from cryptography import x509

    begin = b"-----BEGIN X509 CRL-----"
    parts = read(what, source).split(begin)[1:]
    if not parts:
        raise ValueError(f"{describe(what, source)}: there is no revocation list in it; expected PEM (X509 CRL)")
    try:
        return [x509.load_pem_x509_crl(begin + part) for part in parts]
    except ValueError as error:
        raise ValueError(f"{describe(what, source)}: a revocation list in it is damaged: {error}") from None


def private_key(what: str, source: Source, password: str | None) -> "PrivateKeyTypes":
    """Give the private key of a PEM source. Raises ValueError."""
    from cryptography.hazmat.primitives import serialization

    data = read(what, source)
    begin = data.find(b"-----BEGIN", 0)
    while begin >= 0 and b"PRIVATE KEY-----" not in data[begin : data.find(b"\n", begin) + 1]:
        begin = data.find(b"-----BEGIN", begin + 1)
    if begin < 0:
        raise ValueError(f"{describe(what, source)}: there is no private key in it; expected PEM")
    try:
        return serialization.load_pem_private_key(data[begin:], None if password is None else password.encode())
    except TypeError:
        problem = "it is encrypted; give password=" if password is None else "it is not encrypted; leave password= out"
        raise ValueError(f"{describe(what, source)}: {problem}") from None
    except Exception as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f"{describe(what, source)}: the private key in it cannot be read: {reason}") from None


def kind_of(certificate: "X509") -> str:
    """Name the kind of key that a certificate has: "RSA", "EC", "Ed25519" …"""
    name = type(certificate.public_key()).__name__
    return name.removeprefix("_").removesuffix("PublicKey").replace("EllipticCurve", "EC")


def der(certificate: "X509 | CertificateRevocationList") -> bytes:
    """Encode a certificate or a revocation list."""
    from cryptography.hazmat.primitives.serialization import Encoding

    return certificate.public_bytes(Encoding.DER)
