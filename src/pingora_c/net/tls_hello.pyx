"""Client hellos. Own copies only."""
cimport cython

import hashlib

from libc.stddef cimport size_t
from libc.string cimport memchr
from pingora_c.lib.openssl cimport (
    OPENSSL_free, SSL_client_hello_get0_ciphers, SSL_client_hello_get0_ext, SSL_client_hello_get0_legacy_version,
    SSL_client_hello_get1_extensions_present, TLSEXT_TYPE_application_layer_protocol_negotiation,
    TLSEXT_TYPE_server_name, TLSEXT_TYPE_signature_algorithms, TLSEXT_TYPE_supported_versions,
)

cdef enum:
    NAME_MAX = 255

cdef dict JA4_VERSIONS = {0x0304: "13", 0x0303: "12", 0x0302: "11", 0x0301: "10", 0x0300: "s3"}


cdef bytes server_name_of(SSL* ssl):
    cdef const unsigned char* data = NULL
    cdef size_t size = 0, name_size
    if SSL_client_hello_get0_ext(ssl, TLSEXT_TYPE_server_name, &data, &size) != 1:
        return None
    if size < 5 or (<size_t>data[0] << 8 | data[1]) != size - 2 or data[2] != 0:
        raise ValueError("server_name")
    name_size = <size_t>data[3] << 8 | data[4]
    if name_size != size - 5 or not 0 < name_size <= NAME_MAX or memchr(data + 5, 0, name_size) != NULL:
        raise ValueError("server_name")
    return (<const char*>data + 5)[:name_size].lower().removesuffix(b".")


cdef bytes extension_of(SSL* ssl, unsigned int type):
    cdef const unsigned char* data = NULL
    cdef size_t size = 0
    if SSL_client_hello_get0_ext(ssl, type, &data, &size) != 1:
        return b""
    return (<const char*>data)[:size]


cdef tuple numbers_in(const unsigned char* data, size_t size):
    """Numbers of two bytes each."""
    cdef size_t i
    return tuple([<int>data[2 * i] << 8 | data[2 * i + 1] for i in range(size // 2)])


cdef tuple protocols_in(bytes offered):
    """The names of an ALPN extension (RFC 7301 §3.1)."""
    cdef list protocols = []
    offered = offered[2:]      # behind the length of the list
    while offered:
        protocols.append(offered[1:1 + offered[0]].decode("latin-1"))
        offered = offered[1 + offered[0]:]
    return tuple(protocols)


cdef tuple extensions_in(SSL* ssl):
    cdef int* present = NULL
    cdef size_t n = 0, i
    if SSL_client_hello_get1_extensions_present(ssl, &present, &n) != 1:
        return ()
    try:
        return tuple([present[i] for i in range(n)])
    finally:
        OPENSSL_free(present)


cdef int version_of(SSL* ssl) except -1:
    """The highest that is offered and known to anybody: what begins like RFC 8701's GREASE is not."""
    cdef bytes offered = extension_of(ssl, TLSEXT_TYPE_supported_versions)[1:]
    cdef int highest = 0
    for number in numbers_in(offered, len(offered)):
        if number in JA4_VERSIONS and number > highest:
            highest = number
    return highest if highest else SSL_client_hello_get0_legacy_version(ssl)


cdef ClientHello read_hello(SSL* ssl, bytes server_name):
    cdef ClientHello made = ClientHello.__new__(ClientHello)
    cdef const unsigned char* suites = NULL
    cdef size_t size = SSL_client_hello_get0_ciphers(ssl, &suites)
    cdef bytes algorithms = extension_of(ssl, TLSEXT_TYPE_signature_algorithms)[2:]
    if server_name is not None:
        made.server_name = server_name.decode("ascii", "replace")
    made.alpn = protocols_in(extension_of(ssl, TLSEXT_TYPE_application_layer_protocol_negotiation))
    made.ciphers = numbers_in(suites, size)
    made.extensions = extensions_in(ssl)
    made.signature_algorithms = numbers_in(algorithms, len(algorithms))
    made.version = version_of(ssl)
    return made


cdef list without_grease(tuple numbers):
    """Leave out what clients send to see whether unknown numbers are ignored (RFC 8701)."""
    return [number for number in numbers if number & 0x0F0F != 0x0A0A or number >> 8 != number & 0xFF]


cdef str hashed(str text):
    """The first 12 digits of a list's SHA-256, as JA4 has it; zeros for an empty one."""
    return hashlib.sha256(text.encode()).hexdigest()[:12] if text else "0" * 12


cdef str in_hex(list numbers):
    """Write numbers as JA4 hashes them."""
    return ",".join([f"{number:04x}" for number in numbers])


cdef str ja4_protocol(tuple alpn):
    """Two characters of the first protocol that is offered."""
    cdef str name = alpn[0] if alpn else ""
    if not name:
        return "00"
    first, last = name[0], name[len(name) - 1]
    if not (first.isascii() and first.isalnum() and last.isascii() and last.isalnum()):
        first, last = f"{ord(first):02x}"[0], f"{ord(last):02x}"[1]
    return first + last


def make_ja4(*, int version, bint has_name, tuple alpn, tuple ciphers, tuple extensions, tuple signature_algorithms):
    """Make the JA4 fingerprint of a TLS client over TCP: the same for the same software, whatever it connects to."""
    cdef list suites = without_grease(ciphers), kept = without_grease(extensions)
    cdef str algorithms = in_hex(without_grease(signature_algorithms))
    cdef str kinds = in_hex(sorted([number for number in kept if number not in (
        TLSEXT_TYPE_server_name, TLSEXT_TYPE_application_layer_protocol_negotiation)]))
    if kinds and algorithms:
        kinds += f"_{algorithms}"
    head = f"t{JA4_VERSIONS.get(version, '00')}{'d' if has_name else 'i'}"
    counts = f"{min(len(suites), 99):02}{min(len(kept), 99):02}"
    return f"{head}{counts}{ja4_protocol(alpn)}_{hashed(in_hex(sorted(suites)))}_{hashed(kinds)}"


@cython.final
cdef class ClientHello:
    """The first message of a client, before anything is decided. Made by the core."""

    @property
    def ja4(self):
        """The JA4 fingerprint of the client's software, like "t13d1516h2_8daaf6152771_e5627efa2ab1"."""
        return make_ja4(version=self.version, has_name=self.server_name is not None, alpn=self.alpn,
                        ciphers=self.ciphers, extensions=self.extensions,
                        signature_algorithms=self.signature_algorithms)

    def __repr__(self):
        return f"<ClientHello server_name={self.server_name!r} alpn={self.alpn!r}>"
