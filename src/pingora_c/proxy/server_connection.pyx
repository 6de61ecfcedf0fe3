"""Client connections of any protocol. Own the socket; know sessions only as owners of their streams."""
import os
import socket

from libc.string cimport memcpy, strlen
from pingora_c.base.ascii cimport put_decimal
from pingora_c.h1.max_forwards cimport max_forwards
from pingora_c.h1.verdict cimport BAD_MAX_FORWARDS
from pingora_c.http.field cimport NAME_HOST
from pingora_c.http.header_block cimport block_field, block_find_known
from pingora_c.http.message cimport METHOD_CONNECT, METHOD_OPTIONS, METHOD_TRACE
from pingora_c.lib.errno cimport EAGAIN, errno
from pingora_c.lib.ioctl cimport TIOCOUTQ, ioctl
from pingora_c.lib.socket cimport AF_INET, AF_INET6, MSG_PEEK, inet_ntop, ntohs, recv, sockaddr_in, sockaddr_in6
from pingora_c.mem.buffer_pool cimport pool_held
from pingora_c.mem.byte_queue cimport queue_free
from pingora_c.net.timer cimport timer_init, timer_unlink
from pingora_c.proxy.failure cimport CLIENT_GONE, CLIENT_READS_SLOWLY, CLIENT_STALLED, OK
from pingora_c.proxy.refusal cimport (
    REFUSED_BUFFERS, REFUSED_CONNECT, REFUSED_FRAMING, REFUSED_MISDIRECTED, REFUSED_TRACE,
)
from pingora_c.stats.counters cimport CLOSED_READS_SLOWLY, CLOSED_STALLED, HANDSHAKE_FAILURES, HANDSHAKES


cdef size_t name_size(const char* host, size_t size) noexcept nogil:
    """Bytes of a valid Host without its port and final dot."""
    cdef size_t at = size
    while at and host[at - 1] != 58 and host[at - 1] != 93:     # ":" of a port, "]" of an IPv6 address
        at -= 1
    if at and host[at - 1] == 58:
        size = at - 1
    return size - 1 if size and host[size - 1] == 46 else size


cdef void fire_write_timeout(void* owner) noexcept:
    (<ServerConnection>owner).on_write_timeout()


cdef class Application:
    cdef int begin(self, ServerConnection server, Stream stream, RequestHead head) noexcept:
        return -1

    cdef void on_refused(self, ServerConnection server, int refusal, size_t size) noexcept:
        pass

    cdef void on_server_closed(self, ServerConnection server) noexcept:
        pass

    cdef void on_http2(self, ServerConnection server, const char* data, size_t size) noexcept:
        server.close()


cdef class ServerConnection(Connection):
    cdef void arm(self, uint32_t delay_ms) noexcept:
        if not self.is_closed:
            self.reactor.set_timer(&self.timer, delay_ms)

    def __cinit__(self):
        timer_init(&self.write_timer, fire_write_timeout, <void*>self)

    def __dealloc__(self):
        timer_unlink(&self.write_timer)

    cdef void flush(self) noexcept:
        Connection.flush(self)
        if not self.is_blocked or self.is_closed:
            return
        if self.write_timer.deadline_ms == 0:
            self.watch_writing()
        elif self.free_since_ms:
            self.free_ms += <uint32_t>(self.reactor.now_ms - self.free_since_ms)
            self.free_since_ms = 0

    cdef void note_drained(self) noexcept:
        self.free_since_ms = self.reactor.now_ms

    cdef bint reads_slowly(self) noexcept:
        cdef uint64_t limit_ms = self.application.limits.write_ms
        cdef uint64_t waited_ms = limit_ms - min(limit_ms, <uint64_t>self.free_ms)
        cdef uint64_t moved = self.bytes_written - self.written_before
        # who had taken all for half of that time and more is not who holds a connection
        return 2 * waited_ms > limit_ms and moved * 1000 < self.application.limits.write_rate * waited_ms

    cdef void watch_writing(self) noexcept:
        self.written_before = self.bytes_written
        self.free_ms = 0
        self.free_since_ms = 0
        self.reactor.set_timer(&self.write_timer, self.application.limits.write_ms)

    cdef void on_write_timeout(self) noexcept:
        cdef bint is_stalled = self.bytes_written == self.written_before
        if self.is_closed or self.is_broken or not self.is_blocked:
            return
        if not is_stalled and not self.reads_slowly():
            self.watch_writing()
            return
        queue_free(&self.out)
        self.is_broken = True      # what follows would stand in the place of what was dropped
        self.reactor.counted[<int>CLOSED_STALLED if is_stalled else <int>CLOSED_READS_SLOWLY] += self.is_idle()
        self.fail(CLIENT_STALLED if is_stalled else CLIENT_READS_SLOWLY)
        self.reset()               # hooks may be at work still, for which it has nothing to wait

    cdef bint still_takes(self, uint32_t every_ms) noexcept:
        cdef int left = 0
        cdef uint64_t taken
        if ioctl(self.transport.fd, TIOCOUTQ, &left) < 0 or left <= 0:
            return False
        taken = self.kernel_bytes - <uint32_t>left if self.kernel_bytes > <uint32_t>left else 0
        if self.kernel_bytes and taken * 1000 <= <uint64_t>self.application.limits.write_rate * every_ms:
            self.quiet_ms += every_ms
        else:
            self.quiet_ms = 0
        self.kernel_bytes = <uint32_t>left
        return self.quiet_ms < self.application.limits.write_ms

    cdef void on_open(self) noexcept:
        self.arm(self.application.limits.keep_alive_ms)
        if self.transport.needs_handshake:
            self.reactor.counted[<int>HANDSHAKES] += 1

    cdef void on_open_failed(self, int code) noexcept:
        self.reactor.counted[<int>HANDSHAKE_FAILURES] += 1
        self.close()

    cdef void close(self) noexcept:
        if not self.is_closed:
            Connection.close(self)
            self.application.on_server_closed(self)

    cdef str client_text(self):
        ip = self.client_ip[:self.client_ip_size].decode("ascii")
        if ":" in ip:
            return f"[{ip}]:{self.client_port}"
        return f"{ip}:{self.client_port}" if self.client_port else ip

    cdef str local_text(self):
        if self.is_closed:
            return self.local_noted
        with socket.socket(fileno=os.dup(self.transport.fd)) as sock:
            name = sock.getsockname()
        if isinstance(name, tuple):
            return f"[{name[0]}]:{name[1]}" if ":" in name[0] else f"{name[0]}:{name[1]}"
        return "unix:" + os.fsdecode(name).replace("\0", "@")

    cdef void note_local(self) noexcept:
        try:
            self.local_noted = self.local_text()
        except:
            pass   # ignored: without memory hooks do not get it

    cdef void note_client(self, const sockaddr_storage* address) noexcept:
        cdef const void* host = NULL
        if address.ss_family == AF_INET:
            self.client_port = ntohs((<const sockaddr_in*>address).sin_port)
            self.note_ipv4(<const uint8_t*>&(<const sockaddr_in*>address).sin_addr)
            return
        elif address.ss_family == AF_INET6:
            host = &(<const sockaddr_in6*>address).sin6_addr
            self.client_port = ntohs((<const sockaddr_in6*>address).sin6_port)
        if host == NULL or inet_ntop(address.ss_family, host, self.client_ip, sizeof(self.client_ip)) == NULL:
            memcpy(self.client_ip, b"unix", 5)
        self.client_ip_size = <uint8_t>strlen(self.client_ip)

    cdef void note_ipv4(self, const uint8_t* host) noexcept:
        """What inet_ntop does, which prints with vfprintf: a fifth of a connection's instructions."""
        cdef char* out = self.client_ip
        cdef int i
        for i in range(4):
            if i:
                out[0] = c"."
                out += 1
            out = put_decimal(out, host[i])
        self.client_ip_size = <uint8_t>(out - self.client_ip)

    cdef void adopt(self, ServerConnection old) noexcept:
        self.application = old.application
        memcpy(self.client_ip, old.client_ip, sizeof(self.client_ip))
        self.client_ip_size = old.client_ip_size
        self.client_port = old.client_port
        self.introduction = old.introduction
        self.plan = old.plan
        self.is_trusted = old.is_trusted
        self.client_key = old.client_key
        self.persisted = old.persisted
        old.hand_over(self)

    cdef bint was_cut(self) noexcept:
        cdef char first
        return recv(self.transport.fd, &first, 1, MSG_PEEK) < 0 and errno != EAGAIN

    cdef int objection(self, RequestHead head) noexcept:
        if pool_held() >= self.application.limits.buffered_bytes // 8 * 7:
            return REFUSED_BUFFERS      # what is left is for the requests that run
        if head.method_id == METHOD_CONNECT and not self.application.takes_connect:
            return REFUSED_CONNECT
        if head.method_id == METHOD_TRACE:
            return REFUSED_TRACE        # its answer would show what is added here (RFC 9110 §9.3.8)
        if head.method_id == METHOD_OPTIONS and max_forwards(&head.block) == BAD_MAX_FORWARDS:
            return REFUSED_FRAMING - <int>BAD_MAX_FORWARDS
        if self.transport.checks_host and not self.is_served(head):
            return REFUSED_MISDIRECTED
        return 0

    cdef bint is_served(self, RequestHead head) noexcept:
        cdef Py_ssize_t i = block_find_known(&head.block, NAME_HOST, 0)
        cdef const char* host
        if i < 0 or head.method_id == METHOD_CONNECT:     # it names no host here: for the one that SNI named
            return self.transport.serves_host(NULL, 0)
        host = head.block.base + block_field(&head.block, <uint32_t>i).value_at
        return self.transport.serves_host(host, name_size(host, block_field(&head.block, <uint32_t>i).value_size))

    cdef bytes greeting_to(self, HttpPeer peer):
        cdef int fd = self.transport.fd
        cdef ProxyProtocol introduction = self.introduction
        return peer.greeting(fd, introduction)

    cdef int introduce_to(self, HttpPeer peer, StreamOwner owner) noexcept:
        cdef int code = CLIENT_GONE
        try:
            owner.greeting = self.greeting_to(peer)
            code = OK
        except:
            pass   # ignored: the client's address is gone, or there is no memory: the caller tells it
        return code

    cdef void describe_to(self, Outgoing* how) noexcept:
        how.client = self.client_ip
        how.client_size = self.client_ip_size
        how.is_trusted = self.is_trusted
        how.proto = b"https" if self.transport.is_secure else b"http"

    cdef bint is_idle(self) noexcept:
        return True

    cdef void fail(self, int kind) noexcept:
        self.close()

    cdef void close_if_idle(self) noexcept:
        pass

    cdef void drain(self) noexcept:
        pass
