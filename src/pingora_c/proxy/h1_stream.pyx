"""Body decoding and framing of HTTP/1, for the server's and the client's side alike."""
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport uint32_t
from libc.stdlib cimport free, malloc
from pingora_c.base.span cimport Span
from pingora_c.h1.chunked cimport (
    CHUNK_DATA, CHUNK_EXTENSIONS_TOO_LARGE, CHUNK_TRAILERS, TRAILER_MAX, chunk_error_reason, chunked_init, chunked_next,
)
from pingora_c.h1.encode cimport (
    FRAME_CHUNKED, FRAME_LENGTH, FRAME_NONE, encode_chunk_line, encode_trailers, trailers_room,
)
from pingora_c.h1.framing cimport BODY_CHUNKED, BODY_LENGTH, BODY_NONE
from pingora_c.h1.head cimport H1_INCOMPLETE, HeadLimits, parse_fields
from pingora_c.h1.hop cimport remove_named
from pingora_c.http.field cimport Field
from pingora_c.http.trailers cimport Trailers
from pingora_c.mem.buffer_pool cimport BUFFER_LARGE
from pingora_c.mem.byte_queue cimport QueueSegment
from pingora_c.proxy.failure cimport CHUNK_EXTENSIONS, CLIENT_BAD_BODY, UPSTREAM_BAD_BODY
from pingora_c.proxy.stream cimport HIGH_WATER

cdef enum:
    TRAILER_FIELDS = 64
    KEPT_LEAST = 16384         # smaller ones are copied if the socket does not take them


cdef class H1Stream(Stream):
    cdef void begin_body(self, object head, const HeaderBlock* block, uint32_t extension_bytes) noexcept:
        self.body_left = self.framing.length
        if self.framing.kind == BODY_CHUNKED:
            chunked_init(&self.chunks, extension_bytes)
            if self.framing.names_fields:
                self.naming_head = head
                self.naming = block
        self.body_done = self.framing.kind == BODY_NONE

    cdef void end_body(self, Trailers trailers) noexcept:
        self.body_done = True
        if self.owner is not None:
            self.owner.on_body_end(self.is_client, trailers)

    cdef size_t decode(self, const char* data, size_t size) noexcept:
        cdef size_t used = 0, part
        while used < size and not self.body_done and not self.body_paused and self.owner is not None:
            part = size - used
            if self.framing.kind == BODY_CHUNKED:
                part = self.decode_chunked(data + used, part)
                if part == 0:
                    break
                used += part
                continue
            if self.framing.kind == BODY_LENGTH:
                if part > self.body_left:
                    part = self.body_left
                self.body_left -= part
            used += part
            self.owner.on_body(self.is_client, data + used - part, part)
            if self.framing.kind == BODY_LENGTH and self.body_left == 0 and self.owner is not None:
                self.end_body(None)
        return used

    cdef size_t decode_chunked(self, const char* data, size_t size) noexcept:
        cdef size_t consumed = 0
        cdef Span span
        cdef int event
        if self.in_trailers:
            return self.decode_trailers(data, size)
        event = chunked_next(&self.chunks, data, size, &consumed, &span)
        if event == CHUNK_DATA:
            self.owner.on_body(self.is_client, data + span.at, span.size)
        elif event == CHUNK_TRAILERS:
            self.in_trailers = True
            if consumed == 0:
                return self.decode_trailers(data, size)
        elif event < 0:
            self.refuse_body(event)
        return consumed

    cdef size_t decode_trailers(self, const char* data, size_t size) noexcept:
        """Take the trailer section; 0 while it is incomplete."""
        cdef Field fields[TRAILER_FIELDS]
        cdef HeadLimits limits
        cdef uint32_t n = 0
        cdef Py_ssize_t end
        cdef Trailers trailers = None
        limits.head_bytes = TRAILER_MAX
        limits.target_bytes = 0
        limits.fields = TRAILER_FIELDS
        end = parse_fields(data, size, 0, &limits, fields, &n)
        if end == H1_INCOMPLETE:
            return 0
        if end < 0:
            self.refuse_body(0)
            return 0
        if n:
            try:
                trailers = Trailers.of(data, <uint32_t>end, fields, n)
                if self.naming != NULL:
                    remove_named(&trailers.block, self.naming)
            except:
                pass   # ignored: without memory they are dropped, as RFC 9110 §6.5.1 allows
        self.end_body(trailers)
        return end

    cdef void refuse_body(self, int event) noexcept:
        cdef int kind = CLIENT_BAD_BODY if self.is_client else UPSTREAM_BAD_BODY
        if event == CHUNK_EXTENSIONS_TOO_LARGE and self.is_client:
            kind = CHUNK_EXTENSIONS
        try:
            self.trouble = chunk_error_reason(event).decode("ascii") if event else "bad_trailers"
        except:
            pass   # ignored: the log says less
        self.owner.on_failure(self.is_client, kind)

    cdef Py_ssize_t frame(self, size_t size) noexcept:
        cdef char line[32]
        if self.out_framing == FRAME_CHUNKED:
            if self.connection.write_small(line, encode_chunk_line(size, not self.out_started, line)) < 0:
                return -1
            self.out_started = True
        elif self.out_framing == FRAME_LENGTH:
            if size > self.out_left:
                size = self.out_left
            self.out_left -= size
        return <Py_ssize_t>size

    cdef int send_body(self, const char* data, size_t size) noexcept:
        cdef Py_ssize_t framed
        if size == 0 or self.out_framing == FRAME_NONE:
            return 0
        framed = self.frame(size)
        return -1 if framed < 0 else self.connection.write(data, <size_t>framed)

    cdef int send_kept(self, bytes body) noexcept:
        cdef size_t size = PyBytes_GET_SIZE(body)
        cdef Py_ssize_t framed
        if size < KEPT_LEAST or self.out_framing == FRAME_NONE:
            return self.send_body(PyBytes_AS_STRING(body), size)
        framed = self.frame(size)
        return -1 if framed < 0 else self.connection.write_kept(body, <size_t>framed)

    cdef int send_end(self, Trailers trailers) noexcept:
        if self.out_done:
            return 0
        self.out_done = True
        if self.is_tunnel:
            self.connection.flush()
            self.connection.shutdown_write()
        elif self.out_framing == FRAME_CHUNKED:
            if trailers is not None:
                return self.send_trailers(trailers)
            if self.out_started:
                return self.connection.write_small(b"\r\n0\r\n\r\n", 7)
            return self.connection.write_small(b"0\r\n\r\n", 5)
        return 0

    cdef int send_trailers(self, Trailers trailers) noexcept:
        """The last chunk and the trailer section (RFC 9112 §7.1.2)."""
        cdef char* out = self.head_place(trailers_room(&trailers.block))
        if out == NULL:
            return -1
        return self.head_written(encode_trailers(&trailers.block, not self.out_started, out))

    cdef char* head_place(self, size_t room) noexcept:
        cdef char* out
        if room <= BUFFER_LARGE - sizeof(QueueSegment):
            out = self.connection.reserve(room)
        else:
            out = self.large_head = <char*>malloc(room)
        return out

    cdef int head_written(self, size_t size) noexcept:
        cdef int code
        if self.large_head == NULL:
            self.connection.commit(size)
            return 0
        self.connection.flush()      # what was gathered goes first
        code = self.connection.write_copy(self.large_head, size)
        free(self.large_head)
        self.large_head = NULL
        return code

    cdef bint is_full(self) noexcept:
        return self.connection.is_blocked and self.connection.unsent() > HIGH_WATER

    cdef size_t unsent(self) noexcept:
        return self.connection.unsent()

    cdef void press(self) noexcept:
        if self.connection.unsent() > HIGH_WATER:
            self.connection.flush()

    cdef void pause_body(self) noexcept:
        self.body_paused = True
        self.connection.pause()

    cdef void resume_body(self) noexcept:
        if self.body_paused:
            self.body_paused = False
            if not self.body_done:
                self.connection.resume()
