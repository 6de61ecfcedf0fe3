"""`pingora cert`: make a certificate for trying out, look into one, check one before it is used."""

import datetime
import ipaddress
import itertools
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pingora.cli.check import fail
from pingora.tls import Certificate, files
from pingora.tls.names import check_host_name, wildcard_of, wire_name

if TYPE_CHECKING:
    from cryptography.x509 import Certificate as X509
    from cryptography.x509 import GeneralName

COMMON_NAME_MOST = 64  # bytes (RFC 5280, appendix A: ub-common-name)


@click.group()
def cert() -> None:
    """Make, show and check certificates."""


@cert.command("self-signed")
@click.argument("names", nargs=-1, required=True, metavar="NAME…")
@click.option("--cert", "chain", default="cert.pem", show_default=True, metavar="FILE", help="The certificate's file.")
@click.option("--key", default="key.pem", show_default=True, metavar="FILE", help="The file of its key.")
@click.option("--days", default=30, show_default=True, type=click.IntRange(1, 3650), help="How long it is valid.")
@click.option("--rsa", is_flag=True, help="An RSA key of 2048 bits instead of ECDSA with P-256.")
@click.option("--force", is_flag=True, help="Overwrite files that exist.")
def self_signed(names: tuple[str, ...], chain: str, key: str, days: int, rsa: bool, force: bool) -> None:
    """Make a certificate for NAMEs (DNS names, IP addresses) that nobody trusts yet: for trying out and for tests.

    A client that is given the certificate as its authority accepts it: curl --cacert cert.pem.
    """
    if os.path.realpath(chain) == os.path.realpath(key):
        fail(f"{chain}: give --cert and --key different files")
    certificate, private = make_self_signed(names, days, rsa)
    try:
        claim({Path(key): 0o600, Path(chain): 0o644}, force)
        Path(key).write_bytes(private)
        Path(chain).write_bytes(certificate)
    except OSError as error:
        hint = "; --force overwrites it" if isinstance(error, FileExistsError) else ""
        fail(f"{error.filename}: {error.strerror}{hint}")
    click.echo(f"{chain} and {key}: for {', '.join(names)}, {days} days")


@cert.command()
@click.argument("file", metavar="FILE")
def show(file: str) -> None:
    """Show the certificates of a PEM file."""
    try:
        found = files.certificates("certificate", file)
    except ValueError as error:
        fail(str(error))
    click.echo("\n\n".join("\n".join(describe(one)) for one in found))


@cert.command()
@click.argument("file", metavar="FILE")
@click.argument("key", required=False, metavar="[KEY]")
@click.option("--host", "hosts", multiple=True, metavar="HOST", help="A DNS name or IP address that it must be for.")
@click.option("--days", default=14, show_default=True, type=click.IntRange(0), help="Complain if it expires sooner.")
def check(file: str, key: str | None, hosts: tuple[str, ...], days: int) -> None:
    """Check a certificate as a listener would use it: its key, its dates, its chain and its names.

    Without KEY, the key is in the same file. Exits with 1 if something is wrong.
    """
    try:
        loaded = Certificate(file, key)
    except ValueError as error:
        click.echo(str(error), err=True)
        sys.exit(1)
    found = files.certificates("certificate", file)
    problems = complaints(loaded, found, hosts, days)
    for problem in problems:
        click.echo(f"{file}: {problem}", err=True)
    if problems:
        sys.exit(1)
    click.echo(f"{file}: good for {names_of(loaded)} until {loaded.not_after:%Y-%m-%d}")


def complaints(loaded: Certificate, found: "list[X509]", hosts: tuple[str, ...], days: int) -> list[str]:
    """Say what clients would not like."""
    now = datetime.datetime.now(datetime.UTC)
    problems = []
    for number, one in enumerate(found, 1):
        what = "the certificate" if number == 1 else f"certificate {number}, {one.subject.rfc4514_string()},"
        if one.not_valid_after_utc < now:
            problems.append(f"{what} expired on {one.not_valid_after_utc:%Y-%m-%d}")
        elif one.not_valid_after_utc < now + datetime.timedelta(days=days):
            problems.append(f"{what} expires on {one.not_valid_after_utc:%Y-%m-%d}")
        if one.not_valid_before_utc > now:
            problems.append(f"{what} is not valid before {one.not_valid_before_utc:%Y-%m-%d}")
    for number, (one, issuer) in enumerate(itertools.pairwise(found), 1):
        try:
            one.verify_directly_issued_by(issuer)
        except Exception:
            problems.append(f"certificate {number + 1} did not issue the one before it; put each before its issuer")
    problems += [f"it is not for {host}, but for {names_of(loaded)}" for host in hosts if not is_for(host, loaded)]
    return problems


def is_for(host: str, loaded: Certificate) -> bool:
    """Say whether a client that asks for `host`, a name or an address, accepts a certificate."""
    try:
        return str(ipaddress.ip_address(host)) in loaded.addresses
    except ValueError:
        name = host.lower()
        return name in loaded.names or wildcard_of(name) in loaded.names


def names_of(loaded: Certificate) -> str:
    """List what a certificate is for: DNS names, then IP addresses."""
    return ", ".join([*sorted(loaded.names), *sorted(loaded.addresses)]) or "no name"


def describe(one: "X509") -> list[str]:
    """Give the lines that show a certificate."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes

    try:
        alternatives = one.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        names = ", ".join(str(name.value) for name in alternatives)
    except x509.ExtensionNotFound:
        names = "none"
    return [
        f"subject      {one.subject.rfc4514_string()}",
        f"issuer       {one.issuer.rfc4514_string()}",
        f"names        {names}",
        f"valid        {one.not_valid_before_utc:%Y-%m-%d %H:%M} to {one.not_valid_after_utc:%Y-%m-%d %H:%M} UTC",
        f"key          {files.kind_of(one)} {getattr(one.public_key(), 'key_size', '')}".rstrip(),
        f"serial       {one.serial_number:x}",
        f"fingerprint  {one.fingerprint(hashes.SHA256()).hex()}",
    ]


def make_self_signed(names: tuple[str, ...], days: int, rsa: bool) -> tuple[bytes, bytes]:
    """Give a certificate and its key in PEM."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.asymmetric import rsa as rsa_keys
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    key = rsa_keys.generate_private_key(65537, 2048) if rsa else ec.generate_private_key(ec.SECP256R1())
    alternatives = [general_name(name) for name in names]
    has_subject = len(names[0].encode()) <= COMMON_NAME_MOST
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])] if has_subject else [])
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=not has_subject)  # RFC 5280 §4.2.1.6
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    )
    made = builder.sign(key, hashes.SHA256())
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return made.public_bytes(Encoding.PEM), private


def general_name(text: str) -> "GeneralName":
    """Make a subject alternative name. Raises BadParameter."""
    from cryptography import x509

    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        pass
    try:
        check_host_name(text)
    except ValueError:
        raise click.BadParameter(
            f"{text!r}: expected a DNS name such as app.test or *.app.test, or an IP address"
        ) from None
    return x509.DNSName(wire_name(text))


def claim(modes: dict[Path, int], force: bool) -> None:
    """Make files that can be written, by their modes; all of them, or none. Raises OSError."""
    made: list[Path] = []
    flags = os.O_WRONLY | os.O_CREAT | (0 if force else os.O_EXCL)
    try:
        for path, mode in modes.items():
            is_new = not path.exists()
            os.close(os.open(path, flags, mode))
            if is_new:
                made.append(path)
    except OSError:
        for path in made:
            path.unlink()
        raise
