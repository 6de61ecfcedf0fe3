"""Decoder of the chunked coding (RFC 9112 §7.1): the only stateful codec. Feeds spans of payload back, copies nothing.

Strict: 1–16 hex digits, checked against overflow; extensions (RFC 9112 §7.1.1 grammar, quoted strings included) are
checked, bounded in each line and in sum, and dropped; line ends are CRLF only; trailers are bounded and checked as
fields.
"""
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from pingora_c.base.span cimport Span

# SIZE -> (EXTENSION ->) SIZE_LF -> DATA -> DATA_CR -> DATA_LF -> SIZE …; size 0: TRAILER -> DONE.
# Extension sub-states follow SIZE. Any bad byte: FAILED.
cdef struct ChunkedDecoder:
    uint64_t remaining       # payload bytes left of the present chunk
    uint32_t line_bytes      # bytes of the present size line so far, bounded by CHUNK_LINE_MAX
    uint32_t extension_left  # bytes that the extensions of further chunks, and of the rest of this one, may have
    uint8_t state            # ChunkState, private to chunked.pyx
    uint8_t digits           # hex digits of the present size so far

cdef enum ChunkResult:
    CHUNK_MORE = 0           # everything consumed; feed more
    CHUNK_DATA = 1           # `data` is a span of payload; call again with the rest
    CHUNK_TRAILERS = 2       # the last chunk's line ended: the caller collects the trailer section (see below)
    CHUNK_BAD_SIZE = -1
    CHUNK_BAD_EXTENSION = -2
    CHUNK_BAD_LINE_END = -3
    CHUNK_LINE_TOO_LONG = -4
    CHUNK_EXTENSIONS_TOO_LARGE = -5

cdef enum:
    CHUNK_LINE_MAX = 4096    # size, extensions and CRLF of one chunk
    EXTENSIONS_MAX = 16384   # of all chunks of one answer; requests have Limits.chunk_extension_bytes
    TRAILER_MAX = 16384      # whole trailer section, final CRLF included

# `extension_bytes`: what extensions of all chunks may have, from behind the first ";" of a line to its CR.
cdef void chunked_init(ChunkedDecoder* decoder, uint32_t extension_bytes) noexcept nogil

# Consume from `buf[0:size]` up to the next event; return a ChunkResult, set `consumed` and, for CHUNK_DATA, `data`
# (offsets from `buf`).
#
# After CHUNK_TRAILERS the decoder consumes nothing more: the bytes that follow are the trailer section, which the
# caller gathers into one
# contiguous buffer and hands to `parse_fields` of h1.head (it ends with an empty line).
cdef int chunked_next(
    ChunkedDecoder* decoder, const char* buf, size_t size, size_t* consumed, Span* data,
) noexcept nogil

cdef const char* chunk_error_reason(int error) noexcept nogil
