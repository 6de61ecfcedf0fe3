"""permessage-deflate (RFC 7692): what was negotiated, and one direction's compression and decompression.

Both are structs that must not move once open, and must be closed. Memory is counted by the buffer pool.
"""
from libc.stddef cimport size_t
from libc.stdint cimport uint8_t
from pingora_c.lib.zlib cimport z_stream

# What an answer's Sec-WebSocket-Extensions said.
cdef struct DeflateTerms:
    bint is_on
    bint client_resets       # client_no_context_takeover: each message of the client stands alone
    bint server_resets
    uint8_t client_bits      # 8..15: the client's window
    uint8_t server_bits

cdef enum DeflateResult:
    DEFLATE_OK = 0
    DEFLATE_BAD = -1         # what came is no DEFLATE
    DEFLATE_NO_MEMORY = -2

cdef struct Inflater:
    z_stream stream
    size_t reserved          # bytes that the pool counts; 0: not open
    bint resets
    uint8_t bits

cdef struct Deflater:
    z_stream stream
    size_t reserved
    bint resets

# Both are zero before. Opened by the first message; `close` may be called twice.
cdef int inflater_open(Inflater* inflater, int bits, bint resets) noexcept nogil
# Decompress some of `data[0:size]` into out[0:room]; set how much of each was used. `out` is full: call again, also
# with nothing left of `data`. A DeflateResult.
cdef int inflater_feed(Inflater* inflater, const char* data, size_t size, size_t* used, char* out, size_t room,
                       size_t* produced) noexcept nogil
# The message has ended and its tail was fed (INFLATE_TAIL).
cdef void inflater_end(Inflater* inflater) noexcept nogil
cdef void inflater_close(Inflater* inflater) noexcept nogil

cdef const char* INFLATE_TAIL            # four bytes that follow every message (RFC 7692 §7.2.2)

# `bits` is the most that the receiver allows. DEFLATE_BAD for 8, which zlib cannot: send uncompressed.
cdef int deflater_open(Deflater* deflater, int bits, bint resets) noexcept nogil
cdef size_t deflater_room(size_t size) noexcept nogil      # that any message of `size` bytes needs at most
# Compress a whole message into `out`, which has deflater_room(size) bytes; the size, or a negative DeflateResult.
cdef Py_ssize_t deflater_message(Deflater* deflater, const char* data, size_t size, char* out) noexcept nogil
cdef void deflater_close(Deflater* deflater) noexcept nogil

# Read the values of an answer's Sec-WebSocket-Extensions fields. ValueError for what is no permessage-deflate.
cdef int read_terms(list values, DeflateTerms* terms) except -1
# Of an offer's values, what this proxy can take part in; "" if that is nothing.
cdef str known_offers(list values)
