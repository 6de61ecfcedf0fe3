"""The frame guard: reads the head of every frame before nghttp2 does, against peers that make work without using it.

nghttp2 passes over unknown frames, and frames of streams that it has forgotten, without a word. Here frames that carry
nothing of a message (SETTINGS, PING, PRIORITY, RST_STREAM, unknown ones, empty DATA) each cost a token of a bucket. It
fills with time, and by what honest peers answer with such frames: DATA, either way, gives a token back. WINDOW_UPDATE
is bought by DATA that we send. What is refused ends the connection.
"""
from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint32_t, uint64_t

cdef enum FrameType:         # RFC 9113 §6
    FRAME_DATA = 0
    FRAME_HEADERS = 1
    FRAME_PRIORITY = 2
    FRAME_RST_STREAM = 3
    FRAME_SETTINGS = 4
    FRAME_PUSH_PROMISE = 5
    FRAME_PING = 6
    FRAME_GOAWAY = 7
    FRAME_WINDOW_UPDATE = 8
    FRAME_CONTINUATION = 9

cdef enum:
    FRAME_HEAD_SIZE = 9
    PREFACE_SIZE = 24        # of a client (RFC 9113 §3.4)

cdef struct GuardLimits:
    uint32_t burst           # tokens of a full bucket
    uint32_t per_second      # tokens that come back
    uint32_t empty_data      # empty DATA frames in a row
    uint32_t continuations   # CONTINUATION frames of one field section
    uint32_t section_bytes   # of the payloads of HEADERS and CONTINUATION frames of one field section
    uint32_t priorities      # PRIORITY frames; HEADERS gives two back
    uint32_t updates         # WINDOW_UPDATE frames before we sent DATA; HEADERS gives two back
    uint32_t updates_per_data    # that one DATA frame of ours buys
    bint earns_by_head       # HEADERS gives a token back: we are the client, so each is of an answer to us

cdef struct FrameGuard:
    uint64_t tokens_milli    # thousandths of a token
    uint64_t at_ms           # when it was looked at last
    uint64_t updates_left
    uint32_t n_empty         # empty DATA frames in a row
    uint32_t n_continuations     # of the present field section
    uint32_t section_left    # bytes that the present field section may still bring, <= limits.section_bytes
    uint32_t priorities_left     # <= limits.priorities
    uint32_t skip            # bytes of a payload, or of the preface, before the next head
    uint32_t heads_left      # HEADERS that a server reads before it stops: see guard_read
    uint32_t n_head          # bytes of `head` that are here, < FRAME_HEAD_SIZE
    uint32_t n_compared      # bytes of a PRIORITY's payload that are still to be compared with the id in `head`
    uint8_t head[9]          # of a frame that is split
    bint is_server           # DATA is shown before it is passed on: see guard_read
    bint is_shown            # the frame whose head comes next was
    bint is_section          # the last frame was HEADERS or CONTINUATION
    bint ends_section        # with END_HEADERS

cdef void guard_begin(FrameGuard* guard, const GuardLimits* limits, bint is_server, uint64_t now_ms) noexcept nogil
# Look at bytes that came, up to `used`: 0, or the code (RFC 9113 §7) that the connection ends with.
#
# A server's stops before each DATA frame, or within its head, and gives its `stream_id`: when all before it was taken,
# it can be said if that stream is gone, which nghttp2 does not tell. Else `stream_id` is 0. It reads no HEADERS either
# when `heads_left` is 0, until the caller has raised it: then `used` does not grow.
cdef uint32_t guard_read(
    FrameGuard* guard, const GuardLimits* limits, const char* data, size_t size, uint64_t now_ms, size_t* used,
    uint32_t* stream_id,
) noexcept nogil
# A field section has begun that is not read to its end.
cdef bint guard_in_section(const FrameGuard* guard) noexcept nogil
# A client's padded DATA frame that does not end its stream was read whole; 0, or the code to end the connection with.
cdef uint32_t guard_padded(
    FrameGuard* guard, const GuardLimits* limits, bint has_data, uint64_t now_ms,
) noexcept nogil
# We sent a DATA frame.
cdef void guard_sent_data(FrameGuard* guard, const GuardLimits* limits) noexcept nogil
