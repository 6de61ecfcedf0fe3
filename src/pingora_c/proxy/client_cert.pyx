"""Fields of a verified certificate. Own nothing."""
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport uint32_t

from pingora_c.http.field cimport Field, is_certificate_name
from pingora_c.http.header_block cimport BLOCK_OK, HeaderBlock, block_add, block_field, is_live, remove_row
from pingora_c.net.tls_info cimport ClientCertificate, TlsInfo


cdef int add_field(HeaderBlock* block, bytes name, bytes value) except -1:
    if block_add(block, PyBytes_AS_STRING(name), <uint32_t>PyBytes_GET_SIZE(name), PyBytes_AS_STRING(value),
                 <uint32_t>PyBytes_GET_SIZE(value)) != BLOCK_OK:
        raise MemoryError("no buffer for a certificate")
    return 0


cdef int tell_client_cert(RequestHead head, Transport transport, uint8_t fields) except -1:
    cdef HeaderBlock* block = &head.block
    cdef const Field* field
    cdef TlsInfo info = transport.describe()
    cdef ClientCertificate shown = None if info is None else info.client_certificate
    cdef uint32_t i
    for i in range(block.n):
        field = block_field(block, i)
        if is_live(field) and is_certificate_name(block.base + field.name_at, field.name_size):
            remove_row(block, i)
    if shown is not None:
        add_field(block, b"Client-Cert", shown.as_field())
        if fields == CLIENT_CERT_CHAIN and shown.chain_field is not None:
            add_field(block, b"Client-Cert-Chain", shown.chain_field)
    return 0
