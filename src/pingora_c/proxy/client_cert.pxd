"""Client-Cert and Client-Cert-Chain (RFC 9440): who a client proved to be, told in its request."""
from libc.stdint cimport uint8_t
from pingora_c.http.message cimport RequestHead
from pingora_c.net.transport cimport Transport

cdef enum ClientCertFields:
    CLIENT_CERT_OFF = 0      # the fields pass as all others do
    CLIENT_CERT_LEAF = 1     # Client-Cert
    CLIENT_CERT_CHAIN = 2    # Client-Cert-Chain as well

# Before a hook sees it, remove what the client itself wrote into these fields, whoever it is, and write what its
# connection has verified. Raises MemoryError; then the request must not go on.
cdef int tell_client_cert(RequestHead head, Transport transport, uint8_t fields) except -1
