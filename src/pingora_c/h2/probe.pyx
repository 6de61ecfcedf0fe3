"""A session as a Python object, for tests and fuzzing: bytes in and out, and what happened as tuples.

No part of the proxy uses it.
"""
cimport cython

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stddef cimport size_t
from libc.stdint cimport int32_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memset
from pingora_c.base.span cimport Span
from pingora_c.h2.guard cimport FrameGuard, GuardLimits, guard_begin, guard_read
from pingora_c.h2.priority cimport read_priority
from pingora_c.h2.section cimport FieldSection
from pingora_c.h2.session cimport H2Session, H2Stream
from pingora_c.http.field cimport Field
from pingora_c.http.trailers cimport Trailers
from pingora_c.lib.nghttp2 cimport NGHTTP2_NV_FLAG_NONE, nghttp2_extpri, nghttp2_nv
from pingora_c.mem.byte_queue cimport ByteQueue, queue_drop, queue_free, queue_front, queue_push


@cython.final
cdef class ProbeStream:
    """One stream, as the layer above has it."""
    cdef H2Stream stream
    cdef object trailers

    def __cinit__(self):
        memset(&self.stream, 0, sizeof(H2Stream))
        self.stream.owner = <void*>self

    def __dealloc__(self):
        queue_free(&self.stream.out)


@cython.final
cdef class Probe(H2Session):
    """A client's or a server's side. `events` has what happened; `holds` stops it from consuming bodies."""
    cdef readonly list events
    cdef ByteQueue out
    cdef dict streams
    cdef list closed             # until the next call, as the layer above keeps them to the end of its turn
    cdef public bint holds
    cdef public size_t room      # bytes of output beyond which nothing is framed

    def __init__(self, is_server, *, window=65536, head_bytes=16384, fields=128, streams=100, now_ms=1000, burst=100,
                 unread=524288):
        memset(&self.limits, 0, sizeof(self.limits))
        self.limits.head_bytes = head_bytes
        self.limits.fields = fields
        self.limits.window = window
        self.limits.connection_window = 1048576
        self.limits.unread = unread
        self.limits.streams = self.limits.assumed_streams = streams
        self.limits.connects = True
        self.limits.resets = 200
        self.limits.resets_per_second = 33
        set_guard(&self.limits.guard, is_server, burst)
        self.now_ms = now_ms
        self.events = []
        self.streams = {}
        self.closed = []
        self.room = 1 << 40
        self.begin(is_server)

    def __dealloc__(self):
        queue_free(&self.out)

    def feed(self, bytes data not None):
        """Show bytes; False if the connection has to end."""
        self.closed = []
        return self.receive(data, len(data)) == 0

    def drain(self):
        """Frame what may leave; give it and forget it."""
        self.closed = []
        if self.pump() < 0:
            self.events.append(("broken",))
        cdef list parts = []
        cdef size_t size = 0
        cdef const char* front
        while self.out.size:
            front = queue_front(&self.out, &size)
            parts.append(front[:size])
            queue_drop(&self.out, size)
        return b"".join(parts)

    def request(self, list fields, bint has_body=False):
        """Submit a request; its stream's id."""
        cdef ProbeStream made = ProbeStream()
        cdef nghttp2_nv[64] rows
        cdef Py_ssize_t n = fill(rows, fields)
        if self.submit_request(&made.stream, rows, n, has_body) < 0:
            return None
        self.streams[made.stream.id] = made
        return made.stream.id

    def respond(self, int32_t stream_id, list fields, bint has_body=False):
        """Submit a final head."""
        cdef nghttp2_nv[64] rows
        cdef H2Stream* stream = self.stream_of(stream_id)
        cdef Py_ssize_t n = fill(rows, fields)
        return self.submit_head(stream, rows, n, has_body)

    def inform(self, int32_t stream_id, list fields):
        """Submit an interim head."""
        cdef nghttp2_nv[64] rows
        cdef H2Stream* stream = self.stream_of(stream_id)
        cdef Py_ssize_t n = fill(rows, fields)
        return self.submit_interim(stream, rows, n)

    def send(self, int32_t stream_id, bytes data not None):
        """Send a part of a body."""
        cdef H2Stream* stream = self.stream_of(stream_id)
        return self.send_data(stream, data, len(data))

    def end(self, int32_t stream_id, Trailers trailers=None):
        """End a body."""
        cdef H2Stream* stream = self.stream_of(stream_id)
        (<ProbeStream>self.streams[stream_id]).trailers = trailers
        self.send_end(stream, NULL if trailers is None else &trailers.block)

    def give_back(self, int32_t stream_id, size_t size):
        """The bytes are dealt with."""
        cdef H2Stream* stream = self.stream_of(stream_id)
        self.consume(stream, size)

    def cancel(self, int32_t stream_id, uint32_t code=8):
        """Reset a stream, and hear no more of it."""
        cdef ProbeStream cancelled = self.streams.pop(stream_id)
        self.reset(&cancelled.stream, code)
        self.detach(&cancelled.stream)

    def waiting(self, int32_t stream_id):
        """Bytes of a body that wait for a window."""
        return self.stream_of(stream_id).out.size

    def fall_idle(self):
        """Give back memory, as a connection does that has nothing to say."""
        self.rest()

    def say(self, what, uint32_t code=0):
        """`what` is "ping", "goaway", "announce" or "terminate"."""
        if what == "ping":
            self.ping()
        elif what == "goaway":
            self.goaway(code)
        elif what == "announce":
            self.announce_goaway()
        else:
            self.terminate(code)

    @property
    def open_streams(self):
        """Ids of the streams that are attached."""
        return list(self.streams)

    @property
    def state(self):
        """What the session says of itself."""
        return {
            "is_over": bool(self.is_over()),
            "may_open": bool(not self.is_server and self.may_open()),
            "max_streams": self.peer_max_streams(),
            "connects": bool(self.peer_takes_connect()),
            "is_guarded": self.guarded != 0,
            "goaway_code": self.sent_goaway_code,
        }

    def set_now(self, uint64_t now_ms):
        """Move the clock of the frame guard."""
        self.now_ms = now_ms

    cdef H2Stream* stream_of(self, int32_t stream_id) except NULL:
        return &(<ProbeStream>self.streams[stream_id]).stream

    # -- events

    cdef int put(self, const char* data, size_t size) noexcept:
        return queue_push(&self.out, data, size)

    cdef bint has_room(self) noexcept:
        return self.out.size < self.room

    cdef void on_section(self, H2Stream* stream, int32_t stream_id, bint is_end) noexcept:
        cdef ProbeStream made
        try:
            if stream == NULL and self.is_server:
                made = ProbeStream()
                self.attach(&made.stream, stream_id)
                self.streams[stream_id] = made
            self.events.append(("fields", stream_id, section_pairs(&self.section), bool(is_end)))
        except:
            pass   # ignored: without memory a test fails by what is missing

    cdef void on_section_refused(self, H2Stream* stream, int32_t stream_id, bint is_end) noexcept:
        try:
            self.events.append(("refused", stream_id))
        except:
            pass   # ignored: without memory a test fails by what is missing

    cdef void on_data(self, H2Stream* stream, const char* data, size_t size) noexcept:
        try:
            self.events.append(("data", stream.id, data[:size]))
            if not self.holds:
                self.consume(stream, size)
        except:
            pass   # ignored: without memory a test fails by what is missing

    cdef void on_end(self, H2Stream* stream) noexcept:
        try:
            self.events.append(("end", stream.id))
        except:
            pass   # ignored: without memory a test fails by what is missing

    cdef void on_closed(self, H2Stream* stream, uint32_t code) noexcept:
        cdef ProbeStream closed = <ProbeStream>stream.owner
        try:
            for key, value in list(self.streams.items()):
                if value is closed:
                    self.events.append(("closed", key, code))
                    self.closed.append(self.streams.pop(key))
        except:
            pass   # ignored: without memory a test fails by what is missing

    cdef void on_settings(self) noexcept:
        try:
            self.events.append(("settings",))
        except:
            pass   # ignored: without memory a test fails by what is missing

    cdef void on_goaway(self, uint32_t code) noexcept:
        try:
            self.events.append(("goaway", code))
        except:
            pass   # ignored: without memory a test fails by what is missing

    cdef void on_pong(self) noexcept:
        try:
            self.events.append(("pong",))
        except:
            pass   # ignored: without memory a test fails by what is missing


cdef void set_guard(GuardLimits* limits, bint is_server, uint32_t burst) noexcept:
    limits.burst = burst
    limits.per_second = 10
    limits.empty_data = 10
    limits.continuations = 8
    limits.section_bytes = 65536
    limits.priorities = 6
    limits.updates = 100
    limits.updates_per_data = 10
    limits.earns_by_head = not is_server


@cython.final
cdef class GuardProbe:
    """A frame guard alone. `shown` has the streams of the DATA frames that it stopped before."""
    cdef FrameGuard guard
    cdef GuardLimits limits
    cdef readonly list shown

    def __init__(self, bint is_server, *, uint32_t burst=100):
        set_guard(&self.limits, is_server, burst)
        guard_begin(&self.guard, &self.limits, is_server, 1000)
        self.shown = []

    def read(self, piece):
        """Show bytes; the code that the connection ends with, or 0."""
        cdef Py_buffer view
        PyObject_GetBuffer(piece, &view, PyBUF_SIMPLE)
        try:
            return self.read_all(<const char*>view.buf, <size_t>view.len)
        finally:
            PyBuffer_Release(&view)

    cdef uint32_t read_all(self, const char* data, size_t size) except? 99:
        cdef size_t used = 0
        cdef uint32_t code = 0, stream_id = 0
        while size and code == 0:
            code = guard_read(&self.guard, &self.limits, data, size, 1000, &used, &stream_id)
            if code == 0 and stream_id:
                self.shown.append(stream_id)
            data += used
            size -= used
        return code


def priority_of(piece):
    """Read a priority field: (urgency, whether it is incremental), None for one to be passed over."""
    cdef nghttp2_extpri read
    cdef Py_buffer view
    PyObject_GetBuffer(piece, &view, PyBUF_SIMPLE)
    try:
        if not read_priority(<const uint8_t*>view.buf, <size_t>view.len, &read):
            return None
        return read.urgency, bool(read.inc)
    finally:
        PyBuffer_Release(&view)


cdef Py_ssize_t fill(nghttp2_nv* rows, list fields) except -1:
    cdef Py_ssize_t n = 0
    cdef bytes name
    cdef bytes value
    if len(fields) > 64:
        raise ValueError("at most 64 fields")
    for name, value in fields:
        rows[n].name = <uint8_t*><char*>name
        rows[n].namelen = len(name)
        rows[n].value = <uint8_t*><char*>value
        rows[n].valuelen = len(value)
        rows[n].flags = NGHTTP2_NV_FLAG_NONE
        n += 1
    return n


cdef tuple pseudo(const char* name, const FieldSection* section, Span span):
    return (name[:], section.bytes[span.at:span.at + span.size])


cdef list section_pairs(const FieldSection* section):
    cdef list pairs = []
    cdef uint32_t i
    cdef Field* field
    if section.status:
        pairs.append((b":status", b"%d" % section.status))
    if section.method.size:
        pairs.append(pseudo(b":method", section, section.method))
    if section.scheme.size:
        pairs.append(pseudo(b":scheme", section, section.scheme))
    if section.authority.size:
        pairs.append(pseudo(b":authority", section, section.authority))
    if section.path.size:
        pairs.append(pseudo(b":path", section, section.path))
    if section.protocol.size:
        pairs.append(pseudo(b":protocol", section, section.protocol))
    for i in range(section.n):
        field = section.fields + i
        pairs.append((section.bytes[field.name_at:field.name_at + field.name_size],
                      section.bytes[field.value_at:field.value_at + field.value_size]))
    return pairs
