"""TLS over a socket, by OpenSSL through a BIO of our own.

Reading. OpenSSL takes ciphertext through the BIO, which remembers that the socket was drained, so that a request costs
one recv; read() decrypts records into the caller's room until that is full or nothing is left.

Writing. write() seals a slice of what it gets, small spans together in one record, into a buffer that all connections
share, and sends that in one system call. Ciphertext that the socket does not take is kept; the plain bytes in it count
as not taken until it has left, so that whoever writes sees back-pressure as with a plain socket.

Memory. OpenSSL allocates record buffers, 34 KiB, for each operation, and idle connections have none. Up to 64
transports of the process are "warm" and keep theirs: a worker with few connections allocates none for a request.
"""
from libc.stddef cimport size_t
from pingora_c.lib.openssl cimport SSL, SSL_CTX, SSL_SESSION
from pingora_c.net.reactor cimport EventSource
from pingora_c.net.transport cimport Transport

cdef enum:
    RECORD_SIZE = 16384       # plain bytes of a record (RFC 8446 §5.1)
    SLICE_SIZE = 131072       # plain bytes sealed before they are sent: 8 records


cdef class TlsTransport(Transport):
    cdef SSL* ssl             # owned, freed with the object: hooks may ask after the end
    cdef TlsContext context   # made us
    cdef object choice        # the context's own: the virtual host of a client's connection, the pool key of a peer's
    cdef object chooser       # server: callable(ClientHello) that may choose the host; None: SNI does
    cdef EventSource source   # server: whose turn it is when a chooser that awaits has ended; None without one
    cdef object future        # of the chooser, while it awaits
    cdef bytes server_name    # SNI in lower case; None: none was sent
    cdef str ja4              # the client's fingerprint; None: nobody wants to know
    cdef bytes offered        # client: ALPN as offered; None: as the context does
    cdef object described     # what describe() gave
    cdef str trouble          # what failure() gives
    cdef char* kept           # owned: ciphertext that waits for the socket, NULL if there is none
    cdef size_t kept_at       # kept_at <= kept_end
    cdef size_t kept_end
    cdef size_t sealed        # plain bytes in `kept`, which write() gets once more
    cdef size_t quiet_bytes   # of ciphertext since there was something to read
    cdef int ended            # an IoCode that read() has to give from now on, 0: none
    cdef int place            # among the warm ones, -1: not there
    cdef bint is_open         # the handshake is over
    cdef bint is_holding      # `kept` is a ticket that waits for the first answer
    cdef bint is_between_records   # the last read ended behind a whole record, so nothing lies in OpenSSL's buffers
    cdef bint is_drained      # the last recv of this read took all there was
    cdef bint saw_fin         # recv gave 0
    cdef bint has_shut        # close_notify was sent

    # A transport over `fd`, which it takes over, in the state of a server (`is_server`) or a client.
    @staticmethod
    cdef TlsTransport new(int fd, TlsContext context, SSL_CTX* ctx, bint is_server)
    # private
    cdef void send_close_notify(self) noexcept
    cdef int outcome(self, int result) noexcept
    cdef int note_trouble(self) except -1
    cdef Py_ssize_t receive(self, char* out, size_t room) noexcept
    cdef int put(self, const char* data, size_t size) noexcept
    cdef int send_shared(self) noexcept
    cdef bint hold_ticket(self) noexcept
    cdef int join_held(self) noexcept
    cdef int send_kept(self) noexcept
    cdef int keep(self, const char* data, size_t size) noexcept
    cdef int seal(self, const char* data, size_t size) noexcept


# What transports are made from, and tell what they meet. Subclassed for the two sides.
cdef class TlsContext:
    # server: the first message of a client came; an SSL_CLIENT_HELLO_… code
    cdef int on_client_hello(self, TlsTransport transport) noexcept
    # server: whether requests for `host` may come over a connection that `transport.choice` was chosen for
    cdef bint serves_host(self, TlsTransport transport, const char* host, size_t size) noexcept
    # client: a session that can be resumed; the callee owns it
    cdef void on_session(self, TlsTransport transport, SSL_SESSION* session) noexcept
    # the handshake is over; false refuses the connection
    cdef bint on_open(self, TlsTransport transport) noexcept
    # what hooks see as `session.tls`
    cdef object describe(self, TlsTransport transport)


# The reason of OpenSSL's first error in its queue, which is emptied.
cdef str openssl_reason()
