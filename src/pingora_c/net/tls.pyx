"""The TLS transport. Owns its SSL object and the ciphertext under way; knows no certificate and no policy."""
cimport cython

from libc.stdint cimport uint32_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcmp, memcpy
from pingora_c.lib.errno cimport EAGAIN, EINTR, ENOMEM, EPROTO, errno
from pingora_c.lib.openssl cimport (
    BIO, BIO_CTRL_FLUSH, BIO_METHOD, BIO_TYPE_SOURCE_SINK, BIO_clear_retry_flags, BIO_free, BIO_get_data,
    BIO_get_new_index, BIO_meth_new, BIO_meth_set_ctrl, BIO_meth_set_read_ex, BIO_meth_set_write_ex, BIO_new,
    BIO_set_data, BIO_set_init, BIO_set_retry_read, ERR_clear_error, ERR_get_error, ERR_peek_error,
    ERR_reason_error_string, SSL_CLIENT_HELLO_ERROR, SSL_ERROR_WANT_CLIENT_HELLO_CB, SSL_ERROR_WANT_READ,
    SSL_ERROR_WANT_WRITE, SSL_ERROR_ZERO_RETURN, SSL_MODE_RELEASE_BUFFERS, SSL_RECEIVED_SHUTDOWN, SSL_SENT_SHUTDOWN,
    SSL_SESSION_free, SSL_VERIFY_NONE, SSL_clear_mode, SSL_do_handshake, SSL_free, SSL_free_buffers,
    SSL_get0_alpn_selected, SSL_get_error, SSL_get_verify_mode, SSL_get_verify_result, SSL_has_pending,
    SSL_is_server, SSL_new, SSL_read_ex, SSL_set_accept_state, SSL_set_bio, SSL_set_connect_state, SSL_set_ex_data,
    SSL_set_mode, SSL_set_shutdown, SSL_shutdown, SSL_version, SSL_write_ex, TLS1_3_VERSION, X509_V_OK,
    X509_verify_cert_error_string,
)
from pingora_c.lib.socket cimport MSG_NOSIGNAL, SHUT_WR, iovec, recv, send, shutdown as shutdown_fd
from pingora_c.mem.buffer_pool cimport pool_release, pool_reserve
from pingora_c.net.transport cimport IO_EOF, IO_ERROR, IO_TRUNCATED, IO_UNTRUSTED, IO_WOULD_BLOCK

cdef enum:
    RECORD_OVERHEAD = 256             # header, nonce, tag, type: 22 bytes with the suites of today
    SHARED_SIZE = 133120              # a slice, sealed: 8 * (16384 + 256); no sum, for the debug build
    KEPT_MAX = 524288                 # more than a slice and all that a peer can make us say besides
    QUIET_MOST = 262144               # of ciphertext without a byte for us: KeyUpdates, tickets, empty records
    WARM_MAX = 64                     # 34 KiB each
    COOL_EVERY = 7                    # no divisor of it, or some places would never change hands
    NO_PLACE = -1

cdef BIO_METHOD* socket_method = NULL
# Ciphertext of the operation that runs, empty between two. One for all connections of all reactors: the GIL is held.
cdef char* shared = NULL
cdef size_t shared_size = 0
cdef void* shared_owner = NULL        # the transport whose bytes these are
cdef char* record = NULL              # RECORD_SIZE bytes: small spans that go into one record
# Transports that keep OpenSSL's record buffers from one operation to the next. Borrowed: they leave before they die.
cdef void* warm[WARM_MAX]
cdef uint32_t cold_reads = 0          # of transports that had no place


cdef int read_socket(BIO* bio, char* out, size_t room, size_t* taken) noexcept:
    cdef TlsTransport transport = <TlsTransport>BIO_get_data(bio)
    cdef Py_ssize_t got = transport.receive(out, room)
    BIO_clear_retry_flags(bio)
    if got > 0:
        taken[0] = got
        return 1
    if got == IO_WOULD_BLOCK:
        BIO_set_retry_read(bio)
    return 0 if got == 0 else -1


cdef int write_socket(BIO* bio, const char* data, size_t size, size_t* taken) noexcept:
    cdef TlsTransport transport = <TlsTransport>BIO_get_data(bio)
    BIO_clear_retry_flags(bio)
    taken[0] = size
    return 1 if transport.put(data, size) == 0 else -1


cdef long control_socket(BIO* bio, int command, long number, void* pointer) noexcept:
    return command == BIO_CTRL_FLUSH      # the end of each operation flushes


cdef void forget_errors() noexcept:
    """Have none of before, or SSL_get_error takes it for the next one's. Looking is four times as fast as clearing."""
    if ERR_peek_error():
        ERR_clear_error()


cdef int make_shared() except -1:
    """Make what all transports share, once."""
    global socket_method, shared, record
    if shared != NULL:
        return 0
    socket_method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, b"pingora")
    if socket_method == NULL:
        raise MemoryError
    BIO_meth_set_read_ex(socket_method, read_socket)
    BIO_meth_set_write_ex(socket_method, write_socket)
    BIO_meth_set_ctrl(socket_method, control_socket)
    record = <char*>malloc(RECORD_SIZE)
    shared = <char*>malloc(SHARED_SIZE)
    if shared == NULL or record == NULL:
        raise MemoryError
    return 0


cdef void keep_warm(TlsTransport transport) noexcept:
    """Let it keep its record buffers if the place that comes next is free. Another makes room for one in seven only, or
    places would change hands at every read of more transports than there are places.
    """
    global cold_reads
    cdef int place = <int>(cold_reads % WARM_MAX)
    cold_reads += 1
    if warm[place] != NULL:
        if cold_reads % COOL_EVERY:
            return
        let_cool(<TlsTransport>warm[place])
    SSL_clear_mode(transport.ssl, SSL_MODE_RELEASE_BUFFERS)
    warm[place] = <void*>transport
    transport.place = place


cdef void let_cool(TlsTransport transport) noexcept:
    """Have OpenSSL free its record buffers once they are empty: now, or at the end of an operation to come."""
    warm[transport.place] = NULL
    transport.place = NO_PLACE
    SSL_set_mode(transport.ssl, SSL_MODE_RELEASE_BUFFERS)
    if transport.is_between_records:
        SSL_free_buffers(transport.ssl)


cdef void drop_kept(TlsTransport transport) noexcept:
    free(transport.kept)
    pool_release(transport.kept_end)
    transport.kept = NULL
    transport.kept_at = transport.kept_end = 0


cdef str openssl_reason():
    cdef const char* text = NULL
    cdef unsigned long code = ERR_get_error()
    if code:
        text = ERR_reason_error_string(code)
    ERR_clear_error()
    return "unknown reason" if text == NULL else text.decode("ascii", "replace")


cdef class TlsContext:
    cdef int on_client_hello(self, TlsTransport transport) noexcept:
        return SSL_CLIENT_HELLO_ERROR

    cdef bint serves_host(self, TlsTransport transport, const char* host, size_t size) noexcept:
        return True

    cdef void on_session(self, TlsTransport transport, SSL_SESSION* session) noexcept:
        SSL_SESSION_free(session)

    cdef bint on_open(self, TlsTransport transport) noexcept:
        return True

    cdef object describe(self, TlsTransport transport):
        return None


@cython.final
cdef class TlsTransport(Transport):
    @staticmethod
    cdef TlsTransport new(int fd, TlsContext context, SSL_CTX* ctx, bint is_server):
        cdef TlsTransport self = TlsTransport.__new__(TlsTransport)
        cdef BIO* bio
        make_shared()
        self.ssl = SSL_new(ctx)
        bio = BIO_new(socket_method)
        if bio == NULL or self.ssl == NULL:
            BIO_free(bio)
            raise MemoryError
        BIO_set_data(bio, <void*>self)
        BIO_set_init(bio, 1)
        SSL_set_bio(self.ssl, bio, bio)
        SSL_set_ex_data(self.ssl, 0, <void*>self)
        if is_server:
            SSL_set_accept_state(self.ssl)
        else:
            SSL_set_connect_state(self.ssl)
        self.context = context
        self.fd = fd
        return self

    def __cinit__(self):
        self.fd = -1
        self.place = NO_PLACE
        self.needs_handshake = True
        self.is_secure = True

    def __dealloc__(self):
        global shared_owner, shared_size
        if shared_owner == <void*>self:
            shared_owner = NULL
            shared_size = 0
        if self.place != NO_PLACE:
            let_cool(self)
        if self.ssl != NULL:
            # or OpenSSL takes the session of a connection that just broke for one that must not be resumed
            SSL_set_shutdown(self.ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN)
            SSL_free(self.ssl)
        drop_kept(self)

    # -- the interface

    cdef int handshake(self) noexcept:
        cdef int result
        if self.kept_end and self.send_kept() < 0:
            return IO_ERROR
        if not self.is_open and not self.ended:
            self.is_drained = False
            forget_errors()
            result = SSL_do_handshake(self.ssl)
            if result != 1:
                result = self.outcome(result)
                self.send_shared()     # the alert that says why
                return result
            self.is_holding = self.hold_ticket()
            if self.send_shared() < 0:
                return IO_ERROR
            if self.context.on_open(self):
                self.is_open = True
            else:
                self.ended = IO_ERROR
        if self.ended:
            return self.ended
        return IO_WOULD_BLOCK if self.kept_end and not self.is_holding else 0

    cdef Py_ssize_t read(self, char* out, size_t room) noexcept:
        cdef size_t total = 0, got
        cdef int code = IO_WOULD_BLOCK
        if self.ended:
            return self.ended
        self.is_drained = self.is_between_records = False
        while total < room:
            got = 0
            forget_errors()
            if SSL_read_ex(self.ssl, out + total, room - total, &got) != 1:
                code = self.outcome(0)
                break
            total += got
            self.quiet_bytes = 0
            if self.is_drained and not SSL_has_pending(self.ssl):
                self.is_between_records = True     # reading on would only find that out
                if self.place == NO_PLACE:
                    keep_warm(self)
                break
        if self.is_holding and (total == 0 or self.ended) and self.join_held() < 0 and not self.ended:
            self.ended = code = IO_ERROR
        if self.send_shared() < 0 and not self.ended:
            self.ended = code = IO_ERROR
        return total if total else code

    cdef Py_ssize_t write(self, iovec* vector, int count) noexcept:
        cdef size_t taken = 0, at = 0, sliced, staged, part
        cdef int i = 0
        if self.ended and self.ended != IO_EOF:
            self.error = EPROTO
            return IO_ERROR
        if self.is_holding and self.join_held() < 0:
            return IO_ERROR
        if self.kept_end:
            if self.send_kept() < 0:
                return IO_ERROR
            if self.kept_end:
                return IO_WOULD_BLOCK
        while i < count:
            # bytes that left in sealed form
            part = vector[i].iov_len - at
            if part > self.sealed:
                part = self.sealed
            self.sealed -= part
            taken += part
            at += part
            if self.sealed == 0:
                break
            i += 1
            at = 0
        while i < count:
            sliced = staged = 0
            while i < count and sliced + staged < SLICE_SIZE:
                part = vector[i].iov_len - at
                if part == 0:
                    i += 1
                    at = 0
                    continue
                if staged == 0 and part >= RECORD_SIZE:
                    part -= part % RECORD_SIZE
                    if part > SLICE_SIZE - sliced:
                        part = SLICE_SIZE - sliced
                        part -= part % RECORD_SIZE
                    if part == 0:
                        break
                    if self.seal(<const char*>vector[i].iov_base + at, part) < 0:
                        return IO_ERROR
                    sliced += part
                else:
                    if part > RECORD_SIZE - staged:
                        part = RECORD_SIZE - staged
                    memcpy(record + staged, <const char*>vector[i].iov_base + at, part)
                    staged += part
                    if staged == RECORD_SIZE:
                        if self.seal(record, staged) < 0:
                            return IO_ERROR
                        sliced += staged
                        staged = 0
                at += part
            if staged:
                if self.seal(record, staged) < 0:
                    return IO_ERROR
                sliced += staged
            if self.is_last and i == count:
                self.has_shut = True
                SSL_shutdown(self.ssl)
            if self.send_shared() < 0:
                return IO_ERROR
            if self.kept_end:
                self.sealed = sliced
                break
            taken += sliced
        return taken if taken else IO_WOULD_BLOCK

    cdef void shutdown(self) noexcept:
        self.send_close_notify()
        shutdown_fd(self.fd, SHUT_WR)

    cdef void send_close_notify(self) noexcept:
        if self.is_holding and self.join_held() < 0:
            return
        if self.is_open and not self.has_shut and not self.kept_end and (not self.ended or self.ended == IO_EOF):
            self.has_shut = True
            forget_errors()
            SSL_shutdown(self.ssl)
            # ignored: a socket that is full now ends without the mark, which the peer takes for a truncated stream
            self.send_shared()

    cdef void close(self) noexcept:
        if self.fd >= 0:
            self.send_close_notify()
        if self.place != NO_PLACE:
            let_cool(self)
        drop_kept(self)
        if self.future is not None:
            try:
                self.future.cancel()
            except:
                pass   # ignored: without memory the hook goes on, and nobody waits for it
        self.chooser = self.source = self.future = None     # they refer to whose transport this is
        Transport.close(self)

    cdef void reset(self) noexcept:
        self.has_shut = True      # what close_notify would say is not so
        Transport.reset(self)

    cdef bint has_pending(self) noexcept:
        return self.ended != 0      # a read that is short took all that could be decrypted

    cdef bint serves_host(self, const char* host, size_t size) noexcept:
        return self.context.serves_host(self, host, size)

    cdef bint has_chosen(self, const char* protocol, size_t size) noexcept:
        cdef const unsigned char* chosen = NULL
        cdef unsigned int chosen_size = 0
        SSL_get0_alpn_selected(self.ssl, &chosen, &chosen_size)
        return chosen_size == size and memcmp(chosen, protocol, size) == 0

    cdef object describe(self):
        if self.described is None:
            self.described = self.context.describe(self)
        return self.described

    cdef str failure(self):
        return self.trouble

    # -- private

    cdef int outcome(self, int result) noexcept:
        """The IoCode of an operation that did not succeed; sets `ended` unless it can go on."""
        cdef int error = SSL_get_error(self.ssl, result)
        if error == SSL_ERROR_WANT_READ or error == SSL_ERROR_WANT_WRITE or error == SSL_ERROR_WANT_CLIENT_HELLO_CB:
            return IO_WOULD_BLOCK
        if error == SSL_ERROR_ZERO_RETURN:
            self.ended = IO_EOF
        elif self.saw_fin:
            self.ended = IO_TRUNCATED
        else:
            self.ended = IO_ERROR
            if (not self.is_open and SSL_get_verify_mode(self.ssl) != SSL_VERIFY_NONE
                    and SSL_get_verify_result(self.ssl) != X509_V_OK):
                self.ended = IO_UNTRUSTED
        try:
            self.note_trouble()
        except:
            pass   # ignored: without memory the log says less
        if self.error == 0:
            self.error = EPROTO
        return self.ended

    cdef int note_trouble(self) except -1:
        if self.ended == IO_UNTRUSTED:
            self.trouble = X509_verify_cert_error_string(SSL_get_verify_result(self.ssl)).decode("ascii", "replace")
        elif self.ended == IO_TRUNCATED:
            self.trouble = "the peer closed the connection" if not self.is_open else "no close_notify"
        elif self.ended == IO_ERROR and self.error == 0:
            self.trouble = openssl_reason()
        return 0

    cdef Py_ssize_t receive(self, char* out, size_t room) noexcept:
        """recv for OpenSSL: bytes, 0 at the end, or an IoCode."""
        cdef Py_ssize_t got
        if self.is_drained:
            return IO_WOULD_BLOCK
        while True:
            got = recv(self.fd, out, room, 0)
            if got >= 0:
                self.quiet_bytes += got
                if self.is_open and self.quiet_bytes > QUIET_MOST:
                    self.error = EPROTO
                    return IO_ERROR
                if got == 0:
                    self.saw_fin = True
                elif <size_t>got < room:
                    self.is_drained = True
                return got
            if errno == EINTR:
                continue
            if errno == EAGAIN:
                self.is_drained = True
                return IO_WOULD_BLOCK
            self.error = errno
            return IO_ERROR

    cdef int put(self, const char* data, size_t size) noexcept:
        """Take ciphertext from OpenSSL."""
        global shared_size, shared_owner
        if shared_owner != <void*>self and shared_size:
            # its operation is suspended: a hook or a finalizer let another thread run
            if (<TlsTransport>shared_owner).send_shared() < 0:
                shared_size = 0
        if shared_size + size > SHARED_SIZE and self.send_shared() < 0:
            return -1
        if self.kept_end or size > SHARED_SIZE:
            return self.keep(data, size)
        memcpy(shared + shared_size, data, size)
        shared_size += size
        shared_owner = <void*>self
        return 0

    cdef int send_shared(self) noexcept:
        """Send what this operation made, behind what is kept; -1: the socket is broken."""
        global shared_size
        cdef Py_ssize_t sent = 0
        cdef size_t size = shared_size
        if size == 0 or shared_owner != <void*>self:
            return 0
        shared_size = 0
        while self.kept_end == 0:
            sent = send(self.fd, shared, size, MSG_NOSIGNAL)
            if sent == <Py_ssize_t>size:
                return 0
            if sent >= 0 or errno == EAGAIN:
                break
            if errno != EINTR:
                self.error = errno
                return -1
        if sent < 0:
            sent = 0
        return self.keep(shared + sent, size - sent)

    cdef bint hold_ticket(self) noexcept:
        """Keep what the end of a handshake made, the ticket of TLS 1.3 (RFC 8446 §4.6.1), for the first answer to take
        along. The client does not wait for it, and if there is no request to answer yet, read() sends it.
        """
        global shared_size
        if shared_size == 0 or shared_owner != <void*>self or self.kept_end:
            return False
        if not SSL_is_server(self.ssl) or SSL_version(self.ssl) != TLS1_3_VERSION:
            return False
        if self.keep(shared, shared_size) < 0:
            self.error = 0         # it leaves at once
            return False
        shared_size = 0
        return True

    cdef int join_held(self) noexcept:
        """Put what is held before what this operation makes."""
        cdef char* held = self.kept
        cdef size_t size = self.kept_end
        cdef int code
        self.is_holding = False
        self.kept = NULL
        self.kept_end = 0
        code = self.put(held, size)
        pool_release(size)
        free(held)
        return code

    cdef int send_kept(self) noexcept:
        """-1: the socket is broken. What it does not take stays in `kept`."""
        cdef Py_ssize_t sent
        while self.kept_at < self.kept_end:
            sent = send(self.fd, self.kept + self.kept_at, self.kept_end - self.kept_at, MSG_NOSIGNAL)
            if sent >= 0:
                self.kept_at += sent
            elif errno == EAGAIN:
                return 0
            elif errno != EINTR:
                self.error = errno
                return -1
        drop_kept(self)
        return 0

    cdef int keep(self, const char* data, size_t size) noexcept:
        cdef char* grown
        if self.kept_end + size > KEPT_MAX or not pool_reserve(size):
            self.error = ENOMEM
            return -1
        grown = <char*>realloc(self.kept, self.kept_end + size)
        if grown == NULL:
            pool_release(size)
            self.error = ENOMEM
            return -1
        memcpy(grown + self.kept_end, data, size)
        self.kept = grown
        self.kept_end += size
        return 0

    cdef int seal(self, const char* data, size_t size) noexcept:
        cdef size_t written = 0
        forget_errors()
        if SSL_write_ex(self.ssl, data, size, &written) == 1:
            return 0
        self.outcome(0)
        if self.ended == 0:
            self.ended = IO_ERROR
            self.error = EPROTO
        return -1
