"""Messages of one direction of a WebSocket: frames into whole messages, decompressed, and messages into frames.

A message is gathered in memory that the buffer pool counts, up to a limit; an idle direction holds none of it.
"""
from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from pingora_c.ws.deflate cimport Deflater, Inflater
from pingora_c.ws.frame cimport WS_CONTROL_MAX, FrameReader

cdef enum MessageEvent:
    MESSAGE_MORE = 0         # everything consumed; feed more
    MESSAGE_DATA = 1         # `data[0:size]` is a message; message_drop before the next call
    MESSAGE_CONTROL = 2      # `control[0:control_size]` is the payload of a control frame, `frames.opcode` which
    MESSAGE_NO_MEMORY = -100     # other negative events are those of WsResult

cdef struct MessageReader:
    FrameReader frames
    Inflater inflater
    char* data               # owned, malloc'ed; NULL while nothing of a message is here
    size_t size              # bytes of the message so far; size <= room
    size_t room              # counted by the pool
    size_t limit             # of `size`
    uint32_t n_fragments     # frames of the message so far
    uint32_t most_fragments
    bint is_text
    bint is_compressed       # the message came so
    bint resets              # of the inflater
    uint8_t window_bits
    uint8_t control_size
    char[WS_CONTROL_MAX] control

cdef struct MessageWriter:
    Deflater deflater
    bint is_masked           # to a server
    bint may_compress        # it was negotiated and is possible
    bint resets              # of the deflater
    uint8_t window_bits

# Consume from `buf[0:size]` up to the next event; return a MessageEvent or a negative WsResult, set `consumed`.
cdef int message_next(MessageReader* reader, const char* buf, size_t size, size_t* consumed) noexcept nogil
cdef void message_drop(MessageReader* reader) noexcept nogil
cdef void message_reader_close(MessageReader* reader) noexcept nogil     # may be called twice
cdef void message_writer_close(MessageWriter* writer) noexcept nogil

# A frame with a whole message or a control frame's payload; compressed if `compress` and if it can be.
cdef bytes message_frame(MessageWriter* writer, uint8_t opcode, const char* data, size_t size, bint compress)
