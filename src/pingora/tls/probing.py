"""The TLS of health checks: Python's, with what an UpstreamTls says."""

import contextlib
import os
import ssl
import weakref
from collections.abc import Iterator

from pingora.tls import files
from pingora.tls.certificate import Certificate
from pingora.tls.upstream import UpstreamTls
from pingora_c.net.tls_client import ClientContext

VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


# By the core's context, which is another one when a file's content is, and by whether names are checked.
contexts: "weakref.WeakKeyDictionary[ClientContext, dict[bool, ssl.SSLContext]]" = weakref.WeakKeyDictionary()


def ssl_context(tls: UpstreamTls) -> ssl.SSLContext:
    """Give a context that trusts whom `tls` trusts; with an `alternative_name` it checks the chain and no name."""
    made = contexts.setdefault(tls.context, {})
    checks_names = tls.alternative_name is None
    if checks_names not in made:
        made[checks_names] = new_context(tls)
    return made[checks_names]


def new_context(tls: UpstreamTls) -> ssl.SSLContext:
    """Make it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = VERSIONS[tls.min_version]
    context.maximum_version = VERSIONS[tls.max_version]
    if not tls.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif tls.ca is None:
        context.load_default_certs()
    else:
        context.load_verify_locations(cadata=b"".join(files.der(one) for one in files.certificates("CA", tls.ca)))
    if tls.crl is not None:
        with file_of(files.read("CRL", tls.crl)) as path:
            context.load_verify_locations(cafile=path)
        context.verify_flags |= ssl.VerifyFlags.VERIFY_CRL_CHECK_LEAF
    if tls.alternative_name is not None:
        context.check_hostname = False
    if tls.certificate is not None:
        with file_of(pem_of(tls.certificate)) as path:
            context.load_cert_chain(path)
    return context


def pem_of(certificate: Certificate) -> bytes:
    """Give a chain and its key as one text."""
    from cryptography.hazmat.primitives import serialization

    key = serialization.load_der_private_key(certificate.key_der, None).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return key + "".join(ssl.DER_cert_to_PEM_cert(der) for der in certificate.ders).encode()


@contextlib.contextmanager
def file_of(content: bytes) -> Iterator[str]:
    """Give the path of a file in memory, for functions that take nothing else."""
    fd = os.memfd_create("pingora-tls", os.MFD_CLOEXEC)
    try:
        with open(fd, "wb", closefd=False) as file:
            file.write(content)
        yield f"/proc/self/fd/{fd}"
    finally:
        os.close(fd)
