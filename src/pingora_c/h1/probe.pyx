"""The encoder as Python functions, for tests, fuzzing and benchmarks.

Owns the memory that the encoder writes to. No part of the proxy uses it.
"""
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memset

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer

from pingora_c.h1.encode cimport (
    FORWARD_X, Outgoing, encode_chunk_line, encode_request, encode_response, reason_phrase, request_room, response_room,
)
from pingora_c.h1.head cimport HeadLimits, RequestLine, StatusLine, parse_request_head, parse_response_head
from pingora_c.h1.hop cimport remove_named
from pingora_c.http.field cimport Field
from pingora_c.http.header_block cimport BLOCK_OK
from pingora_c.http.message cimport RequestHead, ResponseHead

cdef enum:
    PARSED_FIELDS = 256    # of a head that Python hands in


cdef int describe(
    Outgoing* how, framing, length, is_upgrade, close, keep_alive, bytes client, bytes proto, is_trusted,
) except -1:
    """Fill `how` from Python; `client` and `proto` outlive it."""
    memset(how, 0, sizeof(Outgoing))
    how.forwarded = FORWARD_X
    how.framing = <uint8_t>("none", "length", "chunked", "close").index(framing)
    how.length = length
    how.is_upgrade = is_upgrade
    how.close = close
    how.keep_alive = keep_alive
    if client is not None:
        how.client = client
        how.client_size = <size_t>len(client)
    how.proto = proto
    how.is_trusted = is_trusted
    return 0


def load_request(data) -> RequestHead:
    """Parse a request head into what a session would hold; ValueError with the parser's verdict if it is bad."""
    cdef RequestHead head = RequestHead.new()
    cdef HeadLimits limits = HeadLimits(head_bytes=65536, target_bytes=65536, fields=PARSED_FIELDS)
    cdef Field[PARSED_FIELDS] fields
    cdef RequestLine line
    cdef uint32_t n = 0
    cdef Py_buffer view
    cdef Py_ssize_t size
    cdef int code = BLOCK_OK
    PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
    size = parse_request_head(<const char*>view.buf, <size_t>view.len, 0, &limits, &line, fields, &n)
    if size > 0:
        code = head.load(
            <const char*>view.buf, <uint32_t>size, line.method, line.target, line.minor, fields, n)
        remove_named(&head.block, &head.block)
    PyBuffer_Release(&view)
    return loaded(head, size, code)


def load_response(data) -> ResponseHead:
    """The same for a response head."""
    cdef ResponseHead head = ResponseHead.new(200)
    cdef HeadLimits limits = HeadLimits(head_bytes=65536, target_bytes=0, fields=PARSED_FIELDS)
    cdef Field[PARSED_FIELDS] fields
    cdef StatusLine line
    cdef uint32_t n = 0
    cdef Py_buffer view
    cdef Py_ssize_t size
    cdef int code = BLOCK_OK
    PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
    size = parse_response_head(<const char*>view.buf, <size_t>view.len, 0, &limits, &line, fields, &n)
    if size > 0:
        code = head.load(
            <const char*>view.buf, <uint32_t>size, line.status, line.reason, line.minor, fields, n)
        remove_named(&head.block, &head.block)
    PyBuffer_Release(&view)
    return loaded(head, size, code)


cdef object loaded(head, Py_ssize_t size, int code):
    if size < 0:
        raise ValueError(f"no head: {size}")
    if code != BLOCK_OK:
        raise MemoryError("no buffer for a head")
    return head


cdef bytes written(char* out, size_t size, size_t room):
    """The bytes that an encoder wrote, and the end of its memory."""
    try:
        if size > room:
            raise RuntimeError(f"{size} bytes were written, the room was {room}")
        return out[:size]
    finally:
        free(out)


cdef char* spacious(size_t room) except NULL:
    """Memory for an encoder to overrun without harm, so that written() can tell."""
    cdef char* out = <char*>malloc(4 * room)
    if out == NULL:
        raise MemoryError
    return out


def request_bytes(
    RequestHead head not None, framing="none", length=0, is_upgrade=False, close=False, keep_alive=False,
    bytes client=None, bytes proto=b"http", is_trusted=False,
) -> bytes:
    """Return the head as it would go to an upstream; `framing` is none, length, chunked or close."""
    cdef Outgoing how
    cdef size_t room = request_room(head)
    cdef char* out
    describe(&how, framing, length, is_upgrade, close, keep_alive, client, proto, is_trusted)
    out = spacious(room)
    return written(out, encode_request(head, &how, out), room)


def response_bytes(
    ResponseHead head not None, framing="none", length=0, is_upgrade=False, close=False, keep_alive=False,
) -> bytes:
    """Return the head as it would go to a client."""
    cdef Outgoing how
    cdef size_t room = response_room(head)
    cdef char* out
    describe(&how, framing, length, is_upgrade, close, keep_alive, None, b"http", False)
    out = spacious(room)
    return written(out, encode_response(head, &how, out), room)


def chunk_line(uint64_t size, bint is_first=False) -> bytes:
    """Return the line in front of a chunk."""
    cdef char[24] line
    return line[:encode_chunk_line(size, is_first, line)]


def phrase(uint16_t status) -> str:
    """Return the standard reason phrase of a status, empty if it has none."""
    return reason_phrase(status).decode("ascii")
