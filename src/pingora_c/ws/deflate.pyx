"""permessage-deflate by zlib. Owns zlib's states.

Our own compression uses a window of 4 KiB at most, as smaller than what was allowed is always right: 38 KiB a direction
instead of 262, for a few per cent of the size of chat messages.
"""
cimport cython

from libc.stdlib cimport free, malloc
from libc.string cimport memset
from pingora_c.lib.zlib cimport (
    Z_BUF_ERROR, Z_DEFAULT_STRATEGY, Z_DEFLATED, Z_MEM_ERROR, Z_OK, Z_STREAM_END, Z_SYNC_FLUSH, deflate, deflateEnd,
    deflateInit2, deflateReset, inflate, inflateEnd, inflateInit2, inflateReset, inflateResetKeep,
)
from pingora_c.mem.buffer_pool cimport pool_release, pool_reserve

cdef enum:
    WINDOW_BITS = 12
    MEMORY_LEVEL = 5
    COMPRESSION_LEVEL = 5
    DEFLATE_BYTES = 38912    # what zlib takes for these
    INFLATE_STATE = 10240    # beside the window
    TAIL_SIZE = 4

INFLATE_TAIL = b"\x00\x00\xff\xff"


cdef int inflater_open(Inflater* inflater, int bits, bint resets) noexcept nogil:
    cdef size_t reserved = INFLATE_STATE + (<size_t>1 << bits)
    if not pool_reserve(reserved):
        return DEFLATE_NO_MEMORY
    memset(inflater, 0, sizeof(inflater[0]))
    if inflateInit2(&inflater.stream, -bits) != Z_OK:
        pool_release(reserved)
        return DEFLATE_NO_MEMORY
    inflater.reserved = reserved
    inflater.resets = resets
    return DEFLATE_OK


cdef int inflater_feed(Inflater* inflater, const char* data, size_t size, size_t* used, char* out, size_t room,
                       size_t* produced) noexcept nogil:
    cdef z_stream* stream = &inflater.stream
    cdef int code = DEFLATE_OK
    stream.next_in = <unsigned char*>data
    stream.avail_in = <unsigned int>size
    stream.next_out = <unsigned char*>out
    stream.avail_out = <unsigned int>room
    while stream.avail_out and code == DEFLATE_OK:
        code = inflate(stream, Z_SYNC_FLUSH)
        if code == Z_STREAM_END:
            # a block said that it was the last, yet the message goes on (RFC 7692 §7.2.3.4): the window stays
            code = DEFLATE_OK if inflateResetKeep(stream) == Z_OK else DEFLATE_BAD
            if stream.avail_in == 0:
                break
        elif code == Z_MEM_ERROR:
            code = DEFLATE_NO_MEMORY
        elif code == Z_BUF_ERROR or code == Z_OK and stream.avail_in == 0:
            code = DEFLATE_OK
            break
        elif code != Z_OK:
            code = DEFLATE_BAD
    used[0] = size - stream.avail_in
    produced[0] = room - stream.avail_out
    return code


cdef void inflater_end(Inflater* inflater) noexcept nogil:
    if inflater.resets:
        inflateReset(&inflater.stream)


cdef void inflater_close(Inflater* inflater) noexcept nogil:
    if inflater.reserved:
        inflateEnd(&inflater.stream)
        pool_release(inflater.reserved)
        inflater.reserved = 0


cdef int deflater_open(Deflater* deflater, int bits, bint resets) noexcept nogil:
    if bits < 9:
        return DEFLATE_BAD
    if not pool_reserve(DEFLATE_BYTES):
        return DEFLATE_NO_MEMORY
    memset(deflater, 0, sizeof(deflater[0]))
    if deflateInit2(&deflater.stream, COMPRESSION_LEVEL, Z_DEFLATED, -min(bits, <int>WINDOW_BITS), MEMORY_LEVEL,
                    Z_DEFAULT_STRATEGY) != Z_OK:
        pool_release(DEFLATE_BYTES)
        return DEFLATE_NO_MEMORY
    deflater.reserved = DEFLATE_BYTES
    deflater.resets = resets
    return DEFLATE_OK


cdef size_t deflater_room(size_t size) noexcept nogil:
    # deflateBound for other than the default settings, and a flush's block
    return size + ((size + 7) >> 3) + ((size + 63) >> 6) + 16 + TAIL_SIZE


cdef Py_ssize_t deflater_message(Deflater* deflater, const char* data, size_t size, char* out) noexcept nogil:
    cdef z_stream* stream = &deflater.stream
    cdef size_t room = deflater_room(size)
    stream.next_in = <unsigned char*>data
    stream.avail_in = <unsigned int>size
    stream.next_out = <unsigned char*>out
    stream.avail_out = <unsigned int>room
    if size == 0:
        out[0] = 0               # RFC 7692 §7.2.3.6: an empty block, of which nothing enters the window
        return 1
    if deflate(stream, Z_SYNC_FLUSH) != Z_OK or stream.avail_in or stream.avail_out == 0:
        return DEFLATE_BAD
    if deflater.resets:
        deflateReset(stream)
    return <Py_ssize_t>(room - stream.avail_out) - TAIL_SIZE


cdef void deflater_close(Deflater* deflater) noexcept nogil:
    if deflater.reserved:
        deflateEnd(&deflater.stream)
        pool_release(deflater.reserved)
        deflater.reserved = 0


# -- negotiation: once per connection

cdef tuple parsed(str member):
    """The name of an extension and its parameters as a dict. ValueError for one that is given twice."""
    name, *rest = [part.strip(" \t") for part in member.split(";")]
    parameters = {}
    for part in rest:
        key, equals, value = part.partition("=")
        key = key.strip(" \t").lower()
        value = value.strip(" \t")
        if len(value) >= 2 and value.startswith('"') and value.endswith('"'):
            value = value[1:len(value) - 1]
        if key in parameters or (equals and not value):
            raise ValueError(f"Sec-WebSocket-Extensions: {member!r}")
        parameters[key] = value
    return name.lower(), parameters


cdef int window_bits(str text) except -1:
    if text not in ("8", "9", "10", "11", "12", "13", "14", "15"):     # RFC 7692 §7.1.2: without leading zeros
        raise ValueError(f"Sec-WebSocket-Extensions: window of {text!r} bits")
    return int(text)


cdef list members(list values):
    """The members of a field; quoted commas are of no extension that is known here."""
    return [member for value in values for member in value.split(",") if member.strip(" \t")]


cdef int read_terms(list values, DeflateTerms* terms) except -1:
    memset(terms, 0, sizeof(terms[0]))
    terms.client_bits = terms.server_bits = 15
    for member in members(values):
        name, parameters = parsed(member)
        if name != "permessage-deflate" or terms.is_on:
            raise ValueError(f"Sec-WebSocket-Extensions: {member!r} is not known")
        terms.is_on = True
        for key, value in parameters.items():
            if key == "client_no_context_takeover" and not value:
                terms.client_resets = True
            elif key == "server_no_context_takeover" and not value:
                terms.server_resets = True
            elif key == "client_max_window_bits":
                terms.client_bits = <uint8_t>window_bits(value)
            elif key == "server_max_window_bits":
                terms.server_bits = <uint8_t>window_bits(value)
            else:
                raise ValueError(f"Sec-WebSocket-Extensions: {member!r} is not known")
    return 0


cdef str known_offers(list values):
    return ", ".join([member.strip(" \t") for member in members(values)
                      if member.split(";")[0].strip(" \t").lower() == "permessage-deflate"])


# -- for tests and fuzzing

@cython.final
cdef class Codec:
    """One direction: what it deflates, it inflates."""

    cdef Inflater inflater
    cdef Deflater deflater

    def __cinit__(self, int bits=15, bint resets=False):
        if inflater_open(&self.inflater, bits, resets) < 0:
            raise MemoryError
        if bits > 8 and deflater_open(&self.deflater, bits, resets) < 0:
            raise MemoryError

    def __dealloc__(self):
        inflater_close(&self.inflater)
        deflater_close(&self.deflater)

    def deflate(self, bytes data not None) -> bytes:
        """Compress one message."""
        cdef size_t room = deflater_room(len(data))
        cdef char* out = <char*>malloc(room)
        if out == NULL:
            raise MemoryError
        try:
            size = deflater_message(&self.deflater, data, len(data), out)
            if size < 0:
                raise ValueError(f"deflate: {size}")
            return out[:size]
        finally:
            free(out)

    def inflate(self, bytes data not None, size_t step=1024) -> bytes:
        """Decompress one message, `step` bytes at a time. ValueError if it is no DEFLATE."""
        cdef char* out = <char*>malloc(step)
        cdef size_t used = 0, produced = 0, at = 0
        cdef const char* given
        cdef int code
        whole = bytearray()
        data += INFLATE_TAIL[:TAIL_SIZE]
        given = data
        try:
            while True:
                code = inflater_feed(&self.inflater, given + at, len(data) - at, &used, out, step, &produced)
                if code < 0:
                    raise ValueError(f"inflate: {code}")
                at += used
                whole += out[:produced]
                if produced < step and at == <size_t>len(data):
                    break
            inflater_end(&self.inflater)
            return bytes(whole)
        finally:
            free(out)


def terms_of(values: list[str]) -> tuple[bool, bool, bool, int, int]:
    """Return whether compression is on, whether the client's and the server's context resets, and their windows."""
    cdef DeflateTerms terms
    read_terms(values, &terms)
    return bool(terms.is_on), bool(terms.client_resets), bool(terms.server_resets), terms.client_bits, terms.server_bits


def offers_of(values: list[str]) -> str:
    """Return what goes upstream of an offer."""
    return known_offers(values)
