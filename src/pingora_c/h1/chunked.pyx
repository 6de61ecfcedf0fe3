"""Decoder of the chunked coding (RFC 9112 §7.1): finds the payload in the bytes, copies none.

Owns its place in the coding, nothing else. Never reads the trailer section (parse_fields of h1.head does), never
passes an extension on.
"""
from libc.stdint cimport UINT32_MAX, uint8_t, uint32_t, uint64_t

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer

from pingora_c.base.span cimport Span
from pingora_c.lib.ascii cimport PG_TOKEN
from pingora_c.lib.scan cimport pg_is_text

cdef enum:
    HTAB = 0x09
    LF = 0x0a
    CR = 0x0d
    SP = 0x20
    QUOTE = 0x22
    SEMICOLON = 0x3b
    EQUALS = 0x3d
    BACKSLASH = 0x5c
    DIGITS_MAX = 16
    NOT_HEX = 16

# SIZE -> SIZE_LF -> DATA -> DATA_CR -> DATA_LF -> SIZE …; after a size of 0: SIZE_LF -> TRAILER.
# chunk-ext = *( BWS ";" BWS name [ BWS "=" BWS ( token / quoted-string ) ] ), RFC 9112 §7.1.1:
# SIZE -> (EXT_GAP ->) EXT_NAME_START -> EXT_NAME -> (EXT_NAME_GAP ->) EXT_VALUE_START -> EXT_VALUE -> SIZE_LF.
cdef enum ChunkState:
    SIZE = 0
    EXT_GAP             # white space behind a size or a value: only ";" may follow
    EXT_NAME_START      # behind ";", perhaps white space
    EXT_NAME
    EXT_NAME_GAP        # white space behind a name: "=" or ";" must follow
    EXT_VALUE_START     # behind "=", perhaps white space
    EXT_VALUE           # in a token
    EXT_QUOTED          # in a quoted string
    EXT_ESCAPE          # behind a backslash in it
    EXT_UNQUOTED        # behind the closing quote
    SIZE_LF
    DATA
    DATA_CR
    DATA_LF
    TRAILER             # the last chunk's line has ended: nothing more is consumed
    FAILED = 64         # FAILED + 4 means that CHUNK_LINE_TOO_LONG (-4) was returned, and so on


cdef inline uint8_t hex_value(uint8_t c) noexcept nogil:
    """0 to 15, or NOT_HEX."""
    if 0x30 <= c <= 0x39:
        return c - 0x30
    c |= 0x20
    return c - 0x61 + 10 if 0x61 <= c <= 0x66 else NOT_HEX


cdef inline int behind_value(uint8_t c) noexcept nogil:
    """The state after `c`, which is behind a size or a value that is complete, or an error."""
    if c == CR:
        return SIZE_LF
    if c == SEMICOLON:
        return EXT_NAME_START
    if c == SP or c == HTAB:
        return EXT_GAP
    return CHUNK_BAD_LINE_END if c == LF else CHUNK_BAD_EXTENSION


cdef int after_size_byte(ChunkedDecoder* decoder, uint8_t c) noexcept nogil:
    """The state after `c` in state SIZE, or an error."""
    cdef uint8_t value = hex_value(c)
    if value != NOT_HEX:
        # 63 bits, as for Content-Length: an offset or a sum with another size stays clear of the sign.
        if decoder.digits == DIGITS_MAX or decoder.remaining >> 59:
            return CHUNK_BAD_SIZE
        decoder.digits += 1
        decoder.remaining = decoder.remaining << 4 | value
        return SIZE
    if decoder.digits == 0:
        return CHUNK_BAD_LINE_END if c == LF else CHUNK_BAD_SIZE
    if c == CR or c == LF or c == SEMICOLON or c == SP or c == HTAB:
        return behind_value(c)
    return CHUNK_BAD_SIZE


cdef int after_extension_byte(uint8_t state, uint8_t c) noexcept nogil:
    """The state after `c` in one of the EXT states, or an error."""
    cdef bint is_gap = c == SP or c == HTAB
    if c == LF:
        return CHUNK_BAD_LINE_END
    if state == EXT_GAP:
        if is_gap or c == SEMICOLON:
            return EXT_GAP if is_gap else EXT_NAME_START
    elif state == EXT_NAME_START:
        if is_gap or PG_TOKEN[c]:
            return EXT_NAME_START if is_gap else EXT_NAME
    elif state == EXT_NAME:
        if PG_TOKEN[c]:
            return EXT_NAME
        if c == EQUALS:
            return EXT_VALUE_START
        return EXT_NAME_GAP if is_gap else behind_value(c)
    elif state == EXT_NAME_GAP:
        if is_gap:
            return EXT_NAME_GAP
        if c == EQUALS or c == SEMICOLON:
            return EXT_VALUE_START if c == EQUALS else EXT_NAME_START
    elif state == EXT_VALUE_START:
        if is_gap:
            return EXT_VALUE_START
        if c == QUOTE or PG_TOKEN[c]:
            return EXT_QUOTED if c == QUOTE else EXT_VALUE
    elif state == EXT_VALUE:
        return EXT_VALUE if PG_TOKEN[c] else behind_value(c)
    elif state == EXT_QUOTED:
        if c == QUOTE:
            return EXT_UNQUOTED
        if pg_is_text(c):
            return EXT_ESCAPE if c == BACKSLASH else EXT_QUOTED
    elif state == EXT_ESCAPE:
        if pg_is_text(c):
            return EXT_QUOTED
    else:
        return behind_value(c)
    return CHUNK_BAD_EXTENSION


cdef inline int fail(ChunkedDecoder* decoder, int error) noexcept nogil:
    decoder.state = <uint8_t>(FAILED - error)
    return error


cdef int size_line(ChunkedDecoder* decoder, const char* buf, size_t end, size_t* at) noexcept nogil:
    """Consume the size line as far as it is there: CHUNK_MORE (the state tells whether it has ended) or an error."""
    cdef int state = decoder.state
    cdef uint8_t c
    while at[0] < end and state < DATA:
        c = <uint8_t>buf[at[0]]
        at[0] += 1
        decoder.line_bytes += 1
        if decoder.line_bytes > CHUNK_LINE_MAX:
            return fail(decoder, CHUNK_LINE_TOO_LONG)
        if state == SIZE:
            state = after_size_byte(decoder, c)
        elif state == SIZE_LF:
            if c != LF:
                return fail(decoder, CHUNK_BAD_LINE_END)
            state = DATA if decoder.remaining else TRAILER
        else:
            if decoder.extension_left == 0:
                return fail(decoder, CHUNK_EXTENSIONS_TOO_LARGE)
            decoder.extension_left -= 1
            state = after_extension_byte(<uint8_t>state, c)
        if state < 0:
            return fail(decoder, state)
    decoder.state = <uint8_t>state
    return CHUNK_MORE


cdef inline void begin_chunk(ChunkedDecoder* decoder) noexcept nogil:
    decoder.remaining = 0
    decoder.line_bytes = 0
    decoder.state = SIZE
    decoder.digits = 0


cdef void chunked_init(ChunkedDecoder* decoder, uint32_t extension_bytes) noexcept nogil:
    decoder.extension_left = extension_bytes
    begin_chunk(decoder)


cdef int chunked_next(
    ChunkedDecoder* decoder, const char* buf, size_t size, size_t* consumed, Span* data,
) noexcept nogil:
    cdef size_t at = 0
    cdef size_t part
    cdef int result = CHUNK_MORE
    if decoder.state >= FAILED:
        consumed[0] = 0
        return FAILED - <int>decoder.state
    size = min(size, <size_t>UINT32_MAX)  # what a Span can name
    while at < size and result == CHUNK_MORE and decoder.state != TRAILER:
        if decoder.state < DATA:
            result = size_line(decoder, buf, size, &at)
        elif decoder.state == DATA:
            part = <size_t>min(<uint64_t>(size - at), decoder.remaining)
            data[0] = Span(at=<uint32_t>at, size=<uint32_t>part)
            at += part
            decoder.remaining -= part
            if decoder.remaining == 0:
                decoder.state = DATA_CR
            result = CHUNK_DATA
        elif buf[at] != (CR if decoder.state == DATA_CR else LF):
            result = fail(decoder, CHUNK_BAD_LINE_END)
        else:
            at += 1
            if decoder.state == DATA_CR:
                decoder.state = DATA_LF
            else:
                begin_chunk(decoder)
    consumed[0] = at
    return CHUNK_TRAILERS if result == CHUNK_MORE and decoder.state == TRAILER else result


cdef const char* chunk_error_reason(int error) noexcept nogil:
    if error == CHUNK_BAD_SIZE:
        return "bad_chunk_size"
    if error == CHUNK_BAD_EXTENSION:
        return "bad_chunk_extension"
    if error == CHUNK_BAD_LINE_END:
        return "bad_chunk_line_end"
    if error == CHUNK_LINE_TOO_LONG:
        return "chunk_line_too_long"
    if error == CHUNK_EXTENSIONS_TOO_LARGE:
        return "chunk_extensions_too_large"
    return "unknown"


cdef class Decoder:
    """A ChunkedDecoder for tests and benchmarks."""

    cdef ChunkedDecoder state

    def __cinit__(self, uint32_t extension_bytes=EXTENSIONS_MAX):
        chunked_init(&self.state, extension_bytes)

    def feed(self, data) -> tuple[int, int, list[tuple[int, int]]]:
        """Consume `data`; return the last result, the bytes consumed and the payload as (offset, size) pairs."""
        cdef Py_buffer view
        cdef Span span = Span(at=0, size=0)
        cdef size_t at = 0
        cdef size_t consumed = 0
        cdef int result
        cdef list spans = []
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        try:
            while True:
                result = chunked_next(&self.state, <const char*>view.buf + at, <size_t>view.len - at, &consumed, &span)
                if result == CHUNK_DATA:
                    spans.append((at + span.at, span.size))
                at += consumed
                if result != CHUNK_DATA:
                    return result, at, spans
        finally:
            PyBuffer_Release(&view)


def decode(pieces: list[bytes]) -> tuple[int, bytes, int]:
    """Decode pieces in turn until one ends the payload or is refused: (last result, payload, bytes consumed of all
    pieces).
    """
    cdef Decoder decoder = Decoder()
    cdef int result = CHUNK_MORE
    payload = bytearray()
    total = 0
    for piece in pieces:
        result, consumed, spans = decoder.feed(piece)
        for at, size in spans:
            payload += piece[at:at + size]
        total += consumed
        if result != CHUNK_MORE:
            break
    return result, bytes(payload), total


def repeat_decode(data, size_t rounds) -> int:
    """Decode the same bytes `rounds` times and make no object of them, for benchmarks; return the payload's size."""
    cdef Py_buffer view
    cdef ChunkedDecoder decoder
    cdef Span span = Span(at=0, size=0)
    cdef size_t _round, at, payload = 0, consumed = 0
    cdef int result
    PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
    with nogil:
        for _round in range(rounds):
            chunked_init(&decoder, EXTENSIONS_MAX)
            at = payload = 0
            while True:
                result = chunked_next(&decoder, <const char*>view.buf + at, <size_t>view.len - at, &consumed, &span)
                at += consumed
                if result != CHUNK_DATA:
                    break
                payload += span.size
    PyBuffer_Release(&view)
    return payload


def chunk_reason(int error) -> str:
    """Return the reason of a negative result in snake case."""
    return chunk_error_reason(error).decode("ascii")
