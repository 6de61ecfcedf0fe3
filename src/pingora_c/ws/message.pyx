"""Messages of WebSocket. Own the memory of the message that is gathered, and zlib's states."""
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcpy
from pingora_c.base.span cimport Span
from pingora_c.lib.mask cimport pg_mask_bytes
from pingora_c.lib.random cimport getrandom
from pingora_c.mem.buffer_pool cimport pool_release, pool_reserve
from pingora_c.ws.deflate cimport (
    DEFLATE_NO_MEMORY, INFLATE_TAIL, deflater_close, deflater_message, deflater_open, deflater_room, inflater_close,
    inflater_end, inflater_feed, inflater_open,
)
from pingora_c.ws.frame cimport (
    WS_BAD_DEFLATE, WS_CLOSE, WS_CONTINUATION, WS_END, WS_FIN, WS_FRAME, WS_HEADER_MAX, WS_MORE, WS_PAYLOAD, WS_RSV1,
    WS_TEXT, WS_TOO_BIG, WS_TOO_MANY_FRAGMENTS, ws_next, ws_put_header,
)

cdef enum:
    ROOM_FIRST = 1024
    FRAME_AT_ONCE = 65536        # room for a frame that is announced; for more when it comes
    UNMASKED_AT_A_TIME = 4096    # of compressed payload
    KEYS = 64                    # masks that are got from the kernel at once

cdef uint8_t[4 * KEYS] keys
cdef int n_keys_left = 0


cdef void new_key(uint8_t* key) noexcept nogil:
    """A mask that nobody can foresee (RFC 6455 §10.3)."""
    global n_keys_left
    if n_keys_left == 0 and getrandom(keys, sizeof(keys), 0) == sizeof(keys):
        n_keys_left = KEYS
    n_keys_left -= n_keys_left > 0      # without randomness, which Linux always has, the last keys come again
    memcpy(key, keys + 4 * n_keys_left, 4)


cdef int grow(MessageReader* reader, size_t more) noexcept nogil:
    """Make room for `more` bytes behind what is here; 0, WS_TOO_BIG or MESSAGE_NO_MEMORY."""
    cdef size_t wanted = reader.size + more
    cdef size_t room = reader.room
    cdef char* grown
    if more > reader.limit or wanted > reader.limit:
        return WS_TOO_BIG
    if wanted <= room:
        return 0
    room = max(wanted, min(2 * room, reader.limit), <size_t>ROOM_FIRST)
    if not pool_reserve(room - reader.room):
        return MESSAGE_NO_MEMORY
    grown = <char*>realloc(reader.data, room)
    if grown == NULL:
        pool_release(room - reader.room)
        return MESSAGE_NO_MEMORY
    reader.data = grown
    reader.room = room
    return 0


cdef int inflate_part(MessageReader* reader, const char* data, size_t size) noexcept nogil:
    """Decompress part of a message behind what is here. Never more than the limit is taken from the inflater."""
    cdef size_t used = 0, produced = 0, room
    cdef char overflow[1]
    cdef int code
    while True:
        if reader.size == reader.limit:      # full: one byte more is too much
            code = inflater_feed(&reader.inflater, data, size, &used, overflow, 1, &produced)
            if code == 0 and produced:
                return WS_TOO_BIG
            room = 1
        else:
            room = min(max(4 * size, <size_t>256), reader.limit - reader.size)
            code = grow(reader, room)
            if code < 0:
                return code
            room = min(reader.room, reader.limit) - reader.size
            code = inflater_feed(&reader.inflater, data, size, &used, reader.data + reader.size, room, &produced)
            reader.size += produced
        if code < 0:
            return <int>MESSAGE_NO_MEMORY if code == DEFLATE_NO_MEMORY else <int>WS_BAD_DEFLATE
        data += used
        size -= used
        if produced < room:
            return 0


cdef int begin_message(MessageReader* reader) noexcept nogil:
    cdef int code = 0
    reader.n_fragments = 0
    reader.is_text = reader.frames.message == WS_TEXT
    reader.is_compressed = reader.frames.message_rsv & WS_RSV1 != 0
    if reader.is_compressed and not reader.inflater.reserved:
        code = inflater_open(&reader.inflater, reader.window_bits, reader.resets)
    return MESSAGE_NO_MEMORY if code < 0 else 0


cdef int begin_frame(MessageReader* reader) noexcept nogil:
    cdef FrameReader* frames = &reader.frames
    cdef int code = 0
    if frames.opcode >= WS_CLOSE:
        reader.control_size = 0
        return 0
    if frames.opcode != WS_CONTINUATION:
        code = begin_message(reader)
        if code < 0:
            return code
    reader.n_fragments += 1
    if reader.n_fragments > reader.most_fragments:
        return WS_TOO_MANY_FRAGMENTS
    if reader.is_compressed:
        return 0
    if frames.length > reader.limit - reader.size:
        return WS_TOO_BIG         # before its payload comes
    return grow(reader, <size_t>min(frames.length, <uint64_t>FRAME_AT_ONCE))


cdef int take_payload(MessageReader* reader, const char* data, size_t size) noexcept nogil:
    cdef FrameReader* frames = &reader.frames
    cdef char plain[UNMASKED_AT_A_TIME]
    cdef unsigned int phase = frames.phase
    cdef size_t part
    cdef int code = 0
    if frames.opcode >= WS_CLOSE:
        pg_mask_bytes(reader.control + reader.control_size, data, size, frames.key, phase)
        reader.control_size += <uint8_t>size
        return 0
    if not reader.is_compressed:
        code = grow(reader, size)
        if code == 0:
            pg_mask_bytes(reader.data + reader.size, data, size, frames.key, phase)
            reader.size += size
        return code
    while size and code == 0:
        part = min(size, <size_t>UNMASKED_AT_A_TIME)     # a multiple of four: the phase stays
        pg_mask_bytes(plain, data, part, frames.key, phase)
        code = inflate_part(reader, plain, part)
        data += part
        size -= part
    return code


cdef int end_frame(MessageReader* reader) noexcept nogil:
    """What has ended with this frame: an event, or MESSAGE_MORE."""
    cdef int code
    if reader.frames.opcode >= WS_CLOSE:
        return MESSAGE_CONTROL
    if not reader.frames.first & WS_FIN:
        return MESSAGE_MORE
    if reader.is_compressed:
        code = inflate_part(reader, INFLATE_TAIL, 4)
        if code < 0:
            return code
        inflater_end(&reader.inflater)
    return MESSAGE_DATA


cdef int message_next(MessageReader* reader, const char* buf, size_t size, size_t* consumed) noexcept nogil:
    cdef Span span
    cdef size_t used = 0
    cdef int result, code
    span.at = span.size = 0
    consumed[0] = 0
    while True:
        result = ws_next(&reader.frames, buf + consumed[0], size - consumed[0], &used, &span)
        code = 0
        if result == WS_FRAME:
            code = begin_frame(reader)
        elif result == WS_PAYLOAD:
            code = take_payload(reader, buf + consumed[0] + span.at, span.size)
        elif result == WS_END:
            code = end_frame(reader)
        consumed[0] += used
        if result < 0 or result == WS_MORE:
            return result
        if code:
            return code


cdef void message_drop(MessageReader* reader) noexcept nogil:
    free(reader.data)
    pool_release(reader.room)
    reader.data = NULL
    reader.size = reader.room = 0


cdef void message_reader_close(MessageReader* reader) noexcept nogil:
    message_drop(reader)
    inflater_close(&reader.inflater)


cdef void message_writer_close(MessageWriter* writer) noexcept nogil:
    deflater_close(&writer.deflater)


cdef bytes plain_frame(MessageWriter* writer, uint8_t first, const char* data, size_t size):
    cdef char[WS_HEADER_MAX] header
    cdef uint8_t[4] key
    cdef const uint8_t* mask = NULL
    cdef size_t at
    cdef bytes frame
    if writer.is_masked:
        new_key(key)
        mask = key
    at = ws_put_header(header, first, size, mask)
    frame = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>(at + size))
    memcpy(PyBytes_AS_STRING(frame), header, at)
    if mask == NULL:
        if size:
            memcpy(PyBytes_AS_STRING(frame) + at, data, size)
    else:
        pg_mask_bytes(PyBytes_AS_STRING(frame) + at, data, size, mask, 0)
    return frame


cdef bytes compressed_frame(MessageWriter* writer, uint8_t first, const char* data, size_t size):
    """None: without memory for that it goes out as it is, which is always right (RFC 7692 §6)."""
    cdef char* out
    cdef Py_ssize_t written
    if not writer.deflater.reserved and deflater_open(&writer.deflater, writer.window_bits, writer.resets) < 0:
        return None
    out = <char*>malloc(deflater_room(size))
    if out == NULL:
        return None
    try:
        written = deflater_message(&writer.deflater, data, size, out)
        if written < 0:
            writer.may_compress = False      # its window and the receiver's may differ now
            return None
        return plain_frame(writer, first | WS_RSV1, out, <size_t>written)
    finally:
        free(out)


cdef bytes message_frame(MessageWriter* writer, uint8_t opcode, const char* data, size_t size, bint compress):
    cdef bytes frame = None
    if compress and writer.may_compress:
        frame = compressed_frame(writer, WS_FIN | opcode, data, size)
    return plain_frame(writer, WS_FIN | opcode, data, size) if frame is None else frame
