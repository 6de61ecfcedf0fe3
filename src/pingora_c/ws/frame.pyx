"""Frames of WebSocket. Owns nothing; knows neither socket nor message."""
cimport cython

from libc.string cimport memcpy, memset
from pingora_c.lib.mask cimport pg_mask_bytes
from pingora_c.ws.utf8 cimport is_utf8

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer

cdef enum:
    OPCODE_BITS = 0x0F
    MASK_BIT = 0x80
    LENGTH_BITS = 0x7F
    LENGTH_16 = 126          # the length is in the next two octets
    LENGTH_64 = 127          # … in the next eight

cdef struct ErrorRow:
    const char* reason
    int code

cdef ErrorRow[12] ERRORS
ERRORS[0] = ErrorRow(b"ok", 1000)
ERRORS[-<int>WS_BAD_RESERVED] = ErrorRow(b"reserved_bits", 1002)
ERRORS[-<int>WS_BAD_OPCODE] = ErrorRow(b"reserved_opcode", 1002)
ERRORS[-<int>WS_BAD_MASK] = ErrorRow(b"bad_masking", 1002)
ERRORS[-<int>WS_BAD_CONTROL] = ErrorRow(b"bad_control_frame", 1002)
ERRORS[-<int>WS_BAD_LENGTH] = ErrorRow(b"bad_length", 1002)
ERRORS[-<int>WS_BAD_CONTINUATION] = ErrorRow(b"bad_continuation", 1002)
ERRORS[-<int>WS_BAD_CLOSE] = ErrorRow(b"bad_close_frame", 1002)
ERRORS[-<int>WS_BAD_TEXT] = ErrorRow(b"bad_utf8", 1007)
ERRORS[-<int>WS_BAD_DEFLATE] = ErrorRow(b"bad_compressed_data", 1007)
ERRORS[-<int>WS_TOO_BIG] = ErrorRow(b"message_too_big", 1009)
ERRORS[-<int>WS_TOO_MANY_FRAGMENTS] = ErrorRow(b"too_many_fragments", 1008)


cdef void ws_reader_init(FrameReader* reader, bint is_masked, uint8_t allowed_rsv, bint is_lenient) noexcept nogil:
    memset(reader, 0, sizeof(reader[0]))
    reader.header_need = 2
    reader.is_masked = is_masked
    reader.allowed_rsv = allowed_rsv
    reader.is_lenient = is_lenient


cdef int check_first(const FrameReader* reader, uint8_t first) noexcept nogil:
    """Check FIN, the reserved bits and the opcode."""
    cdef uint8_t opcode = first & OPCODE_BITS
    if opcode > WS_PONG or WS_BINARY < opcode < WS_CLOSE:
        return WS_BAD_OPCODE
    if first & WS_RSV and (opcode == WS_CONTINUATION or opcode >= WS_CLOSE or first & WS_RSV & ~reader.allowed_rsv):
        return WS_BAD_RESERVED      # RFC 7692 §6: RSV1 is of a message's first frame
    if opcode >= WS_CLOSE:
        return 0 if first & WS_FIN else WS_BAD_CONTROL
    return WS_BAD_CONTINUATION if (opcode == WS_CONTINUATION) != (reader.message != 0) else 0


cdef int check_second(FrameReader* reader, uint8_t second) noexcept nogil:
    """Check masking and length; say how long the header is."""
    cdef uint8_t length = second & LENGTH_BITS
    if (second & MASK_BIT != 0) != reader.is_masked:
        return WS_BAD_MASK
    if length > WS_CONTROL_MAX and reader.header[0] & OPCODE_BITS >= WS_CLOSE and not reader.is_lenient:
        return WS_BAD_CONTROL
    reader.header_need = 2 + (4 if reader.is_masked else 0)
    if length >= LENGTH_16:
        reader.header_need += 2 if length == LENGTH_16 else 8
    return 0


cdef int read_length(FrameReader* reader) noexcept nogil:
    """Take the length of a header of which all but perhaps the mask has come."""
    cdef uint8_t form = reader.header[1] & LENGTH_BITS
    cdef int i, size = 2 if form == LENGTH_16 else 8
    cdef uint64_t length = 0
    if form < LENGTH_16:
        reader.length = form
        return 0
    for i in range(2, 2 + size):
        length = length << 8 | reader.header[i]
    if length < (126 if form == LENGTH_16 else 65536) or length >> 63:
        return WS_BAD_LENGTH        # RFC 6455 §5.2: the shortest form, and the most significant bit is 0
    reader.length = length
    return 0


cdef int check_octet(FrameReader* reader) noexcept nogil:
    """Check what the last octet of the header completes."""
    cdef uint8_t lengths = reader.header_need - (4 if reader.is_masked else 0)     # where the length ends
    if reader.header_size == 1:
        return 0 if reader.is_lenient else check_first(reader, reader.header[0])
    if reader.header_size == 2:
        return check_second(reader, reader.header[1])
    return read_length(reader) if reader.header_size == lengths else 0


cdef void begin_frame(FrameReader* reader) noexcept nogil:
    cdef int i
    if reader.header[1] & LENGTH_BITS < LENGTH_16:
        reader.length = reader.header[1] & LENGTH_BITS
    reader.state = WS_IN_PAYLOAD
    reader.first = reader.header[0]
    reader.opcode = reader.first & OPCODE_BITS
    reader.left = reader.length
    reader.next_phase = 0
    if reader.is_masked:
        for i in range(4):
            reader.key[i] = reader.header[reader.header_need - 4 + i]
    if reader.opcode != WS_CONTINUATION and reader.opcode < WS_CLOSE:
        reader.message = reader.opcode
        reader.message_rsv = reader.first & WS_RSV


cdef int whole_header(FrameReader* reader, const char* buf, size_t* consumed) noexcept nogil:
    """The same as read_header does octet by octet, on WS_HEADER_MAX bytes that are here."""
    cdef int error = 0
    memcpy(reader.header, buf, WS_HEADER_MAX)
    consumed[0] = 1
    if not reader.is_lenient:
        error = check_first(reader, reader.header[0])
    if error == 0:
        consumed[0] = 2
        error = check_second(reader, reader.header[1])
    if error == 0 and reader.header[1] & LENGTH_BITS >= LENGTH_16:
        consumed[0] = reader.header_need - (4 if reader.is_masked else 0)
        error = read_length(reader)
    if error:
        reader.state = WS_FAILED
        return error
    reader.header_size = reader.header_need
    consumed[0] = reader.header_need
    begin_frame(reader)
    return WS_FRAME


cdef int read_header(FrameReader* reader, const char* buf, size_t size, size_t* consumed) noexcept nogil:
    cdef size_t at = 0
    cdef int error
    if reader.header_size == 0 and size >= WS_HEADER_MAX:
        return whole_header(reader, buf, consumed)
    while at < size:
        reader.header[reader.header_size] = <uint8_t>buf[at]
        reader.header_size += 1
        at += 1
        error = check_octet(reader)
        if error:
            reader.state = WS_FAILED
            consumed[0] = at
            return error
        if reader.header_size == reader.header_need:
            begin_frame(reader)
            consumed[0] = at
            return WS_FRAME
    consumed[0] = at
    return WS_MORE


cdef int end_frame(FrameReader* reader) noexcept nogil:
    reader.header_size = 0
    reader.header_need = 2
    reader.state = WS_CLOSED if reader.opcode == WS_CLOSE else WS_IN_HEADER
    if reader.opcode < WS_CLOSE and reader.first & WS_FIN:
        reader.message = 0
    return WS_END


cdef int ws_next(FrameReader* reader, const char* buf, size_t size, size_t* consumed, Span* payload) noexcept nogil:
    cdef size_t part
    consumed[0] = 0
    if reader.state == WS_IN_HEADER:
        return read_header(reader, buf, size, consumed)
    if reader.state == WS_CLOSED:
        consumed[0] = size
        return WS_MORE
    if reader.state == WS_FAILED:
        return WS_BAD_OPCODE
    if reader.left == 0:
        return end_frame(reader)
    if size == 0:
        return WS_MORE
    part = size if size < reader.left else <size_t>reader.left
    reader.left -= part
    reader.phase = reader.next_phase
    reader.next_phase = <uint8_t>((reader.phase + part) & 3)
    payload.at = 0
    payload.size = part
    consumed[0] = part
    return WS_PAYLOAD


cdef bint ws_at_boundary(const FrameReader* reader) noexcept nogil:
    return reader.state == WS_IN_HEADER and reader.header_size == 0


cdef bint ws_is_close_code(uint64_t code) noexcept nogil:
    # RFC 6455 §7.4.1 and its registry: 1004 is reserved, 1005, 1006 and 1015 never travel
    return 1000 <= code <= 1003 or 1007 <= code <= 1014 or 3000 <= code <= 4999


cdef int ws_check_close(const char* payload, size_t size) noexcept nogil:
    if size == 0:
        return 0
    if size == 1 or not ws_is_close_code(<uint64_t><uint8_t>payload[0] << 8 | <uint8_t>payload[1]):
        return WS_BAD_CLOSE
    return 0 if is_utf8(payload + 2, size - 2) else WS_BAD_TEXT


cdef size_t ws_put_header(char* out, uint8_t first, uint64_t length, const uint8_t* key) noexcept nogil:
    cdef uint8_t mask = 0 if key == NULL else <uint8_t>MASK_BIT
    cdef size_t at = 2
    cdef int i, size = 0
    out[0] = <char>first
    if length < LENGTH_16:
        out[1] = <char>(mask | <uint8_t>length)
    else:
        size = 2 if length < 65536 else 8
        out[1] = <char>(mask | (LENGTH_16 if size == 2 else LENGTH_64))
        for i in range(size):
            out[2 + i] = <char>(length >> (8 * (size - 1 - i)))
        at += size
    if key != NULL:
        for i in range(4):
            out[at + i] = <char>key[i]
        at += 4
    return at


cdef const char* ws_error_reason(int error) noexcept nogil:
    return ERRORS[-error].reason


cdef int ws_error_code(int error) noexcept nogil:
    return ERRORS[-error].code


@cython.final
cdef class Reader:
    """The reader as a Python object, for tests and fuzzing."""

    cdef FrameReader state
    cdef readonly list frames        # complete ones: (first octet, unmasked payload)
    cdef bytearray payload

    def __cinit__(self, bint is_masked, int allowed_rsv=0, bint is_lenient=False):
        ws_reader_init(&self.state, is_masked, <uint8_t>allowed_rsv, is_lenient)
        self.frames = []
        self.payload = bytearray()

    def feed(self, data) -> tuple[int, int]:
        """Consume `data`; return the last result and the bytes consumed."""
        cdef Py_buffer view
        cdef Span span = Span(at=0, size=0)
        cdef size_t at = 0, consumed = 0
        cdef int result
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        try:
            while True:
                result = ws_next(&self.state, <const char*>view.buf + at, <size_t>view.len - at, &consumed, &span)
                if result == WS_PAYLOAD:
                    part = (<const char*>view.buf + at + span.at)[:span.size]
                    self.payload += masked(part, self.state.key[:4], self.state.phase)
                elif result == WS_END:
                    self.frames.append((self.state.first, bytes(self.payload)))
                    self.payload = bytearray()
                at += consumed
                if result <= 0:
                    return result, at
        finally:
            PyBuffer_Release(&view)

    @property
    def at_boundary(self) -> bool:
        """True between two frames."""
        return bool(ws_at_boundary(&self.state))


def masked(bytes data not None, bytes key not None, unsigned int phase=0) -> bytes:
    """Return `data` masked with the four octets of `key`, of which `phase` were used."""
    cdef bytearray out = bytearray(len(data))
    cdef const uint8_t* octets = key
    if len(key) != 4:
        raise ValueError("key: expected 4 octets")
    pg_mask_bytes(<char*>out, data, <size_t>len(data), octets, phase)
    return bytes(out)


def encode(int first, bytes payload not None, bytes key=None) -> bytes:
    """Return a frame; with `key` it is masked."""
    cdef char[14] header
    cdef const uint8_t* octets = NULL
    if key is not None:
        octets = key
        return header[:ws_put_header(header, <uint8_t>first, <uint64_t>len(payload), octets)] + masked(payload, key)
    return header[:ws_put_header(header, <uint8_t>first, <uint64_t>len(payload), NULL)] + payload


def check_close(bytes payload not None) -> int:
    """Return 0 if `payload` may be that of a Close frame."""
    return ws_check_close(payload, <size_t>len(payload))


def error_reason(int error) -> str:
    """Return the reason of a negative result in snake case."""
    if not WS_TOO_MANY_FRAGMENTS <= error <= 0:
        raise ValueError(f"error: no result {error}")
    return ws_error_reason(error).decode("ascii")
