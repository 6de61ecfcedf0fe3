"""HTTP/1.1 client connections. Owns the socket to an origin; knows sessions only as StreamOwner."""
cimport cython

from pingora_c.h1.chunked cimport EXTENSIONS_MAX
from pingora_c.h1.encode cimport Outgoing, encode_request, request_room
from pingora_c.h1.framing cimport BODY_CHUNKED, BODY_CLOSE, BODY_LENGTH, BODY_TUNNEL, response_framing
from pingora_c.h1.head cimport H1_INCOMPLETE, HeadLimits, StatusLine, parse_response_head
from pingora_c.h1.hop cimport remove_named
from pingora_c.h1.upgrade cimport are_offered, names_websocket
from pingora_c.h1.verdict cimport HEAD_OK
from pingora_c.h1.encode cimport FRAME_CLOSE, FRAME_LENGTH
from pingora_c.h2.handshake cimport is_accepted
from pingora_c.http.field cimport Field
from pingora_c.http.message cimport HTTP2_MINOR, METHOD_HEAD
from pingora_c.http.trailers cimport Trailers
from libc.stdint cimport uint64_t
from pingora_c.lib.errno cimport EMFILE, ENFILE, errno
from pingora_c.net.connection cimport READ_SMALL
from pingora_c.net.reactor cimport SCRATCH_SIZE
from pingora_c.lib.unistd cimport close as close_fd
from pingora_c.net.transport cimport IO_EOF, IO_ERROR, IO_UNTRUSTED
from pingora_c.proxy.failure cimport (
    CERTIFICATE_INVALID, CONNECT_REFUSED, CONNECT_TIMEOUT, FIRST_BYTE_TIMEOUT, NO_MEMORY, TLS_HANDSHAKE,
    UPSTREAM_BAD_HEAD, UPSTREAM_CLOSED, UPSTREAM_HEAD_TIMEOUT, UPSTREAM_TIMEOUT, UPSTREAM_TRUNCATED,
    UPSTREAM_WRITE_TIMEOUT,
)
from pingora_c.stats.counters cimport UPSTREAMS_CLOSED_FULL, UPSTREAMS_CLOSED_IDLE
from pingora_c.upstream.peer cimport finish_dial

cdef enum:
    FIELDS_MAX = 256
    HEAD_BYTES = 65536
    INTERIM_MAX = 16
    RESET_TOLD_MS = 1000       # after an upstream that had ended its side of a tunnel is reset


cdef void note_trouble(H1ClientStream stream, Transport transport) noexcept:
    try:
        stream.trouble = transport.failure()
    except:
        pass   # ignored: the log says less


@cython.final
cdef class H1Client(Connection):
    cdef void wait(self) noexcept:
        self.waits_since_ms = self.reactor.now_ms
        self.reactor.set_timer(&self.timer, self.wait_ms)

    cdef void serve_peer(self, HttpPeer peer) noexcept:
        self.peer = peer
        self.wait_ms = min(peer.first_byte_timeout_ms, peer.read_timeout_ms, peer.write_timeout_ms)

    cdef size_t on_bytes(self, const char* data, size_t size) noexcept:
        cdef size_t used = 0, part
        if self.stream is None:
            self.close()       # bytes that nobody asked for: never read into the next answer
            return size
        if self.stream.is_raw and not self.stream.request_written:
            self.stream.pause_body()       # it may speak first, and waits until hooks are done
            return 0
        if not self.stream.request_written:
            self.stream.trouble = "it spoke before it was asked"
            self.fail(UPSTREAM_CLOSED)     # it speaks before it was asked: not an answer to this request
            return size
        self.wait()
        while used < size and not self.is_closed and self.stream is not None:
            self.stream.got_bytes = True
            if not self.stream.head_done:
                part = self.stream.read_head(data + used, size - used)
            elif self.stream.body_done or self.stream.body_paused:
                break
            else:
                part = self.stream.decode(data + used, size - used)
            if part == 0:
                break
            used += part
        if self.stream is None and used < size and not self.is_closed:
            self.close()       # more than the answer: the connection can not be trusted
            return size
        return used

    cdef size_t room(self) noexcept:
        cdef size_t most = self.read_limit
        if self.stream is not None and self.stream.owner is not None:
            most = self.stream.owner.room()
            if most == 0:
                self.stream.pause_body()
                self.stream.head_at_ms = 0     # it is us who do not read
        return most

    cdef void on_writable(self) noexcept:
        if self.state == CLIENT_CONNECTING:
            if finish_dial(self.transport.fd, self.greeting) < 0:
                self.fail(CONNECT_REFUSED)
                return
            self.open_transport()
        elif self.stream is not None and self.stream.owner is not None:
            self.wait()
            self.stream.owner.on_writable(False)

    cdef void on_open(self) noexcept:
        self.state = CLIENT_BUSY
        self.wait()
        if self.stream is not None and self.stream.owner is not None:
            self.stream.owner.on_connected()

    cdef void on_open_failed(self, int code) noexcept:
        if self.stream is not None:
            note_trouble(self.stream, self.transport)
        self.fail(CERTIFICATE_INVALID if code == IO_UNTRUSTED else TLS_HANDSHAKE)

    cdef void on_end(self, int code) noexcept:
        cdef H1ClientStream stream = self.stream
        if stream is None:
            self.close()
            return
        if self.state == CLIENT_CONNECTING:
            self.fail(CONNECT_REFUSED)
        elif not stream.head_done:
            stream.note_end(code)
            self.fail(UPSTREAM_CLOSED)
        elif (stream.is_tunnel or stream.framing.kind == BODY_CLOSE) and code == IO_EOF:
            stream.end_body(None)
        elif not stream.body_done:
            stream.note_end(code)
            self.fail(UPSTREAM_TRUNCATED)

    cdef void on_broken(self) noexcept:
        # a write failed; an answer may have come before (a 413 to a large upload): read it first
        if self.stream is None:
            self.close()
        elif self.lacks_memory:
            self.fail(NO_MEMORY)       # it waits for the rest of the request, which is lost
        elif self.state == CLIENT_BUSY and not self.stream.body_done:
            self.can_read = True
            self.saw_hangup = True
            if not self.stream.head_done:
                self.is_paused = False
            if not self.is_paused:     # else a hook is at work, and the rest is read when it resumes the body
                self.read_turn()
        elif self.stream.is_tunnel:
            self.fail(UPSTREAM_CLOSED)     # it had ended its side, and now takes nothing more

    cdef void on_hangup(self, bint is_reset) noexcept:
        if is_reset and self.saw_eof and self.stream is not None and self.stream.is_tunnel:
            # what is no tunnel may have had its answer; the client may still be taking what came before
            self.reactor.set_timer(&self.timer, RESET_TOLD_MS)

    cdef void on_timeout(self) noexcept:
        if self.stream is None:
            self.reactor.counted[<int>UPSTREAMS_CLOSED_IDLE] += 1
            self.close()
        elif self.state == CLIENT_CONNECTING:
            self.fail(CONNECT_TIMEOUT)
        elif self.stream.is_tunnel:
            if self.saw_eof and self.saw_reset:
                self.fail(UPSTREAM_CLOSED)
            elif self.saw_eof and self.is_blocked and self.bytes_written == self.written_before:
                self.fail(UPSTREAM_TIMEOUT)     # nobody is left who would notice that it takes nothing
            else:
                self.written_before = self.bytes_written
                self.wait()
        elif self.is_paused or not (self.stream.out_done or self.is_blocked):
            self.wait()   # it is us who do not read, or do not send
        elif self.is_blocked:
            self.fail_after(self.peer.write_timeout_ms, UPSTREAM_WRITE_TIMEOUT)
        elif self.stream.head_at_ms:
            self.stream.watch_head()
        elif self.stream.got_bytes:
            self.fail_after(self.peer.read_timeout_ms, UPSTREAM_TIMEOUT)
        else:
            self.fail_after(self.peer.first_byte_timeout_ms, FIRST_BYTE_TIMEOUT)

    cdef void fail_after(self, uint64_t limit_ms, int kind) noexcept:
        cdef uint64_t waited_ms = self.reactor.now_ms - self.waits_since_ms
        if waited_ms >= limit_ms:
            self.fail(kind)
        else:
            self.reactor.set_timer(&self.timer, limit_ms - waited_ms)

    cdef void fail(self, int kind) noexcept:
        cdef H1ClientStream stream = self.stream
        self.close()
        if stream is not None and stream.owner is not None:
            stream.owner.on_failure(False, kind)

    cdef void close(self) noexcept:
        if self.is_closed:
            return
        Connection.close(self)
        if self.state == CLIENT_IDLE:
            self.leave_pool()
        if self.stream is not None:
            self.reactor.bury(self.stream)
            self.stream = None

    cdef void leave_pool(self) noexcept:
        try:
            self.pool.forget(self.key, self)
        except:
            pass   # ignored: without memory the entry stays and is found closed when it is taken


@cython.final
cdef class H1ClientStream(H1Stream):
    cdef int begin_tunnel(self) except -1:
        """What is no HTTP has no head: the 200 of the tunnel is ours."""
        cdef ResponseHead head = ResponseHead.new(200)
        self.request_written = self.head_done = self.is_tunnel = True
        self.framing.kind = BODY_TUNNEL
        self.out_framing = FRAME_CLOSE
        self.out_done = False
        self.client.wait()
        self.owner.on_response(head, &self.framing)
        return 0

    cdef int send_request(self, RequestHead head, const Outgoing* how) noexcept:
        cdef char* out
        cdef int code = -1
        if self.is_raw:
            try:
                code = self.begin_tunnel()
            except:
                pass   # ignored: no memory, reported as -1
            return code
        out = self.head_place(request_room(head))
        if out == NULL:
            return -1
        self.to_head = head.method_id == METHOD_HEAD
        if how.is_upgrade:
            self.offer = head
        self.out_framing = how.framing
        self.out_left = how.length
        self.out_done = False
        self.request_written = True
        self.client.wait()
        return self.head_written(encode_request(head, how, out))

    cdef int send_body(self, const char* data, size_t size) noexcept:
        self.client.wait()
        return H1Stream.send_body(self, data, size)

    cdef int send_end(self, Trailers trailers) noexcept:
        self.client.wait()
        return H1Stream.send_end(self, trailers)

    cdef void cut_request(self) noexcept:
        self.out_done = True
        self.framing.keep_alive = False
        self.client.shutdown_write()

    cdef void read_largely(self) noexcept:
        self.client.read_limit = SCRATCH_SIZE

    cdef void ask_room(self) noexcept:
        self.client.asks_room = True

    cdef size_t read_head(self, const char* data, size_t size) noexcept:
        """Parse a head and announce it; 0 while it is incomplete or after a failure."""
        cdef Py_ssize_t used = -1
        try:
            used = self.take_head(data, size)
        except:
            pass   # ignored: no memory, reported below
        if used < 0:
            self.client.fail(NO_MEMORY)
            return 0
        return used

    cdef Py_ssize_t take_head(self, const char* data, size_t size) except -1:
        cdef Field fields[FIELDS_MAX]
        cdef HeadLimits limits
        cdef StatusLine line
        cdef uint32_t n = 0
        cdef Py_ssize_t end
        cdef ResponseHead head
        cdef bint to_upgrade = self.offer is not None
        limits.head_bytes = HEAD_BYTES
        limits.target_bytes = 0
        limits.fields = FIELDS_MAX
        end = parse_response_head(data, size, self.head_seen, &limits, &line, fields, &n)
        if end == H1_INCOMPLETE:
            self.head_seen = size
            self.watch_head()
            return 0
        self.head_seen = 0
        self.head_at_ms = 0
        if end < 0 or response_framing(data, fields, n, line.minor, line.status, self.to_head, False, to_upgrade,
                                       &self.framing) != HEAD_OK:
            self.client.fail(UPSTREAM_BAD_HEAD)
            return 0
        head = ResponseHead.new(line.status)
        if head.load(data, <uint32_t>end, line.status, line.reason, line.minor, fields, n) < 0:
            self.client.fail(NO_MEMORY)
            return 0
        if self.framing.names_fields:
            remove_named(&head.block, &head.block)
        if self.framing.kind == BODY_TUNNEL and not self.is_switch(head):
            self.client.fail(UPSTREAM_BAD_HEAD)
            return 0
        if line.status < 200 and line.status != 101:
            self.n_interim += 1
            if self.n_interim > INTERIM_MAX:
                self.client.fail(UPSTREAM_BAD_HEAD)
                return 0
            self.owner.on_interim(head)
            return end
        self.head_done = True
        if self.framing.kind == BODY_TUNNEL:
            self.is_tunnel = True
            self.out_framing = FRAME_CLOSE
            self.out_done = False
        self.begin_body(head, &head.block, EXTENSIONS_MAX)
        self.owner.on_response(head, &self.framing)
        if self.body_done and self.owner is not None:
            self.owner.on_body_end(False, None)
        return end

    cdef bint is_switch(self, ResponseHead head) except -1:
        cdef bint is_key_ours = self.offer.minor == HTTP2_MINOR and names_websocket(&self.offer.block)
        if not are_offered(&self.offer.block, &head.block):
            return False
        if is_key_ours and not is_accepted(self.offer, head):
            self.trouble = "its Sec-WebSocket-Accept is not that of the key"
            return False
        return True

    cdef void watch_head(self) noexcept:
        cdef H1Client client = self.client
        cdef uint64_t now_ms = client.reactor.now_ms
        cdef uint64_t took_ms
        if self.head_at_ms == 0:
            self.head_at_ms = now_ms
        took_ms = now_ms - self.head_at_ms
        if took_ms >= client.peer.head_timeout_ms:
            client.fail(UPSTREAM_HEAD_TIMEOUT)
            return
        client.fail_after(client.peer.read_timeout_ms, UPSTREAM_TIMEOUT)
        if not client.is_closed and client.timer.deadline_ms > now_ms + client.peer.head_timeout_ms - took_ms:
            client.reactor.set_timer(&client.timer, client.peer.head_timeout_ms - took_ms)

    cdef void note_end(self, int code) noexcept:
        try:
            why = self.client.transport.failure()
            self.trouble = self.end_text(code) if why is None else f"{self.end_text(code)}: {why}"
        except:
            pass   # ignored: the log says less

    cdef str end_text(self, int code):
        cdef str how = "ended" if code != IO_ERROR else "reset" if self.client.transport.failure() is None else "cut"
        if not self.head_done:
            if self.client.pending_size:
                return f"{how} in the head of its answer, {self.client.pending_size} bytes came of it"
            return f"{how} before its answer"
        if self.framing.kind == BODY_LENGTH:
            return f"{how} in the body, {self.framing.length - self.body_left} bytes came of {self.framing.length}"
        return f"{how} before the last chunk" if self.framing.kind == BODY_CHUNKED and not self.in_trailers else (
            f"{how} before the end of the answer")

    cdef void release(self, bint is_complete) noexcept:
        cdef H1Client client = self.client
        cdef bint fit = (is_complete and self.head_done and self.body_done and self.out_done and not self.is_tunnel
                         and self.framing.keep_alive and not client.is_closed and not client.is_broken
                         # in a turn, on_bytes itself looks whether bytes are left
                         and not client.saw_hangup and (client.pending_size == 0 or client.in_turn)
                         # nothing of this exchange may be left on either way: bytes not sent, or not read
                         and client.unsent() == 0 and not client.is_blocked
                         and not (self.out_framing == FRAME_LENGTH and self.out_left)
                         and not (client.can_read and not client.in_turn))
        self.owner = None
        client.reactor.bury(self)
        client.stream = None
        if client.is_closed:
            return
        if not fit:
            if self.is_tunnel and not is_complete:
                client.reset()     # what is cut must not look as if it had ended
            else:
                client.close()
            return
        client.state = CLIENT_IDLE
        client.is_paused = False
        client.read_limit = READ_SMALL
        client.asks_room = False
        client.reactor.set_timer(&client.timer, client.peer.idle_timeout_ms)
        self.pool_client(client)

    cdef void pool_client(self, H1Client client) noexcept:
        cdef bint is_kept = False
        try:
            is_kept = client.pool.give(client.key, client)
            client.reactor.counted[<int>UPSTREAMS_CLOSED_FULL] += not is_kept
        except:
            pass   # ignored: no memory for the pool's entry, the connection is closed instead
        if not is_kept:
            client.close()


cdef int bind(H1Client client, StreamOwner owner) except -1:
    cdef H1ClientStream stream = H1ClientStream.__new__(H1ClientStream)
    stream.connection = client
    stream.client = client
    stream.protocol = b"h1"
    stream.owner = owner
    client.stream = stream
    owner.opened = stream
    return 0


cdef object key_of(HttpPeer peer, StreamOwner owner):
    return peer.key if owner.greeting is None else (peer.key, owner.greeting)


cdef H1Client take_idle(Pool pool, object key):
    """The most recent idle connection that nothing was heard of, or None."""
    cdef H1Client client
    while True:
        client = <H1Client>pool.take(key)
        if client is None or not (client.is_closed or client.saw_hangup or client.is_broken or client.can_read
                                  or client.is_due):
            return client
        client.close()


cdef int bind_or_close(H1Client client, StreamOwner owner) except -2:
    try:
        return bind(client, owner)
    except:
        client.close()
        raise


cdef int connect_new(Reactor reactor, Pool pool, HttpPeer peer, StreamOwner owner, bint h1_only) except -2:
    cdef H1Client client = H1Client.__new__(H1Client)
    cdef int fd = peer.dial()
    if fd < 0:
        return -3 if errno == EMFILE or errno == ENFILE else -1
    try:
        client.transport = peer.new_transport(fd, h1_only)
    except:
        close_fd(fd)
        raise
    client.pool = pool
    client.greeting = owner.greeting
    client.key = key_of(peer, owner)
    client.serve_peer(peer)
    client.state = CLIENT_CONNECTING
    client.is_blocked = True     # the first OUT edge tells the end of the connect
    if client.open(reactor, client.transport) < 0:
        return -1
    reactor.set_timer(&client.timer, peer.connect_timeout_ms)
    return bind_or_close(client, owner)


cdef int reuse_h1(Pool pool, HttpPeer peer, StreamOwner owner) except -1:
    cdef H1Client client = take_idle(pool, key_of(peer, owner))
    if client is None:
        return 0
    client.state = CLIENT_BUSY
    client.serve_peer(peer)
    bind_or_close(client, owner)
    return 1


cdef int open_h1_stream(
    Reactor reactor, Pool pool, HttpPeer peer, StreamOwner owner, bint may_reuse, bint h1_only,
) except -2:
    if may_reuse and reuse_h1(pool, peer, owner):
        return 1
    return connect_new(reactor, pool, peer, owner, h1_only)


cdef int open_raw_stream(Reactor reactor, Pool pool, HttpPeer peer, StreamOwner owner) except -2:
    cdef int code = connect_new(reactor, pool, peer, owner, True)
    if code == 0:
        (<H1ClientStream>owner.opened).is_raw = True
        owner.opened.protocol = NULL
    return code


cdef int adopt_h1(Reactor reactor, Pool pool, HttpPeer peer, Transport transport, StreamOwner owner) except -2:
    cdef H1Client client = H1Client.__new__(H1Client)
    client.pool = pool
    client.key = key_of(peer, owner)
    client.serve_peer(peer)
    client.state = CLIENT_BUSY
    if client.open(reactor, transport) < 0:
        transport.close()
        return -1
    client.can_read = True       # what came with the handshake gives no further edge
    bind(client, owner)
    client.wait()
    return 0
