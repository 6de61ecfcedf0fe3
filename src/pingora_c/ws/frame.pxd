"""Frames of WebSocket (RFC 6455 §5): bytes into events, and the bytes of a header.

Strict: reserved bits and opcodes, masking by role, control frames of one frame and at most 125 bytes, the shortest form
of a length, 63 bits of it, continuations only within a message. Payload is given as spans of what came, still masked.
"""
from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint64_t
from pingora_c.base.span cimport Span

cdef enum WsOpcode:
    WS_CONTINUATION = 0
    WS_TEXT = 1
    WS_BINARY = 2
    WS_CLOSE = 8             # this and all above it are control frames
    WS_PING = 9
    WS_PONG = 10

cdef enum:
    WS_FIN = 0x80            # bits of a frame's first octet
    WS_RSV1 = 0x40           # of a message's first frame: the message is compressed (RFC 7692 §6)
    WS_RSV = 0x70
    WS_HEADER_MAX = 14
    WS_CONTROL_MAX = 125     # payload of a control frame

cdef enum WsState:
    WS_IN_HEADER = 0
    WS_IN_PAYLOAD = 1
    WS_CLOSED = 2            # a Close frame ended: what follows is discarded (RFC 6455 §5.5.1)
    WS_FAILED = 3            # and consumes nothing more

# IN_HEADER -> IN_PAYLOAD -> IN_HEADER …; behind a Close frame CLOSED; any bad octet: FAILED.
cdef struct FrameReader:
    uint64_t left            # payload bytes of the present frame that have still to come
    uint64_t length          # of the present frame's payload
    uint8_t[14] header       # of the present frame, as far as it came
    uint8_t header_size      # bytes of it; 0 <= header_size <= header_need
    uint8_t header_need      # 2 until the length's form is known
    uint8_t state            # WsState
    uint8_t first            # the present frame's first octet: FIN, reserved bits, opcode
    uint8_t opcode           # of the present frame
    uint8_t message          # opcode of the message that is under way, 0 if none; also while its last frame comes
    uint8_t message_rsv      # reserved bits of its first frame
    uint8_t[4] key           # of the present frame's mask, zero if it is not masked
    uint8_t phase            # of the mask at the span that WS_PAYLOAD gave last
    uint8_t next_phase
    bint is_masked           # frames must be: they come from a client
    bint is_lenient          # only the length counts: an extension may give the rest another meaning
    uint8_t allowed_rsv      # reserved bits that an extension uses

cdef enum WsResult:
    WS_MORE = 0              # everything consumed; feed more
    WS_FRAME = 1             # a frame's header is complete
    WS_PAYLOAD = 2           # the span is part of its payload
    WS_END = 3               # the frame is complete
    WS_BAD_RESERVED = -1
    WS_BAD_OPCODE = -2
    WS_BAD_MASK = -3
    WS_BAD_CONTROL = -4      # fragmented, or longer than 125 bytes
    WS_BAD_LENGTH = -5
    WS_BAD_CONTINUATION = -6     # without a message, or a message within another
    WS_BAD_CLOSE = -7        # its code or the size of its payload
    WS_BAD_TEXT = -8         # not UTF-8
    WS_BAD_DEFLATE = -9
    WS_TOO_BIG = -10
    WS_TOO_MANY_FRAGMENTS = -11

cdef void ws_reader_init(FrameReader* reader, bint is_masked, uint8_t allowed_rsv, bint is_lenient) noexcept nogil

# Consume from `buf[0:size]` up to the next event; return a WsResult, set `consumed` and, for WS_PAYLOAD, `payload`
# (an offset from `buf`). `buf` may be NULL if `size` is 0. A bad octet is the last that is consumed.
cdef int ws_next(FrameReader* reader, const char* buf, size_t size, size_t* consumed, Span* payload) noexcept nogil

# Nothing of a frame has come that is not complete.
cdef bint ws_at_boundary(const FrameReader* reader) noexcept nogil

# Check the payload of a Close frame, unmasked (RFC 6455 §5.5.1, §7.4): 0, WS_BAD_CLOSE or WS_BAD_TEXT.
cdef int ws_check_close(const char* payload, size_t size) noexcept nogil
cdef bint ws_is_close_code(uint64_t code) noexcept nogil     # one that may be sent

# Write the header of a frame; `key` NULL: not masked. At most WS_HEADER_MAX bytes; returns how many.
cdef size_t ws_put_header(char* out, uint8_t first, uint64_t length, const uint8_t* key) noexcept nogil

cdef const char* ws_error_reason(int error) noexcept nogil   # snake case, for logs
cdef int ws_error_code(int error) noexcept nogil             # of the Close frame that answers it (RFC 6455 §7.4.1)
