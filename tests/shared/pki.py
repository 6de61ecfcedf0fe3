"""Certificates for tests: a small CA that issues what a test asks for."""

import datetime
import ipaddress
import ssl

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509 import ocsp
from cryptography.x509.oid import NameOID

DAY = datetime.timedelta(days=1)


def pem_of_key(key):
    """Encode a private key."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def new_key(kind="EC"):
    """Make a private key."""
    return ec.generate_private_key(ec.SECP256R1()) if kind == "EC" else rsa.generate_private_key(65537, 2048)


def secured(raw, context, name, session=None):
    """Speak TLS on a socket, which is closed if the handshake fails."""
    try:
        return context.wrap_socket(raw, server_hostname=name, session=session)
    except BaseException:
        raw.close()
        raise


class Issued:
    """A certificate with its key, `chain` and `key` in PEM."""

    def __init__(self, certificate, key):
        self.certificate = certificate
        self.private = key
        self.chain = certificate.public_bytes(Encoding.PEM)
        self.key = pem_of_key(key)
        self.der = certificate.public_bytes(Encoding.DER)

    def write(self, directory, stem):
        """Write both files; their paths."""
        chain, key = directory / f"{stem}.pem", directory / f"{stem}.key"
        chain.write_bytes(self.chain)
        key.write_bytes(self.key)
        return chain, key


class Authority(Issued):
    """A CA. `trusts()` gives a client's ssl context that trusts it."""

    def __init__(self, name="test CA"):
        key = new_key()
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = self._builder(subject, subject, key.public_key(), -1, 30)
        usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        builder = builder.add_extension(usage, critical=True)
        super().__init__(builder.sign(key, hashes.SHA256()), key)

    def _builder(self, subject, issuer, public_key, begin_days, end_days):
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + begin_days * DAY)
            .not_valid_after(now + end_days * DAY)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        )

    def issue(self, *names, kind="EC", common_name=None, days=(-1, 30), key=None):
        """Issue a certificate for DNS names, IP addresses and mail addresses."""
        key = key or new_key(kind)
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name or names[0])])
        builder = self._builder(subject, self.certificate.subject, key.public_key(), *days)
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.private.public_key())
        builder = builder.add_extension(issuer, critical=False)  # Python 3.13 verifies none without
        alternatives = [general_name(name) for name in names]
        if alternatives:
            builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        return Issued(builder.sign(self.private, hashes.SHA256()), key)

    def crl(self, *revoked):
        """Make a revocation list (PEM) of issued certificates."""
        now = datetime.datetime.now(datetime.UTC)
        builder = x509.CertificateRevocationListBuilder().issuer_name(self.certificate.subject)
        builder = builder.last_update(now - DAY).next_update(now + 30 * DAY)
        for one in revoked:
            entry = x509.RevokedCertificateBuilder().serial_number(one.certificate.serial_number).revocation_date(now)
            builder = builder.add_revoked_certificate(entry.build())
        return builder.sign(self.private, hashes.SHA256()).public_bytes(Encoding.PEM)

    def ocsp(self, issued, good_for):
        """Make an OCSP response (DER) that an issued certificate is good, with its nextUpdate in `good_for` seconds."""
        now = datetime.datetime.now(datetime.UTC)
        builder = ocsp.OCSPResponseBuilder().add_response(
            cert=issued.certificate,
            issuer=self.certificate,
            algorithm=hashes.SHA256(),
            cert_status=ocsp.OCSPCertStatus.GOOD,
            this_update=now - datetime.timedelta(hours=1),
            next_update=now + datetime.timedelta(seconds=good_for),
            revocation_time=None,
            revocation_reason=None,
        )
        builder = builder.responder_id(ocsp.OCSPResponderEncoding.HASH, self.certificate)
        return builder.sign(self.private, hashes.SHA256()).public_bytes(Encoding.DER)

    def trusts(self, client=None, **settings):
        """Make a client's context; `client` is its own certificate."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(cadata=self.chain.decode())
        for name, value in settings.items():
            setattr(context, name, value)
        if client is not None:
            load_chain(context, client)
        return context

    def server_context(self, issued, **settings):
        """Make a server's context of Python's ssl."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        for name, value in settings.items():
            setattr(context, name, value)
        load_chain(context, issued)
        return context


def self_signed(name):
    """Make a certificate for a DNS name that nobody else vouches for."""
    key = new_key()
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(now - DAY).not_valid_after(now + DAY)
    builder = builder.add_extension(x509.SubjectAlternativeName([general_name(name)]), critical=False)
    return Issued(builder.sign(key, hashes.SHA256()), key)


def load_chain(context, issued):
    """Load a certificate into a context of Python's ssl, which reads only files."""
    import tempfile

    with tempfile.NamedTemporaryFile() as file:
        file.write(issued.chain + issued.key)
        file.flush()
        context.load_cert_chain(file.name)


def general_name(text):
    """Make a subject alternative name."""
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.RFC822Name(text) if "@" in text else x509.DNSName(text)
